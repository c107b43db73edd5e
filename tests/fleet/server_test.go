//go:build unix

package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/tests/process"
)

// grantStale is how long grants count without a heartbeat, for the server and
// its PEPs: more than the 5 s between heartbeats, and as little as a busy
// machine allows.
const grantStale = 9 * time.Second

// site is one running server, its administrator, and what its PEPs are told.
type site struct {
	*process.Server
	printed     *printed
	data        string // folder
	api, stream string // addresses
	admin       caller
	trust       trust.Root
	binding     map[string]string // that makes service:shop a PEP, by tenant
	tokens      map[string]token  // by tenant
}

// command is the program with arguments, in an environment without the
// variables that would configure it.
func command(arguments ...string) *exec.Cmd {
	cmd := exec.Command(xiezhi, arguments...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "XIEZHI_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	return cmd
}

// finish runs the program to its end and returns what it printed.
func finish(t *testing.T, arguments ...string) []byte {
	t.Helper()
	cmd := command(arguments...)
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("xiezhi %s: %v\n%s%s", strings.Join(arguments, " "), err, out, &failure)
	}
	return out
}

// start makes a server on SQLite with release 1 and the tenants, which ends
// with the test.
func start(t *testing.T, tenants ...string) *site {
	t.Helper()
	s := &site{printed: &printed{}, data: t.TempDir(), binding: map[string]string{}, tokens: map[string]token{}}
	var made struct{ Token string }
	out := finish(t, "admin", "bootstrap", "--json", "--policies", policies(t), "--data", s.data)
	if err := json.Unmarshal(out, &made); err != nil || made.Token == "" {
		t.Fatalf("bootstrap: %v: %s", err, out)
	}
	for _, address := range []*string{&s.api, &s.stream} {
		var err error
		if *address, err = process.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	s.admin = caller{"http://" + s.api, made.Token, &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	t.Cleanup(s.admin.client.CloseIdleConnections)
	s.run(t)
	text, err := os.ReadFile(filepath.Join(s.keys(), trust.RootFile))
	if err == nil {
		s.trust, err = trust.ParseRoot(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range tenants {
		s.binding[tenant] = enrol(t, s.admin, tenant)
		s.tokens[tenant] = newToken(t, s.admin, tenant)
	}
	return s
}

func (s *site) keys() string { return filepath.Join(s.data, "keys") }

// run starts the server's process.
func (s *site) run(t *testing.T) {
	t.Helper()
	cmd := command("serve", "--listen", s.api, "--stream-listen", s.stream, "--log-format", "json", "--log-level", "warn", "--data", s.data)
	cmd.Env = append(cmd.Env, "XIEZHI_GRANT_STALE="+grantStale.String())
	cmd.Stdout, cmd.Stderr = s.printed, s.printed
	folder := filepath.Join(t.TempDir(), "server")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	s.Server, err = process.Start(t.Context(), cmd, folder, syscall.SIGTERM, func(ctx context.Context) error {
		a, err := s.admin.try(ctx, call{path: "/readyz"})
		if err == nil && a.status != http.StatusOK {
			err = errors.New(string(a.body))
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.printed.last(30))
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server printed last:\n%s", s.printed.last(30))
		}
	})
}

// printed is what a server printed.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *printed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(text)
}

func (p *printed) last(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := strings.SplitAfter(p.text.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// policies is a folder with this package's policies, marked as release 1, and
// the shipped self policies.
func policies(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for to, from := range map[string]string{"": "testdata/policies", "self": repository + "/policies/self"} {
		if err := os.CopyFS(filepath.Join(folder, to), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"changes.cedar", "changes_cases.yaml"} { // nobody is there to be asked
		if err := os.Remove(filepath.Join(folder, "self", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, markerFile), []byte(marker(1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

const markerFile = "platform/marker.policy.json"

// marker is a policy that says in every answer which release it came with.
func marker(release int) string {
	return strings.ReplaceAll(`{"id":"marker","name":"Marker","version":"N","title":{"en":"Marker","zh":"标记"},"scope":{"actions":["order.*"]},
 "rules":[{"id":"marked","title":{"en":"Marker","zh":"标记"},"message":{"en":"N","zh":"N"},"severity":"low","requirement":["X7"],
  "condition":"true","effect":"ALLOW"}]}
`, "N", strconv.Itoa(release))
}

// publish publishes release number, whose marker says so.
func (s *site) publish(ctx context.Context, number int) (authz.Revision, error) {
	place := "/api/v1/policies/" + (&url.URL{Path: markerFile}).EscapedPath()
	was, err := s.admin.want(ctx, http.StatusOK, call{path: place})
	if err != nil {
		return authz.Revision{}, err
	}
	if _, err := s.admin.want(ctx, http.StatusOK, call{
		method: http.MethodPut, path: place, body: object{"content": marker(number)}, header: map[string]string{"If-Match": was.header.Get("ETag")},
	}); err != nil {
		return authz.Revision{}, err
	}
	a, err := s.admin.want(ctx, http.StatusCreated, call{path: "/api/v1/releases", body: object{"drafts": []string{markerFile}}})
	if err != nil {
		return authz.Revision{}, err
	}
	var made struct{ Number int }
	if err := json.Unmarshal(a.body, &made); err != nil || made.Number != number {
		return authz.Revision{}, fmt.Errorf("published release %d, want %d (%v)", made.Number, number, err)
	}
	return a.revision()
}

const (
	patience = time.Minute // until something that must come counts as missing
	interval = 2 * time.Millisecond
)

// await looks again and again until nothing is missing, and fails the test
// where that takes longer than the limit.
func await(t *testing.T, limit time.Duration, look func() (missing string)) {
	t.Helper()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for missing := look(); missing != ""; missing = look() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %s", limit, missing)
		}
		<-tick.C
	}
}
