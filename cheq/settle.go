package cheq

import (
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// World is what a settlement reads anew, in its own transaction.
type World interface {
	// Rule returns the digest of a rule in the active release, "" where there
	// is none.
	Rule(tenant, name string) (digest string)
	// Template returns a template of the active release and its digest, or nil.
	Template(name string) (t *Template, digest string)
	// Member reports whether the subject is one of the people now.
	Member(c *Case, subject string, p *People) bool
}

// Settle decides what the case has come to, and ends it where it has: by what
// its rules, templates and reviewers are now, not when it opened or was voted
// on. A case whose rule or template is another by now ends, since the grant
// would open what nobody was shown.
func (c *Case) Settle(w World, now time.Time) error {
	if c.State.Settled() {
		return ErrSettled
	}
	templates := make([]*Template, 0, len(c.Opens))
	for _, o := range c.Opens {
		t, digest := w.Template(o.Template)
		switch {
		case w.Rule(c.Tenant, o.Rule) != o.Digest:
			return c.End(Cancelled, "rule_changed", now)
		case t == nil || digest != o.TemplateDigest:
			return c.End(Cancelled, "template_changed", now)
		}
		if !slices.ContainsFunc(templates, func(known *Template) bool { return known.Name == t.Name }) {
			templates = append(templates, t.After(now.Sub(c.OpenedAt)))
		}
	}
	if !now.Before(c.DecideBy) {
		return c.End(Expired, "time", now)
	}
	switch c.tally(templates, w) {
	case Approve:
		return c.End(Approved, "votes", now)
	case Reject:
		return c.End(Rejected, "votes", now)
	default:
		return nil
	}
}

// tally asks every template: all must approve, one rejects.
func (c *Case) tally(templates []*Template, w World) Verdict {
	member := func(voter string, g *Group) bool {
		return !slices.Contains(c.Excluded, voter) &&
			slices.ContainsFunc(g.People, func(p People) bool { return w.Member(c, voter, &p) })
	}
	verdict := Approve
	for _, t := range templates {
		switch t.Tally(c.answers(), member) {
		case Reject:
			return Reject
		case Undecided:
			verdict = Undecided
		}
	}
	if len(templates) == 0 {
		return Undecided
	}
	return verdict
}

// Mint is the grant that an approved case is worth: bound to what was shown,
// from now for as long as was shown. Its id is the caller's to give.
func (c *Case) Mint(id string, now time.Time) authz.Grant {
	g := authz.Grant{
		ID: id, Tenant: c.Tenant, Requests: slices.Clone(c.Digests), Request: c.Request, Uses: c.Uses,
		Validity: authz.Validity{Start: now, End: now.Add(c.GrantFor)},
		Source:   "approval:" + c.ID, Reason: c.Reason, CreatedBy: c.ID, CreatedAt: now,
	}
	for _, o := range c.Opens {
		if o.Effect == authz.Review {
			g.Satisfies = append(g.Satisfies, o.RuleRef)
		} else {
			g.Waives = append(g.Waives, o.RuleRef)
		}
	}
	return g
}
