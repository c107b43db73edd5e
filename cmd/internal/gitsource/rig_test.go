package gitsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// installation is a store with a few policies as release 1.
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
	files := []bundles.File{
		{Path: "platform/base.policy.yaml", Data: []byte(policy(1000))}, {Path: "tenants/acme/old.policy.yaml", Data: []byte(policy(900))},
		{Path: "tenants/globex/own.policy.yaml", Data: []byte(policy(800))},
	}
	for _, f := range shipped.Files() {
		if strings.HasPrefix(f.Path, "self/") && !strings.HasPrefix(f.Path, "self/changes") && !strings.HasSuffix(f.Path, "_cases.yaml") {
			files = append(files, f)
		}
	}
	content, err := bundles.NewContent(files)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.pap.PublishContent(t.Context(), subject("user:root", "release.publish", "release.publish.platform", "release.publish.self"), content, "first", false); err != nil {
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

const sizes = "tenants/acme/sizes.policy.yaml"

// policy is a rule document that denies beyond a number of CPUs.
func policy(cpus int) string {
	return fmt.Sprintf(`id: sizes_%[1]d
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
