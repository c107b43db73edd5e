package pdp

import (
	"context"
	"slices"
)

// Coverage counts what evaluations on its release reach, for test cases. It is
// not safe for concurrent use.
type Coverage struct {
	// Release answers like the one it was made from, and counts. Its policies
	// are the same values.
	Release *Release
	// Branches are those of all programs that can tell them.
	Branches []Branch

	outcomes []Outcome
}

// NewCoverage returns a coverage of r with no hits.
func NewCoverage(r *Release) *Coverage {
	counting := *r
	counting.programs = slices.Clone(r.programs)
	c := &Coverage{Release: &counting}
	for i, program := range r.programs {
		first := len(c.Branches)
		if coverable, ok := program.(Coverable); ok {
			c.Branches = append(c.Branches, coverable.Branches()...)
		}
		counting.programs[i] = counted{program, c, first, len(c.Branches)}
	}
	return c
}

// Take returns the outcomes of the evaluations since the last Take: one for
// each policy that an evaluator was asked for.
func (c *Coverage) Take() []Outcome {
	taken := c.outcomes
	c.outcomes = nil
	return taken
}

// Add counts hits that were had elsewhere, in unit tests say: of the program at
// that index of [Release.Programs], indexed as its Branches are.
func (c *Coverage) Add(program int, hits []int) {
	first := c.Release.programs[program].(counted).first // as NewCoverage made it
	for i, n := range hits {
		c.Branches[first+i].Hits += n
	}
}

// counted is a program whose evaluations count. Its branches are those from
// first up to end.
type counted struct {
	Program
	coverage   *Coverage
	first, end int
}

func (p counted) Evaluate(ctx context.Context, in *Input, policies []*Policy, out []Outcome) []Outcome {
	before := len(out)
	if coverable, ok := p.Program.(Coverable); ok {
		hits := make([]int, p.end-p.first)
		out = append(out, coverable.Cover(ctx, in, policies, hits)...)
		for i, n := range hits {
			p.coverage.Branches[p.first+i].Hits += n
		}
	} else {
		out = p.Program.Evaluate(ctx, in, policies, out)
	}
	for _, o := range out[before:] { // whose lists are another question's afterwards
		o.Findings, o.Obligations, o.Limits, o.Routes = slices.Clone(o.Findings), slices.Clone(o.Obligations), slices.Clone(o.Limits), slices.Clone(o.Routes)
		p.coverage.outcomes = append(p.coverage.outcomes, o)
	}
	return out
}
