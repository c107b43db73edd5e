package httpmw

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// rig is a service with a PEP before it, and a decision server that answers
// by the name of the action.
type rig struct {
	t       *testing.T
	pep     *pep.PEP
	service *httptest.Server
	log     *lockedBuffer

	mu    sync.Mutex
	asked []authz.Request
	ran   int
}

// lockedBuffer is a log that tests read while servers write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// decisions are what the server answers, by action.
var decisions = map[string]authz.Decision{
	"order.create": {ID: "d-allow", Effect: authz.Allow},
	"order.read":   {ID: "d-met", Effect: authz.Allow, Obligations: []authz.Obligation{{ID: "audit_trail", Must: true}}},
	"order.update": {ID: "d-unknown", Effect: authz.Allow, Obligations: []authz.Obligation{{ID: "encrypt", Must: true}}},
	"order.limit":  {ID: "d-limit", Effect: authz.Allow, Limits: []authz.Limit{{Key: "k"}}},
	"order.delete": {ID: "d-deny", Effect: authz.Deny, Reasons: []authz.Reason{{Policy: "p", Rule: "r", Effect: authz.Deny, Message: "No.", MessageZH: "不行。", Location: "secret.rego:3"}}},
	"order.refund": {ID: "d-review", Effect: authz.Review, Approval: &authz.Approval{ID: "cheq-1", Status: "PENDING"}},
}

func newRig(t *testing.T, mapper Mapper, obligations map[string]pep.ObligationHandler) *rig {
	t.Helper()
	r := &rig{t: t, log: &lockedBuffer{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, call *http.Request) {
		body, err := io.ReadAll(call.Body)
		if err != nil {
			t.Error(err)
		}
		value, err := authz.Parse(body)
		if err != nil {
			t.Error(err)
		}
		req, err := authz.RequestOf(value)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.asked = append(r.asked, req)
		r.mu.Unlock()
		d, known := decisions[req.Action.Name]
		if !known {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(d.AppendJSON(nil))
	}))
	t.Cleanup(server.Close)
	var err error
	r.pep, err = pep.New(t.Context(), pep.Config{
		Server: server.URL, Token: func() (string, error) { return "token", nil }, Tenants: []string{"acme"},
		Obligations: obligations, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.pep.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	handler := http.HandlerFunc(func(w http.ResponseWriter, call *http.Request) {
		if _, ok := pep.DecisionFrom(call.Context()); !ok {
			t.Error("the handler has no decision")
		}
		r.mu.Lock()
		r.ran++
		r.mu.Unlock()
		_, _ = io.WriteString(w, "done")
	})
	r.service = httptest.NewServer(New(r.pep, mapper, slog.New(slog.NewTextHandler(r.log, nil)))(handler))
	t.Cleanup(r.service.Close)
	return r
}

func li(*http.Request) (string, authz.Entity, error) {
	return "acme", authz.Entity{Type: "user", ID: "li.wei"}, nil
}

func rules() map[string]Rule {
	return map[string]Rule{
		"POST /orders":             {Action: "order.create", Type: "order"},
		"GET /orders/{id}":         {Action: "order.read", Type: "order", ID: "id"},
		"PUT /orders/{id}":         {Action: "order.update", Type: "order", ID: "id"},
		"DELETE /orders/{id}":      {Action: "order.delete", Type: "order", ID: "id"},
		"POST /orders/{id}/refund": {Action: "order.refund", Type: "order", ID: "id"},
		"POST /orders/{id}/limit":  {Action: "order.limit", Type: "order", ID: "id"},
		"POST /away":               {Action: "away", Type: "order"},
		"GET /files/{path...}":     {Action: "order.create", Type: "file", ID: "path"},
	}
}

func table(t *testing.T, identity Identity, rules map[string]Rule) Mapper {
	t.Helper()
	tab, err := NewTable(identity, rules)
	if err != nil {
		t.Fatal(err)
	}
	return tab.Map
}

func (r *rig) do(method, path string) (int, pep.Refusal, http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.service.URL+path, strings.NewReader("{}"))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.service.Client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.Contains(string(data), "secret") {
		r.t.Errorf("the caller learns too much: %s", data)
	}
	var refusal pep.Refusal
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.Unmarshal(data, &refusal); err != nil {
			r.t.Fatal(err)
		}
	}
	return resp.StatusCode, refusal, resp.Header
}

func TestAHandlerRunsOnlyWhereItIsAllowed(t *testing.T) {
	met := map[string]pep.ObligationHandler{"audit_trail": func(context.Context, authz.Request, authz.Obligation) error { return nil }}
	tests := map[string]struct {
		method, path string
		status       int
		code         string // empty: the handler ran
		id           string // of the decision
	}{
		"allowed":                           {"POST", "/orders", 200, "", ""},
		"allowed and met":                   {"GET", "/orders/7", 200, "", ""},
		"HEAD is what GET is":               {"HEAD", "/orders/7", 200, "", ""},
		"an unknown obligation":             {"PUT", "/orders/7", 403, pep.CodeUnmet, "d-unknown"},
		"a limit that nobody enforces":      {"POST", "/orders/7/limit", 403, pep.CodeUnmet, "d-limit"},
		"denied":                            {"DELETE", "/orders/7", 403, pep.CodeDenied, "d-deny"},
		"review":                            {"POST", "/orders/7/refund", 403, pep.CodeReview, "d-review"},
		"no decision":                       {"POST", "/away", 503, pep.CodeUnavailable, ""},
		"no rule for the path":              {"GET", "/nowhere", 403, pep.CodeUnmapped, ""},
		"no rule for the method":            {"PATCH", "/orders/7", 403, pep.CodeUnmapped, ""},
		"a path that would be redirected":   {"GET", "//orders/7", 403, pep.CodeUnmapped, ""},
		"a path with dots":                  {"GET", "/files/../orders/7", 403, pep.CodeUnmapped, ""},
		"an id too long to be asked for":    {"GET", "/orders/" + strings.Repeat("x", 2000), 403, pep.CodeUnmapped, ""},
		"an empty id":                       {"GET", "/files/", 403, pep.CodeUnmapped, ""},
		"a final slash is another resource": {"GET", "/orders/7/", 403, pep.CodeUnmapped, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, table(t, li, rules()), met)
			status, refusal, header := r.do(tt.method, tt.path)
			if status != tt.status || refusal.Code != tt.code || refusal.DecisionID != tt.id {
				t.Errorf("%d %+v", status, refusal)
			}
			if wants := tt.code == ""; (r.ran == 1) != wants {
				t.Errorf("the handler ran %d times", r.ran)
			}
			if tt.code != "" && (refusal.Type != "urn:xiezhi:problem:"+tt.code || refusal.TitleZH == "" || header.Get("Cache-Control") != "no-store") {
				t.Errorf("%+v %v", refusal, header)
			}
			if tt.code == pep.CodeUnmapped && len(r.asked) > 0 {
				t.Errorf("the server was asked %+v", r.asked)
			}
		})
	}
}

func TestARefusalHasItsReasonsInBothLanguagesAndItsApproval(t *testing.T) {
	r := newRig(t, table(t, li, rules()), nil)
	if _, refusal, _ := r.do("DELETE", "/orders/7"); len(refusal.Reasons) != 1 || refusal.Reasons[0].Message != "No." || refusal.Reasons[0].MessageZH != "不行。" {
		t.Errorf("%+v", refusal.Reasons)
	}
	if _, refusal, _ := r.do("POST", "/orders/7/refund"); refusal.Approval == nil || refusal.Approval.ID != "cheq-1" {
		t.Errorf("%+v", refusal.Approval)
	}
}

func TestWhatIsAskedIsWhatTheRouteAndThePathSay(t *testing.T) {
	add := rules()
	add["POST /orders"] = Rule{Action: "order.create", Type: "order", Add: func(_ *http.Request, req *authz.Request) error {
		req.Resource.Properties = authz.MustValue(map[string]any{"amount": 3})
		return nil
	}}
	r := newRig(t, table(t, li, add), nil)
	r.do("POST", "/orders")
	r.do("DELETE", "/orders/a%2Fb%20c")
	if len(r.asked) != 2 {
		t.Fatalf("asked %d times", len(r.asked))
	}
	first, second := r.asked[0], r.asked[1]
	if first.Tenant != "acme" || first.Subject.ID != "li.wei" || first.Resource.ID != "order" || first.Resource.Properties.Len() != 1 {
		t.Errorf("%+v", first)
	}
	if second.Action.Name != "order.delete" || second.Resource.Type != "order" || second.Resource.ID != "a/b c" {
		t.Errorf("%+v", second)
	}
}

func TestAMapperThatFailsOrPanicsRefuses(t *testing.T) {
	for name, mapper := range map[string]Mapper{
		"fails":  func(*http.Request) (authz.Request, error) { return authz.Request{}, errors.New("secret cause") },
		"panics": func(*http.Request) (authz.Request, error) { panic("secret cause") },
		"identity fails": table(t, func(*http.Request) (string, authz.Entity, error) {
			return "", authz.Entity{}, errors.New("secret cause")
		}, rules()),
		"identity is nobody": table(t, func(*http.Request) (string, authz.Entity, error) { return "", authz.Entity{}, nil }, rules()),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, mapper, nil)
			if status, refusal, _ := r.do("POST", "/orders"); status != 403 || refusal.Code != pep.CodeUnmapped || r.ran != 0 {
				t.Errorf("%d %+v, ran %d", status, refusal, r.ran)
			}
		})
	}
}

func TestAHandlerOfAnObligationThatPanicsRefuses(t *testing.T) {
	r := newRig(t, table(t, li, rules()), map[string]pep.ObligationHandler{
		"audit_trail": func(context.Context, authz.Request, authz.Obligation) error { panic("secret cause") },
	})
	if status, refusal, _ := r.do("GET", "/orders/7"); status != 403 || refusal.Code != pep.CodeUnmet || r.ran != 0 {
		t.Errorf("%d %+v, ran %d", status, refusal, r.ran)
	}
	if !strings.Contains(r.log.String(), "secret cause") {
		t.Error("the service's log does not have the cause")
	}
}

func TestATableThatSaysTooLittleIsRefused(t *testing.T) {
	for name, bad := range map[string]map[string]Rule{
		"no action":        {"GET /x": {Type: "x"}},
		"no type":          {"GET /x": {Action: "x.read"}},
		"no such wildcard": {"GET /x/{name}": {Action: "x.read", Type: "x", ID: "id"}},
		"no pattern":       {"GET x": {Action: "x.read", Type: "x"}},
		"contradictory":    {"GET /x/{a}/y": {Action: "a", Type: "x"}, "GET /x/y/{b}": {Action: "b", Type: "x"}},
	} {
		if _, err := NewTable(li, bad); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
	if _, err := NewTable(nil, rules()); err == nil {
		t.Error("no identity: it was accepted")
	}
}

func TestOnlyAVerifiedCertificateIdentifies(t *testing.T) {
	identify := Certificate("acme", "service")
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "shop"}}
	for name, r := range map[string]*http.Request{
		"plain HTTP": {}, "no certificate": {TLS: &tls.ConnectionState{}},
		"unverified": {TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}},
		"no name":    {TLS: &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}},
	} {
		if _, subject, err := identify(r); err == nil {
			t.Errorf("%s: %+v", name, subject)
		}
	}
	tenant, subject, err := identify(&http.Request{TLS: &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}})
	if err != nil || tenant != "acme" || subject.Type != "service" || subject.ID != "shop" {
		t.Errorf("%s %+v %v", tenant, subject, err)
	}
}
