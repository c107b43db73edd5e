package builtin

import (
	"maps"
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
	"pgregory.net/rapid"
)

func TestNativeFunctionsAnswerAsOPA(t *testing.T) {
	c := newCourt()
	for _, name := range slices.Sorted(maps.Keys(natives)) {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				g := newGenerator(rt, name)
				args := g.arguments(name)
				constant := make([]bool, len(args))
				for i := range constant {
					constant[i] = g.chance(30)
				}
				c.call.Cancel = nil
				if g.chance(50) {
					c.call.Cancel = topdown.NewCancel()
				}
				c.compare(rt, name, args, constant)
			})
			if c.answered[name] == 0 && len(ast.BuiltinMap[name].Decl.FuncArgs().Args) > 2 {
				t.Error("every call was left to OPA's function")
			}
		})
	}
}

// composites are edges of every function, beside texts and numbers.
var composites = []string{
	`null`, `true`, `[]`, `set()`, `{}`, `{1, 1.5, "a", [1], {"a": 1}, {1}, null, false}`, `[1, 1.0, 1.00]`, `{1.0}`, `{"a": {"b": 1}}`,
	`{"a": {"c": 2}}`, `{1: 2}`, `{1.0: 3}`, `[[1, 2], [], 3]`, `{{1}, {1.0, 2}}`, `["a", "b"]`,
}

// edges are the edges of a declared type, and some of others.
func edges(name string, declared types.Type) []ast.Value {
	var all []ast.Value
	add := func(v ast.Value, always bool) {
		if always || types.Compare(types.Or(declared, kindOf(v)), types.Or(declared, nil)) == 0 {
			all = append(all, v)
		}
	}
	for i, s := range append(domain(domains, name), plainTexts[:16]...) {
		add(ast.String(s), i == 0)
	}
	numbers := domain(numberDomains, name)
	if numbers == nil {
		numbers = plainNumbers
	}
	for i, n := range numbers {
		add(ast.Number(n), i == 0)
	}
	for _, term := range composites {
		add(ast.MustParseTerm(term).Value, true)
	}
	if name == ast.NetCIDRMerge.Name {
		for _, s := range domain(domains, name) {
			add(ast.NewArray(ast.StringTerm(s)), true)
			add(ast.NewSet(ast.StringTerm(s)), true)
		}
	}
	return all
}

func kindOf(v ast.Value) types.Type {
	if _, ok := v.(ast.String); ok {
		return types.S
	}
	return types.N
}

// Every edge, and of a function with two arguments each with its neighbours,
// which are alike, and a third of the others.
func TestNativeFunctionsAnswerAsOPAOnEdges(t *testing.T) {
	c := newCourt()
	for _, name := range slices.Sorted(maps.Keys(natives)) {
		declared := ast.BuiltinMap[name].Decl.FuncArgs().Args
		t.Run(name, func(t *testing.T) {
			switch len(declared) {
			case 0:
				c.compare(t, name, nil, nil)
			case 1:
				for _, a := range edges(name, declared[0]) {
					c.compare(t, name, []ast.Value{a}, nil)
				}
			case 2:
				for i, a := range edges(name, declared[0]) {
					for j, b := range edges(name, declared[1]) {
						if (i+j)%3 == 0 || i-j >= -2 && i-j <= 2 {
							c.compare(t, name, []ast.Value{a, b}, nil)
						}
					}
				}
			default:
				return
			}
			if c.answered[name] == 0 {
				t.Error("every call was left to OPA's function")
			}
		})
	}
}
