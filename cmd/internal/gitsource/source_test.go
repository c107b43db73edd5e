package gitsource

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/tests/gitrepo"
)

// started is an installation that follows a repository whose first commit is
// published.
func started(t *testing.T) (*installation, *gitrepo.Repository, *Source, string) {
	t.Helper()
	i, r := install(t), gitrepo.New(t)
	r.Write(sizes, policy(8))
	first := r.Commit("acme: sizes")
	r.Push()
	s := i.source(r.Remote, nil)
	i.load(s, pap.SourcePublished)
	return i, r, s, first
}

func TestACommitIsPublishedWithItsAuthor(t *testing.T) {
	i, r, s, first := started(t)
	release := i.newest()
	if release.Number != 2 || release.Commit != first || release.Source != "git+file://"+r.Remote+"@main" ||
		release.Author != "Li Wei <li.wei@example.com>" || release.Note != "acme: sizes" {
		t.Errorf("%+v", release)
	}
	if !i.has(sizes, policy(8)) {
		t.Error("the file is not in the release")
	}
	records, err := i.store.QueryAudit(t.Context(), pap.AuditFilter{Action: "release.publish"}, 1)
	if err != nil || len(records) != 1 || records[0].Actor != "service:git" {
		t.Fatalf("the audit does not name the source: %v, %v", records, err)
	}
	if body, err := records[0].Body.MarshalJSON(); err != nil || !strings.Contains(string(body), first) {
		t.Errorf("the audit does not name the commit: %s, %v", body, err)
	}
	status := s.Status()
	if status.Published == nil || status.Published.Release != 2 || status.Published.ID != first || status.Seen.Author != release.Author {
		t.Errorf("%+v", status)
	}
	i.load(s, pap.SourcePublished)
	if i.newest().Number != 2 {
		t.Error("the same commit is published twice")
	}
}

func TestACommitRemovesWhatItNoLongerHas(t *testing.T) {
	i, r, s, _ := started(t)
	if i.has("tenants/acme/old.policy.yaml", policy(900)) {
		t.Error("the first commit does not take the tenant over")
	}
	r.Write("tenants/acme/more.policy.yaml", policy(4))
	r.Commit("more")
	r.Push()
	i.load(s, pap.SourcePublished)
	r.Remove("tenants/acme/more.policy.yaml")
	r.Commit("no more")
	r.Push()
	i.load(s, pap.SourcePublished)
	content, err := i.pap.NewestContent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := content.File("tenants/acme/more.policy.yaml"); err == nil {
		t.Error("a removed file stays")
	}
	if _, err := content.File("tenants/globex/own.policy.yaml"); err != nil {
		t.Error("a tenant that the repository never held lost its policies")
	}
	if _, err := content.File("self/rights.cedar"); err != nil {
		t.Error("self/ is gone")
	}
}

func TestABrokenCommitLeavesTheOldReleaseAndSaysWhere(t *testing.T) {
	i, r, s, first := started(t)
	r.Write(sizes, strings.Replace(policy(8), "effect: DENY", "effect: DENYY", 1))
	broken := r.Commit("oops")
	r.Push()
	status := i.load(s, pap.SourceRefused)
	if i.newest().Number != 2 || len(status.Faults) == 0 || status.Faults[0].File != sizes || status.Faults[0].Line == 0 {
		t.Errorf("release %d, %+v", i.newest().Number, status)
	}
	if status.Seen.ID != broken || status.Published.ID != first {
		t.Errorf("seen %s, published %s", status.Seen.ID, status.Published.ID)
	}
	r.Write(sizes, policy(6))
	r.Commit("mended")
	r.Push()
	i.load(s, pap.SourcePublished)
	if !i.has(sizes, policy(6)) {
		t.Error("the mended commit is not in force")
	}
}

func TestRewrittenHistoryIsRefused(t *testing.T) {
	i, r, s, first := started(t)
	r.Write(sizes, policy(6))
	second := r.Commit("second")
	r.Push()
	i.load(s, pap.SourcePublished)

	r.Reset(first)
	r.Push()
	status := i.load(s, pap.SourceRefused)
	contains(t, status.Reason, "does not descend from "+second, "history was rewritten")

	r.Write(sizes, policy(99))
	r.Commit("another second")
	r.Push()
	i.load(s, pap.SourceRefused)
	fresh := i.source(r.Remote, nil)
	i.load(fresh, pap.SourceRefused) // a node that starts with an empty disk knows it too
	if i.newest().Commit != second {
		t.Error("the rewritten history is in force")
	}

	r.Reset(second)
	r.Write(sizes, policy(5))
	r.Commit("third")
	r.Push()
	i.load(s, pap.SourcePublished)
}

func TestFilesBeyondTheSourcesRightsAreRefusedByName(t *testing.T) {
	i, r, s, first := started(t)
	for _, path := range []string{"platform/sneaky.policy.yaml", "self/rights.cedar", "tables/instance_specs.yaml", "attributes.yaml", "nowhere/a.rego"} {
		r.Write(path, policy(1))
		r.Commit("more rights")
		r.Push()
		status := i.load(s, pap.SourceRefused)
		if len(status.Faults) != 1 || status.Faults[0].File != path || i.newest().Number != 2 {
			t.Errorf("%s: %+v", path, status)
		}
		r.Reset(first)
	}
}

func TestAPollSeesNewRightsButDoesNotCompileTheSameFaultsAgain(t *testing.T) {
	i, r := install(t), gitrepo.New(t)
	rights := []string{"release.publish"}
	asked := 0
	s := i.source(r.Remote, func(c *Config) {
		c.Actor = func(context.Context) (pap.Actor, error) {
			asked++
			return subject("service:git", rights...), nil
		}
	})
	poll := func(want pap.SourceResult) {
		t.Helper()
		if err := s.round(t.Context(), false); err != nil || s.Status().Result != want {
			t.Fatalf("%v, %+v", err, s.Status())
		}
	}
	r.Write("platform/more.policy.yaml", policy(64))
	r.Write("platform/base.policy.yaml", policy(1000))
	r.Commit("guardrail")
	r.Push()
	poll(pap.SourceRefused)
	poll(pap.SourceRefused)
	if s.Counts().Refused != 1 {
		t.Errorf("the same refusal is told %d times", s.Counts().Refused)
	}
	rights = append(rights, "release.publish.platform")
	poll(pap.SourcePublished)
	r.Write("platform/more.policy.yaml", "rules: [")
	r.Commit("broken")
	r.Push()
	poll(pap.SourceRefused)
	before := asked
	poll(pap.SourceRefused)
	if asked != before {
		t.Error("the same faults are looked for again")
	}
	i.load(s, pap.SourceRefused)
	if asked != before+1 {
		t.Error("a load does not look again")
	}
}

func TestNoRightLetsASourcePublishSelf(t *testing.T) {
	i, r, _, _ := started(t)
	s := i.source(r.Remote, func(c *Config) {
		c.Actor = func(context.Context) (pap.Actor, error) {
			return subject("service:git", "release.publish", "release.publish.platform", "release.publish.self"), nil
		}
	})
	content, err := i.pap.NewestContent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same, err := content.File("self/rights.cedar")
	if err != nil {
		t.Fatal(err)
	}
	r.Write("self/rights.cedar", string(same))
	r.Write(sizes, policy(3))
	r.Commit("self as it is")
	r.Push()
	i.load(s, pap.SourcePublished)
	r.Write("self/rights.cedar", string(same)+"\n// mine\n")
	r.Commit("self as I like it")
	r.Push()
	contains(t, i.load(s, pap.SourceRefused).Faults[0].Message, "no policy source publishes self/")
}

func TestAGuardrailPublisherPublishesGuardrails(t *testing.T) {
	i, r := install(t), gitrepo.New(t)
	content, err := i.pap.NewestContent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range content.Files() {
		r.Write(f.Path, string(f.Data))
	}
	r.Write("platform/more.policy.yaml", policy(64))
	r.Commit("guardrails")
	r.Push()
	s := i.source(r.Remote, func(c *Config) {
		c.Actor = func(context.Context) (pap.Actor, error) {
			return subject("service:git", "release.publish", "release.publish.platform"), nil
		}
	})
	i.load(s, pap.SourcePublished)
	if i.newest().Number != 2 {
		t.Error("not published")
	}
}

func TestWhatOthersChangedIsNotUndoneUnseen(t *testing.T) {
	i, r, s, _ := started(t)
	author := subject("user:hotfix", "policy.write", "release.publish")
	if _, err := i.pap.PutDocument(t.Context(), author, sizes, []byte(policy(2)), 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.pap.Publish(t.Context(), author, pap.Publication{}); err != nil {
		t.Fatal(err)
	}
	i.load(s, pap.SourcePublished) // the old head is no news
	r.Write("tenants/acme/more.policy.yaml", policy(4))
	r.Commit("more")
	r.Push()
	status := i.load(s, pap.SourceRefused)
	if len(status.Faults) != 1 || status.Faults[0].File != sizes {
		t.Fatalf("%+v", status)
	}
	contains(t, status.Faults[0].Message, "user:hotfix", "release 3")
	r.Write(sizes, policy(2))
	r.Commit("the hotfix")
	r.Push()
	i.load(s, pap.SourcePublished)
}

func TestACommitThatChangesNoPolicyIsNoRelease(t *testing.T) {
	i, r, s, _ := started(t)
	r.Write(".gitlab-ci.yml", "hidden files are left out")
	r.Write("tools.go", "package policies")
	r.Commit("tools")
	r.Push()
	i.load(s, pap.SourceUnchanged)
	if i.newest().Number != 2 {
		t.Error("published")
	}
}

func TestAFolderOfTheRepositoryIsRead(t *testing.T) {
	i, r := install(t), gitrepo.New(t)
	r.Write("README.md", "not a policy")
	r.Write("deploy/policies/"+sizes, policy(8))
	r.Commit("sizes")
	r.Push()
	s := i.source(r.Remote, func(c *Config) { c.Address += "#deploy/policies" })
	i.load(s, pap.SourcePublished)
	missing := i.source(r.Remote, func(c *Config) { c.Address += "#nowhere" })
	contains(t, i.load(missing, pap.SourceRefused).Reason, "no folder nowhere")
}

func TestLinksAndLargeFilesAreRefused(t *testing.T) {
	t.Run("link", func(t *testing.T) {
		i, r, s, _ := started(t)
		if err := os.Symlink("/etc/passwd", filepath.Join(r.Dir, "tenants/acme/link.rego")); err != nil {
			t.Fatal(err)
		}
		r.Commit("link")
		r.Push()
		status := i.load(s, pap.SourceRefused)
		if len(status.Faults) != 1 || status.Faults[0].File != "tenants/acme/link.rego" {
			t.Errorf("%+v", status)
		}
		contains(t, status.Faults[0].Message, "is a link")
	})
	t.Run("large", func(t *testing.T) {
		i, r, s, _ := started(t)
		r.Write("tenants/acme/large.rego", strings.Repeat("#", bundles.MaxFileBytes+1)) // a few bytes, compressed
		r.Commit("large")
		r.Push()
		contains(t, i.load(s, pap.SourceUnavailable).Reason, "too large for a policy source")
		if i.newest().Number != 2 {
			t.Error("published")
		}
	})
}

func TestOfTwoNodesOnePublishes(t *testing.T) {
	i, r, one, _ := started(t)
	two := i.source(r.Remote, nil)
	for n := range 3 {
		r.Write(sizes, policy(100+n))
		head := r.Commit("again")
		r.Push()
		done := make(chan pap.SourceStatus)
		for _, s := range []*Source{one, two} {
			go func() {
				status, _ := s.Load(t.Context()) // the status says it
				done <- status
			}()
		}
		for range 2 {
			if status := <-done; status.Result != pap.SourcePublished || status.Published.ID != head {
				t.Errorf("%+v", status)
			}
		}
		if want := uint64(3 + n); i.newest().Number != want {
			t.Errorf("release %d, want %d", i.newest().Number, want)
		}
	}
}

func TestADamagedBareRepositoryIsFetchedAnew(t *testing.T) {
	i, r, s, _ := started(t)
	packs, err := filepath.Glob(filepath.Join(s.clone.dir, "objects", "pack", "*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	r.Write(sizes, policy(7))
	r.Commit("next")
	r.Push()
	i.load(s, pap.SourcePublished)
}

func TestASourceThatCannotBeReachedIsTriedLessAndLessOften(t *testing.T) {
	i, r, s, _ := started(t)
	if err := os.RemoveAll(r.Remote); err != nil {
		t.Fatal(err)
	}
	var pauses []string
	for range 6 {
		_, err := s.Load(t.Context())
		pauses = append(pauses, s.pause(err).String())
	}
	if got := strings.Join(pauses, " "); got != "1m0s 2m0s 4m0s 5m0s 5m0s 5m0s" {
		t.Error(got)
	}
	if s.Status().Result != pap.SourceUnavailable || i.newest().Number != 2 {
		t.Errorf("%+v", s.Status())
	}
}
