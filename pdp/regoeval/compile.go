package regoeval

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"weak"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// Compiler turns Rego files into programs. It is safe for concurrent use.
type Compiler struct {
	capabilities *ast.Capabilities
	engine       Engine
	watch        *watch

	mu    sync.Mutex
	units map[[sha256.Size]byte]weak.Pointer[shared] // what programs still use
}

// New returns a compiler with the zero Options.
func New() *Compiler { return NewWith(Options{}) }

// NewWith returns a compiler.
func NewWith(o Options) *Compiler {
	return &Compiler{
		capabilities: capabilities(), engine: o.Engine, watch: newWatch(o),
		units: map[[sha256.Size]byte]weak.Pointer[shared]{},
	}
}

// Stats counts what the evaluations of all programs of this compiler met.
func (c *Compiler) Stats() Stats { return c.watch.stats() }

var _ pdp.Compiler = (*Compiler)(nil)

// Compile implements [pdp.Compiler]; the program is a [*Program]. It leaves
// *_test.rego to [Program.Test]. Apart from [pdp.Faults], its only error is
// that ctx ended.
func (c *Compiler) Compile(ctx context.Context, source *pdp.Source) (pdp.Program, error) {
	report := &faults{}
	modules := parse(source.Content, c.capabilities, false, report)
	parsed := len(report.list) == 0 // else OPA's errors would be about what is missing
	schema := source.Attributes
	if schema == nil {
		schema = &pdp.AttributeSchema{}
	}
	beside(modules, report, func(m *module, report *faults) {
		m.readHeads(report)
		m.readMetadata(source.Templates, schema, report)
		checkIsolation(m, m.parsed, report)
	})
	if !parsed {
		return nil, report.err()
	}
	units, err := c.compileUnits(ctx, modules, report)
	if err != nil {
		return nil, err
	}
	beside(modules, report, func(m *module, report *faults) {
		u := units[m.tenant]
		if u == nil {
			return // it has faults
		}
		checkIsolation(m, u.compiler.Modules[m.file], report)
		if m.policy != nil {
			reached := u.reach(m)
			checkReads(m, reached, schema, report)
			setDigests(u, m, reached, source)
		}
	})
	if err := report.err(); err != nil {
		return nil, err
	}
	plans, err := c.plans(ctx, modules, units)
	if err != nil {
		return nil, err
	}
	return newProgram(c, source, modules, units, plans), nil
}

// plans plans each unit, by tenant, for the policies of its own folder: a
// tenant's decisions ask the platform's plan too. What the platform's rules
// read of a tenant are tables, so the tenant's modules change nothing for them.
func (c *Compiler) plans(ctx context.Context, modules []*module, units map[string]*unit) (map[string]*plan, error) {
	if c.engine == Topdown {
		return nil, nil
	}
	policies := map[string][]*module{}
	for _, m := range modules {
		if m.policy != nil {
			policies[m.tenant] = append(policies[m.tenant], m)
		}
	}
	plans := make(map[string]*plan, len(policies))
	for tenant, own := range policies {
		var err error
		if plans[tenant], err = units[tenant].planOf(ctx, own); err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// compileUnits compiles the platform's modules, under "", and with them each
// tenant's that has any.
func (c *Compiler) compileUnits(ctx context.Context, modules []*module, report *faults) (map[string]*unit, error) {
	byTenant := map[string][]*module{"": nil}
	for _, m := range modules {
		byTenant[m.tenant] = append(byTenant[m.tenant], m)
	}
	units := map[string]*unit{}
	for _, tenant := range slices.Sorted(maps.Keys(byTenant)) { // "" first
		members := byTenant[tenant]
		if tenant != "" {
			members = slices.Concat(byTenant[""], members) // both sorted, and "platform" sorts before "tenants"
		}
		u, err := c.compileUnit(ctx, members)
		if ended := context.Cause(ctx); ended != nil {
			return nil, ended
		}
		if err != nil {
			report.addErrors("", err)
			if tenant == "" {
				break // every other unit would repeat them
			}
			continue
		}
		units[tenant] = u
	}
	return units, nil
}
