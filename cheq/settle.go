package cheq

import (
	"slices"
	"time"
)

// World is what is read anew whenever a case is looked at, in the transaction
// that would settle it.
type World interface {
	// Rule returns the digest of a rule in the active release, "" where there
	// is none.
	Rule(tenant, name string) (digest string)
	// Template returns a template of the active release and its digest, or nil.
	Template(name string) (t *Template, digest string)
	// Member reports whether the person is one of the people now. What cannot
	// be found out is no.
	Member(c *Case, who Person, p *People) bool
	// Line lists whom the person acts for, itself first: its owner, the
	// owner's owner and so on.
	Line(who Person) ([]Person, error)
}

// Settle decides what the case has come to, and ends it where it has: by what
// its rules, templates and reviewers are now, not when it opened or was voted
// on. A case whose rule or template is another by now ends, since the grant
// would open what nobody was shown.
func (c *Case) Settle(w World, now time.Time) error {
	if c.State.Settled() {
		return ErrSettled
	}
	templates, changed := c.templates(w, now)
	if changed != "" {
		return c.End(Cancelled, changed, now)
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

// templates are those that the case is answered by, as they are after so much
// time, or why there are none any more.
func (c *Case) templates(w World, now time.Time) (all []*Template, changed string) {
	for _, o := range c.Opens {
		t, digest := w.Template(o.Template)
		switch {
		case w.Rule(c.Tenant, o.Rule) != o.Digest:
			return nil, "rule_changed"
		case t == nil || digest != o.TemplateDigest:
			return nil, "template_changed"
		}
		if !slices.ContainsFunc(all, func(known *Template) bool { return known.Name == t.Name }) {
			all = append(all, t.After(now.Sub(c.OpenedAt)))
		}
	}
	return all, ""
}

// tally asks every template: all must approve, one rejects.
func (c *Case) tally(templates []*Template, w World) Verdict {
	member := func(voter Person, g *Group) bool { return c.mayAnswer(voter, g, w) }
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

// mayAnswer reports whether a vote of this voter counts in the group now: it is
// one of its people, or has the place of one, and neither it nor that one is
// excluded or acts for somebody who is.
func (c *Case) mayAnswer(voter Person, g *Group, w World) bool {
	return c.unbound(voter, w) && slices.ContainsFunc(c.stands(voter), func(place Person) bool {
		return c.unbound(place, w) && slices.ContainsFunc(g.People, func(p People) bool { return w.Member(c, place, &p) })
	})
}

// unbound reports whether somebody is neither excluded nor acts for one who is.
func (c *Case) unbound(voter Person, w World) bool {
	line, err := w.Line(voter)
	if err != nil || !slices.Contains(line, voter) {
		return false
	}
	return !slices.ContainsFunc(line, func(n Person) bool { return slices.Contains(c.Excluded, n) })
}
