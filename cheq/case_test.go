package cheq

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

var start = time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)

// world is what a settlement reads, in memory.
type world struct {
	rules     map[string]string
	templates map[string]*Template
	digests   map[string]string
	roles     map[string][]string // subject → roles
	owner     map[string]string
}

func (w *world) Rule(_, name string) string { return w.rules[name] }
func (w *world) Template(name string) (*Template, string) {
	return w.templates[name], w.digests[name]
}
func (w *world) Member(c *Case, who Person, p *People) bool {
	return who.Tenant == c.Tenant && slices.Contains(w.roles[who.Name], p.Role) || p.Named(c.Tenant, who)
}

func (w *world) Line(who Person) ([]Person, error) {
	line := []Person{who}
	for w.owner[who.Name] != "" {
		who.Name = w.owner[who.Name]
		line = append(line, who)
	}
	return line, nil
}

func newWorld(t interface{ Fatal(...any) }) *world {
	tmpl, err := ParseTemplate("approvals/exposure.yaml", []byte(`title: {en: Exposure, zh: 暴露}
decide_by: 8h
grant_for: {default: 24h, ceiling: 72h}
all_of:
  - {title: {en: Network, zh: 网络}, role: network, approvals: 1}
  - {title: {en: Security, zh: 安全}, role: security, approvals: 2}
`))
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		rules: map[string]string{"platform/network/public": "sha256:1"}, templates: map[string]*Template{"exposure": tmpl},
		digests: map[string]string{"exposure": "sha256:t"},
		roles:   map[string][]string{"user:n": {"network"}, "user:s": {"security"}, "user:t": {"security"}, "user:me": {"network", "security"}},
	}
}

func newCase() *Case {
	c := &Case{
		ID: "cheq-1", Tenant: "acme", State: Pending, Requester: of("user:me"), Excluded: []Person{of("user:me")},
		Digests: []string{"sha256:r"}, GrantFor: 24 * time.Hour,
		Opens: []Opening{{
			RuleRef: authz.RuleRef{Rule: "platform/network/public", Digest: "sha256:1"}, Effect: authz.Review,
			Template: "exposure", TemplateDigest: "sha256:t",
		}},
		OpenedAt: start, DecideBy: start.Add(8 * time.Hour),
	}
	c.Shown, _ = c.Card().Digest()
	return c
}

func (c *Case) vote(voter string, yes bool) *Case {
	c.Votes = append(c.Votes, Vote{Voter: of(voter), Yes: yes, Shown: c.Shown})
	return c
}

func TestACaseSettlesByWhatIsTrueNow(t *testing.T) {
	votes := func(c *Case) { c.vote("user:n", true).vote("user:s", true).vote("user:t", true) }
	for _, row := range []struct {
		name  string
		make  func(c *Case, w *world)
		after time.Duration
		want  State
		cause string
	}{
		{"all said yes", func(c *Case, _ *world) { votes(c) }, time.Hour, Approved, "votes"},
		{"one is missing", func(c *Case, _ *world) { c.vote("user:n", true).vote("user:s", true) }, time.Hour, Pending, ""},
		{"the same person twice", func(c *Case, _ *world) { c.vote("user:n", true).vote("user:s", true).vote("user:s", true) }, time.Hour, Pending, ""},
		{"a no", func(c *Case, _ *world) { c.vote("user:n", false) }, time.Hour, Rejected, "votes"},
		{"a change of mind", func(c *Case, _ *world) { votes(c); c.vote("user:t", false) }, time.Hour, Rejected, "votes"},
		{"the requester", func(c *Case, _ *world) {
			c.vote("user:me", true).vote("user:s", true).vote("user:t", true)
		}, time.Hour, Pending, ""},
		{"the requester's no", func(c *Case, _ *world) { c.vote("user:me", false) }, time.Hour, Pending, ""},
		{"votes on something else", func(c *Case, _ *world) { votes(c); c.Shown = "sha256:other" }, time.Hour, Pending, ""},
		{"who acts for the requester", func(c *Case, w *world) {
			votes(c)
			w.owner = map[string]string{"user:t": "user:me"}
		}, time.Hour, Pending, ""},
		{"a namesake on the platform", func(c *Case, _ *world) {
			votes(c)
			c.Votes[2].Voter.Tenant = ""
		}, time.Hour, Pending, ""},
		{"a role that was lost", func(c *Case, w *world) { votes(c); w.roles["user:t"] = nil }, time.Hour, Pending, ""},
		{"one moment before the end", func(*Case, *world) {}, 8*time.Hour - 1, Pending, ""},
		{"too late", func(c *Case, _ *world) { votes(c) }, 8 * time.Hour, Expired, "time"},
		{"the rule changed", func(c *Case, w *world) { votes(c); w.rules["platform/network/public"] = "sha256:2" }, time.Hour, Cancelled, "rule_changed"},
		{"the rule is gone", func(c *Case, w *world) { votes(c); w.rules = nil }, time.Hour, Cancelled, "rule_changed"},
		{"the template changed", func(c *Case, w *world) { votes(c); w.digests["exposure"] = "sha256:u" }, time.Hour, Cancelled, "template_changed"},
		{"the template is gone", func(c *Case, w *world) { votes(c); w.templates = nil }, time.Hour, Cancelled, "template_changed"},
		{"nothing to open", func(c *Case, _ *world) { votes(c); c.Opens = nil }, time.Hour, Pending, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, w := newCase(), newWorld(t)
			row.make(c, w)
			if err := c.Settle(w, start.Add(row.after)); err != nil {
				t.Fatal(err)
			}
			if c.State != row.want || c.Cause != row.cause {
				t.Errorf("got %s %q, want %s %q", c.State, c.Cause, row.want, row.cause)
			}
		})
	}
}

func TestAnApprovedCaseMintsWhatWasShown(t *testing.T) {
	now := start.Add(time.Hour)
	approved := func() *Case {
		c := newCase()
		waived := c.Opens[0]
		waived.Rule, waived.Effect = "platform/sizes/too_large", authz.Deny
		c.Opens = append(c.Opens, waived)
		c.Shown, _ = c.Card().Digest()
		if err := c.End(Approved, "votes", now); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := approved()
	g, err := c.Mint("grt-1", now)
	if err != nil || c.Grant != "grt-1" || c.Yield != Live {
		t.Fatalf("%v, the case has %s %s", err, c.Grant, c.Yield)
	}
	if len(g.Satisfies) != 1 || g.Satisfies[0] != c.Opens[0].RuleRef || len(g.Waives) != 1 || g.Waives[0] != c.Opens[1].RuleRef {
		t.Errorf("it satisfies %v and waives %v", g.Satisfies, g.Waives)
	}
	if !slices.Equal(g.Requests, c.Digests) || g.Tenant != c.Tenant || g.Validity != (authz.Validity{Start: now, End: now.Add(24 * time.Hour)}) || g.Source != "approval:cheq-1" {
		t.Errorf("got %+v", g)
	}
	for name, widen := range map[string]func(c *Case){
		"longer":       func(c *Case) { c.GrantFor++ },
		"more uses":    func(c *Case) { c.Uses++ },
		"another rule": func(c *Case) { c.Opens[0].Rule += "2" },
		"its digest":   func(c *Case) { c.Opens[0].Digest += "2" },
		"a request":    func(c *Case) { c.Digests = append(c.Digests, "sha256:other") },
		"a member":     func(c *Case) { c.Request.Resource.ID = "other" },
		"a tenant":     func(c *Case) { c.Tenant = "globex" },
		"a subject":    func(c *Case) { c.Requester = of("user:other") },
	} {
		c := approved()
		if widen(c); c.Shown == "" {
			t.Fatal("nothing is shown")
		}
		if _, err := c.Mint("grt-1", now); !errors.Is(err, ErrShown) || c.Grant != "" {
			t.Errorf("%s than was shown: %v", name, err)
		}
	}
}

func TestACaseEndsOnceAndMintsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, w := newCase(), newWorld(t)
		now, grants, ended := start, 0, State("")
		people := []string{"user:n", "user:s", "user:t", "user:me", "user:x"}
		for i := range rapid.IntRange(1, 30).Draw(t, "steps") {
			at := fmt.Sprintf("step %d", i)
			switch rapid.IntRange(0, 7).Draw(t, at) {
			case 0, 1, 2:
				c.vote(rapid.SampledFrom(people).Draw(t, at+" who"), rapid.IntRange(0, 3).Draw(t, at+" says") > 0)
			case 3: // clocks jump both ways
				now = start.Add(time.Duration(rapid.IntRange(-60, 600).Draw(t, at+" minute")) * time.Minute)
			case 4:
				w.roles[rapid.SampledFrom(people).Draw(t, at+" loses")] = nil
			case 5:
				w.rules["platform/network/public"] = rapid.SampledFrom([]string{"sha256:1", "sha256:2"}).Draw(t, at+" rule")
			case 6:
				_ = c.End(Cancelled, "requester", now)
			case 7:
				err := c.Settle(w, now)
				if ended != "" && !errors.Is(err, ErrSettled) {
					t.Fatalf("settled again: %v", err)
				}
				if ended == "" && c.State == Approved && (!now.Before(c.DecideBy) || w.rules["platform/network/public"] != "sha256:1") {
					t.Fatal("approved too late, or for another rule")
				}
			}
			if ended != "" && c.State != ended {
				t.Fatalf("%s became %s", ended, c.State)
			}
			if c.State.Settled() {
				ended = c.State
			}
			if _, err := c.Mint("grt", now); err == nil {
				grants++
			}
		}
		if grants > 1 || (grants == 1) != (c.State == Approved) {
			t.Fatalf("%d grants of a case that is %s", grants, c.State)
		}
	})
}

func TestWhatWasMintedEndsOnce(t *testing.T) {
	c := newCase()
	if err := c.EndGrant(Revoked); !errors.Is(err, ErrSettled) {
		t.Errorf("revoked before there is a grant: %v", err)
	}
	if _, err := c.Mint("grt-1", start); !errors.Is(err, ErrSettled) {
		t.Errorf("minted while pending: %v", err)
	}
	if err := c.End(Approved, "votes", start); err != nil {
		t.Fatal(err)
	}
	_, err := c.Mint("grt-1", start)
	if err := errors.Join(err, c.EndGrant(Revoked)); err != nil {
		t.Fatal(err)
	}
	_, minted := c.Mint("grt-2", start)
	for _, again := range []error{c.EndGrant(Ended), minted, c.End(Rejected, "votes", start)} {
		if !errors.Is(again, ErrSettled) {
			t.Errorf("moved again: %v", again)
		}
	}
	if c.Yield != Revoked || c.Grant != "grt-1" {
		t.Errorf("got %s %s", c.Yield, c.Grant)
	}
}
