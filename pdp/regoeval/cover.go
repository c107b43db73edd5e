package regoeval

import (
	"context"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp"
)

var _ pdp.Coverable = (*Program)(nil)

// addBranches lists the bodies of a module.
func (p *Program) addBranches(m *module) {
	bodies(m.parsed, func(rule *ast.Rule, isElse bool) {
		b := pdp.Branch{Policy: m.id, Rule: m.ids[positionOf(rule.Location)], File: m.file, Line: rule.Location.Row, What: "body"}
		if isElse {
			b.What = "else"
		}
		p.branchAt[placeOf(rule.Location)] = len(p.branches)
		p.branches = append(p.branches, b)
	})
}

// Branches implements [pdp.Coverable]: every body and every else of every
// policy and library, but no default rule.
func (p *Program) Branches() []pdp.Branch { return slices.Clone(p.branches) }

// Cover implements [pdp.Coverable]. A body is hit when it succeeds.
func (p *Program) Cover(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, hits []int) []pdp.Outcome {
	r := p.newRun(ctx, in)
	defer r.close()
	out := make([]pdp.Outcome, 0, len(policies))
	for _, policy := range policies {
		out = append(out, r.alone(policy, func(q *topdown.Query) { q.WithQueryTracer(counter{p.branchAt, hits}) }))
	}
	return out
}

// counter counts the bodies that succeed.
type counter struct {
	branchAt map[place]int
	hits     []int
}

// Enabled implements topdown.QueryTracer.
func (counter) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (counter) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (c counter) TraceEvent(event topdown.Event) {
	if rule, ok := event.Node.(*ast.Rule); ok && event.Op == topdown.ExitOp {
		if i, ok := c.branchAt[placeOf(rule.Location)]; ok {
			c.hits[i]++
		}
	}
}
