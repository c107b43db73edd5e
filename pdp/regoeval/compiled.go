package regoeval

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// onCompiled asks the compiled engine, and topdown for the policies that are
// not compiled or fail there. Topdown knows where an error arose and in which
// rule, and does not meet all of them: its answer counts.
func (p *Program) onCompiled(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	if ctx.Err() != nil || checkClock(in.Now) != nil {
		return p.onTopdown(ctx, in, policies, out) // which knows what to say
	}
	a := asking{program: p, ctx: ctx, in: in}
	defer a.close()
	before := len(out)
	var left []*pdp.Policy
	for _, policy := range policies {
		e, err := p.entry(policy, in.Request.Tenant)
		if err != nil || e.program == nil {
			left = append(left, policy)
			out = pdp.NextOutcome(out, nil)
			continue
		}
		out = pdp.NextOutcome(out, policy)
		a.ask(e, &out[len(out)-1])
	}
	if len(left) > 0 {
		a.fill(out[before:], left)
	}
	return out
}

// asking is the evaluation of one request on the compiled engine.
type asking struct {
	program *Program
	ctx     context.Context
	in      *pdp.Input
	runs    [2]running // of the platform's program, and of the tenant's
	topdown *run       // nil until it is needed
}

// running is a run and what it is of.
type running struct {
	of     *vm.Program
	run    *vm.Run // nil: none is under way
	served bool    // it has answered for a policy
}

func (a *asking) close() {
	for i := range a.runs {
		a.runs[i].end()
	}
	if a.topdown != nil {
		a.topdown.close()
	}
}

func (r *running) end() {
	if r.run != nil {
		r.run.End()
	}
	*r = running{}
}

// ask asks one policy that is compiled.
func (a *asking) ask(e *entry, out *pdp.Outcome) {
	r := a.running(e.program)
	err := a.call(e, r, out)
	if err == nil {
		r.served = true
		return
	}
	out.Fail(nil) // what it had found so far is nothing
	var failed *vm.Error
	errors.As(err, &failed) // else it is an entry that does not hold what it should
	if failed != nil && failed.Code == vm.CodeBudget && r.served && a.ctx.Err() == nil {
		r.end()
		a.ask(e, out) // the run's steps were of all its policies: this one gets its own
		return
	}
	if failed != nil && failed.Stack != nil {
		r.run = nil // in whatever state it is, nobody gets it again
	}
	r.end() // after an error a run is of no more use
	*out = a.settle(e, failed)
}

// running returns the run of a program, which is begun when it is needed.
func (a *asking) running(program *vm.Program) *running {
	i := 0
	if a.runs[0].of != nil && a.runs[0].of != program {
		i = 1
	}
	r := &a.runs[i]
	if r.run == nil {
		*r = running{of: program, run: program.Begin(a.ctx, vm.Input{
			Value: value.Of(a.in.Value), Data: a.program.documents.value(a.in.Request.Tenant), Now: a.in.Now,
			Patterns: a.program.patterns,
		})}
	}
	return r
}

// call reads the policy's sets. Nothing of the run is in the outcome.
func (a *asking) call(e *entry, r *running, out *pdp.Outcome) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &vm.Error{Code: topdown.InternalErr, Message: fmt.Sprintf("panic: %v", cause), Stack: debug.Stack()}
		}
	}()
	for i, kind := range e.module.sets {
		set, err := r.run.Call(e.calls[i])
		if err != nil {
			return err
		}
		if err := e.addSet(out, kind, set); err != nil {
			return err
		}
	}
	return nil
}

// settle says what a policy's failure means. It is nil where the policy's own
// entries are wrong.
func (a *asking) settle(e *entry, failed *vm.Error) pdp.Outcome {
	policy := e.module.policy
	refused := pdp.EvaluationError{File: policy.File, Line: 1}
	switch {
	case failed != nil && failed.Stack != nil:
		a.program.compiler.watch.panicked(a.program, e, a.in, failed.Message, string(failed.Stack))
		refused.Cause, refused.Message = pdp.CausePolicyError, "the compiled Rego engine failed, which is an error of Xiezhi: the log of whoever decided says more"
	case failed != nil && failed.Code == vm.CodeBudget && a.ctx.Err() != nil:
		refused.Cause, refused.Message = pdp.CauseBudgetSpent, stoppedMessage
	case failed != nil && failed.Code == vm.CodeBudget:
		refused.Cause, refused.Message = pdp.CauseBudgetSpent, "stopped before it was done: "+failed.Message
	default:
		a.program.compiler.watch.settle(policy.ID)
		return a.onTopdown().alone(policy)
	}
	return pdp.Outcome{Policy: policy, Err: &refused}
}

// fill asks topdown for the policies that have no outcome yet.
func (a *asking) fill(out []pdp.Outcome, left []*pdp.Policy) {
	answers := a.onTopdown().ask(left, nil)
	next := 0
	for i := range out {
		if out[i].Policy == nil {
			a.program.compiler.watch.settle(left[next].ID)
			out[i] = answers[next]
			next++
		}
	}
}

func (a *asking) onTopdown() *run {
	if a.topdown == nil {
		a.topdown = a.program.newRun(a.ctx, a.in)
	}
	return a.topdown
}
