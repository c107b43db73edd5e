package celeval

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// program is the rule documents of a release, or one restriction. It is
// immutable once it is compiled.
type program struct {
	policies []*pdp.Policy
	rules    [][]*rule   // by slot
	branches []int       // by slot: index of the policy's first branch
	count    int         // of branches
	tables   *pdp.Tables // nil: conditions see none
}

var (
	_ pdp.Coverable    = (*program)(nil)
	_ pdp.TableProgram = (*program)(nil)
)

// add numbers the policy and takes it in.
func (p *program) add(policy *pdp.Policy, rules []*rule) {
	policy.SetSlot(len(p.policies))
	p.policies = append(p.policies, policy)
	p.rules = append(p.rules, rules)
	p.branches = append(p.branches, p.count)
	p.count += 2 * len(rules)
}

// Policies implements [pdp.Program].
func (p *program) Policies() []*pdp.Policy { return p.policies }

// WithTables implements [pdp.TableProgram].
func (p *program) WithTables(tables *pdp.Tables) pdp.Program {
	next := *p
	next.tables = tables
	return &next
}

// Evaluate implements [pdp.Program]. Every rule is evaluated, also after
// another failed; Outcome.Err is the first failure.
func (p *program) Evaluate(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	return p.evaluate(ctx, in, policies, out, nil)
}

// Cover implements [pdp.Coverable].
func (p *program) Cover(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, hits []int) []pdp.Outcome {
	return p.evaluate(ctx, in, policies, nil, hits)
}

// Branches implements [pdp.Coverable]: each rule's condition true, then false.
func (p *program) Branches() []pdp.Branch {
	branches := make([]pdp.Branch, 0, p.count)
	for slot, policy := range p.policies {
		for _, r := range p.rules[slot] {
			for _, what := range []string{"condition true", "condition false"} {
				branches = append(branches, pdp.Branch{Policy: policy.ID, Rule: r.ID, File: r.File, Line: r.conditionLine, What: what})
			}
		}
	}
	return branches
}

func (p *program) evaluate(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome, hits []int) []pdp.Outcome {
	vars := newVariables(in, p.tables)
	for _, policy := range policies {
		out = pdp.NextOutcome(out, policy)
		o := &out[len(out)-1]
		slot := policy.Slot()
		if slot < 0 || slot >= len(p.policies) || p.policies[slot] != policy {
			o.Err = &pdp.EvaluationError{Cause: pdp.CausePolicyError, File: policy.File, Message: "internal error: the policy is another program's"}
			continue
		}
		for i, r := range p.rules[slot] {
			holds, err := r.condition.holds(ctx, vars)
			branch := p.branches[slot] + 2*i
			switch {
			case err != nil:
				if o.Err == nil {
					o.Err = r.failure(err)
				}
			case holds:
				r.contribute(o)
				cover(hits, branch)
			default:
				cover(hits, branch+1)
			}
			if in.Explain {
				o.Traces = append(o.Traces, r.trace(holds, err))
			}
		}
	}
	return out
}

func cover(hits []int, branch int) {
	if branch < len(hits) {
		hits[branch]++
	}
}

// contribute adds what the rule says when its condition holds. The answer
// gets copies: a program is shared.
func (r *rule) contribute(o *pdp.Outcome) {
	if r.Kind <= pdp.KindAllow {
		o.Findings = append(o.Findings, pdp.Finding{Rule: r.Rule, Path: r.path})
	}
	o.Obligations = append(o.Obligations, r.obligations...)
	for _, l := range r.limits {
		if l.Quota != nil {
			quota := *l.Quota
			l.Quota = &quota
		}
		o.Limits = append(o.Limits, l)
	}
	if r.route != nil {
		o.Routes = append(o.Routes, *r.route)
	}
}

func (r *rule) failure(err error) *pdp.EvaluationError {
	cause := pdp.CausePolicyError
	if errors.Is(err, errBudget) {
		cause = pdp.CauseBudgetSpent
	}
	return &pdp.EvaluationError{Cause: cause, Rule: r.ID, File: r.File, Line: r.conditionLine, Message: "condition: " + err.Error()}
}

func (r *rule) trace(holds bool, err error) pdp.RuleTrace {
	t := pdp.RuleTrace{Rule: r.ID, Matched: holds && err == nil}
	text := strings.TrimSpace(r.condition.text)
	switch {
	case err != nil:
		t.Why = fmt.Sprintf("%s: failed: %v", r.where(), err)
	case holds:
		t.Why = fmt.Sprintf("%s: %s", r.where(), text)
	default:
		t.Why = fmt.Sprintf("%s: does not hold: %s", r.where(), text)
	}
	return t
}

// variables are the inputs of the conditions of one request.
type variables struct {
	tenant, action                                       types.String
	subject, actionProperties, resource, context, tables object
	now                                                  types.Timestamp
}

var _ interpreter.Activation = (*variables)(nil)

func newVariables(in *pdp.Input, tables *pdp.Tables) *variables {
	req := in.Request
	v := &variables{
		tenant:           types.String(req.Tenant),
		action:           types.String(req.Action.Name),
		subject:          entity(in.Value, "subject"),
		actionProperties: object{req.Action.Properties},
		resource:         entity(in.Value, "resource"),
		context:          object{req.Context},
		tables:           object{tables.Tenant(req.Tenant)},
		now:              types.Timestamp{Time: in.Now.UTC()},
	}
	return v
}

// entity is the subject or resource with properties, empty where it has none.
func entity(request authz.Value, name string) object {
	e, _ := request.Get(name)
	if _, ok := e.Get("properties"); !ok {
		none, _ := authz.ObjectValue()
		e = e.With("properties", none)
	}
	return object{e}
}

// ResolveName implements interpreter.Activation.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "tenant":
		return v.tenant, true
	case "subject":
		return &v.subject, true
	case "action":
		return v.action, true
	case "action_properties":
		return &v.actionProperties, true
	case "resource":
		return &v.resource, true
	case "context":
		return &v.context, true
	case "tables":
		return &v.tables, true
	case "now":
		return v.now, true
	default:
		return nil, false
	}
}

// Parent implements interpreter.Activation.
func (v *variables) Parent() interpreter.Activation { return nil }
