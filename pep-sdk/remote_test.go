package pep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// answers is a server that gives one answer to every question.
func answers(effect authz.Effect, asked *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var req struct {
			Tenant string `json:"tenant"`
		}
		if data, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(data, &req) != nil || req.Tenant != "acme" || r.Header.Get("Authorization") != "Bearer token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		d := authz.Decision{ID: "remote-1", Effect: effect, Revision: authz.Revision{Release: 7, Position: 7}}
		w.Write(d.AppendJSON(nil))
	}
}

func TestWithoutAnEngineTheServerDecides(t *testing.T) {
	n := startNode(t, "acme")
	var asked atomic.Int64
	n.decide = answers(authz.Allow, &asked)
	config := n.config("")
	config.Engine, config.Trust.Keys = nil, nil
	p := start(t, config)
	ready(t, p)
	a, err := p.Decide(t.Context(), request("order.create"))
	if err != nil || !a.Allowed() || !a.Remote || a.Why != "no_engine" || a.Revision.Release != 7 {
		t.Errorf("%+v, %v", a, err)
	}
	if s := p.Status(); s.Stale || s.Connected {
		t.Errorf("%+v", s)
	}
}

func TestOnlyAnAnswerOfTheServerOpens(t *testing.T) {
	n := startNode(t, "acme")
	config := n.config("")
	config.Engine = nil
	p := start(t, config)
	for name, answer := range map[string]http.HandlerFunc{
		"a refusal":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"an error":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"nothing":          func(http.ResponseWriter, *http.Request) {},
		"another document": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"decision":true}`) },
		"an unknown effect": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"decision_id":"1","effect":"MAYBE","decision":true,"revision":"r1.g1","obligations":[],"limits":[]}`)
		},
		"a contradiction": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"decision_id":"1","effect":"DENY","decision":true,"revision":"r1.g1","obligations":[],"limits":[]}`)
		},
		"without obligation": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"decision_id":"1","effect":"ALLOW","decision":true,"revision":"r1.g1","limits":[]}`)
		},
		"a member too many": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"decision_id":"1","effect":"ALLOW","decision":true,"revision":"r1.g1","obligations":[],"limits":[],"unless":1}`)
		},
		"a flood": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat(" ", maxAnswer+1)) },
	} {
		n.decide = answer
		p.remote.health = breaker{}
		if a, err := p.Decide(t.Context(), request("order.create")); err == nil || a.Allowed() {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestAsksTheServerForWhatOnlyItHas(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("uses order.delete\nreview order.pay\nallow order.create")
	n.grant("order.delete", time.Hour)
	p := start(t, n.config(t.TempDir()))
	ready(t, p)
	until(t, p, "fresh", func(s Status) bool { return !s.Stale })
	// The server is away: what was decided here stands, and says what it lacks.
	for action, why := range map[string]string{"order.delete": "uses", "order.pay": "approval"} {
		a, err := p.Decide(t.Context(), request(action))
		if err != nil || a.Effect != authz.Review || a.Remote || a.Why != why {
			t.Errorf("%s: %+v, %v", action, a, err)
		}
	}
	var asked atomic.Int64
	n.decide = answers(authz.Allow, &asked)
	a, err := p.Decide(t.Context(), request("order.delete"))
	if err != nil || !a.Allowed() || !a.Remote || a.Why != "uses" {
		t.Errorf("%+v, %v", a, err)
	}
	wantEffect(t, p, "order.create", authz.Allow)
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestADeadServerDoesNotCostEachDecisionItsTimeOut(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("review order.pay")
	var asked atomic.Int64
	n.decide = func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-r.Context().Done()
	}
	config := n.config(t.TempDir())
	config.RemoteTimeout = 50 * time.Millisecond
	p := start(t, config)
	ready(t, p)
	began := time.Now()
	for range 100 {
		wantEffect(t, p, "order.pay", authz.Review)
	}
	if took := time.Since(began); took > 3*time.Second || asked.Load() < breakAfter || asked.Load() > 10 {
		t.Errorf("asked %d times in %s", asked.Load(), took)
	}
}

func TestTheBreakerLetsOneThrough(t *testing.T) {
	var b breaker
	now := time.Now()
	for range breakAfter {
		if !b.mayTry(now) {
			t.Fatal("broken too early")
		}
		b.tried(now, false)
	}
	if b.mayTry(now) || b.mayTry(now.Add(breakFirst-1)) {
		t.Error("not broken")
	}
	if !b.mayTry(now.Add(breakFirst)) || b.mayTry(now.Add(breakFirst)) {
		t.Error("not one")
	}
	b.tried(now.Add(breakFirst), false)
	if b.mayTry(now.Add(2 * breakFirst)) {
		t.Error("it does not wait longer")
	}
	if !b.mayTry(now.Add(breakMost)) {
		t.Error("it waits for ever")
	}
	b.tried(now.Add(breakMost), true)
	for range 2 { // not only a probe
		if !b.mayTry(now) {
			t.Error("it does not recover")
		}
	}
}

func TestStrictDecisionsNeedTheirRecord(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create\nallow order.pay\nstrict order.pay")
	n.audit = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	config := n.config(t.TempDir())
	config.SpoolMaxBytes = 1
	p := start(t, config)
	ready(t, p)
	wantEffect(t, p, "order.create", authz.Allow) // buffered: counted
	a, err := p.Decide(t.Context(), request("order.pay"))
	if !errors.Is(err, ErrAuditUnavailable) || a.Allowed() {
		t.Errorf("%+v, %v", a, err)
	}
	if got := p.Status().Records; got.Lost != 1 || got.Refused != 1 || got.Written != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRecordsArriveOnceAndWhatIsRefusedIsCounted(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create\nallow order.pay\nstrict order.pay")
	var mu sync.Mutex
	calls := 0
	poison := map[string]string{} // by id
	n.audit = func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		calls++
		var batch struct {
			Records []authz.AuditRecord `json:"records"`
		}
		if err := json.Unmarshal(data, &batch); err != nil {
			t.Errorf("a batch that cannot be read: %v", err)
		}
		accepted, duplicates, refused := 0, 0, []refusedRecord{}
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, record := range batch.Records {
			switch why := poison[record.ID]; {
			case why == "unreadable":
				w.WriteHeader(http.StatusBadRequest)
				return
			case why != "":
				refused = append(refused, refusedRecord{record.ID, why})
			case n.records[record.ID] > 0:
				duplicates++
			default:
				accepted++
				n.records[record.ID]++
			}
		}
		if calls%3 == 0 && calls < 12 { // it took them, and the answer is lost
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"accepted": accepted, "duplicates": duplicates, "refused": refused})
	}
	config := n.config(t.TempDir())
	p := start(t, config)
	ready(t, p)
	const decisions = 300
	mu.Lock() // nothing is shipped before all is known
	ids := map[string]bool{}
	for i := range decisions {
		a, err := p.Decide(t.Context(), request([]string{"order.create", "order.pay"}[i%2]))
		if err != nil {
			t.Fatal(err)
		}
		ids[a.ID] = true
		switch i {
		case 5:
			poison[a.ID] = "unreadable"
		case 50:
			poison[a.ID] = "not your tenant"
		}
	}
	mu.Unlock()
	until(t, p, "shipped", func(s Status) bool { return s.Records.Waiting == 0 && s.Records.Sent+s.Records.Dropped == decisions })
	if got := p.Status().Records; got.Written != decisions || got.Sent != decisions-2 || got.Dropped != 2 || got.Lost != 0 || got.Refused != 0 {
		t.Errorf("%+v", got)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range ids {
		if n.records[id] != 1 && poison[id] == "" || n.records[id] != 0 && poison[id] != "" {
			t.Errorf("record %s (%q) came %d times", id, poison[id], n.records[id])
		}
	}
}

func TestTokensAreReadAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	token := TokenFile(file)
	if _, err := token(); err == nil {
		t.Error("a token out of nothing")
	}
	for text, want := range map[string]string{"secret\n": "secret", " padded ": "padded", "": "", "two lines\nof it": "", strings.Repeat("x", maxToken+1): ""} {
		write(t, file, []byte(text))
		if got, err := token(); got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// spans is a tracer that notes what it is told.
type spans struct {
	noop.TracerProvider
	mu     sync.Mutex
	names  []string
	parent []trace.SpanContext
	attrs  map[string]string
}

func (s *spans) Tracer(string, ...trace.TracerOption) trace.Tracer { return &tracer{spans: s} }

type tracer struct {
	noop.Tracer
	spans *spans
}

type span struct {
	noop.Span
	spans   *spans
	context trace.SpanContext
}

func (t *tracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent := trace.SpanContextFromContext(ctx)
	t.spans.mu.Lock()
	t.spans.names, t.spans.parent = append(t.spans.names, name), append(t.spans.parent, parent)
	t.spans.mu.Unlock()
	s := &span{spans: t.spans, context: parent.WithSpanID(trace.SpanID{2})}
	return trace.ContextWithSpan(ctx, s), s
}

func (s *span) IsRecording() bool              { return true }
func (s *span) SpanContext() trace.SpanContext { return s.context }
func (s *span) SetAttributes(kv ...attribute.KeyValue) {
	s.spans.mu.Lock()
	defer s.spans.mu.Unlock()
	for _, a := range kv {
		s.spans.attrs[string(a.Key)] = a.Value.String()
	}
}

func TestADecisionJoinsTheCallersTraceAndNamesNoSubject(t *testing.T) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() { otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator()) })
	n := startNode(t, "acme")
	var asked atomic.Int64
	var parent atomic.Value
	n.decide = func(w http.ResponseWriter, r *http.Request) {
		parent.Store(r.Header.Get("Traceparent"))
		answers(authz.Allow, &asked)(w, r)
	}
	s := &spans{attrs: map[string]string{}}
	config := n.config("")
	config.Engine, config.Tracer = nil, s
	p := start(t, config)
	caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
	if _, err := p.Decide(trace.ContextWithSpanContext(t.Context(), caller), request("order.create")); err != nil {
		t.Fatal(err)
	}
	if len(s.names) != 1 || s.names[0] != "xiezhi.decide" || s.parent[0].SpanID() != caller.SpanID() {
		t.Errorf("%v %v", s.names, s.parent)
	}
	if got, want := fmt.Sprint(parent.Load()), "00-01000000000000000000000000000000-0200000000000000-01"; got != want {
		t.Errorf("the server was told %q, want %q", got, want)
	}
	for _, name := range []string{"xiezhi.tenant", "xiezhi.action", "xiezhi.effect", "xiezhi.revision"} {
		if s.attrs[name] == "" {
			t.Errorf("no %s: %v", name, s.attrs)
		}
	}
	for name, value := range s.attrs {
		if strings.Contains(value, "li.wei") {
			t.Errorf("%s names the subject", name)
		}
	}
}
