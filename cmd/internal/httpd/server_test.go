package httpd

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhatIsNotServedIsAProblemDocument(t *testing.T) {
	r := newRig(t, testPolicies())
	for _, row := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/api/v1/nothing", 404, ""},
		{"GET", "/API/v1/decide", 404, ""},
		{"GET", "/healthz/", 404, ""},
		{"GET", "/api/v1/decide", 405, "POST"},
		{"DELETE", "/healthz", 405, "GET, HEAD"},
		{"GET", "/api/v1/policies/%ZZ", 400, ""},
		{"GET", "/api/v1/policies/a%zz", 400, ""},
	} {
		t.Run(row.method+" "+row.path, func(t *testing.T) {
			text := r.raw(row.method + " " + row.path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + r.tokens["author"] + "\r\nConnection: close\r\n\r\n")
			if row.status == 400 && strings.Contains(text, " 404 ") {
				return // fasthttp leaves what it cannot unescape as it is; then there is no such document
			}
			if !strings.HasPrefix(text, fmt.Sprintf("HTTP/1.1 %d ", row.status)) || !strings.Contains(text, "application/problem+json") ||
				row.allow != "" && !strings.Contains(text, "Allow: "+row.allow+"\r\n") {
				t.Errorf("%s", text)
			}
		})
	}
}

// raw sends bytes and returns the answer as bytes.
func (r *rig) raw(request string) string {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's connection
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		r.t.Fatal(err)
	}
	data, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil && len(data) == 0 {
		r.t.Fatal(err)
	}
	return string(data)
}

func TestRequestsThatAreNoHTTPAreRefused(t *testing.T) {
	r := newRig(t, testPolicies())
	for name, row := range map[string]struct {
		request string
		status  int
	}{
		"not HTTP":           {"nonsense\r\n\r\n", 400},
		"headers too large":  {"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Pad: " + strings.Repeat("x", MaxHeader) + "\r\n\r\n", 431},
		"a negative length":  {"POST /api/v1/decide HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
		"a length too large": {"POST /api/v1/decide HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413},
	} {
		t.Run(name, func(t *testing.T) {
			text := r.raw(row.request)
			if !strings.HasPrefix(text, fmt.Sprintf("HTTP/1.1 %d ", row.status)) || !strings.Contains(text, `"urn:xiezhi:problem:`) {
				t.Errorf("%q", text)
			}
		})
	}
}

func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	r := newRig(t, testPolicies())
	for _, path := range []string{"/healthz", "/api/v1/policies", "/nothing"} {
		g := r.do(ask{path: path})
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Server": "",
		} {
			if g.header.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, g.header.Get(name))
			}
		}
		if g.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: no request id", path)
		}
	}
	if g := r.do(ask{path: "/healthz", header: map[string]string{"X-Request-ID": "mine 1"}}); g.header.Get("X-Request-Id") != "mine 1" {
		t.Errorf("the caller's request id came back as %q", g.header.Get("X-Request-Id"))
	}
}

func TestHeadAndOptionsAnswerWithoutABody(t *testing.T) {
	r := newRig(t, testPolicies())
	if g := r.do(ask{method: "HEAD", path: "/healthz"}); g.status != 200 || g.text != "" {
		t.Errorf("HEAD: %d %q", g.status, g.text)
	}
	if g := r.do(ask{method: "HEAD", path: "/api/v1/tenants"}); g.status != 401 {
		t.Errorf("HEAD without credential: %d", g.status)
	}
	g := r.do(ask{method: "OPTIONS", path: "/api/v1/decide", header: map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}})
	if g.status != 204 || g.header.Get("Allow") != "POST" || g.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("OPTIONS: %d %v", g.status, g.header)
	}
}

func TestReadinessNamesWhatFails(t *testing.T) {
	var broken error
	r := build(t, nil, Config{Checks: []Check{{"store", func(context.Context) error { return broken }}}})
	now := time.Now()
	r.config.Now = func() time.Time { return now }
	ready := func() got { return r.inProcess(ask{path: "/readyz"}) }
	if g := ready(); g.status != 503 || g.at("/failed/0") != "release" || g.at("/failed/1") != nil {
		t.Errorf("without a release: %d %s", g.status, g.text)
	}
	r.populate(context.Background(), policyContent(t, testPolicies()))
	if g := ready(); g.status != 503 {
		t.Errorf("the answer is kept for a moment: %d %s", g.status, g.text)
	}
	now = now.Add(time.Second)
	if g := ready(); g.status != 200 || g.at("/status") != "ready" {
		t.Errorf("with a release: %d %s", g.status, g.text)
	}
	broken, now = errors.New("password of the database: hunter2"), now.Add(time.Second)
	if g := ready(); g.status != 503 || g.at("/failed/0") != "store" || strings.Contains(g.text, "hunter2") {
		t.Errorf("with a broken store: %d %s", g.status, g.text)
	}
}

func TestBeforeTheFirstReleaseNobodyGetsIn(t *testing.T) {
	r := newRig(t, nil)
	if g := r.do(ask{as: "nobody", path: "/api/v1/decide", body: machineBody(`{}`, "")}); g.status != 401 {
		t.Errorf("%d %s", g.status, g.text)
	}
	if g := r.do(ask{path: "/healthz"}); g.status != 200 {
		t.Errorf("healthz: %d", g.status)
	}
}

func TestAPanicIsAnErrorAndNeverAnAllow(t *testing.T) {
	r := build(t, testPolicies(), Config{})
	r.register(&Route{Method: "GET", Path: "/panic", Operation: "panic", Rights: []string{"x"}, Status: 200, handle: func(c *call) error {
		c.answerJSON(200, func(buf []byte) []byte { return append(buf, `{"decision":true}`...) })
		panic("secret cause")
	}})
	g := r.inProcess(ask{as: "admin", path: "/panic"})
	if g.status != 500 || strings.Contains(g.text, "true") || strings.Contains(g.text, "secret") || g.code() != "internal" {
		t.Errorf("%d %s", g.status, g.text)
	}
	if !strings.Contains(r.log.String(), "secret cause") {
		t.Error("the log does not tell of it")
	}
	if g := r.inProcess(ask{as: "admin", path: "/metrics"}); !strings.Contains(g.text, "xiezhi_panics_total 1") {
		t.Errorf("it is not counted: %s", grep(g.text, "xiezhi_panics"))
	}
}

func TestMetricsCountCallsAndDecisions(t *testing.T) {
	r := newRig(t, testPolicies())
	r.do(ask{as: "shop", path: "/api/v1/decide", body: machineBody(`{"cpu":2}`, "")})
	r.do(ask{as: "shop", path: "/api/v1/decide", body: machineBody(`{"cpu":8}`, "")})
	r.do(ask{as: "shop", path: "/api/v1/decide", body: `{`})
	r.do(ask{path: "/nothing"})
	g := r.do(ask{as: "auditor", path: "/metrics"})
	for _, line := range []string{
		`xiezhi_http_requests_total{operation="decide",status="200"} 2`,
		`xiezhi_http_requests_total{operation="decide",status="400"} 1`,
		`xiezhi_http_requests_total{operation="none",status="404"} 1`,
		`xiezhi_decisions_total{effect="ALLOW"} 1`, `xiezhi_decisions_total{effect="DENY"} 1`, `xiezhi_decisions_total{effect="REVIEW"} 0`,
		`xiezhi_decision_seconds_count 2`, `xiezhi_release 1`, fmt.Sprintf("xiezhi_log_position %d", r.head().Position),
	} {
		if !strings.Contains(g.text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, grep(g.text, "xiezhi"))
		}
	}
	if g := r.do(ask{as: "pep", path: "/metrics"}); g.status != 403 {
		t.Errorf("a tenant's credential reads metrics: %d", g.status)
	}
}

func TestTheLogHoldsNoCredentialAndNoBody(t *testing.T) {
	r := newRig(t, testPolicies())
	r.do(ask{as: "shop", path: "/api/v1/decide", body: machineBody(`{"cpu":2,"password":"hunter2"}`, "")})
	r.do(ask{as: "xz_pat_01k_guessed", path: "/api/v1/policies?prefix=tenants/secret"})
	r.do(ask{as: "shop", path: "/api/v1/decide", body: `{"hunter2":1}`})
	log := r.log.String()
	for _, secret := range []string{r.tokens["shop"], "hunter2", "guessed", "tenants/secret"} {
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log:\n%s", secret, log)
		}
	}
	for _, wanted := range []string{"operation=decide", "status=400", "caller=service:shop", "request_id="} {
		if !strings.Contains(log, wanted) {
			t.Errorf("no %q in the log:\n%s", wanted, log)
		}
	}
}

func TestPlainHTTPIsServedToThisMachineOnly(t *testing.T) {
	for name, row := range map[string]struct {
		addr     net.Addr
		insecure bool
		refused  bool
	}{
		"loopback":               {&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, false, false},
		"loopback, version 6":    {&net.TCPAddr{IP: net.IPv6loopback}, false, false},
		"a socket file":          {&net.UnixAddr{Name: "x"}, false, false},
		"every address":          {&net.TCPAddr{IP: net.IPv4zero}, false, true},
		"no address":             {&net.TCPAddr{}, false, true},
		"a network":              {&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, false, true},
		"a network, as was told": {&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := build(t, nil, Config{Insecure: row.insecure})
			ctx, stop := context.WithCancel(context.Background())
			stop() // it only starts, where it starts at all
			err := r.Serve(ctx, &closedListener{addr: row.addr})
			if errors.Is(err, ErrPlainText) != row.refused {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAListenerThatBreaksEndsTheServer(t *testing.T) {
	r := build(t, nil, Config{})
	err := r.Serve(context.Background(), &closedListener{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}})
	if err == nil {
		t.Error("it ended as if it had been told to")
	}
}

// closedListener has an address and accepts nobody.
type closedListener struct{ addr net.Addr }

func (l *closedListener) Accept() (net.Conn, error) { return nil, io.EOF }
func (l *closedListener) Close() error              { return nil }
func (l *closedListener) Addr() net.Addr            { return l.addr }

func TestTLSIsServedFromFiles(t *testing.T) {
	dir := t.TempDir()
	pool := writeCertificate(t, dir)
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, config := range map[string]Config{
		"only a certificate": {CertFile: certFile}, "only a key": {KeyFile: keyFile},
		"no such file": {CertFile: "/nowhere", KeyFile: keyFile}, "a key for a certificate": {CertFile: keyFile, KeyFile: keyFile},
	} {
		if _, err := loadTLS(config.CertFile, config.KeyFile); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r := build(t, nil, Config{CertFile: certFile, KeyFile: keyFile})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx, listener) }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	resp, err := client.Get("https://" + listener.Addr().String() + "/.well-known/authzen-configuration")
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.Contains(string(data), `"https://`+listener.Addr().String()+`/access/v1/evaluation"`) || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s %v", data, resp.Header)
	}
	client.CloseIdleConnections()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

func TestStoppingLetsCallsUnderWayFinish(t *testing.T) {
	r := build(t, testPolicies(), Config{})
	entered, release := make(chan bool), make(chan bool)
	r.register(&Route{Method: "GET", Path: "/slow", Operation: "slow", Public: true, Status: 200, handle: func(c *call) error {
		entered <- true
		<-release
		return c.health()
	}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx, listener) }()
	r.url = "http://" + listener.Addr().String()
	answered := make(chan got, 1)
	go func() { answered <- r.do(ask{path: "/slow"}) }()
	<-entered
	stop()
	// The listener is closed before anything else happens.
	for {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	select {
	case err := <-served:
		t.Errorf("it stopped with a call under way: %v", err)
	default:
	}
	close(release)
	if g := <-answered; g.status != 200 {
		t.Errorf("%d %s", g.status, g.text)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestTheWellKnownDocumentsNameThisServer(t *testing.T) {
	r := newRig(t, nil)
	g := r.do(ask{path: "/.well-known/xiezhi"})
	if g.status != 200 || g.at("/api") != r.url || g.at("/stream_url") != nil {
		t.Errorf("%d %s", g.status, g.text)
	}
	for _, host := range []string{"", `a"b`, "<x>", "user@host", "evil.example/healthz?", "a b", "é"} {
		text := r.raw("GET /.well-known/authzen-configuration HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(text, "HTTP/1.1 400 ") && !strings.HasPrefix(text, "HTTP/1.1 404 ") {
			t.Errorf("Host %q: %s", host, text)
		}
	}
	public := build(t, nil, Config{PublicURL: "https://pdp.example.com/", StreamURL: "wss://pdp.example.com:8081/stream"})
	if g := public.inProcess(ask{path: "/.well-known/xiezhi"}); g.at("/stream_url") != "wss://pdp.example.com:8081/stream" {
		t.Errorf("%s", g.text)
	}
	if g := public.inProcess(ask{path: "/.well-known/authzen-configuration"}); g.at("/policy_decision_point") != "https://pdp.example.com" {
		t.Errorf("%s", g.text)
	}
}
