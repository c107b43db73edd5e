package regoeval

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// onTopdown asks all policies in one query; if that fails, each is asked
// alone, so that one policy's error leaves the others' findings standing.
func (p *Program) onTopdown(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	r := p.newRun(ctx, in)
	defer r.close()
	return r.ask(policies, out)
}

func (r *run) ask(policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	out, ok := r.joint(policies, out)
	if !ok {
		for _, policy := range policies {
			out = append(out, r.alone(policy))
		}
	}
	return out
}

// run is the evaluation of one request on topdown.
type run struct {
	program  *Program
	ctx      context.Context
	tenant   string
	unit     *unit
	document *document
	input    *ast.Term
	now      time.Time
	cancel   topdown.Cancel
	release  func() bool // of the cancellation; nil where ctx cannot end
}

func (p *Program) newRun(ctx context.Context, in *pdp.Input) *run {
	tenant := in.Request.Tenant
	return p.start(ctx, tenant, cmp.Or(p.units[tenant], p.units[""]), p.terms.of(in.Value), in.Now)
}

// start returns a run that must be closed.
func (p *Program) start(ctx context.Context, tenant string, u *unit, input *ast.Term, now time.Time) *run {
	r := &run{program: p, ctx: ctx, tenant: tenant, unit: u, document: p.documents.of(tenant), input: input, now: now}
	if ctx.Done() != nil {
		r.cancel = topdown.NewCancel()
		r.release = context.AfterFunc(ctx, r.cancel.Cancel)
	}
	return r
}

func (r *run) close() {
	if r.release != nil {
		r.release()
	}
}

// joint asks all policies at once, or reports false: then nothing is known.
func (r *run) joint(policies []*pdp.Policy, out []pdp.Outcome) ([]pdp.Outcome, bool) {
	before := len(out)
	err := guard(func() error {
		exprs := 0
		for _, policy := range policies {
			e, err := r.program.entry(policy, r.tenant)
			if err != nil {
				return err
			}
			exprs += len(e.query)
		}
		body := make(ast.Body, 0, exprs)
		for _, policy := range policies {
			body = append(body, r.program.entries[policy.Slot()].query...)
		}
		result, err := r.query(body)
		if err != nil {
			return err
		}
		for _, policy := range policies {
			outcome, err := r.program.entries[policy.Slot()].outcome(result)
			if err != nil {
				return err
			}
			out = append(out, outcome)
		}
		return nil
	})
	if err != nil {
		return out[:before], false
	}
	return out, true
}

// alone asks one policy and says where it failed if it does.
func (r *run) alone(policy *pdp.Policy, configure ...func(*topdown.Query)) (outcome pdp.Outcome) {
	err := guard(func() error {
		e, err := r.program.entry(policy, r.tenant)
		if err != nil {
			return err
		}
		result, err := r.query(e.query, append(configure, func(q *topdown.Query) { q.WithStackTraces(true) })...)
		if err != nil {
			return err
		}
		outcome, err = e.outcome(result)
		return err
	})
	if err != nil {
		return pdp.Outcome{Policy: policy, Err: r.failure(policy, err)}
	}
	return outcome
}

// query evaluates a body that has exactly one answer.
func (r *run) query(body ast.Body, configure ...func(*topdown.Query)) (topdown.QueryResult, error) {
	if err := context.Cause(r.ctx); err != nil {
		return nil, err // the cancellation may come too late for a short query
	}
	if err := checkClock(r.now); err != nil {
		return nil, err
	}
	q := topdown.NewQuery(body).
		WithCompiler(r.unit.compiler).
		WithStore(r.document).
		WithTransaction(reading{}).
		WithBaseCache(r.document).
		WithInput(r.input).
		WithTime(r.now).
		WithCancel(r.cancel).
		WithStrictBuiltinErrors(true).
		WithInterQueryBuiltinValueCache(r.program.patterns).
		WithMetrics(metrics.NoOp())
	for _, f := range configure {
		f(q)
	}
	var result topdown.QueryResult
	err := q.Iter(r.ctx, func(answer topdown.QueryResult) error {
		result = answer
		return nil
	})
	if err == nil && result == nil {
		err = errNoAnswer
	}
	return result, err
}

var errNoAnswer = errors.New("the query has no answer")

// checkClock refuses a time that topdown would replace with the computer's,
// or that does not fit in the nanoseconds that Rego's clock counts.
func checkClock(now time.Time) error {
	if year := now.Year(); now.IsZero() || year < 1678 || year > 2261 {
		return errors.New("the decision's clock is not set, or outside the years 1678 to 2261")
	}
	return nil
}
