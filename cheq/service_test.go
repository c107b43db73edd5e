package cheq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// memory is a store in memory: transactions come one after the other.
type memory struct {
	*world
	mu     sync.Mutex
	cases  map[string]Case
	grants map[string]authz.Grant
	spent  map[string]bool // grants whose last use is taken
	events map[string][]Event
	outbox map[string]Delivery // by Key
	// crash fails the next transaction before it is stored, or after.
	crashBefore, crashAfter bool
}

var errCrash = errors.New("the node is gone")

func (m *memory) Update(_ context.Context, fn func(Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := &memory{world: m.world, cases: maps.Clone(m.cases), grants: maps.Clone(m.grants), events: maps.Clone(m.events), spent: m.spent, outbox: maps.Clone(m.outbox)}
	if err := fn(tx); err != nil {
		return err
	}
	if m.crashBefore {
		m.crashBefore = false
		return errCrash
	}
	m.cases, m.grants, m.events, m.outbox = tx.cases, tx.grants, tx.events, tx.outbox
	if m.crashAfter {
		m.crashAfter = false
		return errCrash
	}
	return nil
}

func (m *memory) View(_ context.Context, fn func(Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn(m)
}

func (m *memory) Case(id string) (Case, error) {
	c, ok := m.cases[id]
	if !ok {
		return c, ErrNotFound
	}
	c.Votes, c.Halves, c.Delegated = slices.Clone(c.Votes), slices.Clone(c.Halves), slices.Clone(c.Delegated)
	return c, nil
}

func (m *memory) Asked(requester Person, tenant, digest string) (Case, error) {
	for id, c := range m.cases {
		if c.State == Pending && c.Tenant == tenant && c.Requester == requester && c.Digests[0] == digest {
			return m.Case(id)
		}
	}
	return Case{}, ErrNotFound
}

func (m *memory) PutCase(c Case) error { m.cases[c.ID] = c; return nil }

func (m *memory) Recent(requester Person, tenant string, since time.Time, limit int) ([]Case, error) {
	return m.list(limit, func(c Case) bool {
		return c.Tenant == tenant && c.Requester == requester && (c.State == Pending || !c.OpenedAt.Before(since))
	}), nil
}

func (m *memory) Cases(f Filter, before string, limit int) ([]Case, error) {
	return m.list(limit, func(c Case) bool { return (before == "" || c.ID < before) && f.selects(&c) }), nil
}

func (m *memory) list(limit int, wanted func(Case) bool) []Case {
	var all []Case
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(m.cases))) {
		if c := m.cases[id]; wanted(c) && len(all) < limit {
			all = append(all, c)
		}
	}
	return all
}

func (m *memory) Due(now time.Time, limit int) ([]string, error) {
	var ids []string
	for id, c := range m.cases {
		if !c.Due.IsZero() && !now.Before(c.Due) && len(ids) < limit {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (m *memory) Timeline(id string, limit int) ([]Event, error) {
	return m.events[id][:min(limit, len(m.events[id]))], nil
}

func (f *Filter) selects(c *Case) bool {
	return (f.Tenant == "" || f.Tenant == c.Tenant) && (f.State == "" || f.State == c.State) && (f.Requester == nil || *f.Requester == c.Requester)
}

func (m *memory) Note(c *Case, e Event) error {
	m.events[c.ID] = append(slices.Clip(m.events[c.ID]), e)
	return nil
}

func (m *memory) Mint(g authz.Grant) error { m.grants[g.ID] = g; return nil }

func (m *memory) Grant(id string) (Yield, string, error) {
	switch g := m.grants[id]; {
	case g.Ended != nil:
		return Revoked, g.EndedReason, nil
	case m.spent[id]:
		return UsedUp, "", nil
	default:
		return Live, "", nil
	}
}

func (m *memory) EndGrant(id, why string, at time.Time) error {
	g := m.grants[id]
	g.Ended, g.EndedReason = &at, why
	m.grants[id] = g
	return nil
}

// desk is a service on a store in memory, and its clock.
type desk struct {
	*Service
	store *memory
	now   time.Time
	ids   int
}

func newDesk(t interface{ Fatal(...any) }) *desk {
	d := &desk{now: start, store: &memory{
		world: newWorld(t), cases: map[string]Case{}, grants: map[string]authz.Grant{}, events: map[string][]Event{}, outbox: map[string]Delivery{},
	}}
	d.Service = New(Config{Store: d.store, Now: func() time.Time { return d.now }, NewID: func() string {
		d.ids++
		return fmt.Sprintf("ID%03d", d.ids)
	}})
	return d
}

func ask(digest string) Ask {
	return Ask{
		Requester: of("user:me"), Caller: of("service:shop"), Reason: "for the launch",
		Request: authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "me"}, Action: authz.Action{Name: "open"}, Resource: authz.Entity{Type: "door", ID: "1"}},
		Digests: []string{digest}, Opens: []Opening{{RuleRef: authz.RuleRef{Rule: "platform/network/public", Digest: "sha256:1"}, Effect: authz.Review, Template: "exposure"}},
	}
}

// says votes on what is shown.
func (d *desk) says(id, voter string, yes bool) (Case, error) {
	return d.Vote(context.Background(), id, Vote{Voter: of(voter), Yes: yes, Channel: "api", Shown: d.store.cases[id].Shown})
}

func TestAYesOfEverybodyMintsOneGrant(t *testing.T) {
	d := newDesk(t)
	c, joined, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil || joined || c.DecideBy != start.Add(8*time.Hour) || c.GrantFor != 24*time.Hour || c.Opens[0].TemplateDigest != "sha256:t" {
		t.Fatalf("joined %v, %v: %+v", joined, err, c)
	}
	again, joined, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil || !joined || again.ID != c.ID {
		t.Fatalf("the same asked again: joined %v, %v, %s", joined, err, again.ID)
	}
	for _, voter := range []string{"user:n", "user:s", "user:s", "user:t"} {
		if c, err = d.says(c.ID, voter, true); err != nil {
			t.Fatal(err)
		}
	}
	if c.State != Approved || len(c.Votes) != 3 || len(d.store.grants) != 1 || d.store.grants[c.Grant].Requests[0] != "sha256:r" {
		t.Errorf("%s with %d votes and %d grants: %+v", c.State, len(c.Votes), len(d.store.grants), d.store.grants[c.Grant])
	}
	if _, err := d.says(c.ID, "user:s", false); !errors.Is(err, ErrSettled) {
		t.Errorf("a vote after the end: %v", err)
	}
	if c, err = d.Revoke(t.Context(), c.ID, of("user:s"), "no more"); err != nil || c.Yield != Revoked || d.store.grants[c.Grant].Ended == nil {
		t.Errorf("revoked: %v, %s", err, c.Yield)
	}
	var actions []string
	for _, e := range d.store.events[c.ID] {
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, " "); got != "open vote.approve vote.approve vote.approve approved grant.revoke" {
		t.Errorf("the timeline is %s", got)
	}
}

func TestAnAnswerIsChangedSoManyTimes(t *testing.T) {
	d := newDesk(t)
	exposure := *d.store.templates["exposure"]
	exposure.AllOf = slices.Clone(exposure.AllOf)
	for i := range exposure.AllOf {
		exposure.AllOf[i].Denials = 2 // a no alone ends nothing
	}
	d.store.templates["exposure"] = &exposure
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1 + maxChanges {
		if c, err = d.says(c.ID, "user:s", i%2 == 0); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	if _, err := d.says(c.ID, "user:s", false); !errors.Is(err, ErrTooMany) {
		t.Errorf("changed once more: %v", err)
	}
	if c, err = d.says(c.ID, "user:s", true); err != nil || len(c.Votes) != 1+maxChanges {
		t.Errorf("the same again: %v, %d votes", err, len(c.Votes))
	}
	if _, err := d.says(c.ID, "user:n", true); err != nil {
		t.Errorf("somebody else: %v", err)
	}
}

func TestAnswersThatDoNotCountAreRefused(t *testing.T) {
	d := newDesk(t)
	d.store.owner = map[string]string{"agent:a": "user:me", "service:shop": "user:ops"}
	d.store.roles["agent:a"], d.store.roles["user:ops"] = []string{"network"}, []string{"security"}
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		vote Vote
		want error
	}{
		{"a stranger", Vote{Voter: of("user:x"), Shown: c.Shown}, ErrNotReviewer},
		{"the requester", Vote{Voter: of("user:me"), Yes: true, Shown: c.Shown}, ErrNotReviewer},
		{"who acts for the requester", Vote{Voter: of("agent:a"), Yes: true, Shown: c.Shown}, ErrNotReviewer},
		{"whom the caller acts for", Vote{Voter: of("user:ops"), Yes: true, Shown: c.Shown}, ErrNotReviewer},
		{"a namesake on the platform", Vote{Voter: Person{"", "user:n"}, Yes: true, Shown: c.Shown}, ErrNotReviewer},
		{"a namesake in another tenant", Vote{Voter: Person{"globex", "user:n"}, Yes: true, Shown: c.Shown}, ErrNotReviewer},
		{"nobody", Vote{Yes: true, Shown: c.Shown}, ErrNotReviewer},
		{"a reviewer who saw something else", Vote{Voter: of("user:n"), Yes: true, Shown: "sha256:other"}, ErrShown},
		{"a reviewer who saw nothing", Vote{Voter: of("user:n"), Yes: true}, ErrShown},
		{"a reason of 100 KB", Vote{Voter: of("user:n"), Yes: true, Shown: c.Shown, Reason: strings.Repeat("x", 100_000)}, ErrText},
	} {
		if _, err := d.Vote(t.Context(), c.ID, row.vote); !errors.Is(err, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, err, row.want)
		}
	}
	if _, err := d.says("cheq-none", "user:n", true); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such case: %v", err)
	}
	if after := d.store.cases[c.ID]; len(after.Votes) != 0 || after.State != Pending {
		t.Errorf("something was kept: %+v", after)
	}
	if _, err := d.Cancel(t.Context(), c.ID, of("user:n"), ""); !errors.Is(err, ErrNotAsker) {
		t.Errorf("somebody else cancels: %v", err)
	}
	if c, err := d.Cancel(t.Context(), c.ID, of("user:me"), "not needed"); err != nil || c.State != Cancelled {
		t.Errorf("the requester cancels: %v, %s", err, c.State)
	}
}

func TestAVoteThatComesTooLateFindsTheCaseExpired(t *testing.T) {
	d := newDesk(t)
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	d.now = c.DecideBy
	if _, err := d.says(c.ID, "user:n", true); !errors.Is(err, ErrSettled) {
		t.Errorf("got %v", err)
	}
	if after := d.store.cases[c.ID]; after.State != Expired || len(after.Votes) != 0 {
		t.Errorf("the case is %s with %d votes", after.State, len(after.Votes))
	}
}

func TestCasesAreLimitedPerRequester(t *testing.T) {
	d := newDesk(t)
	open := func(n int) error {
		_, _, err := d.Open(t.Context(), ask(fmt.Sprintf("sha256:%d", n)))
		return err
	}
	for n := range 5 {
		if err := open(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(5); !errors.Is(err, ErrTooMany) {
		t.Errorf("a sixth pending case: %v", err)
	}
	for n := 5; n < 20; n++ {
		for id, c := range d.store.cases {
			if c.State == Pending {
				if _, err := d.Cancel(t.Context(), id, of("user:me"), ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := open(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(20); !errors.Is(err, ErrTooMany) {
		t.Errorf("a twenty-first within an hour: %v", err)
	}
	d.now = start.Add(time.Hour + 1)
	if err := open(20); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestTimeRemindsEscalatesAndEndsButNeverApproves(t *testing.T) {
	d := newDesk(t)
	tmpl := d.store.templates["exposure"]
	tmpl.Steps = []Step{
		{After: time.Hour, Remind: true},
		{After: 2 * time.Hour, Group: "network", Switch: &People{Role: "ciso"}},
	}
	d.store.roles["user:c"] = []string{"ciso"}
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	sweep := func(after time.Duration, want int) {
		t.Helper()
		d.now = start.Add(after)
		if n, err := d.Sweep(t.Context()); err != nil || n != want {
			t.Errorf("after %s: %d were due, want %d; %v", after, n, want, err)
		}
	}
	sweep(time.Hour-1, 0)
	sweep(time.Hour, 1)
	sweep(time.Hour, 0)
	if _, err := d.says(c.ID, "user:c", true); !errors.Is(err, ErrNotReviewer) {
		t.Errorf("before the switch: %v", err)
	}
	sweep(3*time.Hour, 1)
	if _, err := d.says(c.ID, "user:n", true); !errors.Is(err, ErrNotReviewer) {
		t.Errorf("who was switched off: %v", err)
	}
	if _, err := d.says(c.ID, "user:c", true); err != nil {
		t.Error(err)
	}
	sweep(8*time.Hour, 1)
	sweep(9*time.Hour, 0)
	var actions []string
	for _, e := range d.store.events[c.ID] {
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, " "); got != "open remind reviewers.switch vote.approve expired" {
		t.Errorf("the timeline is %s", got)
	}
}

func TestAGrantThatIsOverIsNoted(t *testing.T) {
	d := newDesk(t)
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	for _, voter := range []string{"user:n", "user:s", "user:t"} {
		if err == nil {
			c, err = d.says(c.ID, voter, true)
		}
	}
	if err != nil || c.Yield != Live {
		t.Fatalf("%v, %s", err, c.Yield)
	}
	d.now = c.GrantEnd
	if n, err := d.Sweep(t.Context()); n != 1 || err != nil || d.store.cases[c.ID].Yield != Ended {
		t.Errorf("%d were due, %v: the grant is %s", n, err, d.store.cases[c.ID].Yield)
	}
	if _, err := d.Revoke(t.Context(), c.ID, of("user:s"), ""); !errors.Is(err, ErrSettled) {
		t.Errorf("revoked after its end: %v", err)
	}
}

func TestNobodyIsAskedForWhatNoTemplateAnswers(t *testing.T) {
	d := newDesk(t)
	none := ask("sha256:r")
	none.Opens[0].Template = "none"
	long := ask("sha256:r")
	long.GrantFor = 73 * time.Hour
	for name, a := range map[string]Ask{"no template": none, "above the ceiling": long} {
		var refusal *NotAskableError
		if _, _, err := d.Open(t.Context(), a); !errors.As(err, &refusal) || refusal.Rule != "platform/network/public" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(d.store.cases) != 0 {
		t.Errorf("%d cases were opened", len(d.store.cases))
	}
}

// Whatever people, clocks and nodes do, a case ends once and mints at most one
// grant: for what was shown, with the votes that the template asks for, before
// its time was over, and for a rule that is still the one that was shown.
func TestACaseMintsAtMostOneGrantWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDesk(t)
		c, _, err := d.Open(t.Context(), ask("sha256:r"))
		if err != nil {
			t.Fatal(err)
		}
		people := []string{"user:n", "user:s", "user:t", "user:me", "user:x"}
		var ended State
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			at := fmt.Sprintf("step %d", i)
			d.store.crashBefore = rapid.IntRange(0, 9).Draw(t, at+" crashes before") == 0
			d.store.crashAfter = rapid.IntRange(0, 9).Draw(t, at+" crashes after") == 0
			switch rapid.IntRange(0, 10).Draw(t, at) {
			case 0, 1, 2, 3, 4:
				_, _ = d.says(c.ID, rapid.SampledFrom(people).Draw(t, at+" who"), rapid.IntRange(0, 9).Draw(t, at+" says") > 0)
			case 5:
				d.now = start.Add(time.Duration(rapid.IntRange(-60, 600).Draw(t, at+" minute")) * time.Minute)
			case 6:
				d.store.roles[rapid.SampledFrom(people).Draw(t, at+" loses")] = nil
			case 7:
				d.store.rules["platform/network/public"] = rapid.SampledFrom([]string{"sha256:1", "sha256:1", "sha256:2"}).Draw(t, at+" rule")
			case 8:
				_, _ = d.Cancel(t.Context(), c.ID, of("user:me"), "")
			case 9:
				_, _ = d.Sweep(t.Context())
			case 10:
				if revoked, err := d.Revoke(t.Context(), c.ID, of("user:s"), ""); err == nil && d.store.grants[revoked.Grant].Ended == nil {
					t.Fatal("a revoke that was acknowledged left the grant")
				}
			}
			now := d.store.cases[c.ID]
			if ended != "" && now.State != ended {
				t.Fatalf("%s became %s", ended, now.State)
			}
			if ended == "" && now.State == Approved {
				checkApproved(t, d, &now)
			}
			if now.State.Settled() {
				ended = now.State
			}
			if (len(d.store.grants) == 1) != (now.State == Approved) || len(d.store.grants) > 1 {
				t.Fatalf("%d grants of a case that is %s", len(d.store.grants), now.State)
			}
		}
	})
}

func checkApproved(t *rapid.T, d *desk, c *Case) {
	said := map[string]bool{}
	for _, v := range c.Votes {
		said[v.Voter.Name] = v.Yes
	}
	if !said["user:n"] || !said["user:s"] || !said["user:t"] || d.store.roles["user:n"] == nil || d.store.roles["user:s"] == nil || d.store.roles["user:t"] == nil {
		t.Fatalf("approved by %v, roles %v", said, d.store.roles)
	}
	if !d.now.Before(c.DecideBy) || d.store.rules["platform/network/public"] != "sha256:1" {
		t.Fatal("approved too late, or for another rule")
	}
	g := d.store.grants[c.Grant]
	if !slices.Equal(g.Requests, []string{"sha256:r"}) || len(g.Satisfies) != 1 || len(g.Waives) != 0 || g.Validity.End.Sub(g.Validity.Start) != 24*time.Hour || !g.Validity.Start.Equal(d.now) {
		t.Fatalf("the grant is wider than what was shown: %+v", g)
	}
}

func TestAnAskForLessJoinsAndForMoreDoesNot(t *testing.T) {
	d := newDesk(t)
	wide := ask("sha256:r")
	wide.Digests = append(wide.Digests, "sha256:s")
	first, _, err := d.Open(t.Context(), wide)
	if err != nil {
		t.Fatal(err)
	}
	if c, joined, err := d.Open(t.Context(), ask("sha256:r")); err != nil || !joined || c.ID != first.ID {
		t.Errorf("an ask for one of two requests: joined %t, %v", joined, err)
	}
	wide.Digests = append(wide.Digests, "sha256:t")
	if c, joined, err := d.Open(t.Context(), wide); err != nil || joined || c.ID == first.ID || d.store.cases[first.ID].State != Cancelled {
		t.Errorf("an ask for a third: joined %t, %v", joined, err)
	}
}
