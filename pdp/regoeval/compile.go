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

	mu    sync.Mutex
	units map[[sha256.Size]byte]weak.Pointer[ast.Compiler] // what programs still use
}

// New returns a compiler.
func New() *Compiler {
	return &Compiler{capabilities: capabilities(), units: map[[sha256.Size]byte]weak.Pointer[ast.Compiler]{}}
}

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
	for _, m := range modules {
		m.readHeads(report)
		m.readMetadata(source.Templates, schema, report)
		checkIsolation(m, m.parsed, report)
	}
	if !parsed {
		return nil, report.err()
	}
	units, err := c.compileUnits(ctx, modules, report)
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		u := units[m.tenant]
		if u == nil {
			continue // it has faults
		}
		checkIsolation(m, u.compiler.Modules[m.file], report)
		if m.policy != nil {
			reached := u.reach(m)
			checkReads(m, reached, schema, report)
			setDigests(u, m, reached, source)
		}
	}
	if err := report.err(); err != nil {
		return nil, err
	}
	return newProgram(c, source, modules, units), nil
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
