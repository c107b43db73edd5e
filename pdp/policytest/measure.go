package policytest

import (
	"cmp"
	"slices"
	"strings"
)

// measure fills in the coverage of the selected policies and libraries.
func (r *runner) measure(only []string) {
	type key struct{ policy, rule string }
	rows := map[key]*RuleCoverage{}
	var order []*RuleCoverage
	row := func(policy, rule, file string, line int) *RuleCoverage {
		k := key{policy, rule}
		if rows[k] == nil {
			rows[k] = &RuleCoverage{Policy: policy, Rule: rule, File: file, Line: line}
			order = append(order, rows[k])
		}
		return rows[k]
	}
	for _, p := range r.release.Policies() {
		if !selected(only, p.File, p.ID) {
			continue
		}
		for _, rule := range p.Rules {
			row(p.ID, rule.ID, rule.File, rule.Line).Cases = r.spoke[rule]
		}
	}
	for _, b := range r.coverage.Branches {
		if !selected(only, b.File, b.Policy) {
			continue
		}
		of := row(b.Policy, b.Rule, b.File, b.Line)
		of.Branches++
		if b.Hits > 0 {
			of.Reached++
			continue
		}
		r.report.Uncovered = append(r.report.Uncovered, Uncovered{File: b.File, Line: b.Line, Policy: b.Policy, Rule: b.Rule, What: b.What})
	}
	for _, c := range order {
		r.report.Coverage = append(r.report.Coverage, *c)
		if c.Rule != "" && c.Cases == 0 && c.Reached == c.Branches { // else a branch says it
			r.report.Uncovered = append(r.report.Uncovered, Uncovered{File: c.File, Line: c.Line, Policy: c.Policy, Rule: c.Rule, What: "rule"})
		}
	}
	slices.SortStableFunc(r.report.Coverage, func(a, b RuleCoverage) int { return strings.Compare(a.Policy, b.Policy) })
	slices.SortStableFunc(r.report.Uncovered, func(a, b Uncovered) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}
