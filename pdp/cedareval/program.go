package cedareval

import (
	"context"
	"fmt"
	"sync"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// program implements [pdp.Coverable].
type program struct {
	policies   []*policy    // by slot
	statements []*statement // by number
	units      map[unitKey]*unit
	schema     *Schema // of platform and tenants; nil for none
	selfSchema *Schema
	branches   []pdp.Branch
	pool       sync.Pool // of *evaluation: what is over lends the next one its scratch
}

// unit is the statements that are looked up together: those of the platform,
// of self, or of one tenant. What one tenant's policies mention does not weigh
// on another's requests.
type unit struct {
	schema *Schema
	index  *index
	// mentions says who mentions an attribute or context member. What no unit
	// that is asked has here, is not read.
	mentions map[top]*mentioned
	sieve    uint64 // of mentions
}

type unitKey struct {
	layer  pdp.Layer
	tenant string
}

// mentioned says who mentions an attribute or context member.
type mentioned struct {
	policies []*policy
	// special is set where only the schema says how the value is to be read.
	special bool
}

var (
	_ pdp.Coverable    = (*program)(nil)
	_ pdp.TableProgram = (*program)(nil)
)

func newProgram(schema, selfSchema *Schema) *program {
	return &program{units: map[unitKey]*unit{}, schema: schema, selfSchema: selfSchema}
}

func (p *program) add(compiled *policy) {
	compiled.SetSlot(len(p.policies))
	p.policies = append(p.policies, compiled)
	compiled.unit = p.unitOf(compiled)
	for _, s := range compiled.statements {
		s.compile(len(p.statements))
		compiled.unit.index.add(s.scope, int32(len(p.statements)))
		p.statements = append(p.statements, s)
		s.branch = len(p.branches)
		p.branches = append(p.branches, s.branches()...)
	}
	compiled.unit.note(compiled)
}

func (p *program) unitOf(compiled *policy) *unit {
	key := unitKey{compiled.Layer, compiled.Tenant}
	u, ok := p.units[key]
	if !ok {
		u = &unit{schema: p.schema, index: newIndex(), mentions: map[top]*mentioned{}}
		if compiled.Layer == pdp.LayerSelf {
			u.schema = p.selfSchema
		}
		p.units[key] = u
	}
	return u
}

// note notes what the policy mentions.
func (u *unit) note(p *policy) {
	for _, m := range p.mentions {
		t := m.top()
		known, ok := u.mentions[t]
		if !ok {
			known = &mentioned{special: u.schema.needsSchema(place{t.root, []string{t.name}})}
			u.mentions[t] = known
			u.sieve |= t.sieved()
		}
		if n := len(known.policies); n == 0 || known.policies[n-1] != p {
			known.policies = append(known.policies, p)
		}
	}
}

// Policies implements [pdp.Program]; they are sorted by file.
func (p *program) Policies() []*pdp.Policy {
	policies := make([]*pdp.Policy, len(p.policies))
	for i := range p.policies {
		policies[i] = p.policies[i].Policy
	}
	return policies
}

// WithTables implements [pdp.TableProgram]: Cedar reads no tables.
func (p *program) WithTables(*pdp.Tables) pdp.Program { return p }

// Evaluate implements [pdp.Program].
func (p *program) Evaluate(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	return p.evaluate(ctx, in, policies, out, nil)
}

// evaluate answers for each policy, and counts into hits where it is not nil.
func (p *program) evaluate(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome, hits []int) (answered []pdp.Outcome) {
	answered = out
	for _, policy := range policies {
		answered = pdp.NextOutcome(answered, policy)
	}
	e, _ := p.pool.Get().(*evaluation)
	if e == nil {
		e = &evaluation{scratch: scratch{at: make([]int32, len(p.policies)), record: types.RecordMap{}}}
	}
	e.ctx, e.program, e.in, e.outcomes, e.hits = ctx, p, in, answered[len(out):], hits
	defer e.finish()
	e.run()
	return answered
}

// scratch is memory that one evaluation lends the next. Nothing of it reaches
// an outcome.
type scratch struct {
	at         []int32 // policy slot → 1 + its outcome; 0: not asked
	units      []*unit // with a policy that is asked
	here       []*unit // those of them under the schema at hand
	candidates []int32
	batch      []*statement
	kept       []kept
	roles      []types.EntityUID // the subject's
	record     types.RecordMap   // that a record is made of
	entities   requestEntities
	env        environment
	names      [2]map[string]types.EntityType // of subjects and resources, by the request's
}

// finish gives the scratch memory back and turns a panic into errors of all
// policies: what was found before it does not stand.
func (e *evaluation) finish() {
	if r := recover(); r != nil {
		for i := range e.outcomes {
			e.outcomes[i].Fail(nil) // what it had found so far is nothing
		}
		e.failAll(pdp.CausePolicyError, fmt.Sprintf("the Cedar evaluator panicked: %v", r))
		return // the scratch may be in disorder
	}
	pool := &e.program.pool
	for i := range e.outcomes {
		if slot := e.outcomes[i].Policy.Slot(); slot < len(e.at) {
			e.at[slot] = 0
		}
	}
	clear(e.batch)
	clear(e.kept)
	clear(e.scratch.roles)
	clear(e.scratch.record)
	*e = evaluation{scratch: scratch{
		at: e.at, units: e.units[:0], here: e.here[:0], candidates: e.candidates[:0], batch: e.batch[:0], kept: e.kept[:0],
		roles: e.scratch.roles[:0], record: e.scratch.record, names: e.names,
	}}
	pool.Put(e)
}
