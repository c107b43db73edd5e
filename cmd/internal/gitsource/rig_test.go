package gitsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	git "github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// installation is a store with the shipped policies as release 1.
type installation struct {
	t     *testing.T
	store *sqlite.Store
	pap   *pap.Service
}

func install(t *testing.T) *installation {
	t.Helper()
	store, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() }) //nolint:errcheck // the test is over
	i := &installation{t: t, store: store}
	i.pap = pap.New(pap.Config{
		Store: store, Gate: gate{engine.New()}, Active: func() pap.Candidate { return nil },
		CatchUp: func(context.Context) error { return nil }, Now: time.Now, NewID: func() string { return ulid.Make().String() },
	})
	shipped, err := engine.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.pap.PublishContent(t.Context(), subject("user:root", "release.publish", "release.publish.platform", "release.publish.self"), shipped, "shipped", false); err != nil {
		t.Fatal(err)
	}
	return i
}

// gate compiles and tests as the server does.
type gate struct{ engine *engine.Engine }

func (g gate) Check(ctx context.Context, content *bundles.Content, changed []string) (pap.Candidate, error) {
	_, err := g.engine.Gate(ctx, content, changed)
	return candidate{}, err
}

type candidate struct{}

func (candidate) Number() uint64                              { return 0 }
func (candidate) Rule(string) (pap.RuleInfo, bool)            { return pap.RuleInfo{}, false }
func (candidate) RequestDigest(authz.Request) (string, error) { return "", errors.New("not asked") }
func (candidate) Masked(r authz.Request) authz.Request        { return r }

// subject is an actor that holds rights everywhere.
func subject(name string, rights ...string) pap.Actor {
	may := func(_ context.Context, right, tenant string) error {
		if slices.Contains(rights, right) {
			return nil
		}
		return fmt.Errorf("%s lacks the right %s in %s: %w", name, right, tenant, pap.ErrForbidden)
	}
	return pap.Actor{Name: name, May: may, Could: may, Rights: []string{"*"}}
}

// source follows a repository as service:git, with the default's rights.
func (i *installation) source(remote string, change func(*Config)) *Source {
	i.t.Helper()
	c := Config{
		Address: "git+file://" + remote + "@main", Data: i.t.TempDir(), Poll: time.Minute, Publisher: i.pap, Subject: "service:git",
		Actor: func(context.Context) (pap.Actor, error) { return subject("service:git", "release.publish"), nil },
		Now:   time.Now, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		i.t.Fatal(err)
	}
	return s
}

func (i *installation) newest() pap.Release {
	i.t.Helper()
	page, err := i.pap.Releases(i.t.Context(), subject("user:root", "release.read"), 0, 1)
	if err != nil {
		i.t.Fatal(err)
	}
	return page.Items[0]
}

// load runs one round and wants its result.
func (i *installation) load(s *Source, want pap.SourceResult) pap.SourceStatus {
	i.t.Helper()
	status, err := s.Load(i.t.Context())
	if err != nil && want != pap.SourceUnavailable {
		i.t.Fatal(err)
	}
	if status.Result != want {
		i.t.Fatalf("%s, want %s: %s %v", status.Result, want, status.Reason, status.Faults)
	}
	return status
}

// has reports whether the newest release has a file with this text.
func (i *installation) has(path, text string) bool {
	i.t.Helper()
	content, err := i.pap.NewestContent(i.t.Context())
	if err != nil {
		i.t.Fatal(err)
	}
	data, err := content.File(path)
	return err == nil && string(data) == text
}

// repository is a working copy and what is pushed from it.
type repository struct {
	t      *testing.T
	dir    string // of the working copy
	remote string // the bare repository that sources follow
	git    *git.Repository
	sign   func(*git.CommitOptions)
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{t: t, dir: t.TempDir(), remote: t.TempDir()}
	main := plumbing.NewBranchReferenceName("main")
	var err error
	if _, err = git.PlainInitWithOptions(r.remote, &git.PlainInitOptions{Bare: true, InitOptions: git.InitOptions{DefaultBranch: main}}); err != nil {
		t.Fatal(err)
	}
	if r.git, err = git.PlainInitWithOptions(r.dir, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: main}}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *repository) write(path, text string) {
	r.t.Helper()
	path = filepath.Join(r.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repository) remove(path string) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.dir, path)); err != nil {
		r.t.Fatal(err)
	}
}

// commit commits everything, also an empty change, and returns its id.
func (r *repository) commit(message string) string {
	r.t.Helper()
	tree, err := r.git.Worktree()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := tree.AddWithOptions(&git.AddOptions{All: true}); err != nil {
		r.t.Fatal(err)
	}
	options := &git.CommitOptions{Author: &object.Signature{Name: "Li Wei", Email: "li.wei@example.com", When: time.Now()}, AllowEmptyCommits: true}
	if r.sign != nil {
		r.sign(options)
	}
	id, err := tree.Commit(message, options)
	if err != nil {
		r.t.Fatal(err)
	}
	return id.String()
}

// push sends main to the remote, by force.
func (r *repository) push() {
	r.t.Helper()
	remote := git.NewRemote(r.git.Storer, &gitconfig.RemoteConfig{Name: "origin", URLs: []string{r.remote}})
	err := remote.Push(&git.PushOptions{RefSpecs: []gitconfig.RefSpec{"+refs/heads/main:refs/heads/main"}})
	if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		r.t.Fatal(err)
	}
}

// reset moves main to an older commit, as git reset --hard does.
func (r *repository) reset(id string) {
	r.t.Helper()
	tree, err := r.git.Worktree()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := tree.Reset(&git.ResetOptions{Commit: plumbing.NewHash(id), Mode: git.HardReset}); err != nil {
		r.t.Fatal(err)
	}
}

const sizes = "tenants/acme/sizes.policy.yaml"

// policy is a rule document that denies beyond a number of CPUs.
func policy(cpus int) string {
	return fmt.Sprintf(`id: sizes
name: Sizes
version: "1.0"
title: {en: Sizes, zh: 规格}
scope:
  actions: [ecs.instance.create]
rules:
  - id: too_large
    title: {en: Too large, zh: 规格过大}
    message: {en: "More than %[1]d CPUs.", zh: "超过 %[1]d 核。"}
    severity: low
    requirement: [C6]
    condition: has(resource.properties.cpu) && resource.properties.cpu > %[1]d
    effect: DENY
`, cpus)
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
}
