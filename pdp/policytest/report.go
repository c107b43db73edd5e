package policytest

import (
	"fmt"
	"strings"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Report is what a run found. The zero Report ran nothing.
type Report struct {
	Passed  int        `json:"passed"`  // cases and unit tests that held
	Skipped int        `json:"skipped"` // unit tests that are still to be written
	Failed  []Failure  `json:"failed"`
	Faults  pdp.Faults `json:"faults"` // what could not be run
	// Coverage and Uncovered are empty where the run was not to measure.
	Coverage  []RuleCoverage `json:"coverage"`
	Uncovered []Uncovered    `json:"uncovered"`
}

// NewReport returns a report of nothing, whose JSON has no nulls.
func NewReport() *Report {
	return &Report{Failed: []Failure{}, Faults: pdp.Faults{}, Coverage: []RuleCoverage{}, Uncovered: []Uncovered{}}
}

// Ran is how many cases and unit tests ran.
func (r *Report) Ran() int { return r.Passed + len(r.Failed) }

// OK reports whether every case and every unit test held.
func (r *Report) OK() bool { return len(r.Failed) == 0 && len(r.Faults) == 0 }

// AsFaults returns what stands against publishing the release: faults and
// failures, each with its place.
func (r *Report) AsFaults() pdp.Faults {
	faults := append(pdp.Faults{}, r.Faults...)
	for _, f := range r.Failed {
		faults = append(faults, pdp.Fault{
			File: f.File, Line: f.Line, Policy: f.Policy,
			Message: fmt.Sprintf("test case %q: %s", f.Name, strings.Join(f.Differences, "; ")),
		})
	}
	return faults
}

// Failure is a case or a unit test that did not hold.
type Failure struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Name   string `json:"name"`
	Policy string `json:"policy,omitempty"` // that the case is about
	// Differences say what was expected and what came, one each.
	Differences []string `json:"differences"`
	// Reasons are all of the decision's, whatever the case is about; empty for
	// a unit test and for a request that is refused.
	Reasons []authz.Reason `json:"reasons"`
}

// RuleCoverage is what the run reached of one rule. Rule is empty for the
// branches of a policy, or of a library, that belong to no declared rule.
type RuleCoverage struct {
	Policy   string `json:"policy"`
	Rule     string `json:"rule,omitempty"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Cases    int    `json:"cases"` // in which the rule spoke
	Branches int    `json:"branches"`
	Reached  int    `json:"reached"` // of the branches
}

// Uncovered is a rule or a branch that nothing reached.
type Uncovered struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Policy string `json:"policy"`
	Rule   string `json:"rule,omitempty"`
	What   string `json:"what"` // "rule", "body", "else", "condition true", "condition false"
}

func (u Uncovered) String() string {
	name := u.Policy
	if u.Rule != "" {
		name += "/" + u.Rule
	}
	if u.What == "rule" {
		return fmt.Sprintf("%s:%d: %s: the rule speaks in no case", u.File, u.Line, name)
	}
	return fmt.Sprintf("%s:%d: %s: %s is never reached", u.File, u.Line, name, u.What)
}
