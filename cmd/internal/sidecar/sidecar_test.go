package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/dev"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/pap"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
)

// deadline bounds every wait of these tests; none of them waits for long.
const deadline = 2 * time.Minute

// node is a whole server with the shipped policies, as `xiezhi dev` runs it.
type node struct {
	dev.Ready
	token string // a file
	stop  func()
}

func startNode(t *testing.T) *node {
	t.Helper()
	shipped, err := engine.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready.json")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- dev.Run(ctx, dev.Options{
			Listen: "127.0.0.1:0", StreamListen: "127.0.0.1:0", Data: filepath.Join(dir, "data"), ReadyFile: ready,
			Shipped: shipped, Out: io.Discard, Log: slog.New(slog.DiscardHandler),
		})
	}()
	n := &node{stop: sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error("the server:", err)
		}
	})}
	t.Cleanup(n.stop)
	eventually(t, "the server is ready", func() bool {
		data, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(data, &n.Ready) == nil
	})
	n.token = filepath.Join(dir, "token")
	if err := os.WriteFile(n.token, []byte(n.Tokens["pep"]), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// away is a server that does not answer, of an installation that exists.
func away(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if _, err := trust.NewRing(keys, "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	ln := open(t, "127.0.0.1:0")
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	n := &node{Ready: dev.Ready{URL: "http://" + ln.Addr().String(), Trust: filepath.Join(keys, trust.RootFile)}, token: filepath.Join(dir, "token")}
	if err := os.WriteFile(n.token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(deadline); !is(); <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", deadline, what)
		}
	}
}

// running is a sidecar and a client of it.
type running struct {
	*Sidecar
	t      *testing.T
	client http.Client
	url    string
	stop   func()
}

func (n *node) config(dir string) config.PEP {
	return config.PEP{Server: n.URL, TokenFile: n.token, Trust: n.Trust, Tenants: []string{"acme"}, Data: dir}
}

// start opens a sidecar at an address: unix:/path, or a loopback one.
func start(t *testing.T, c config.PEP, address string) *running {
	t.Helper()
	ln := open(t, address)
	_, loopback := ln.Addr().(*net.TCPAddr)
	s, err := Open(t.Context(), c, loopback, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(errors.Join(err, ln.Close()))
	}
	r := &running{Sidecar: s, t: t, url: "http://" + ln.Addr().String()}
	if !loopback {
		r.url = "http://localhost"
		r.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(address, unixPrefix))
		}}
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	r.stop = sync.OnceFunc(func() {
		r.client.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Error("the sidecar:", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) ready() *running {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), deadline)
	defer cancel()
	if err := r.pep.WaitReady(ctx); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// got is an answer.
type got struct {
	status  int
	decided string
	json    map[string]any
	text    string
}

func (r *running) do(method, path, body string) got {
	r.t.Helper()
	return r.doAs("", method, path, body)
}

// doAs calls by another host name than the sidecar's.
func (r *running) doAs(host, method, path, body string) got {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		r.t.Fatal(err)
	}
	g := got{status: resp.StatusCode, decided: resp.Header.Get(httpd.HeaderDecided), text: string(data)}
	_ = json.Unmarshal(data, &g.json) // not every answer is JSON
	return g
}

func example(t *testing.T, name string) string {
	t.Helper()
	shipped, err := engine.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	data, err := shipped.File("examples/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestBesideAServer(t *testing.T) {
	n := startNode(t)
	for name, test := range map[string]func(*testing.T, *node){
		"the sidecar answers as a server does":     answersAsAServer,
		"the sidecar serves nothing else":          servesNothingElse,
		"a sidecar that stops leaves nothing back": leavesNothing,
	} {
		t.Run(name, func(t *testing.T) { test(t, n) })
	}
}

func answersAsAServer(t *testing.T, n *node) {
	for _, address := range []string{"127.0.0.1:0", "unix:" + socketPath(t)} {
		r := start(t, n.config(t.TempDir()), address).ready()
		for name, want := range map[string]struct{ effect, decided string }{
			"allow":  {"ALLOW", httpd.DecidedInProcess},
			"deny":   {"DENY", httpd.DecidedInProcess},
			"review": {"REVIEW", httpd.DecidedRemote}, // people are the server's to ask
		} {
			g := r.do("POST", "/api/v1/decide", example(t, name))
			if g.status != 200 || g.json["effect"] != want.effect || g.decided != want.decided || g.json["stale"] != false {
				t.Errorf("%s: %d by %q: %s", name, g.status, g.decided, g.text)
			}
		}
		batch := `{"evaluations":[` + example(t, "allow") + `,` + example(t, "review") + `]}`
		g := r.do("POST", "/api/v1/decide/batch", batch)
		if items, _ := g.json["evaluations"].([]any); g.status != 200 || len(items) != 2 || g.decided != "in-process, remote" {
			t.Errorf("batch: %d by %q: %s", g.status, g.decided, g.text)
		}
		if g := r.do("POST", "/access/v1/evaluation", example(t, "allow")); g.status != 200 || g.json["decision"] != true || g.decided != httpd.DecidedInProcess {
			t.Errorf("AuthZEN: %d %s", g.status, g.text)
		}
		if g := r.do("POST", "/access/v1/evaluations", batch); g.status != 200 {
			t.Errorf("AuthZEN batch: %d %s", g.status, g.text)
		}
		if g := r.do("GET", "/.well-known/authzen-configuration", ""); g.status != 200 || g.json["access_evaluation_endpoint"] == "" {
			t.Errorf("AuthZEN metadata: %d %s", g.status, g.text)
		}
		if g := r.do("GET", "/status", ""); g.status != 200 || g.json["connected"] != true || g.json["stale"] != false {
			t.Errorf("status: %d %s", g.status, g.text)
		}
		for _, probe := range []string{"/healthz", "/readyz", "/openapi.json"} {
			if g := r.do("GET", probe, ""); g.status != 200 {
				t.Errorf("%s: %d %s", probe, g.status, g.text)
			}
		}
		if g := r.do("GET", "/metrics", ""); g.status != 200 || !strings.Contains(g.text, "xiezhi_pep_connected 1") || !strings.Contains(g.text, "xiezhi_rego_engine_panics_total 0") {
			t.Errorf("metrics: %d %s", g.status, g.text)
		}
		r.stop()
	}
}

func servesNothingElse(t *testing.T, n *node) {
	r := start(t, n.config(t.TempDir()), "127.0.0.1:0").ready()
	for _, path := range []string{"/api/v1/tokens", "/api/v1/policies", "/api/v1/audit", "/api/v1/evaluate", "/api/v1/releases", "/v1/data", "/.well-known/xiezhi"} {
		if g := r.do("GET", path, ""); g.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, g.status, g.text)
		}
	}
	other := strings.Replace(example(t, "allow"), `"acme"`, `"globex"`, 1)
	if g := r.do("POST", "/api/v1/decide", other); g.status != http.StatusForbidden {
		t.Errorf("another tenant: %d %s", g.status, g.text)
	}
	if g := r.do("POST", "/api/v1/decide", `{"unknown":1}`); g.status != http.StatusBadRequest {
		t.Errorf("a malformed request: %d %s", g.status, g.text)
	}
	if g := r.do("POST", "/api/v1/decide", strings.Replace(example(t, "allow"), "{", `{"at_least_revision":"r999.g9",`, 1)); g.status == 200 {
		t.Errorf("a revision that does not exist: %d %s", g.status, g.text)
	}
	for host, want := range map[string]int{"evil.example": 400, "evil.example:80": 400, "127.0.0.1.evil.example": 400, "localhost:1": 200, "[::1]": 200, "127.0.0.1": 200} {
		if g := r.doAs(host, "GET", "/healthz", ""); g.status != want {
			t.Errorf("by the name %s: %d, want %d", host, g.status, want)
		}
	}
}

func TestTheSidecarOutlivesTheServer(t *testing.T) {
	n := startNode(t)
	c, socket := n.config(t.TempDir()), "unix:"+socketPath(t)
	r := start(t, c, socket).ready()
	if g := r.do("POST", "/api/v1/decide", example(t, "allow")); g.json["effect"] != "ALLOW" {
		t.Fatalf("%d %s", g.status, g.text)
	}
	eventually(t, "the release is on disk", func() bool { return hasFiles(filepath.Join(c.Data, "state")) })
	n.stop()
	eventually(t, "it noticed", func() bool { return !r.Status().Connected })
	r.stop()

	again := start(t, c, socket).ready()
	g := again.do("POST", "/api/v1/decide", example(t, "allow"))
	if g.json["effect"] != "ALLOW" || g.json["stale"] != true || g.decided != httpd.DecidedInProcess {
		t.Errorf("from disk: %d %s", g.status, g.text)
	}
	if g := again.do("POST", "/api/v1/decide", strings.Replace(example(t, "allow"), "{", `{"at_least_revision":"r999.g9",`, 1)); g.status != http.StatusServiceUnavailable || g.json["code"] != "revision_unavailable" {
		t.Errorf("a revision that nobody can bring: %d %s", g.status, g.text)
	}
}

func hasFiles(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 1
}

func TestASidecarWithoutPoliciesDecidesNothing(t *testing.T) {
	c := away(t).config(t.TempDir())
	r := start(t, c, "unix:"+socketPath(t))
	for _, path := range []string{"/api/v1/decide", "/access/v1/evaluation"} {
		if g := r.do("POST", path, example(t, "allow")); g.status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", path, g.status, g.text)
		}
	}
	if g := r.do("POST", "/api/v1/decide/batch", `{"evaluations":[`+example(t, "allow")+`]}`); g.status != http.StatusServiceUnavailable {
		t.Errorf("batch: %d %s", g.status, g.text)
	}
	if g := r.do("GET", "/readyz", ""); g.status != http.StatusServiceUnavailable {
		t.Errorf("readiness: %d %s", g.status, g.text)
	}
	if g := r.do("GET", "/status", ""); g.status != 200 {
		t.Errorf("status: %d %s", g.status, g.text)
	}
}

func leavesNothing(t *testing.T, n *node) {
	before := runtime.NumGoroutine()
	path := socketPath(t)
	r := start(t, n.config(t.TempDir()), "unix:"+path).ready()
	r.do("POST", "/api/v1/decide", example(t, "allow"))
	r.stop()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	eventually(t, "all goroutines ended", func() bool {
		return runtime.NumGoroutine() <= before+3 // the server's, which answers others
	})
}

func TestASidecarSaysWhatIsWrongWithItsFiles(t *testing.T) {
	n := away(t)
	file := filepath.Join(t.TempDir(), "nonsense")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*config.PEP){
		"trust: open":    func(c *config.PEP) { c.Trust = file + "-none" },
		"trust: " + file: func(c *config.PEP) { c.Trust = file },
		"tls_ca":         func(c *config.PEP) { c.TLSCA = file },
		"tls_cert":       func(c *config.PEP) { c.TLSCert, c.TLSKey = file, file },
		"Server":         func(c *config.PEP) { c.Server = "http://192.0.2.1" },
	} {
		c := n.config(t.TempDir())
		change(&c)
		s, err := Open(t.Context(), c, false, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one that says %q", err, want)
		}
		if s != nil && s.pep != nil {
			t.Error("it was opened")
		}
	}
}

func TestErrorsOfThePEPAreNoAnswers(t *testing.T) {
	for _, err := range []error{
		pep.ErrNoState, pep.ErrRevisionUnavailable, pep.ErrAuditUnavailable, pep.ErrTenantNotServed, pep.ErrClosed, errors.New("anything"),
	} {
		if got := translated(err); got == nil || !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestTheBoundaryIsTheTenantsThatAreServed(t *testing.T) {
	for _, tt := range []struct {
		tenants       string
		right, tenant string
		may           bool
	}{
		{"acme,globex", httpd.RightDecide, "acme", true},
		{"acme,globex", access.RightOnBehalf, "globex", true},
		{"acme,globex", access.RightOnBehalf, "initech", false},
		{"acme,globex", httpd.RightDecide, pap.Platform, false},
		{"*", access.RightOnBehalf, "initech", true},
		{"*", access.RightOnBehalf, pap.Platform, false},
		{"*", httpd.RightMetrics, pap.Platform, true},
		{"*", httpd.RightStatus, pap.Platform, true},
		{"*", "release.publish", pap.Platform, false},
		{"acme", "token.create", "acme", false},
	} {
		g := guard{strings.Split(tt.tenants, ",")}
		c, err := g.Authenticate(t.Context(), "")
		if err != nil || (c.Tenant != "") != (tt.tenants == "acme") {
			t.Errorf("%s: caller %+v (%v)", tt.tenants, c, err)
		}
		if err := g.Allow(t.Context(), c, tt.right, tt.tenant); (err == nil) != tt.may || err != nil && !errors.Is(err, pap.ErrForbidden) {
			t.Errorf("%s in %s, where %s are served: %v", tt.right, tt.tenant, tt.tenants, err)
		}
	}
}
