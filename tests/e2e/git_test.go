//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/xiezhi-project/xiezhi/tests/gitrepo"
)

// host is a git host that is told of commits' statuses.
type host struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []commitStatus
}

type commitStatus struct {
	Commit      string `json:"commit"`
	State       string `json:"state"`
	Description string `json:"description"`
	Faults      []struct {
		File string `json:"file"`
		Line int    `json:"line"`
	} `json:"faults"`
	path string
}

func openHost(t *testing.T) *host {
	h := &host{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := commitStatus{path: r.URL.Path}
		if err := json.NewDecoder(r.Body).Decode(&status); err != nil {
			t.Error(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.statuses = append(h.statuses, status)
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(h.Close)
	return h
}

// of waits for a status of a commit.
func (h *host) of(t *testing.T, commit, state string) (found commitStatus) {
	t.Helper()
	await(t, patience, fmt.Sprintf("commit %s has status %s", commit, state), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		at := slices.IndexFunc(h.statuses, func(s commitStatus) bool { return s.Commit == commit && s.State == state })
		if at >= 0 {
			found = h.statuses[at]
		}
		return at >= 0
	})
	return found
}

// What is pushed to the repository is enforced by services at once when its
// host says so; a commit that is broken and a history that was rewritten are
// refused, which the host is told, and services keep what they have.
func TestServicesEnforceWhatIsPushedToTheRepository(t *testing.T) {
	t.Parallel()
	const secret = "a secret of both sides"
	repository, host, data := gitrepo.New(t), openHost(t), t.TempDir()
	repository.Write(shopPath, shopRules)
	first := repository.Commit("acme: a shop")
	repository.Push()
	s := serveGit(t, repository, secret, data, "--policies-status-url", host.URL+"/statuses/{commit}")
	s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/tenants", body: `{"id":"acme"}`})
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(s.tokens[s.member("acme", "service:gateway", "pep")]), 0o600); err != nil {
		t.Fatal(err)
	}
	shop := startShop(t, "--server", s.url, "--token-file", tokenFile, "--trust", filepath.Join(data, "keys", "trust.json"), "--data", t.TempDir())
	shop.until(patience, "allowed by the first commit", func(a shopAnswer) bool { return a.Decided == "in-process" && a.says("sells") })
	if got := host.of(t, first, "success"); got.path != "/statuses/"+first || !strings.Contains(got.Description, "release 2") {
		t.Errorf("%+v", got)
	}
	hooked := func() {
		t.Helper()
		if a := s.hook(secret); a.status != http.StatusAccepted {
			t.Fatalf("a webhook: %d %s", a.status, a.text)
		}
	}

	repository.Write(shopPath, shopClosed)
	second := repository.Commit("acme: nothing dear")
	repository.Push()
	if a := s.hook("another secret"); a.status != http.StatusUnauthorized {
		t.Errorf("a webhook of somebody else: %d %s", a.status, a.text)
	}
	hooked()
	shop.until(patience, "denied by the second commit", func(a shopAnswer) bool { return a.says("closed") && a.of(3) })
	releases := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/releases"})
	if releases.at("/items/0/commit") != second || releases.at("/items/0/author") != "Li Wei <li.wei@example.com>" {
		t.Errorf("%s", releases.text)
	}
	host.of(t, second, "success")

	repository.Write(shopPath, strings.Replace(shopRules, "effect: ALLOW", "effect: PERHAPS", 1))
	broken := repository.Commit("acme: oops")
	repository.Push()
	hooked()
	if got := host.of(t, broken, "failure"); len(got.Faults) == 0 || got.Faults[0].File != shopPath || got.Faults[0].Line == 0 {
		t.Errorf("the status of a broken commit: %+v", got)
	}
	if state := s.source(); state.at("/result") != "refused" || state.at("/seen/commit") != broken || state.at("/published/commit") != second {
		t.Errorf("%s", state.text)
	}

	repository.Reset(first)
	repository.Write(shopPath, shopRules+"# another past\n")
	forced := repository.Commit("acme: another past")
	repository.Push()
	hooked()
	if got := host.of(t, forced, "failure"); !strings.Contains(got.Description, "history was rewritten") {
		t.Errorf("the status of a forced push: %+v", got)
	}
	if state := s.source(); !strings.Contains(state.textAt("/reason"), "history was rewritten") || state.at("/published/commit") != second {
		t.Errorf("%s", state.text)
	}
	if a := shop.decide(); !a.says("closed") || !a.of(3) || a.Stale || s.release() != 3 {
		t.Errorf("after what was refused: %+v", a)
	}
}
