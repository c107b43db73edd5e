package pdp

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Dynamic is the index of grants and restrictions beside the compiled
// policies. It is immutable: [Dynamic.With] returns a changed copy, so minting
// and revoking compile no policy and stop no decision. The zero value is empty.
type Dynamic struct {
	tenants map[string]*tenantDynamic
}

type tenantDynamic struct {
	grants       map[string]*authz.Grant // by id
	byRule       map[string][]*authz.Grant
	restrictions map[string]CompiledRestriction // by id
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
// out, so the index does not grow with history.
func (d *Dynamic) With(change DynamicChange, now time.Time) *Dynamic {
	next := &Dynamic{tenants: maps.Clone(d.tenants)}
	if next.tenants == nil {
		next.tenants = map[string]*tenantDynamic{}
	}
	copied := map[string]*tenantDynamic{}
	of := func(tenant string) *tenantDynamic {
		t, ok := copied[tenant]
		if !ok {
			t = next.tenants[tenant].clone()
			copied[tenant], next.tenants[tenant] = t, t
		}
		return t
	}
	for _, g := range change.Grants {
		of(g.Tenant).grants[g.ID] = g
	}
	for _, r := range change.Restrictions {
		of(r.Restriction.Tenant).restrictions[r.Restriction.ID] = r
	}
	for tenant, t := range copied {
		t.settle(now)
		if len(t.grants) == 0 && len(t.restrictions) == 0 {
			delete(next.tenants, tenant)
		}
	}
	return next
}

func (t *tenantDynamic) clone() *tenantDynamic {
	if t == nil {
		return &tenantDynamic{grants: map[string]*authz.Grant{}, restrictions: map[string]CompiledRestriction{}}
	}
	return &tenantDynamic{grants: maps.Clone(t.grants), restrictions: maps.Clone(t.restrictions)}
}

// settle drops what is over and rebuilds the index by rule.
func (t *tenantDynamic) settle(now time.Time) {
	maps.DeleteFunc(t.grants, func(_ string, g *authz.Grant) bool { return g.Ended != nil || !now.Before(g.Validity.End) })
	maps.DeleteFunc(t.restrictions, func(_ string, r CompiledRestriction) bool {
		return r.Restriction.Ended != nil || !now.Before(r.Restriction.Validity.End)
	})
	t.byRule = map[string][]*authz.Grant{}
	for _, id := range slices.Sorted(maps.Keys(t.grants)) {
		g := t.grants[id]
		for _, ref := range slices.Concat(g.Satisfies, g.Waives) {
			t.byRule[ref.Rule] = append(t.byRule[ref.Rule], g)
		}
	}
}

// grantsFor returns the tenant's grants that name the rule, by id.
func (d *Dynamic) grantsFor(tenant, rule string) []*authz.Grant {
	if d == nil || d.tenants[tenant] == nil {
		return nil
	}
	return d.tenants[tenant].byRule[rule]
}

// restrictionsFor returns the tenant's live restrictions, by id.
func (d *Dynamic) restrictionsFor(tenant string, now time.Time) []CompiledRestriction {
	if d == nil || d.tenants[tenant] == nil {
		return nil
	}
	var live []CompiledRestriction
	all := d.tenants[tenant].restrictions
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if all[id].Restriction.Live(now) {
			live = append(live, all[id])
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
	for _, t := range d.tenants {
		r, ok := t.restrictions[id]
		if !ok || !r.Restriction.Live(now) {
			continue
		}
		for _, p := range r.Program.Policies() {
			if rule, ok := p.Rule(rest); ok && p.ID+"/"+rest == name {
				return rule, r.Restriction, true
			}
		}
	}
	return nil, nil, false
}

// Grants lists every grant in the index, for the check that a new release does
// to end those whose rules changed.
func (d *Dynamic) Grants() []*authz.Grant {
	var all []*authz.Grant
	for _, tenant := range slices.Sorted(maps.Keys(d.tenants)) {
		t := d.tenants[tenant]
		for _, id := range slices.Sorted(maps.Keys(t.grants)) {
			all = append(all, t.grants[id])
		}
	}
	return all
}

// covers reports whether the grant opens this rule, as it is now, for this
// request. refs is Satisfies for a REVIEW and Waives for a DENY.
func covers(refs []authz.RuleRef, rule string, digest bundles.Digest) bool {
	return slices.Contains(refs, authz.RuleRef{Rule: rule, Digest: digest.String()})
}
