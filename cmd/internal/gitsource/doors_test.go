package gitsource

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/tests/gitrepo"
)

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const patience = time.Minute

// await looks until done, and fails the test where that takes too long.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after %s, still not: %s", patience, what)
		}
	}
}

// run follows until the test stops it.
func run(t *testing.T, s *Source) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("it does not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func TestAWebhookIsTakenByItsSignatureOnly(t *testing.T) {
	i, r := install(t), gitrepo.New(t)
	s := i.source(r.Remote, func(c *Config) { c.WebhookSecretFile = secretFile(t, "s3cret") })
	body := `{"ref":"refs/heads/main"}`
	for name, c := range map[string]struct {
		signature, token string
		want             error
	}{
		"GitHub's signature":          {sign("s3cret", body), "", nil},
		"GitLab's token":              {"", "s3cret", nil},
		"nothing":                     {"", "", pap.ErrSignature},
		"another secret":              {sign("secret", body), "", pap.ErrSignature},
		"another body":                {sign("s3cret", body+" "), "", pap.ErrSignature},
		"SHA-1":                       {"sha1=" + strings.Repeat("0", 40), "", pap.ErrSignature},
		"no hexadecimal":              {"sha256=zz", "", pap.ErrSignature},
		"another token":               {"", "s3cre", pap.ErrSignature},
		"a bad signature and a token": {"sha256=00", "s3cret", pap.ErrSignature},
	} {
		if err := s.Webhook(c.signature, c.token, []byte(body)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := i.source(r.Remote, nil).Webhook("", "", nil); !errors.Is(err, pap.ErrNotFound) {
		t.Errorf("without a secret: %v", err)
	}
}

func TestTooManyWebhooksAreRefusedUntilTimePasses(t *testing.T) {
	now := time.Now()
	i, r := install(t), gitrepo.New(t)
	s := i.source(r.Remote, func(c *Config) {
		c.WebhookSecretFile = secretFile(t, "s3cret")
		c.Now = func() time.Time { return now }
	})
	var busy int
	for range hooksAtOnce + 5 {
		if errors.Is(s.Webhook("", "s3cret", nil), pap.ErrBusy) {
			busy++
		}
	}
	if busy != 5 {
		t.Errorf("%d are refused, want 5", busy)
	}
	now = now.Add(time.Second)
	if err := s.Webhook("", "s3cret", nil); err != nil {
		t.Error(err)
	}
}

func TestNobodyWithoutTheSecretKeepsTheGitHostOut(t *testing.T) {
	now := time.Now()
	i, r := install(t), gitrepo.New(t)
	s := i.source(r.Remote, func(c *Config) {
		c.WebhookSecretFile = secretFile(t, "s3cret")
		c.Now = func() time.Time { return now }
	})
	count := map[error]int{}
	for n := range 10 * hooksAtOnce {
		err := s.Webhook(sign("guess", "{}"), "", []byte("{}"))
		for _, known := range []error{pap.ErrSignature, pap.ErrBusy} {
			if errors.Is(err, known) {
				count[known]++
			}
		}
		if n%hooksAtOnce == 0 {
			if err := s.Webhook(sign("s3cret", "{}"), "", []byte("{}")); err != nil {
				t.Fatalf("after %d bad calls the git host is told: %v", n, err)
			}
		}
	}
	if count[pap.ErrSignature] != hooksAtOnce || count[pap.ErrBusy] != 9*hooksAtOnce {
		t.Errorf("bad calls are answered %v", count)
	}
}

func TestAWebhookPublishesLongBeforeThePoll(t *testing.T) {
	i, r, _, _ := started(t)
	s := i.source(r.Remote, func(c *Config) { c.WebhookSecretFile, c.Poll = secretFile(t, "s3cret"), time.Hour })
	run(t, s)
	await(t, "the first round", func() bool { return s.Status().Result == pap.SourcePublished })
	r.Write(sizes, policy(5))
	head := r.Commit("less")
	r.Push()
	for range 3 { // calls sent again do no harm
		if err := s.Webhook("", "s3cret", []byte("whatever")); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the commit is published", func() bool { return i.newest().Commit == head })
	if n := i.newest().Number; n != 3 {
		t.Errorf("release %d", n)
	}
}

// host is a git host that takes commit statuses.
type host struct {
	*httptest.Server
	mu      sync.Mutex
	reports []report
	paths   []string
	tokens  []string
	answer  func(n int) int // status of the n-th call, from 1
}

func newHost(t *testing.T) *host {
	h := &host{answer: func(int) int { return http.StatusCreated }}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var r report
		if err := json.NewDecoder(q.Body).Decode(&r); err != nil {
			t.Error(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.reports, h.paths, h.tokens = append(h.reports, r), append(h.paths, q.URL.Path), append(h.tokens, q.Header.Get("Authorization"))
		status := h.answer(len(h.reports))
		if status == http.StatusTemporaryRedirect {
			w.Header().Set("Location", "http://localhost:1/elsewhere")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(h.Close)
	return h
}

// states are what was reported so far.
func (h *host) states() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, r := range h.reports {
		all = append(all, r.State)
	}
	return strings.Join(all, " ")
}

func TestTheGitHostIsToldWhatBecameOfACommit(t *testing.T) {
	i, r, h := install(t), gitrepo.New(t), newHost(t)
	h.answer = func(n int) int {
		if n == 1 {
			return http.StatusBadGateway // tried again
		}
		return http.StatusCreated
	}
	r.Write(sizes, policy(8))
	first := r.Commit("good")
	r.Push()
	s := i.source(r.Remote, func(c *Config) {
		c.StatusURL, c.StatusTokenFile, c.TargetURL = h.URL+"/repos/acme/policies/statuses/{commit}", secretFile(t, "t0ken"), "https://xiezhi.example"
		c.Poll = time.Second
	})
	s.notifier.pause = time.Millisecond
	run(t, s)
	await(t, "the good one", func() bool { return h.states() == "pending pending success" })
	r.Write(sizes, "rules: [")
	second := r.Commit("bad")
	r.Push()
	await(t, "the bad one", func() bool { return h.states() == "pending pending success pending failure" })
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.reports[4]
	if last.Commit != second || len(last.Faults) == 0 || last.Faults[0].File != sizes || last.Context != "xiezhi" || last.TargetURL != "https://xiezhi.example" {
		t.Errorf("%+v", last)
	}
	if h.paths[2] != "/repos/acme/policies/statuses/"+first || h.tokens[2] != "Bearer t0ken" {
		t.Errorf("%s, %s", h.paths[2], h.tokens[2])
	}
}

func TestAHostThatIsAwayOrRedirectsHoldsNothingUp(t *testing.T) {
	i, r, h := install(t), gitrepo.New(t), newHost(t)
	h.answer = func(int) int { return http.StatusTemporaryRedirect }
	r.Write(sizes, policy(8))
	r.Commit("good")
	r.Push()
	s := i.source(r.Remote, func(c *Config) { c.StatusURL = h.URL + "/{commit}" })
	run(t, s)
	await(t, "published", func() bool { return s.Status().Result == pap.SourcePublished })
	await(t, "both reports are lost", func() bool { return s.Counts().ReportsLost == 2 })
	if h.states() != "pending success" {
		t.Errorf("a redirect is tried again: %s", h.states())
	}
}

func TestAnHTTPRemoteIsFollowedWithItsToken(t *testing.T) {
	i, r := install(t), gitrepo.New(t)
	inner := r.Handler()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if _, password, _ := q.BasicAuth(); password != "t0ken" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(q.URL.Path, "/moved.git") {
			http.Redirect(w, q, "http://localhost:1"+q.URL.Path, http.StatusFound)
			return
		}
		inner.ServeHTTP(w, q)
	}))
	t.Cleanup(web.Close)
	follow := func(repository, token string) *Source {
		return i.source("", func(c *Config) { c.Address, c.TokenFile = "git+"+web.URL+repository+"@main", secretFile(t, token) })
	}
	r.Write(sizes, policy(8))
	r.Commit("one")
	r.Push()
	s := follow("/policies.git", "t0ken")
	i.load(s, pap.SourcePublished)
	r.Write(sizes, policy(7))
	head := r.Commit("two")
	r.Push()
	i.load(s, pap.SourcePublished)
	if i.newest().Commit != head {
		t.Error("the second commit is not in force")
	}
	status := i.load(follow("/policies.git", "another"), pap.SourceUnavailable)
	contains(t, status.Reason, "authentication required")
	if strings.Contains(status.Reason, "another") {
		t.Error("the token is told")
	}
	contains(t, i.load(follow("/moved.git", "t0ken"), pap.SourceUnavailable).Reason, "redirected to http://localhost:1")
}

func TestStoppingInTheMiddleOfAFetchLeavesNothingBehind(t *testing.T) {
	i, r := install(t), gitrepo.New(t)
	inner := r.Handler()
	asked, release := make(chan struct{}), make(chan struct{})
	var stall sync.Once
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodPost {
			stall.Do(func() {
				_, _ = w.Write([]byte("0008NAK\nPACK")) // half an answer
				w.(http.Flusher).Flush()
				close(asked)
				<-release
			})
			return
		}
		inner.ServeHTTP(w, q)
	}))
	t.Cleanup(web.Close)
	r.Write(sizes, policy(8))
	r.Commit("one")
	r.Push()
	s := i.source("", func(c *Config) { c.Address = "git+" + web.URL + "/policies.git@main" })
	stop := run(t, s)
	<-asked
	stop()
	close(release)
	if i.newest().Number != 1 || s.Status().Result != pap.SourceWaiting {
		t.Errorf("%+v", s.Status())
	}
	left, err := filepath.Glob(filepath.Join(s.clone.dir, "objects", "pack", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestSubmodulesAndOddNamesAreRefused(t *testing.T) {
	i, r, s, _ := started(t)
	r.Write("zz.rego", "package x") // becomes what a working copy cannot hold
	base := r.Commit("last")
	for name, c := range map[string]struct {
		change func(*object.TreeEntry)
		want   string
	}{
		"submodule": {func(e *object.TreeEntry) { e.Mode = filemode.Submodule }, "is a submodule"},
		"backslash": {func(e *object.TreeEntry) { e.Name = `z\..\x.rego` }, "not a clean relative path"},
		"new line":  {func(e *object.TreeEntry) { e.Name = "z\nx.rego" }, "not a clean relative path"},
		"slashes":   {func(e *object.TreeEntry) { e.Name = "z/../../x.rego" }, "not a clean relative path"},
	} {
		r.Raw(func(entries []object.TreeEntry) []object.TreeEntry {
			c.change(&entries[len(entries)-1])
			return entries
		})
		r.Push()
		status := i.load(s, pap.SourceRefused)
		if len(status.Faults) != 1 || !strings.Contains(status.Faults[0].Message, c.want) {
			t.Errorf("%s: %+v", name, status)
		}
		r.Reset(base)
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"git+https://git.example/acme/policies.git@main":        "https://git.example/acme/policies.git main ",
		"git+https://git.example/policies@feature/x#deploy/all": "https://git.example/policies feature/x deploy/all",
		"git+https://git.example:8443/policies":                 "https://git.example:8443/policies  ",
		"git+file:///srv/policies.git@main#a":                   "file:///srv/policies.git main a",
		"git+http://127.0.0.1:3000/p@main":                      "http://127.0.0.1:3000/p main ",
		"/srv/policies":                                         "",
		"https://git.example/policies":                          "",
		"git+https://user:secret@git.example/policies@main":     "",
		"git+https://secret@git.example/policies@main":          "",
		"git+http://git.example/policies@main":                  "",
		"git+ssh://git@git.example/policies@main":               "",
		"git+ext::sh -c true":                                   "",
		"git+file://host/srv/policies@main":                     "",
		"git+file:srv/policies@main":                            "",
		"git+https:///policies@main":                            "",
		"git+https://git.example/policies@":                     "",
		"git+https://git.example/policies@../main":              "",
		"git+https://git.example/policies@--upload-pack=x":      "",
		"git+https://git.example/policies@main#../x":            "",
		"git+https://git.example/policies@main#.git":            "",
		"git+https://git.example/policies?x=y@main":             "",
	} {
		a, err := ParseAddress(text)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s is accepted: %+v", text, a)
		case want == "" && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the error repeats the secret: %v", text, err)
		case want != "" && (err != nil || a.Remote+" "+a.Branch+" "+a.Folder != want || a.String() != text):
			t.Errorf("%s: %+v, %v, %s", text, a, err, a)
		}
	}
}
