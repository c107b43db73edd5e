package regoeval

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync/atomic"
	"weak"

	"github.com/open-policy-agent/opa/v1/ast"
)

// unit is the modules that can take part in one tenant's decisions, compiled
// together: the platform's and the tenant's own. Tenants without Rego share
// the platform's unit.
type unit struct {
	*shared
	byFile map[string]*module
}

// shared is what units of the same texts have in common, of whichever release.
type shared struct {
	compiler *ast.Compiler
	planned  atomic.Pointer[plan] // nil until it is asked for
}

// compileUnit compiles the modules, of which OPA makes copies that it rewrites.
// A unit of the same texts that is still in use is used again: a
// release that changes one tenant compiles that tenant. When ctx ends, so does
// the waiting: OPA's compiler cannot be stopped, and some texts keep it busy.
func (c *Compiler) compileUnit(ctx context.Context, modules []*module) (*unit, error) {
	key := textKey(modules)
	c.mu.Lock()
	known := c.units[key].Value()
	c.mu.Unlock()
	if known != nil {
		return &unit{known, byFile(modules)}, nil
	}
	parsed := make(map[string]*ast.Module, len(modules))
	for _, m := range modules {
		parsed[m.file] = m.parsed
	}
	compiler := ast.NewCompiler().WithCapabilities(c.capabilities).WithDefaultRegoVersion(ast.RegoV1).SetErrorLimit(0).
		WithStageAfterID(ast.StageCheckRecursion, boundTypes)
	err := waiting(ctx, func() error {
		if compiler.Compile(parsed); compiler.Failed() {
			return compiler.Errors
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	made := &shared{compiler: compiler}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, p := range c.units {
		if p.Value() == nil {
			delete(c.units, k)
		}
	}
	c.units[key] = weak.Make(made)
	return &unit{made, byFile(modules)}, nil
}

// waiting runs work that cannot be stopped, and leaves it alone when ctx ends.
func waiting(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- guard(work) }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-done:
		return err
	}
}

func byFile(modules []*module) map[string]*module {
	files := make(map[string]*module, len(modules))
	for _, m := range modules {
		files[m.file] = m
	}
	return files
}

// textKey is a digest of the modules' places and texts; they come sorted.
func textKey(modules []*module) (key [sha256.Size]byte) {
	h := sha256.New()
	for _, m := range modules {
		hashPart(h, []byte(m.file))
		hashPart(h, m.data)
	}
	h.Sum(key[:0])
	return key
}

// hashPart adds one part and its length, so that parts cannot run together.
func hashPart(h hash.Hash, part []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(part)))
	h.Write(n[:])
	h.Write(part)
}

// reach returns every rule that the module's own rules can lead to, themselves
// included, by OPA's dependency graph (which follows computed references to
// all that they may mean).
func (u *unit) reach(m *module) map[*ast.Rule]bool {
	reached := map[*ast.Rule]bool{}
	var visit func(rule *ast.Rule)
	visit = func(rule *ast.Rule) {
		for r := rule; r != nil && !reached[r]; r = r.Else {
			reached[r] = true
			for next := range u.compiler.Graph.Dependencies(r) {
				visit(next.(*ast.Rule))
			}
		}
	}
	for _, rule := range u.compiler.Modules[m.file].Rules {
		visit(rule)
	}
	return reached
}
