package regoeval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
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
	entries  []entry    // by slot
	left     []Fallback // in the order of policies
	branches []pdp.Branch
	branchAt map[place]int
}

// entry is what evaluating one policy takes.
type entry struct {
	module *module
	terms  terms // of the program
	rules  map[string]*pdp.Rule
	// query binds each of the policy's sets to a variable of its own. It is
	// never changed: the body of a joint query is put together of these.
	query []*ast.Expr
	vars  []ast.Var // as module.sets
	// program is what the compiled engine runs, and calls its sets, as
	// module.sets; nil where topdown evaluates the policy.
	program *vm.Program
	calls   []vm.Entry
	spelt   *spelt
}

// place is where a rule stands, in whichever unit.
type place struct {
	file string
	position
}

func placeOf(location *ast.Location) place { return place{location.File, positionOf(location)} }

func newProgram(c *Compiler, source *pdp.Source, modules []*module, units map[string]*unit, plans map[string]*plan) *Program {
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
			p.entries = append(p.entries, newEntry(m, p.terms))
			p.addPlan(plans[m.tenant], &p.entries[m.policy.Slot()])
		}
	}
	for _, name := range []string{"tenant", "subject", "action", "resource", "context", "type", "id", "name", "properties"} {
		p.terms[name] = p.terms.text(name)
	}
	p.documents = newDocuments(source.Tables, p.terms)
	return p
}

func newEntry(m *module, t terms) entry {
	e := entry{module: m, terms: t, rules: make(map[string]*pdp.Rule, len(m.policy.Rules))}
	for _, r := range m.policy.Rules {
		e.rules[r.ID] = r
	}
	where := &ast.Location{File: m.file, Row: 1, Col: 1}
	for _, kind := range m.sets {
		v := ast.Var(setNames[kind] + strconv.Itoa(m.policy.Slot()))
		expr := ast.Equality.Expr(ast.NewTerm(v), ast.NewTerm(setRef(m, kind)))
		expr.Location = where
		e.query, e.vars = append(e.query, expr), append(e.vars, v)
	}
	return e
}

// setRef names one of the policy's sets.
func setRef(m *module, kind pdp.RuleKind) ast.Ref {
	return append(packageRef(m.path()), ast.StringTerm(setNames[kind]))
}

// addPlan lets the compiled engine have the policy, if it can.
func (p *Program) addPlan(unit *plan, e *entry) {
	if unit == nil {
		return
	}
	if calls, ok := unit.sets[e.module.file]; ok {
		e.program, e.calls, e.spelt = unit.program, calls, unit.spelt
	} else {
		p.left = append(p.left, unit.left[e.module.file])
	}
}

// Policies implements [pdp.Program].
func (p *Program) Policies() []*pdp.Policy { return p.policies }

var _ pdp.TableProgram = (*Program)(nil)

// WithTables implements [pdp.TableProgram].
func (p *Program) WithTables(tables *pdp.Tables) pdp.Program {
	next := *p
	next.documents = newDocuments(tables, p.terms)
	return &next
}

// Fallbacks lists the policies that could not be compiled, in the order of
// Policies; none where the engine is [Topdown].
func (p *Program) Fallbacks() []Fallback { return slices.Clone(p.left) }

// Engines counts the policies by the engine that evaluates them.
func (p *Program) Engines() (compiled, topdown int) {
	for i := range p.entries {
		if p.entries[i].program != nil {
			compiled++
		}
	}
	return compiled, len(p.entries) - compiled
}

// Evaluate implements [pdp.Program].
func (p *Program) Evaluate(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	if len(policies) == 0 {
		return out
	}
	before := len(out)
	switch p.compiler.engine {
	case Topdown:
		out = p.onTopdown(ctx, in, policies, out)
	case Both:
		out = p.onBoth(ctx, in, policies, out)
	default:
		out = p.onCompiled(ctx, in, policies, out)
	}
	if in.Explain {
		r := p.newRun(ctx, in)
		defer r.close()
		for i := range out[before:] {
			out[before+i].Traces = r.explain(policies[i])
		}
	}
	return out
}

// entry returns what it takes to evaluate the policy for a request of the
// tenant.
func (p *Program) entry(policy *pdp.Policy, tenant string) (*entry, error) {
	slot := policy.Slot()
	if slot < 0 || slot >= len(p.policies) || p.policies[slot] != policy {
		return nil, errors.New("the policy is not of this program")
	}
	if policy.Layer == pdp.LayerTenant && policy.Tenant != tenant {
		return nil, fmt.Errorf("the policy is of the tenant %s, the request is of %s", policy.Tenant, tenant)
	}
	return &p.entries[slot], nil
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
