//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// openSidecar starts `xiezhi pep` on a Unix socket.
func openSidecar(t *testing.T, i *installation) *service {
	t.Helper()
	folder, err := os.MkdirTemp("", "pep-") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "s")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	s := &service{t: t, url: "http://localhost", path: "/api/v1/decide", client: &http.Client{Transport: transport}, args: []string{
		xiezhi, "pep", "--listen", "unix:" + socket, "--server", i.url, "--token-file", filepath.Join(i.data(), "tokens", "pep"),
		"--trust", filepath.Join(i.data(), "keys", "trust.json"), "--tenants", "acme", "--data", t.TempDir(),
		"--stale-bound", shopStaleBound.String(), "--grant-stale", shopGrantStale.String(),
	}}
	s.start()
	return s
}

// post sends a body to a door and returns what it answers.
func (s *service) post(path, body string) (status int, text string) {
	s.t.Helper()
	response, err := s.client.Post(s.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// evaluate asks at AuthZEN's door.
func (s *service) evaluate(price int) bool {
	s.t.Helper()
	status, text := s.post("/access/v1/evaluation", encode(object{
		"subject": object{"type": "user", "id": "li.wei"}, "action": object{"name": "shop.sell"},
		"resource": object{"type": "shop.item", "id": "i-1", "properties": object{"price": price}},
	}))
	var d authZENDecision
	if err := json.Unmarshal([]byte(text), &d); err != nil || status != http.StatusOK || d.Decision == nil {
		s.t.Fatalf("%d %s", status, text)
	}
	return *d.Decision
}

// A sidecar answers at the server's own doors on a socket of its user's, by an
// edit at once; when the server is killed it decides on as stale, also after a
// restart, and no longer than its bound; then it recovers by itself.
func TestASidecarAnswersForTheServerAndSurvivesIt(t *testing.T) {
	t.Parallel()
	i := install(t, minimal(t, files{"tenants/acme/shop.policy.yaml": shopRules}))
	pep := openSidecar(t, i)
	pep.until(patience, "decided in-process", func(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" && !a.Stale })
	if !pep.evaluate(5) {
		t.Error("AuthZEN's door refuses what the other allows")
	}
	if status, text := pep.post("/api/v1/decide", encode(changed(sale(5), "tenant", "globex"))); status != http.StatusForbidden {
		t.Errorf("a tenant that it does not serve: %d %s", status, text)
	}

	i.save("tenants/acme/shop.policy.yaml", shopClosed)
	pep.until(patience, "denied by the rule that was saved", func(a shopAnswer) bool { return a.says("closed") })
	if pep.evaluate(5) || !pep.evaluate(2) {
		t.Error("AuthZEN's door decides by another release")
	}

	i.kill()
	stale := pep.untilAsked(patience, sale(2), "stale", func(a shopAnswer) bool { return a.Stale })
	if stale.Effect != "ALLOW" || stale.Decided != "in-process" || !pep.evaluate(2) || pep.evaluate(5) {
		t.Fatalf("without the server: %+v, want it to go on", stale)
	}
	if _, err := pep.process.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	pep.run()
	if a := pep.ask(sale(2)); a.Effect != "ALLOW" || !a.Stale || a.Revision != stale.Revision || pep.evaluate(5) {
		t.Fatalf("killed, and started while the server is away: %+v", a)
	}
	pep.untilAsked(shopStaleBound+patience, sale(2), "denied past the bound", func(a shopAnswer) bool { return a.Effect == "DENY" && a.says("stale_bound") })

	i.run()
	pep.untilAsked(3*patience, sale(2), "allowed when the server is back", func(a shopAnswer) bool { return a.Effect == "ALLOW" && !a.Stale })
}
