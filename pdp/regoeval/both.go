package regoeval

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// onBoth asks both engines and answers with the stricter outcome of each
// policy. Where they differ it says so.
func (p *Program) onBoth(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	before := len(out)
	out = p.onCompiled(ctx, in, policies, out)
	theirs := p.onTopdown(ctx, in, policies, nil)
	for i, policy := range policies {
		e, err := p.entry(policy, in.Request.Tenant)
		if err != nil || e.program == nil {
			continue // topdown answered both times
		}
		ours := out[before+i]
		p.compiler.watch.compared.Add(1)
		if what := difference(&ours, &theirs[i]); what != "" {
			p.compiler.watch.differ(p, e, in, what)
		}
		out[before+i] = stricter(&ours, &theirs[i])
	}
	return out
}

// stricter joins two answers for one policy so that none of them is weakened:
// an error of either is an error, what denies, asks for review, obliges, limits
// or routes does so if either says it, and what allows must be said by both. A
// REVIEW that admits both closes and opens; one that only one engine found is an
// error.
func stricter(compiled, topdown *pdp.Outcome) pdp.Outcome {
	switch {
	case topdown.Err != nil:
		return *topdown
	case compiled.Err != nil:
		return *compiled
	}
	out := pdp.Outcome{Policy: topdown.Policy}
	ours, theirs := keysOf(compiled.Findings, findingKey), keysOf(topdown.Findings, findingKey)
	for _, f := range union(topdown.Findings, compiled.Findings, findingKey) {
		agreed := ours[findingKey(f)] && theirs[findingKey(f)]
		switch {
		case !agreed && f.Rule.Kind == pdp.KindAllow:
			continue
		case !agreed && f.Rule.Admits:
			return pdp.Outcome{Policy: out.Policy, Err: &pdp.EvaluationError{
				Cause: pdp.CausePolicyError, Rule: f.Rule.ID, File: f.Rule.File, Line: f.Rule.Line, Message: "the Rego engines differ about a rule that admits",
			}}
		}
		out.Findings = append(out.Findings, f)
	}
	out.Obligations = union(topdown.Obligations, compiled.Obligations, obligationKey)
	out.Limits = union(topdown.Limits, compiled.Limits, limitKey)
	out.Routes = union(topdown.Routes, compiled.Routes, routeKey)
	return out
}

func keysOf[T any](all []T, key func(T) string) map[string]bool {
	keys := make(map[string]bool, len(all))
	for _, v := range all {
		keys[key(v)] = true
	}
	return keys
}

// union returns a and what else is in b.
func union[T any](a, b []T, key func(T) string) []T {
	all, known := slices.Clone(a), keysOf(a, key)
	for _, v := range b {
		if !known[key(v)] {
			all = append(all, v)
		}
	}
	return all
}

func findingKey(f pdp.Finding) string {
	return f.Rule.Kind.String() + " " + f.Rule.ID + " " + f.Path + " " + string(f.Args.AppendJSON(nil))
}

func obligationKey(o authz.Obligation) string {
	return fmt.Sprintf("%s %q %t %s", o.Rule, o.ID, o.Must, o.Params.AppendJSON(nil))
}

func limitKey(l authz.Limit) string {
	quota := authz.Quota{}
	if l.Quota != nil {
		quota = *l.Quota
	}
	return fmt.Sprintf("%s %q %v %d %q %d %t %+v", l.Rule, l.Key, l.Rate, l.Burst, l.Window, l.Cost, l.Quota != nil, quota)
}

func routeKey(r authz.Route) string { return fmt.Sprintf("%s %q %q", r.Rule, r.Pool, r.Standby) }

// difference says in what two answers differ, by rules alone; "" where they do
// not. That only one of them met the end of its time is none: it is chance.
func difference(compiled, topdown *pdp.Outcome) string {
	if compiled.Err != nil || topdown.Err != nil {
		a, b := cause(compiled), cause(topdown)
		if a == b || a == pdp.CauseBudgetSpent || b == pdp.CauseBudgetSpent {
			return ""
		}
		return fmt.Sprintf("compiled: %s; topdown: %s", a, b)
	}
	type count struct{ compiled, topdown int }
	keys := map[string]*count{}
	rules := map[string]string{}
	note := func(o *pdp.Outcome, add func(*count)) {
		each := func(set, rule, key string) {
			key = set + " " + key
			if keys[key] == nil {
				keys[key], rules[key] = &count{}, set+" "+rule
			}
			add(keys[key])
		}
		for _, f := range o.Findings {
			each(f.Rule.Kind.String(), f.Rule.ID, findingKey(f))
		}
		for _, v := range o.Obligations {
			each("obligations", v.Rule, obligationKey(v))
		}
		for _, v := range o.Limits {
			each("limits", v.Rule, limitKey(v))
		}
		for _, v := range o.Routes {
			each("route", v.Rule, routeKey(v))
		}
	}
	note(compiled, func(c *count) { c.compiled++ })
	note(topdown, func(c *count) { c.topdown++ })
	only := map[string]count{} // by rule
	for key, c := range keys {
		if c.compiled == c.topdown {
			continue
		}
		sum := only[rules[key]]
		only[rules[key]] = count{sum.compiled + max(0, c.compiled-c.topdown), sum.topdown + max(0, c.topdown-c.compiled)}
	}
	var said []string
	for _, rule := range slices.Sorted(maps.Keys(only)) {
		said = append(said, fmt.Sprintf("%s: %d only compiled, %d only topdown", rule, only[rule].compiled, only[rule].topdown))
	}
	return strings.Join(said, "; ")
}

// cause is "no error" where there is none.
func cause(o *pdp.Outcome) pdp.Cause {
	if o.Err == nil {
		return "no error"
	}
	return o.Err.Cause
}
