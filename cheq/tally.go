package cheq

import "slices"

// Verdict is where votes lead.
type Verdict int

const (
	Undecided Verdict = iota
	Reject
	Approve
)

// Answer is one person's newest vote, as far as counting it takes.
type Answer struct {
	Voter Person
	Yes   bool
}

// Tally counts. A no counts in every group that its voter belongs to, a yes
// fills one place. The case is rejected once the groups that are left cannot
// approve it, and approved once all places are filled by as many people.
//
// member is asked anew for each count: who lost a role since voting counts no
// longer. It must be false for whoever may not answer this case.
func (t *Template) Tally(answers []Answer, member func(voter Person, g *Group) bool) Verdict {
	c := count{answers: answers, member: member}
	for i := range t.AllOf {
		if c.denied(&t.AllOf[i]) {
			return Reject
		}
	}
	open := len(t.AnyOf) == 0
	if open && c.filled(t.AllOf) {
		return Approve
	}
	for i := range t.AnyOf {
		if c.denied(&t.AnyOf[i]) {
			continue
		}
		open = true
		if c.filled(append(slices.Clone(t.AllOf), t.AnyOf[i])) {
			return Approve
		}
	}
	if !open {
		return Reject
	}
	return Undecided
}

type count struct {
	answers []Answer
	member  func(voter Person, g *Group) bool
}

func (c *count) denied(g *Group) bool {
	denials := 0
	for _, a := range c.answers {
		if !a.Yes && c.member(a.Voter, g) {
			denials++
		}
	}
	return denials >= g.Denials
}

// filled reports whether every place of the groups can be given to another of
// those who said yes: a matching of places and people, found by augmenting
// paths. There are few of either.
func (c *count) filled(groups []Group) bool {
	place := make(map[Person]int) // voter → group
	var seat func(group int, tried map[Person]bool) bool
	seat = func(group int, tried map[Person]bool) bool {
		for _, a := range c.answers {
			if !a.Yes || tried[a.Voter] || !c.member(a.Voter, &groups[group]) {
				continue
			}
			tried[a.Voter] = true
			if before, seated := place[a.Voter]; !seated || before != group && seat(before, tried) {
				place[a.Voter] = group
				return true
			}
		}
		return false
	}
	for group := range groups {
		for range groups[group].Approvals {
			if !seat(group, map[Person]bool{}) {
				return false
			}
		}
	}
	return true
}
