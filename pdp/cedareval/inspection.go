package cedareval

import (
	"context"
	"fmt"
	"slices"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// failure is the evaluation error of a statement.
func (s *statement) failure(line int, err error) pdp.EvaluationError {
	return pdp.EvaluationError{Cause: pdp.CausePolicyError, Rule: s.rule.ID, Line: line, Message: err.Error()}
}

// locate finds the condition at which the statement failed.
func (s *statement) locate(env *environment, message string) pdp.EvaluationError {
	for _, c := range s.conditions {
		if _, err := env.test(c.body); err != nil {
			return s.failure(c.line, err)
		}
	}
	return pdp.EvaluationError{Cause: pdp.CausePolicyError, Rule: s.rule.ID, Line: s.rule.Line, Message: message}
}

// inspect goes through every statement of the policies asked, one condition at
// a time, for explanations and for coverage.
func (e *evaluation) inspect(schema *Schema) {
	var shared *environment
	if e.parties.principal.uid != e.parties.resource.uid {
		shared = e.environment(schema)
	}
	for i := range e.outcomes {
		o := &e.outcomes[i]
		slot := o.Policy.Slot()
		if slot >= len(e.at) || e.at[slot] == 0 || !slices.Contains(e.here, e.program.policies[slot].unit) {
			continue
		}
		p := e.program.policies[slot]
		env := shared
		if env == nil {
			env = e.environmentFor(schema, p)
		}
		for _, s := range p.statements {
			trace := pdp.RuleTrace{Rule: s.rule.ID}
			if o.Err != nil && o.Err.Rule == "" { // the policy was not evaluated at all
				trace.Why = fmt.Sprintf("%s:%d: %s", p.File, o.Err.Line, o.Err.Message)
			} else {
				trace.Matched, trace.Why = e.walk(s, env)
			}
			if e.in.Explain {
				o.Traces = append(o.Traces, trace)
			}
		}
	}
}

// walk says whether the statement matched, and where or why not, and counts
// the outcomes of its conditions.
func (e *evaluation) walk(s *statement, env *environment) (matched bool, why string) {
	at := func(line int, format string, args ...any) string {
		return fmt.Sprintf("%s:%d: ", s.policy.File, line) + fmt.Sprintf(format, args...)
	}
	if part := s.scope.unmet(&e.parties); part >= 0 {
		clause := s.scopeText[part]
		return false, at(clause.line, "%s does not hold", clause.text)
	}
	if len(s.conditions) == 0 {
		e.hit(s.branch)
	}
	for i, c := range s.conditions {
		if e.ctx.Err() != nil {
			return false, at(c.line, "the time for this decision was over")
		}
		holds, err := env.test(c.body)
		if err != nil {
			return false, at(c.line, "%v, in: %s", err, c.text)
		}
		if holds {
			e.hit(s.branch + 2*i)
		} else {
			e.hit(s.branch + 2*i + 1)
		}
		if holds && c.unless {
			return false, at(c.line, "unless %s: it is true", c.text)
		}
		if !holds && !c.unless {
			return false, at(c.line, "when %s: it is false", c.text)
		}
	}
	return true, fmt.Sprintf("%s:%d", s.policy.File, s.rule.Line)
}

func (e *evaluation) hit(branch int) {
	if e.hits != nil {
		e.hits[branch]++
	}
}

// branches are the two outcomes of each condition, in order, or the body of a
// statement without conditions.
func (s *statement) branches() []pdp.Branch {
	if len(s.conditions) == 0 {
		return []pdp.Branch{s.branchAt(s.rule.Line, "body")}
	}
	var found []pdp.Branch
	for _, c := range s.conditions {
		found = append(found, s.branchAt(c.line, "condition true"), s.branchAt(c.line, "condition false"))
	}
	return found
}

func (s *statement) branchAt(line int, what string) pdp.Branch {
	return pdp.Branch{Policy: s.policy.ID, Rule: s.rule.ID, File: s.policy.File, Line: line, What: what}
}

// Branches implements [pdp.Coverable].
func (p *program) Branches() []pdp.Branch { return append([]pdp.Branch(nil), p.branches...) }

// Cover implements [pdp.Coverable].
func (p *program) Cover(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, hits []int) []pdp.Outcome {
	return p.evaluate(ctx, in, policies, nil, hits)
}
