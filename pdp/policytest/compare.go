package policytest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// answer is what a case is compared with: all of a decision, or one policy's
// part in it.
type answer struct {
	effect      authz.Effect
	reasons     []string
	paths       map[string][]string
	obligations []string
	limits      []string
	routes      []string
}

// answerOf takes one policy's part out of a decision, or everything where
// policy is empty. A decision unites obligations and names one policy for
// each; what one policy says of them stands in its outcome.
func answerOf(policy string, d *authz.Decision, outcomes []pdp.Outcome) answer {
	a := answer{effect: d.Effect, paths: map[string][]string{}}
	for i := range d.Reasons {
		reason := &d.Reasons[i]
		if policy != "" && reason.Policy != policy {
			continue
		}
		name := reason.Rule
		if policy == "" && reason.Policy != "" {
			name = reason.Policy + "/" + reason.Rule
		}
		a.reasons = append(a.reasons, name)
		a.paths[name] = append(a.paths[name], reason.Path)
	}
	if policy == "" {
		a.add(d.Obligations, d.Limits, nil)
		if d.Route != nil {
			a.routes = []string{d.Route.Pool}
		}
		return a
	}
	for i := range outcomes {
		if o := &outcomes[i]; o.Policy.ID == policy {
			a.add(o.Obligations, o.Limits, o.Routes)
		}
	}
	return a
}

func (a *answer) add(obligations []authz.Obligation, limits []authz.Limit, routes []authz.Route) {
	for i := range obligations {
		a.obligations = append(a.obligations, obligations[i].ID)
	}
	for i := range limits {
		a.limits = append(a.limits, limits[i].Key)
	}
	for i := range routes {
		a.routes = append(a.routes, routes[i].Pool)
	}
}

// compare says where the answer is not what the case expects.
func (e *expectation) compare(a answer) []string {
	var differences []string
	differ := func(what string, want, got any) {
		differences = append(differences, fmt.Sprintf("%s: want %v, got %v", what, want, got))
	}
	if e.effect != nil && *e.effect != a.effect {
		differ("effect", *e.effect, a.effect)
	}
	lists := []struct {
		what      string
		want, got []string
	}{
		{"reasons", e.reasons, a.reasons},
		{"obligations", e.obligations, a.obligations},
		{"limits", e.limits, a.limits},
	}
	for _, list := range lists {
		if got := set(list.got); list.want != nil && !slices.Equal(list.want, got) {
			differ(list.what, show(list.want), show(got))
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(e.paths)) {
		if got := set(a.paths[rule]); !slices.Equal(e.paths[rule], got) {
			differ("path of "+rule, show(e.paths[rule]), show(got))
		}
	}
	if e.route != nil {
		want := []string{}
		if *e.route != "" {
			want = []string{*e.route}
		}
		if got := set(a.routes); !slices.Equal(want, got) {
			differ("route", show(want), show(got))
		}
	}
	return differences
}

func show(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
