package pep

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

func (n *node) config(dir string) Config {
	return Config{
		Server: n.url, Token: func() (string, error) { return "token", nil }, Tenants: []string{"acme"}, ID: "shop-1",
		Engine: &tiny{}, Trust: n.trust(), Dir: dir, StaleBound: time.Hour,
	}
}

func start(t testing.TB, config Config) *PEP {
	t.Helper()
	p, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, p) })
	return p
}

// stop closes a PEP without waiting for a server that is away.
func stop(t testing.TB, p *PEP) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
}

func ready(t testing.TB, p *PEP) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// until waits for a state of the PEP.
func until(t testing.TB, p *PEP, what string, is func(Status) bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		v := p.view.Load()
		if is(p.Status()) {
			return
		}
		select {
		case <-v.changed:
		case <-time.After(10 * time.Millisecond): // of what is not told of
		case <-deadline.C:
			t.Fatalf("not %s: %+v", what, p.Status())
		}
	}
}

func request(action string) authz.Request {
	return authz.Request{
		Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: action},
		Resource: authz.Entity{Type: "order", ID: "7"},
	}
}

// effect decides, and fails the test where there is no answer.
func effect(t testing.TB, p *PEP, action string, opts ...Option) authz.Effect {
	t.Helper()
	a, err := p.Decide(t.Context(), request(action), opts...)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	return a.Effect
}

func wantEffect(t testing.TB, p *PEP, action string, want authz.Effect) {
	t.Helper()
	if got := effect(t, p, action); got != want {
		t.Errorf("%s: %s, want %s", action, got, want)
	}
}

func TestDecidesInProcessWhatTheNodePushes(t *testing.T) {
	n := startNode(t, "acme")
	n.restrict("order.refund", time.Hour)
	n.publish("allow order.create\nallow order.refund\nreview order.delete")
	p := start(t, n.config(t.TempDir()))
	if _, err := p.Decide(t.Context(), request("order.create")); err == nil && p.Status().Revision.IsZero() {
		t.Error("it decided before anything came")
	}
	ready(t, p)
	wantEffect(t, p, "order.create", authz.Allow)
	wantEffect(t, p, "order.refund", authz.Deny)
	wantEffect(t, p, "order.delete", authz.Review)
	wantEffect(t, p, "order.unknown", authz.Deny)

	n.publish("deny order.create\nreview order.delete")
	n.wait(t, 0, acked(2, 1))
	wantEffect(t, p, "order.create", authz.Deny)
	at := n.grant("order.delete", time.Hour)
	if got := effect(t, p, "order.delete", AtLeast(authz.Revision{Release: 2, Position: at})); got != authz.Allow {
		t.Errorf("with a grant: %s", got)
	}
	at = n.revoke("order.delete")
	if got := effect(t, p, "order.delete", AtLeast(authz.Revision{Release: 2, Position: at})); got != authz.Review {
		t.Errorf("with a revoked grant: %s", got)
	}
	s := p.Status()
	if !s.Connected || s.Stale || s.Revision != (authz.Revision{Release: 2, Position: 3}) || s.Rejected != "" {
		t.Errorf("status %+v", s)
	}
}

func TestAReleaseThatDoesNotCompileIsRejectedAndTheActiveOneStays(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create")
	p := start(t, n.config(t.TempDir()))
	ready(t, p)
	for _, broken := range []string{"nonsense", "panic now"} {
		from := n.seen()
		number := n.publish(broken)
		f := n.wait(t, from, ofType(stream.TypeReject))
		if f.Release != number || !strings.Contains(f.Reason, "does not compile") {
			t.Errorf("%+v", f)
		}
		wantEffect(t, p, "order.create", authz.Allow)
		if s := p.Status(); s.Revision.Release != 1 || !strings.Contains(s.Rejected, fmt.Sprintf("r%d:", number)) {
			t.Errorf("status %+v", s)
		}
	}
	n.publish("allow order.create\nallow order.pay")
	n.wait(t, 0, acked(4, 0))
	wantEffect(t, p, "order.pay", authz.Allow)
	if got := p.Status().Rejected; got != "" {
		t.Errorf("still rejected: %s", got)
	}
}

func TestGrantsGoOnWhileAReleaseCompilesAndTheNewestReleaseWins(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("review order.delete")
	config := n.config(t.TempDir())
	engine := &tiny{}
	config.Engine = engine
	p := start(t, config)
	ready(t, p)
	hold := make(chan struct{})
	engine.mu.Lock()
	engine.hold = hold
	engine.mu.Unlock()
	for i := range 5 {
		n.publish(fmt.Sprintf("review order.delete\nallow order.%d", i))
	}
	at := n.grant("order.delete", time.Hour)
	if got := effect(t, p, "order.delete", AtLeast(authz.Revision{Release: 1, Position: at})); got != authz.Allow {
		t.Errorf("while a release compiles: %s", got)
	}
	before := engine.compiles.Load()
	close(hold)
	n.wait(t, 0, acked(6, at))
	wantEffect(t, p, "order.4", authz.Allow)
	if got := engine.compiles.Load() - before; got > 3 {
		t.Errorf("%d compiled of 5 that came at once", got)
	}
}

func TestTheServerGoesAndComesBack(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create\nreview order.delete")
	n.grant("order.delete", time.Hour)
	dir := t.TempDir()
	p := start(t, n.config(dir))
	ready(t, p)
	until(t, p, "fresh", func(s Status) bool { return !s.Stale })
	wantEffect(t, p, "order.delete", authz.Allow)
	address := n.accept.Addr().String()
	n.kill()
	until(t, p, "disconnected", func(s Status) bool { return !s.Connected && !s.Polling })
	a, err := p.Decide(t.Context(), request("order.create"))
	if err != nil || !a.Allowed() || !a.Stale {
		t.Errorf("without a server: %+v, %v", a, err)
	}
	began := time.Now()
	if _, err := p.Decide(t.Context(), request("order.create"), AtLeast(authz.Revision{Release: 9})); !errors.Is(err, ErrRevisionUnavailable) || time.Since(began) > time.Second {
		t.Errorf("a revision that cannot come: %v", err)
	}
	stop(t, p)
	if _, err := p.Decide(t.Context(), request("order.create")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}

	// Another process, and the server is still down.
	p = start(t, n.config(dir))
	ready(t, p)
	a, err = p.Decide(t.Context(), request("order.create"))
	if err != nil || !a.Allowed() || !a.Stale || a.Revision != (authz.Revision{Release: 1, Position: 1}) {
		t.Errorf("from disk: %+v, %v", a, err)
	}
	wantEffect(t, p, "order.delete", authz.Review) // no grant before a heartbeat

	n.listen(t, address)
	until(t, p, "fresh", func(s Status) bool { return s.Connected && !s.Stale })
	wantEffect(t, p, "order.delete", authz.Allow)
	// What it decided alone arrives, each once.
	until(t, p, "shipped", func(s Status) bool { return s.Records.Waiting == 0 && s.Records.Sent > 0 })
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, times := range n.records {
		if times != 1 {
			t.Errorf("record %s came %d times", id, times)
		}
	}
}

func TestPollsWhileNoSocketCanBeHadAndReturnsToIt(t *testing.T) {
	n := startNode(t, "acme")
	n.sockets = false
	n.publish("allow order.create\nreview order.delete")
	p := start(t, n.config(t.TempDir()))
	ready(t, p)
	until(t, p, "polling", func(s Status) bool { return s.Polling && !s.Connected && !s.Stale })
	at := n.grant("order.delete", time.Hour)
	if got := effect(t, p, "order.delete", AtLeast(authz.Revision{Release: 1, Position: at})); got != authz.Allow {
		t.Errorf("with a grant: %s", got)
	}
	n.publish("deny order.create")
	n.wait(t, 0, func(f *stream.Frame) bool { return f.Type == stream.TypeHello && f.Hello.Release == 2 })
	wantEffect(t, p, "order.create", authz.Deny)
	n.mu.Lock()
	n.sockets = true
	n.mu.Unlock()
	until(t, p, "connected", func(s Status) bool { return s.Connected && !s.Polling })
}

func TestARevokedReleaseKeyClosesUntilAValidManifestComes(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create")
	p := start(t, n.config(t.TempDir()))
	ready(t, p)
	n.mu.Lock()
	n.replaceKey(&n.releases, trustReleases)
	n.mu.Unlock()
	n.send(body(stream.TypeKeys, n.signed))
	n.wait(t, 0, func(f *stream.Frame) bool { return f.Type == stream.TypeAck && f.Held.Keys == 2 })
	if _, err := p.Decide(t.Context(), request("order.create")); !errors.Is(err, ErrNoState) || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("%v", err)
	}
	// A closed PEP stays closed through a reconnect, until the same content is signed anew.
	n.mu.Lock()
	n.release = n.seal(n.contents[n.release.Digest.String()], n.release.Release)
	n.mu.Unlock()
	n.send(stream.Frame{Header: stream.Header{Type: stream.TypeKeys, Manifest: n.release.Signed}, Body: []byte(n.signed)})
	ready(t, p)
	wantEffect(t, p, "order.create", authz.Allow)
}

func TestARotationThatBringsTheManifestAnewNeverCloses(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create")
	p := start(t, n.config(t.TempDir()))
	ready(t, p)
	asking, stopAsking := context.WithCancel(t.Context())
	defer stopAsking()
	var wrong atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for asking.Err() == nil {
			if a, err := p.Decide(t.Context(), request("order.create")); err != nil || !a.Allowed() {
				wrong.Add(1)
			}
		}
	}()
	for range 5 {
		from := n.seen()
		n.mu.Lock()
		n.replaceKey(&n.releases, trustReleases)
		n.release = n.seal(n.contents[n.release.Digest.String()], n.release.Release)
		version := n.version
		n.mu.Unlock()
		n.send(stream.Frame{Header: stream.Header{Type: stream.TypeKeys, Manifest: n.release.Signed}, Body: []byte(n.signed)})
		n.wait(t, from, func(f *stream.Frame) bool { return f.Type == stream.TypeAck && f.Held.Keys == version })
	}
	stopAsking()
	<-done
	if wrong.Load() > 0 {
		t.Errorf("%d wrong answers", wrong.Load())
	}
}

func TestARevokedLogKeyTakesGrantsAtOnceAndTheLogComesAnew(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create\nreview order.delete")
	n.grant("order.delete", time.Hour)
	p := start(t, n.config(t.TempDir()))
	ready(t, p)
	until(t, p, "fresh", func(s Status) bool { return !s.Stale })
	from := n.seen()
	n.mu.Lock()
	n.replaceKey(&n.log, trustLog)
	n.mu.Unlock()
	n.send(body(stream.TypeKeys, n.signed))
	f := n.wait(t, from, ofType(stream.TypeResync))
	if !f.Log || f.Snapshot {
		t.Errorf("%+v", f)
	}
	wantEffect(t, p, "order.create", authz.Allow)
	until(t, p, "granting again", func(Status) bool { return effect(t, p, "order.delete") == authz.Allow })
}

func TestAnotherProcessDoesNotGetTheFolder(t *testing.T) {
	n := startNode(t, "acme")
	dir := t.TempDir()
	p := start(t, n.config(dir))
	if _, err := New(t.Context(), n.config(dir)); err == nil || !strings.Contains(err.Error(), "Dir") {
		t.Errorf("%v", err)
	}
	stop(t, p)
	start(t, n.config(dir))
}

func TestATenantThatIsNotServedIsNotAnswered(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create")
	p := start(t, n.config(t.TempDir()))
	ready(t, p)
	req := request("order.create")
	req.Tenant = "globex"
	if a, err := p.Decide(t.Context(), req); !errors.Is(err, ErrTenantNotServed) || a.Allowed() {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestConfigErrorsNameTheField(t *testing.T) {
	n := newNode("acme")
	n.url = "http://127.0.0.1:1"
	for field, change := range map[string]func(*Config){
		"Server:":        func(c *Config) { c.Server = "" },
		"Server: \"http": func(c *Config) { c.Server = "http://xiezhi.example" },
		"Server: \"ftp":  func(c *Config) { c.Server = "ftp://127.0.0.1" },
		"Token":          func(c *Config) { c.Token = nil },
		"Tenants":        func(c *Config) { c.Tenants = nil },
		"Tenants: ":      func(c *Config) { c.Tenants = []string{"No Tenant"} },
		"Trust":          func(c *Config) { c.Trust.Keys = nil },
		"Dir":            func(c *Config) { c.Dir = "" },
		"GrantStale":     func(c *Config) { c.GrantStale = time.Minute },
		"StaleBound":     func(c *Config) { c.StaleBound = -1 },
		"RemoteTimeout":  func(c *Config) { c.RemoteTimeout = -1 },
		"SpoolMaxBytes":  func(c *Config) { c.SpoolMaxBytes = -1 },
		"Labels":         func(c *Config) { c.Labels = map[string]string{"zone": "a\nb"} },
	} {
		config := n.config(t.TempDir())
		change(&config)
		p, err := New(t.Context(), config)
		if err == nil {
			stop(t, p)
		}
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestARedirectDoesNotCarryTheTokenElsewhere(t *testing.T) {
	elsewhere := startNode(t, "acme")
	var asked atomic.Int64
	elsewhere.decide = func(http.ResponseWriter, *http.Request) { asked.Add(1) }
	n := startNode(t, "acme")
	n.decide = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.url+"/api/v1/decide", http.StatusTemporaryRedirect)
	}
	config := n.config("")
	config.Engine = nil
	p := start(t, config)
	if a, err := p.Decide(t.Context(), request("order.create")); err == nil || a.Allowed() || asked.Load() != 0 {
		t.Errorf("%+v, %v, asked %d times", a, err, asked.Load())
	}
}
