//go:build unix

package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/gitrepo"
	"github.com/xiezhi-project/xiezhi/tests/process"
)

// serveGit bootstraps an installation and starts `xiezhi serve` on it, with
// policies from a repository. Its poll is so long that only a webhook and
// loads fetch.
func serveGit(t *testing.T, repository *gitrepo.Repository, secret, data string, more ...string) *server {
	t.Helper()
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	secretFile := filepath.Join(dir, "secret")
	if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := exec.Command(xiezhi, "admin", "bootstrap", "--name", "root", "--data", data).CombinedOutput()
	token := regexp.MustCompile(`xz_pat_\S+`).FindString(string(made))
	if err != nil || token == "" {
		t.Fatalf("%v\n%s", err, made)
	}
	s := &server{t: t, output: filepath.Join(dir, "output"), tokens: map[string]string{"admin": token}}
	out, err := os.Create(s.output)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(xiezhi, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--stream-listen", "127.0.0.1:0",
		"--policies", "git+file://" + repository.Remote + "@main", "--policies-poll", "1h", "--policies-webhook-secret-file", secretFile}, more...)...)
	cmd.Stdout, cmd.Stderr = out, out
	serving := regexp.MustCompile(`msg=serving address=(\S+)`)
	p, err := process.Start(t.Context(), cmd, home, syscall.SIGTERM, func(context.Context) error {
		address := serving.FindStringSubmatch(s.printed())
		if address == nil {
			return fmt.Errorf("it does not say that it serves:\n%s", s.printed())
		}
		s.url = "http://" + address[1]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server printed:\n%s", s.printed())
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// source reads the state of the policy source.
func (s *server) source() answer {
	s.t.Helper()
	return s.must(http.StatusOK, call{as: "admin", path: "/api/v1/policy/source"})
}

// TestPoliciesComeFromGit: commit and push, and the release bears the commit
// and its author; a broken commit and a forced push are refused and reported,
// and what was in force stays.
func TestPoliciesComeFromGit(t *testing.T) {
	const secret = "a secret of both sides"
	const freeze = "tenants/acme/change_freeze.policy.yaml"
	repository := gitrepo.New(t)
	all := shipped(t, "tenants")
	for path, text := range all {
		repository.Write(path, text)
	}
	repository.Write(freeze, strings.Replace(all[freeze], "a change freeze is on", "no changes now", 1)+"# from git\n")
	first := repository.Commit("acme: freeze")
	repository.Push()
	s := serveGit(t, repository, secret, t.TempDir())
	s.load(t, "published")

	releases := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/releases"})
	if releases.at("/items/0/commit") != first || releases.at("/items/0/author") != "Li Wei <li.wei@example.com>" || releases.at("/items/0/number") != 2.0 {
		t.Errorf("%s", releases.text)
	}

	repository.Write(freeze, strings.Replace(all[freeze], "effect: REVIEW", "effect: PERHAPS", 1))
	broken := repository.Commit("acme: oops")
	repository.Push()
	if a := s.hook("another"); a.status != http.StatusUnauthorized {
		t.Errorf("a webhook without a good signature: %d %s", a.status, a.text)
	}
	if a := s.hook(secret); a.status != http.StatusAccepted {
		t.Fatalf("a webhook: %d %s", a.status, a.text)
	}
	await(t, patience, "the broken commit is refused", func() bool { return s.source().at("/result") == "refused" })
	state := s.source()
	if state.at("/seen/commit") != broken || state.at("/published/commit") != first || state.at("/faults/0/file") != freeze || state.at("/faults/0/line") == nil {
		t.Errorf("%s", state.text)
	}
	if !strings.Contains(s.printed(), "a commit of the policy source is refused") {
		t.Error("the log does not say so")
	}

	repository.Reset(first)
	repository.Write(freeze, all[freeze])
	repository.Commit("acme: back")
	repository.Push() // a descendant of what was published: the broken commit may be taken back
	s.load(t, "published")

	repository.Reset(first)
	repository.Push()
	if a := s.load(t, "refused"); !strings.Contains(a.textAt("/source/reason"), "history was rewritten") {
		t.Errorf("%s", a.text)
	}

	repository.Write("self/rights.cedar", "permit (principal, action, resource);")
	repository.Commit("rights for all")
	repository.Push()
	s.load(t, "refused")
	if got := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/releases"}).at("/items/0/number"); got != 3.0 {
		t.Errorf("release %v, want 3", got)
	}
}

// hook says that main was pushed, signed with a secret.
func (s *server) hook(secret string) answer {
	s.t.Helper()
	body := `{"ref":"refs/heads/main"}`
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return s.do(call{path: "/api/v1/policy/source/webhook", body: body, header: map[string]string{"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil))}})
}

// load fetches now and wants a result.
func (s *server) load(t *testing.T, want string) answer {
	t.Helper()
	var a answer
	await(t, time.Minute, "the source is "+want, func() bool {
		a = s.must(http.StatusOK, call{as: "admin", method: http.MethodPost, path: "/api/v1/policy/load"})
		return a.at("/source/result") == want
	})
	return a
}
