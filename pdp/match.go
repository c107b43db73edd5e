package pdp

import (
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// matcher finds the policies whose scope takes a request. Its cost follows the
// policies that can apply, not those that exist.
type matcher struct {
	platform scopeIndex
	self     scopeIndex
	tenants  map[string]*scopeIndex
}

// candidate is one policy and the program that evaluates it.
type candidate struct {
	policy  *Policy
	program int
}

// scopeIndex holds the policies of one layer by action pattern. Positions in
// byAction and byPrefix point into all, which is sorted by policy id.
type scopeIndex struct {
	all      []candidate
	byAction map[string][]int
	byPrefix map[string][]int
	lengths  []int // of the prefixes, ascending
}

func newMatcher(candidates []candidate) *matcher {
	slices.SortFunc(candidates, func(a, b candidate) int { return strings.Compare(a.policy.ID, b.policy.ID) })
	m := &matcher{tenants: map[string]*scopeIndex{}}
	for _, c := range candidates {
		switch c.policy.Layer {
		case LayerPlatform:
			m.platform.add(c)
		case LayerSelf:
			m.self.add(c)
		case LayerTenant:
			index, ok := m.tenants[c.policy.Tenant]
			if !ok {
				index = &scopeIndex{}
				m.tenants[c.policy.Tenant] = index
			}
			index.add(c)
		}
	}
	return m
}

func (x *scopeIndex) add(c candidate) {
	if x.byAction == nil {
		x.byAction, x.byPrefix = map[string][]int{}, map[string][]int{}
	}
	at := len(x.all)
	x.all = append(x.all, c)
	patterns := c.policy.Scope.Actions
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	for _, pattern := range patterns {
		prefix, isPrefix := strings.CutSuffix(pattern, "*")
		if !isPrefix {
			x.byAction[pattern] = append(x.byAction[pattern], at)
			continue
		}
		if _, known := x.byPrefix[prefix]; !known {
			if i, found := slices.BinarySearch(x.lengths, len(prefix)); !found {
				x.lengths = slices.Insert(x.lengths, i, len(prefix))
			}
		}
		x.byPrefix[prefix] = append(x.byPrefix[prefix], at)
	}
}

// matched is what applies to one request: per program its policies, in order
// of policy id.
type matched []group

type group struct {
	program  Program
	policies []*Policy
}

// match finds what applies to a request: policies of the platform and of the
// tenant, and the tenant's live restrictions.
func (s *Snapshot) match(req *authz.Request, now time.Time) matched {
	return s.matchInto(s.Release.groups(), req, now)
}

// matchInto is match into the groups of the release's programs.
func (s *Snapshot) matchInto(m matched, req *authz.Request, now time.Time) matched {
	system := businessSystem(req)
	s.Release.match.platform.match(req, system, m)
	if index, ok := s.Release.match.tenants[req.Tenant]; ok {
		index.match(req, system, m)
	}
	for _, r := range s.Dynamic.restrictionsFor(req.Tenant, now) {
		m = append(m, group{r.Program, r.Program.Policies()})
	}
	return m
}

func (r *Release) groups() matched {
	m := make(matched, len(r.programs))
	for i, program := range r.programs {
		m[i].program = program
	}
	return m
}

// staleBound is the shortest stale bound of the applicable policies.
func (m matched) staleBound(byDefault time.Duration) time.Duration {
	var shortest time.Duration
	for p := range m.policies {
		bound := p.StaleBound
		if bound == 0 {
			bound = byDefault
		}
		if shortest == 0 || bound < shortest {
			shortest = bound
		}
	}
	if shortest == 0 {
		return byDefault
	}
	return shortest
}

// policies visits every applicable policy.
func (m matched) policies(yield func(*Policy) bool) {
	for _, g := range m {
		for _, p := range g.policies {
			if !yield(p) {
				return
			}
		}
	}
}

// strict reports whether any applicable policy asks for a durable record.
func (m matched) strict() bool {
	for p := range m.policies {
		if p.Audit == Strict {
			return true
		}
	}
	return false
}

// match appends the applicable policies of one layer to their groups.
func (x *scopeIndex) match(req *authz.Request, system string, out matched) {
	if len(x.all) == 0 {
		return
	}
	var buf [64]int
	found := append(buf[:0], x.byAction[req.Action.Name]...)
	for _, n := range x.lengths {
		if n > len(req.Action.Name) {
			break
		}
		found = append(found, x.byPrefix[req.Action.Name[:n]]...)
	}
	slices.Sort(found)
	for i, at := range found {
		if i > 0 && found[i-1] == at {
			continue // two patterns of one policy
		}
		c := x.all[at]
		if c.policy.Scope.takesRest(req.Resource.Type, system) {
			out[c.program].policies = append(out[c.program].policies, c.policy)
		}
	}
}

// businessSystem is the member of context that scopes may name (X8).
func businessSystem(req *authz.Request) string {
	v, _ := req.Context.Get("business_system")
	return v.Text()
}

// takesRest checks what the index does not. A request that names no business
// system is taken by every policy that is scoped to one: leaving the member
// out must not dodge a DENY. Such a policy's ALLOWs do not count (combine.go).
func (s *Scope) takesRest(resourceType, system string) bool {
	if s.BusinessSystem != "" && system != "" && s.BusinessSystem != system {
		return false
	}
	return len(s.ResourceTypes) == 0 || slices.ContainsFunc(s.ResourceTypes, func(pattern string) bool {
		return MatchPattern(pattern, resourceType)
	})
}

// MatchPattern reports whether name is the pattern, or begins with it up to a
// final "*".
func MatchPattern(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// whyNot says which clause of a scope does not take the request, or "".
func (s *Scope) whyNot(req *authz.Request) string {
	takesAction := func(p string) bool { return MatchPattern(p, req.Action.Name) }
	switch {
	case len(s.Actions) > 0 && !slices.ContainsFunc(s.Actions, takesAction):
		return "its scope does not take action " + req.Action.Name
	case !s.takesRest(req.Resource.Type, ""):
		return "its scope does not take resource type " + req.Resource.Type
	case !s.takesRest(req.Resource.Type, businessSystem(req)):
		return "its scope does not take business system " + businessSystem(req)
	default:
		return ""
	}
}
