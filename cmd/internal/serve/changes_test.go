package serve

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/changes"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// office is one installation with two nodes and two administrators, root and
// second.
type office struct {
	t     *testing.T
	nodes [2]*Core
	desks [2]*changes.Desk
}

func openOffice(t *testing.T) *office {
	t.Helper()
	c := config.Defaults()
	c.Data = t.TempDir()
	o := &office{t: t}
	o.nodes[0], _ = openCoreOf(t, c)
	o.nodes[1] = openBare(t, c)
	for i, n := range o.nodes {
		o.desks[i] = n.reviewChanges()
	}
	if err := admin.EnsureSubject(t.Context(), o.nodes[0].PAP, admin.LocalActor(), pap.Subject{Type: "user", ID: "second"}, "admin"); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) as(name string) pap.Actor {
	o.t.Helper()
	actor, err := o.nodes[0].guard.Subject(o.t.Context(), "", name)
	if err != nil {
		o.t.Fatal(err)
	}
	return actor
}

// propose publishes one more platform policy, and returns the case that it
// waits for.
func (o *office) propose(author, path string) cheq.Case {
	o.t.Helper()
	err := o.publish(author, path)
	var needs *pap.NeedsReviewError
	if !errors.As(err, &needs) {
		o.t.Fatalf("it does not wait for people: %v", err)
	}
	c, err := o.nodes[0].Cases.Case(o.t.Context(), needs.Case)
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

func (o *office) publish(author, path string) error {
	o.t.Helper()
	content, err := o.nodes[0].PAP.NewestContent(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	next, err := content.Apply([]bundles.Change{{Path: path, Data: []byte(
		`{"id":"more","name":"More","scope":{"actions":["more.do"]},"rules":[{"condition":"true","effect":"DENY","message":{"en":"No.","zh":"否。"}}]}`)}})
	if err != nil {
		o.t.Fatal(err)
	}
	_, _, err = o.nodes[0].PAP.PublishContent(o.t.Context(), o.as(author), next, "one more", false)
	return err
}

func (o *office) approve(by string, c cheq.Case) {
	o.t.Helper()
	if _, err := o.nodes[1].Cases.Vote(o.t.Context(), c.ID, cheq.Vote{Voter: cheq.Person{Name: by}, Yes: true, Channel: "api", Shown: c.Shown}); err != nil {
		o.t.Fatal(err)
	}
}

// sweep lets both nodes sweep at once until the proposal is done.
func (o *office) sweep(id string) pap.Proposal {
	o.t.Helper()
	for range 20 {
		var both sync.WaitGroup
		for _, d := range o.desks {
			both.Go(func() {
				if err := d.Sweep(o.t.Context()); err != nil {
					o.t.Error(err)
				}
			})
		}
		both.Wait()
		p, err := o.nodes[0].PAP.Proposal(o.t.Context(), id)
		if err != nil {
			o.t.Fatal(err)
		}
		if p.Done {
			return p
		}
	}
	o.t.Fatal("the proposal is not done after 20 sweeps")
	return pap.Proposal{}
}

func (o *office) newest() uint64 {
	o.t.Helper()
	number, err := o.nodes[0].PAP.NewestNumber(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	return number
}

// timeline counts what a case's timeline tells of.
func (o *office) timeline(id string) map[string]int {
	o.t.Helper()
	v, err := o.nodes[0].Cases.View(o.t.Context(), id)
	if err != nil {
		o.t.Fatal(err)
	}
	said := map[string]int{}
	for _, e := range v.Events {
		said[e.Action]++
	}
	return said
}

func TestTwoNodesPublishWhatWasApprovedOnce(t *testing.T) {
	o := openOffice(t)
	before := o.newest()
	c := o.propose("user:root", "platform/more.policy.json")
	if again := o.propose("user:root", "platform/more.policy.json"); again.ID != c.ID {
		t.Errorf("the same again is another case: %s, %s", c.ID, again.ID)
	}
	if !slices.Contains(c.Excluded, cheq.Person{Name: "user:root"}) {
		t.Errorf("the author may answer: %v", c.Excluded)
	}
	o.approve("user:second", c)
	p := o.sweep(c.ID)
	said := o.timeline(c.ID)
	if p.State != pap.ProposalPublished || p.Release != before+1 || o.newest() != before+1 || said["published"] != 1 || said["acknowledged"] != 1 || said["outdated"] != 0 {
		t.Errorf("release %d, proposal %+v, timeline %v", o.newest(), p, said)
	}
	content, err := o.nodes[0].PAP.NewestContent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if content.Digest() != p.Digest || content.Digest().String() != c.Change.Digest {
		t.Errorf("published %s, proposed %s, shown %s", content.Digest(), p.Digest, c.Change.Digest)
	}
}

func TestWhatItsAuthorMayNotPublishAnyMoreIsOutdated(t *testing.T) {
	o := openOffice(t)
	before := o.newest()
	c := o.propose("user:second", "platform/more.policy.json")
	if _, _, err := o.nodes[0].PAP.SetSubjectDisabled(t.Context(), admin.LocalActor(), "", "user:second", true); err != nil {
		t.Fatal(err)
	}
	o.approve("user:root", c)
	p := o.sweep(c.ID)
	if said := o.timeline(c.ID); p.State != pap.ProposalOutdated || o.newest() != before || said["outdated"] != 1 || said["published"] != 0 {
		t.Errorf("release %d, proposal %+v, timeline %v", o.newest(), p, said)
	}
}

// Of the commits of one source the newest is asked about, and no other.
func TestANewerCommitTakesThePlaceOfOneThatWaits(t *testing.T) {
	o := openOffice(t)
	commit := func(id, text string) string {
		current, err := o.nodes[0].PAP.NewestContent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		content, err := current.Apply([]bundles.Change{{Path: "platform/commit.md", Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = o.nodes[0].PAP.PublishCommit(t.Context(), o.as("user:root"), pap.Commit{
			Source: "git+https://git/p@main", ID: id, Author: "li", Note: "a commit", Content: content.Without("self/"),
		})
		var needs *pap.NeedsReviewError
		if !errors.As(err, &needs) {
			t.Fatalf("it does not wait for people: %v", err)
		}
		return needs.Case
	}
	first, second := commit("a1", "one"), commit("b2", "two")
	if p := o.sweep(first); p.State != pap.ProposalOutdated || o.timeline(first)["outdated"] != 1 {
		t.Errorf("the first: %+v", p)
	}
	c, err := o.nodes[0].Cases.Case(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	o.approve("user:second", c)
	if p := o.sweep(second); p.State != pap.ProposalPublished || p.Commit != "b2" {
		t.Errorf("the second: %+v", p)
	}
}

// weaker has what weakens any policy wait.
const weaker = `// @policy({"title":{"en":"Weaker","zh":"放宽"},"scope":{"actions":["release.change"]},"reads":["context.weakens","context.flips"],"unbound":["weakens","flips"]})

@id("weaker")
@title("Weaker policies")
@title_zh("策略放宽")
@message("Weaker.")
@message_zh("放宽。")
@severity("medium")
@effect("review")
@template("policy-change")
forbid (principal, action == Action::"release.change", resource)
when { context.weakens || context.flips.deny_to_allow > 0 };
`

// An installation's own rule says which changes wait, by what would be decided
// otherwise; such a case is the tenant's whose policies change.
func TestARuleSaysWhichChangesWait(t *testing.T) {
	o := openOffice(t)
	rule := func(most string) []byte {
		return []byte(`{"id":"own","name":"Own","scope":{"actions":["own.do"]},"rules":[{"condition":"resource.properties.n > ` + most + `","effect":"DENY","message":{"en":"No.","zh":"否。"}}]}`)
	}
	const path = "tenants/acme/own.policy.json"
	publish := func(changes ...bundles.Change) error {
		content, err := o.nodes[0].PAP.NewestContent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next, err := content.Apply(changes)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = o.nodes[0].PAP.PublishContent(t.Context(), o.as("user:root"), next, "one more", false)
		return err
	}
	ask := o.nodes[0].PAP.Review
	o.nodes[0].PAP.Review = nil
	if err := publish(bundles.Change{Path: "self/weaker.cedar", Data: []byte(weaker)}); err != nil {
		t.Fatal(err)
	}
	o.nodes[0].PAP.Review = ask
	if err := publish(bundles.Change{Path: path, Data: rule("3")}); err != nil {
		t.Fatalf("one rule more: %v", err)
	}
	err := publish(bundles.Change{Path: path, Data: rule("9")})
	var needs *pap.NeedsReviewError
	if !errors.As(err, &needs) {
		t.Fatalf("another rule does not wait: %v", err)
	}
	c, err := o.nodes[0].Cases.Case(t.Context(), needs.Case)
	if err != nil || c.Tenant != "acme" || len(c.Opens) != 1 || c.Opens[0].Rule != "self/weaker/weaker" {
		t.Fatalf("%+v, %v", c, err)
	}
	before := o.newest()
	o.approve("user:second", c)
	if p := o.sweep(c.ID); p.State != pap.ProposalPublished || o.newest() != before+1 {
		t.Errorf("release %d, proposal %+v", o.newest(), p)
	}
}

// Only the case's own grant opens a change: not one that an administrator makes
// by hand for the same question.
func TestAGrantMadeByHandOpensNoChange(t *testing.T) {
	o := openOffice(t)
	before := o.newest()
	c := o.propose("user:root", "platform/more.policy.json")
	g := authz.Grant{
		ID: "grt-by-hand", Tenant: c.Tenant, Request: c.Request, Requests: c.Digests, Satisfies: []authz.RuleRef{c.Opens[0].RuleRef}, Source: "manual:user:root",
		CreatedAt: time.Now(), Validity: authz.Validity{Start: time.Now().Add(-time.Minute), End: time.Now().Add(time.Hour)},
	}
	if err := o.nodes[0].Store.Update(t.Context(), func(tx pap.Tx) error { return pap.MintApproved(tx, g) }); err != nil {
		t.Fatal(err)
	}
	if err := o.nodes[0].Feed.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var needs *pap.NeedsReviewError
	if err := o.publish("user:root", "platform/more.policy.json"); !errors.As(err, &needs) || needs.Case != "" {
		t.Errorf("by a grant made by hand: %v", err)
	}
	if o.newest() != before {
		t.Error("it was published")
	}
}
