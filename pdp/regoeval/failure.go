package regoeval

import (
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp"
)

const stoppedMessage = "stopped before it was done: the decision's time is spent"

// failure says why the policy could not be evaluated: what failed, where, and
// in which rule, as far as that can be told.
func (r *run) failure(policy *pdp.Policy, err error) *pdp.EvaluationError {
	e := &pdp.EvaluationError{Cause: pdp.CausePolicyError, File: policy.File, Line: 1, Message: err.Error()}
	if r.ctx.Err() != nil || topdown.IsCancel(err) {
		e.Cause, e.Message = pdp.CauseBudgetSpent, stoppedMessage
		return e
	}
	var entry *entryError
	if errors.As(err, &entry) && entry.rule != nil {
		e.Rule, e.Line = entry.rule.ID, entry.rule.Line
	}
	var failed *topdown.Error
	if errors.As(err, &failed) {
		e.Message = failed.Message
		if failed.Location != nil {
			e.File, e.Line = failed.Location.File, failed.Location.Row
		}
		e.Rule = r.program.ruleOf(policy, failed)
	}
	return e
}

// ruleOf returns the id of the rule whose body was being evaluated when the
// error arose, also where it arose in a helper that the body had called.
func (p *Program) ruleOf(policy *pdp.Policy, failed *topdown.Error) string {
	slot := policy.Slot()
	if slot >= len(p.entries) {
		return ""
	}
	m := p.entries[slot].module
	if id := m.ruleAt(failed.Location); id != "" {
		return id
	}
	for _, frame := range failed.StackTrace { // innermost first
		if id := m.ruleAt(frame.Location); id != "" {
			return id
		}
	}
	return ""
}

// ruleAt returns the id of the body that the location lies in, "" for a helper.
func (m *module) ruleAt(location *ast.Location) string {
	if location == nil || location.File != m.file {
		return ""
	}
	for _, rule := range m.parsed.Rules {
		at := rule.Location
		if at.Offset <= location.Offset && location.Offset < at.Offset+len(at.Text) {
			return m.ids[positionOf(at)]
		}
	}
	return ""
}
