//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/process"
)

// stockOPA starts a stock `opa run` with the configuration that docs/opa.md
// shows, filled in for the server, and returns its URL.
func (s *server) stockOPA(as string) string {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "xiezhi-opa-")
	must(err)
	opa := filepath.Join(s.t.TempDir(), "opa")
	build := exec.Command("go", "build", "-trimpath", "-o", opa, "./opa")
	build.Dir = filepath.Join(repository, "tests", "peers")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("build the stock OPA: %v\n%s", err, out)
	}
	kid, public := s.bundleKey()
	token := filepath.Join(dir, "token")
	must(os.WriteFile(token, []byte(s.tokens[as]), 0o600))
	doc, err := os.ReadFile(filepath.Join(repository, "docs", "opa.md"))
	must(err)
	_, config, _ := strings.Cut(string(doc), "```yaml\n")
	config, _, _ = strings.Cut(config, "```")
	pem := regexp.MustCompile(`(?s)      -----BEGIN PUBLIC KEY-----.*-----END PUBLIC KEY-----`)
	config = pem.ReplaceAllString(config, "      "+strings.ReplaceAll(strings.TrimSpace(public), "\n", "\n      "))
	config = strings.NewReplacer(
		"https://xiezhi.example.com:8081", s.stream(), "/etc/opa/xiezhi-token", token, "AbCdEf0123456789AbCdEf", `"`+kid+`"`,
	).Replace(config)
	must(os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	address := listener.Addr().String()
	must(listener.Close())
	cmd := exec.Command(opa, "run", "--server", "--addr", address, "--config-file", filepath.Join(dir, "config.yaml"), "--disable-telemetry")
	agent, err := process.Start(s.t.Context(), cmd, dir, syscall.SIGTERM, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/health?bundles", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	must(err)
	s.t.Cleanup(func() { must(agent.Stop()) })
	return "http://" + address
}

// stream is the URL of the stream's listener.
func (s *server) stream() string {
	known, _ := s.must(http.StatusOK, call{path: "/.well-known/xiezhi"}).json.(map[string]any)
	url, _ := known["stream_url"].(string)
	return strings.TrimSuffix(strings.Replace(url, "ws", "http", 1), "/stream")
}

// bundleKey is the key that signs bundles for stock agents, as the CLI has it.
func (s *server) bundleKey() (kid, public string) {
	s.t.Helper()
	out, err := exec.Command(xiezhi, "keys", "list", "--json", "--keys", filepath.Join(filepath.Dir(s.output), "home", "data", "keys")).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	var listed struct {
		Keys []struct{ Kid, Purpose, PEM string }
	}
	if err := json.Unmarshal(out, &listed); err != nil {
		s.t.Fatal(err)
	}
	for _, k := range listed.Keys {
		if k.Purpose == "opa-bundles" {
			return k.Kid, k.PEM
		}
	}
	s.t.Fatalf("no key signs bundles for stock agents: %s", out)
	return "", ""
}

// data asks the data API of either.
func (s *server) data(url, token, path, body string) (status int, text string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url+"/v1/data/"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestAStockOPAFollowsTheServerByTheDocumentedConfiguration(t *testing.T) {
	s := start(t, nil)
	agent := s.stockOPA("pep")
	const question = `{"input":{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":{"name":"ecs.instance.create"},` +
		`"resource":{"type":"ecs.instance","id":"req-1/web","properties":{"region":"cn-hangzhou","cpu":3,"memory_gib":7,"ingress":[{"port":22,"cidrs":["0.0.0.0/0"]}]}}}}`
	result := func(text string) string {
		var answer struct{ Result json.RawMessage }
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return string(answer.Result)
	}
	compare := func() {
		t.Helper()
		for _, path := range []string{"network/deny", "network/review", "sizes/deny", "regions/deny", "roles/allow", "late/deny"} {
			path = "xiezhi/platform/" + path + "?strict-builtin-errors=true"
			ourStatus, ours := s.data(s.url, s.tokens["pep"], path, question)
			theirStatus, theirs := s.data(agent, "", path, question)
			if ourStatus != theirStatus || result(ours) != result(theirs) {
				t.Errorf("%s\nours   %d %s\ntheirs %d %s", path, ourStatus, ours, theirStatus, theirs)
			}
		}
	}
	compare()
	s.save("platform/late.rego", "# METADATA\n# scope: package\n# title: Late\npackage xiezhi.platform.late\n\n# METADATA\n# scope: rule\n# title: Late\n# custom:\n"+
		"#   id: late\n#   message: {en: Late., zh: 迟了。}\n#   severity: low\ndeny contains {\"rule\": \"late\"} if input.action.name == \"never.done\"\n")
	s.save("platform/late_cases.yaml", "policy: platform/late\nrequest: {tenant: acme, subject: {type: user, id: u}, resource: {type: t, id: x}}\ncases:\n"+
		"  - {name: late, merge: {action: never.done}, expect: {effect: DENY, reasons: [late]}}\n  - {name: not late, merge: {action: other}, expect: {reasons: []}}\n")
	await(t, 30*time.Second, "the agent has the next release", func() bool {
		_, text := s.data(agent, "", "xiezhi/platform/late/deny", question)
		return result(text) == "[]"
	})
	compare()
	await(t, 30*time.Second, "the agent is a PEP, and its decisions are in the audit", func() bool {
		peps := s.do(call{as: "admin", path: "/api/v1/peps"}).text
		audit := s.do(call{as: "admin", path: "/api/v1/audit?kind=decision&tenant=acme&limit=1000"}).text
		return strings.Contains(peps, `"kind":"opa"`) && strings.Contains(audit, `"opa":{`)
	})
}
