package regoeval

import (
	"cmp"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// checkIsolation holds a module's references to the rules of tenancy: a tenant
// names no other tenant, the platform names no tenant at all and reads of the
// request's tenant only the tables. A guardrail must not follow rules that a
// tenant writes, and its digest must not depend on them.
//
// It is asked of the module as parsed, where a reference to another tenant is
// plain even if nothing there can be compiled, and as compiled, when imports
// are resolved.
func checkIsolation(m *module, parsed *ast.Module, report *faults) {
	here := parsed.Package.Location // OPA makes terms without one; then the expression's is near enough
	check := func(ref ast.Ref, location *ast.Location) {
		location = cmp.Or(location, here)
		if !ref.HasPrefix(ast.DefaultRootRef) || report.has(location) || !mayBeStep(ref, 1, "xiezhi") || !mayBeStep(ref, 2, "tenants") {
			return
		}
		tenant, named := step(ref, 3)
		switch {
		case m.layer == pdp.LayerTenant && named && string(tenant) != m.tenant:
			report.at(location, m.id, "", "refers to another tenant, %s", string(tenant))
		case m.layer == pdp.LayerPlatform && named:
			report.at(location, m.id, "", "a platform policy names the tenant %s: it holds for every tenant; use data.xiezhi.tenants[input.tenant].tables", string(tenant))
		case m.layer == pdp.LayerPlatform && !isStep(ref, 4, "tables"):
			report.at(location, m.id, "", "a platform policy reads a tenant's tables and nothing else of it: write data.xiezhi.tenants[input.tenant].tables.<table>")
		}
	}
	for _, imported := range parsed.Imports {
		// An import of less than a tenant is judged where it is used.
		if ref, ok := imported.Path.Value.(ast.Ref); ok && len(ref) > 3 {
			check(ref, imported.Location)
		}
	}
	var refer func(node any) bool
	refer = func(node any) bool {
		switch node := node.(type) {
		case *ast.Expr:
			here = cmp.Or(node.Location, here)
		case *ast.Term:
			if node.Equal(ast.DefaultRootDocument) {
				check(ast.DefaultRootRef, node.Location)
			}
			ref, ok := node.Value.(ast.Ref)
			if !ok {
				return false
			}
			check(ref, node.Location)
			for _, t := range ref[1:] {
				visit(t, refer)
			}
			return true
		}
		return false
	}
	for _, rule := range parsed.Rules {
		here = rule.Location
		visit(rule, refer)
	}
}

// step returns the literal at place i of a reference.
func step(ref ast.Ref, i int) (ast.String, bool) {
	if i >= len(ref) {
		return "", false
	}
	s, ok := ref[i].Value.(ast.String)
	return s, ok
}

func isStep(ref ast.Ref, i int, name string) bool {
	s, ok := step(ref, i)
	return ok && string(s) == name
}

// mayBeStep reports whether the reference can pass through the name: it says
// so, it ends before, or it goes on in a computed way. A step that is a
// literal of another type is no name.
func mayBeStep(ref ast.Ref, i int, name string) bool {
	if i >= len(ref) {
		return true
	}
	s, ok := step(ref, i)
	return !ok || string(s) == name
}
