package regoeval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// Program is the Rego policies of one release. It is safe for concurrent use.
type Program struct {
	compiler  *Compiler
	content   *bundles.Content
	modules   []*module        // in the order of their files
	units     map[string]*unit // by tenant; "" is the platform's
	documents *documents
	terms     terms
	patterns  *patterns

	policies []*pdp.Policy
	entries  []entry // by slot
	branches []pdp.Branch
	branchAt map[place]int
}

// entry is what evaluating one policy takes.
type entry struct {
	module *module
	rules  map[string]*pdp.Rule
	// query binds each of the policy's sets to a variable of its own. It is
	// never changed: the body of a joint query is put together of these.
	query []*ast.Expr
	vars  []ast.Var // as module.sets
}

// place is where a rule stands, in whichever unit.
type place struct {
	file string
	position
}

func placeOf(location *ast.Location) place { return place{location.File, positionOf(location)} }

func newProgram(c *Compiler, source *pdp.Source, modules []*module, units map[string]*unit) *Program {
	p := &Program{
		compiler: c, content: source.Content, modules: modules, units: units,
		terms: terms{}, patterns: newPatterns(maxPatterns), branchAt: map[place]int{},
	}
	for _, m := range modules {
		p.terms.addAll(m.parsed)
		p.addBranches(m)
		if m.policy != nil {
			m.policy.SetSlot(len(p.policies))
			p.policies = append(p.policies, m.policy)
			p.entries = append(p.entries, newEntry(m))
		}
	}
	for _, name := range []string{"tenant", "subject", "action", "resource", "context", "type", "id", "name", "properties"} {
		p.terms[name] = p.terms.text(name)
	}
	p.documents = newDocuments(source.Tables, p.terms)
	return p
}

func newEntry(m *module) entry {
	e := entry{module: m, rules: make(map[string]*pdp.Rule, len(m.policy.Rules))}
	for _, r := range m.policy.Rules {
		e.rules[r.ID] = r
	}
	where := &ast.Location{File: m.file, Row: 1, Col: 1}
	for _, kind := range m.sets {
		v := ast.Var(setNames[kind] + strconv.Itoa(m.policy.Slot()))
		set := ast.NewTerm(append(packageRef(m.path()), ast.StringTerm(setNames[kind])))
		expr := ast.Equality.Expr(ast.NewTerm(v), set)
		expr.Location = where
		e.query, e.vars = append(e.query, expr), append(e.vars, v)
	}
	return e
}

// Policies implements [pdp.Program].
func (p *Program) Policies() []*pdp.Policy { return p.policies }

// Evaluate implements [pdp.Program]. All policies are asked in one query; if
// that fails, each is asked alone, so that one policy's error leaves the
// others' findings standing.
func (p *Program) Evaluate(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	if len(policies) == 0 {
		return out
	}
	before := len(out)
	r := p.newRun(ctx, in)
	defer r.close()
	out, ok := r.joint(policies, out)
	if !ok {
		for _, policy := range policies {
			out = append(out, r.alone(policy))
		}
	}
	if in.Explain {
		for i := range out[before:] {
			out[before+i].Traces = r.explain(policies[i])
		}
	}
	return out
}

// run is the evaluation of one request.
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
			e, err := r.entry(policy)
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
		e, err := r.entry(policy)
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

// guard turns a panic into an error: a policy must never end the server.
func guard(f func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	return f()
}

// entry returns what it takes to evaluate the policy for this request.
func (r *run) entry(policy *pdp.Policy) (*entry, error) {
	slot := policy.Slot()
	if slot < 0 || slot >= len(r.program.policies) || r.program.policies[slot] != policy {
		return nil, errors.New("the policy is not of this program")
	}
	if policy.Layer == pdp.LayerTenant && policy.Tenant != r.tenant {
		return nil, fmt.Errorf("the policy is of the tenant %s, the request is of %s", policy.Tenant, r.tenant)
	}
	return &r.program.entries[slot], nil
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
