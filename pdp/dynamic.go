package pdp

import (
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Dynamic is the index of grants and restrictions beside the compiled
// policies. It is immutable: [Dynamic.With] returns a changed copy, so minting
// and revoking compile no policy and stop no decision, and cost little however
// much there is. The zero value is empty.
type Dynamic struct {
	tenants index[string, *tenantDynamic]
}

type tenantDynamic struct {
	grants    index[string, *authz.Grant]   // by id
	byRequest index[string, []*authz.Grant] // by request digest, in order of id
	rules     index[string, int]            // how many grants name the rule
	// restrictions are in order of id.
	restrictions []CompiledRestriction
	swept        int // the part of grants that was last searched for ended ones
}

// CompiledRestriction is a restriction with the program of its conditions,
// which holds exactly one policy.
type CompiledRestriction struct {
	Restriction *authz.Restriction
	Program     Program
}

// DynamicChange puts grants and restrictions, whole, by id.
type DynamicChange struct {
	Grants       []*authz.Grant
	Restrictions []CompiledRestriction
}

// With returns the index with the changes made. What has ended by now is left
// out bit by bit, so the index does not grow with history.
func (d *Dynamic) With(change DynamicChange, now time.Time) *Dynamic {
	if len(change.Grants)+len(change.Restrictions) == 0 {
		return d
	}
	edits := map[string]*tenantEdit{}
	of := func(tenant string) *tenantEdit {
		e, ok := edits[tenant]
		if !ok {
			before, _ := d.tenants.get(tenant)
			e = before.edit(now)
			edits[tenant] = e
		}
		return e
	}
	for _, g := range change.Grants {
		of(g.Tenant).putGrant(g)
	}
	for _, r := range change.Restrictions {
		of(r.Restriction.Tenant).putRestriction(r)
	}
	tenants := d.tenants.edit()
	for tenant, e := range edits {
		if t := e.done(); t.grants.count > 0 || len(t.restrictions) > 0 {
			tenants.put(tenant, t)
		} else {
			tenants.remove(tenant)
		}
	}
	return &Dynamic{tenants.index}
}

// tenantEdit is a changed copy of one tenant's under way.
type tenantEdit struct {
	now          time.Time
	grants       *edit[string, *authz.Grant]
	byRequest    *edit[string, []*authz.Grant]
	rules        *edit[string, int]
	restrictions []CompiledRestriction
	swept        int
}

func (t *tenantDynamic) edit(now time.Time) *tenantEdit {
	if t == nil {
		t = &tenantDynamic{}
	}
	return &tenantEdit{now, t.grants.edit(), t.byRequest.edit(), t.rules.edit(), slices.Clone(t.restrictions), t.swept}
}

func (e *tenantEdit) done() *tenantDynamic {
	e.sweep()
	e.restrictions = slices.DeleteFunc(e.restrictions, func(r CompiledRestriction) bool {
		return r.Restriction.Ended != nil || !e.now.Before(r.Restriction.Validity.End)
	})
	return &tenantDynamic{e.grants.index, e.byRequest.index, e.rules.index, e.restrictions, e.swept}
}

// sweep drops what is over in one part of the grants.
func (e *tenantEdit) sweep() {
	e.swept = (e.swept + 1) % len(e.grants.parts)
	var over []*authz.Grant
	for _, g := range e.grants.parts[e.swept] {
		if e.over(g) {
			over = append(over, g)
		}
	}
	for _, g := range over {
		e.removeGrant(g.ID)
	}
}

func (e *tenantEdit) over(g *authz.Grant) bool {
	return g.Ended != nil || !e.now.Before(g.Validity.End)
}

func (e *tenantEdit) putGrant(g *authz.Grant) {
	e.removeGrant(g.ID)
	if e.over(g) {
		return
	}
	e.grants.put(g.ID, g)
	for _, request := range g.Requests {
		list, _ := e.byRequest.get(request)
		at, _ := slices.BinarySearchFunc(list, g.ID, func(other *authz.Grant, id string) int { return strings.Compare(other.ID, id) })
		e.byRequest.put(request, slices.Insert(slices.Clone(list), at, g))
	}
	for _, ref := range slices.Concat(g.Satisfies, g.Waives) {
		n, _ := e.rules.get(ref.Rule)
		e.rules.put(ref.Rule, n+1)
	}
}

func (e *tenantEdit) removeGrant(id string) {
	g, ok := e.grants.get(id)
	if !ok {
		return
	}
	e.grants.remove(id)
	for _, request := range g.Requests {
		list, _ := e.byRequest.get(request)
		left := slices.DeleteFunc(slices.Clone(list), func(other *authz.Grant) bool { return other == g })
		if len(left) > 0 {
			e.byRequest.put(request, left)
		} else {
			e.byRequest.remove(request)
		}
	}
	for _, ref := range slices.Concat(g.Satisfies, g.Waives) {
		if n, _ := e.rules.get(ref.Rule); n > 1 {
			e.rules.put(ref.Rule, n-1)
		} else {
			e.rules.remove(ref.Rule)
		}
	}
}

func (e *tenantEdit) putRestriction(r CompiledRestriction) {
	at, found := slices.BinarySearchFunc(e.restrictions, r.Restriction.ID, func(other CompiledRestriction, id string) int {
		return strings.Compare(other.Restriction.ID, id)
	})
	if found {
		e.restrictions[at] = r
	} else {
		e.restrictions = slices.Insert(e.restrictions, at, r)
	}
}

func (d *Dynamic) tenant(id string) *tenantDynamic {
	if d == nil {
		return nil
	}
	t, _ := d.tenants.get(id)
	return t
}

// hasGrants reports whether the tenant has any.
func (d *Dynamic) hasGrants(tenant string) bool {
	t := d.tenant(tenant)
	return t != nil && t.grants.count > 0
}

// names reports whether any of the tenant's grants names the rule.
func (d *Dynamic) names(tenant, rule string) bool {
	t := d.tenant(tenant)
	if t == nil {
		return false
	}
	_, ok := t.rules.get(rule)
	return ok
}

// grantsFor returns the tenant's grants that are bound to the request, by id.
func (d *Dynamic) grantsFor(tenant string, request bundles.Digest) []*authz.Grant {
	t := d.tenant(tenant)
	if t == nil {
		return nil
	}
	grants, _ := t.byRequest.get(request.String())
	return grants
}

// restrictionsFor returns the tenant's live restrictions, by id.
func (d *Dynamic) restrictionsFor(tenant string, now time.Time) []CompiledRestriction {
	t := d.tenant(tenant)
	if t == nil {
		return nil
	}
	var live []CompiledRestriction
	for _, r := range t.restrictions {
		if r.Restriction.Live(now) {
			live = append(live, r)
		}
	}
	return live
}

// Rule finds a rule of a live restriction by its full name,
// "dynamic/<restriction>/<rule>".
func (d *Dynamic) Rule(name string, now time.Time) (*Rule, *authz.Restriction, bool) {
	if d == nil {
		return nil, nil, false
	}
	id, rest, _ := strings.Cut(strings.TrimPrefix(name, "dynamic/"), "/")
	for _, t := range d.tenants.all() {
		for _, r := range t.restrictions {
			if r.Restriction.ID != id || !r.Restriction.Live(now) {
				continue
			}
			for _, p := range r.Program.Policies() {
				if rule, ok := p.Rule(rest); ok && p.ID+"/"+rest == name {
					return rule, r.Restriction, true
				}
			}
		}
	}
	return nil, nil, false
}

// covers reports whether the grant opens this rule, as it is now, for this
// request. refs is Satisfies for a REVIEW and Waives for a DENY.
func covers(refs []authz.RuleRef, rule string, digest bundles.Digest) bool {
	return slices.Contains(refs, authz.RuleRef{Rule: rule, Digest: digest.String()})
}
