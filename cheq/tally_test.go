package cheq

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// of is a person of the tenant of these tests.
func of(name string) Person { return Person{"acme", name} }

func TestVotesAreCounted(t *testing.T) {
	yes := func(names ...string) (all []Answer) {
		for _, n := range names {
			all = append(all, Answer{of(n), true})
		}
		return all
	}
	no := func(names ...string) (all []Answer) {
		for _, n := range names {
			all = append(all, Answer{of(n), false})
		}
		return all
	}
	network := Group{Name: "network", Approvals: 1, Denials: 1}
	security := Group{Name: "security", Approvals: 1, Denials: 1}
	two := Group{Name: "security", Approvals: 2, Denials: 2}
	members := map[string][]string{"network": {"ann", "both"}, "security": {"bob", "eve", "both"}}
	for _, row := range []struct {
		name    string
		of      Template
		answers []Answer
		want    Verdict
	}{
		{"nobody", Template{AllOf: []Group{network}}, nil, Undecided},
		{"one of one", Template{AllOf: []Group{network}}, yes("ann"), Approve},
		{"a stranger", Template{AllOf: []Group{network}}, yes("bob"), Undecided},
		{"a stranger's no", Template{AllOf: []Group{network}}, no("bob"), Undecided},
		{"one of two groups", Template{AllOf: []Group{network, security}}, yes("ann"), Undecided},
		{"both groups", Template{AllOf: []Group{network, security}}, yes("ann", "bob"), Approve},
		{"one person for two groups", Template{AllOf: []Group{network, security}}, yes("both"), Undecided},
		{"a member of both makes room", Template{AllOf: []Group{network, security}}, yes("both", "ann"), Approve},
		{"and the other way round", Template{AllOf: []Group{network, security}}, yes("both", "bob"), Approve},
		{"two of three", Template{AllOf: []Group{two}}, yes("bob", "eve"), Approve},
		{"one of two who are needed", Template{AllOf: []Group{two}}, yes("bob"), Undecided},
		{"one no where two end it", Template{AllOf: []Group{two}}, append(no("bob"), yes("eve", "both")...), Approve},
		{"two noes", Template{AllOf: []Group{two}}, append(no("bob", "eve"), yes("both")...), Reject},
		{"a no in one of two groups", Template{AllOf: []Group{network, security}}, append(no("ann"), yes("bob")...), Reject},
		{"any group", Template{AnyOf: []Group{network, two}}, yes("ann"), Approve},
		{"the other of any", Template{AnyOf: []Group{network, security}}, append(no("ann"), yes("bob")...), Approve},
		{"none of any is left", Template{AnyOf: []Group{network, security}}, no("ann", "bob"), Reject},
		{"all and any by one person", Template{AllOf: []Group{network}, AnyOf: []Group{security}}, yes("both"), Undecided},
		{"all and any", Template{AllOf: []Group{network}, AnyOf: []Group{security}}, yes("both", "eve"), Approve},
	} {
		member := func(voter Person, g *Group) bool { return slices.Contains(members[g.Name], voter.Name) }
		if got := row.of.Tally(row.answers, member); got != row.want {
			t.Errorf("%s: got %d, want %d", row.name, got, row.want)
		}
	}
}

// random draws a template and who is in which group.
func random(t *rapid.T) (Template, []Answer, func(Person, *Group) bool) {
	group := rapid.Custom(func(t *rapid.T) Group {
		return Group{
			Name:      rapid.StringMatching(`[a-f]`).Draw(t, "name"),
			Approvals: rapid.IntRange(1, 3).Draw(t, "approvals"), Denials: rapid.IntRange(1, 3).Draw(t, "denials"),
		}
	})
	byName := func(g Group) string { return g.Name }
	all := rapid.SliceOfNDistinct(group, 1, 4, byName).Draw(t, "groups")
	cut := rapid.IntRange(0, len(all)).Draw(t, "all of")
	tmpl := Template{AllOf: all[:cut], AnyOf: all[cut:]}
	in := map[string]bool{}
	var answers []Answer
	for _, voter := range []string{"p", "q", "r", "s", "u"} {
		for _, g := range all {
			in[voter+g.Name] = rapid.Bool().Draw(t, voter+" in "+g.Name)
		}
		switch rapid.IntRange(0, 3).Draw(t, voter) {
		case 0:
			answers = append(answers, Answer{of(voter), false})
		case 1, 2:
			answers = append(answers, Answer{of(voter), true})
		}
	}
	return tmpl, answers, func(voter Person, g *Group) bool { return in[voter.Name+g.Name] }
}

// filledByTrying gives the places of the groups to people in every possible way.
func filledByTrying(groups []Group, answers []Answer, member func(Person, *Group) bool) bool {
	var places []*Group
	for i := range groups {
		for range groups[i].Approvals {
			places = append(places, &groups[i])
		}
	}
	used := map[Person]bool{}
	var try func(int) bool
	try = func(n int) bool {
		if n == len(places) {
			return true
		}
		for _, a := range answers {
			if a.Yes && !used[a.Voter] && member(a.Voter, places[n]) {
				used[a.Voter] = true
				if try(n + 1) {
					return true
				}
				used[a.Voter] = false
			}
		}
		return false
	}
	return try(0)
}

func TestQuorumNeedsDistinctApprovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tmpl, answers, member := random(t)
		denied := func(g *Group) bool {
			n := 0
			for _, a := range answers {
				if !a.Yes && member(a.Voter, g) {
					n++
				}
			}
			return n >= g.Denials
		}
		var candidates [][]Group // of groups that would do
		switch {
		case slices.ContainsFunc(tmpl.AllOf, func(g Group) bool { return denied(&g) }):
		case len(tmpl.AnyOf) == 0:
			candidates = append(candidates, tmpl.AllOf)
		default:
			for _, g := range tmpl.AnyOf {
				if !denied(&g) {
					candidates = append(candidates, append(slices.Clone(tmpl.AllOf), g))
				}
			}
		}
		want := Undecided
		if len(candidates) == 0 {
			want = Reject
		}
		for _, groups := range candidates {
			if filledByTrying(groups, answers, member) {
				want = Approve
			}
		}
		if got := tmpl.Tally(answers, member); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	})
}

func TestOneMoreNoOrOneMemberLessNeverApproves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tmpl, answers, member := random(t)
		if tmpl.Tally(answers, member) == Approve || len(answers) == 0 {
			return
		}
		i := rapid.IntRange(0, len(answers)-1).Draw(t, "who")
		changed := slices.Clone(answers)
		changed[i].Yes = false
		without := func(voter Person, g *Group) bool { return voter != answers[i].Voter && member(voter, g) }
		if tmpl.Tally(changed, member) == Approve {
			t.Error("a no where a yes was approves")
		}
		if answers[i].Yes && tmpl.Tally(answers, without) == Approve {
			t.Error("one member less approves")
		}
	})
}
