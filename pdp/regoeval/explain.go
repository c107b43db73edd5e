package regoeval

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// explain evaluates the policy once more under a tracer, without rule
// indexing, so that every body is tried, and says of each rule how far it
// came. The answer itself is not taken from here.
func (r *run) explain(policy *pdp.Policy) []pdp.RuleTrace {
	e, err := r.program.entry(policy, r.tenant)
	if err != nil {
		return nil
	}
	t := &tracer{module: e.module, running: map[uint64]*attempt{}, attempts: map[position]*attempt{}}
	_ = guard(func() error { // where it fails, what was traced so far is the explanation
		_, err := r.query(e.query, func(q *topdown.Query) { q.WithIndexing(false).WithQueryTracer(t) })
		return err
	})
	traces := make([]pdp.RuleTrace, 0, len(policy.Rules))
	for _, rule := range policy.Rules {
		traces = append(traces, t.trace(rule))
	}
	return traces
}

// attempt is how far the evaluation of one body came.
type attempt struct {
	rule    *ast.Rule
	matched bool
	reached int       // index of the furthest expression that failed
	failed  *ast.Expr // that expression; nil if none did
}

// tracer follows the bodies of one policy's six sets.
type tracer struct {
	module   *module
	running  map[uint64]*attempt // by query
	attempts map[position]*attempt
}

// Enabled implements topdown.QueryTracer.
func (t *tracer) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (t *tracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (t *tracer) TraceEvent(event topdown.Event) {
	switch node := event.Node.(type) {
	case *ast.Rule:
		at := positionOf(node.Location)
		if node.Location.File != t.module.file || t.module.ids[at] == "" {
			return
		}
		a := t.attempts[at]
		if a == nil {
			a = &attempt{rule: node}
			t.attempts[at] = a
		}
		switch event.Op {
		case topdown.EnterOp:
			t.running[event.QueryID] = a
		case topdown.ExitOp:
			a.matched = true
		}
	case *ast.Expr:
		a := t.running[event.QueryID]
		if a == nil || event.Op != topdown.FailOp {
			return
		}
		if i := slices.Index(a.rule.Body, node); i >= a.reached {
			a.reached, a.failed = i, node
		}
	}
}

// trace sums up the bodies of one rule, in the set in which it is declared.
func (t *tracer) trace(rule *pdp.Rule) pdp.RuleTrace {
	out := pdp.RuleTrace{Rule: rule.ID, Why: fmt.Sprintf("%s:%d: not evaluated", rule.File, rule.Line)}
	var furthest *attempt
	for _, body := range t.module.parsed.Rules {
		at := positionOf(body.Location)
		a := t.attempts[at]
		if kind, _ := setOf(body); a == nil || kind != rule.Kind || t.module.ids[at] != rule.ID {
			continue
		}
		if a.matched {
			out.Matched, out.Why = true, fmt.Sprintf("%s:%d", rule.File, at.row)
			return out
		}
		if a.failed != nil && (furthest == nil || a.reached > furthest.reached) {
			furthest = a
		}
	}
	if furthest != nil {
		location := furthest.failed.Location
		out.Why = fmt.Sprintf("%s:%d: %s", location.File, location.Row, oneLine(location.Text))
	}
	return out
}

// maxExprText is how much of a condition an explanation shows, in bytes.
const maxExprText = 200

// oneLine joins the lines of a piece of source and cuts it to a readable
// length.
func oneLine(source []byte) string {
	s := strings.Join(strings.Fields(string(source)), " ")
	if len(s) > maxExprText {
		s = strings.ToValidUTF8(s[:maxExprText], "") + "…"
	}
	return s
}
