package vm_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
)

// unsettled is a module whose rules answer otherwise in a plan, for this input.
const unsettled = `package left

both := {"x": input.y}

set := [v | some v in {input.x, input.y}]

positions := [v | some v, _ in {input.x, input.y}]

repeated := [v | some v in {input.x, both.x, input.y}]

keys := [k | some k, _ in {input.y: 1, input.x: 2}]

first := {input.y: 1, both.x: 2}[input.y]

within := [v | s := {"a": {input.x, input.y}}; some v in s.a]

parts := [v | [s, _] = [{input.x, input.y}, 3]; s[v]]

calls := [v | some v in {upper(input.x), input.y}]

argument := through({input.x, input.y})

through(s) := [v | t := s; some v in t]

pattern := unpack([{input.x, input.y}, 1])

unpack([s, _]) := [v | some v in s]

otherwise := either({input.x, input.y})

either(s) := [1 | s == {}] if s == {} else := [v | some v in s]

mocked := x if x := plain({input.x, input.y}) with plain as swapped

plain(_) := 1

swapped(s) := [v | some v in s]

result := {input.x, input.y}

of_result := [v | some v in result]

of_result_again := [v | t := result; some v in t]

returned := [v | some v in make_set(input.x, input.y)]

make_set(a, b) := {a, b}

failing if {
	every v in {input.x, input.y} { to_number(v) > 1 }
}

siblings := [[v | t := {1, 2}; t[v]], [v | t := {input.x, input.y}; t[v]]]

negated if not count([v | some v in {input.x, input.y}]) == 1
`

// settled is one whose rules read no order.
const settled = `package stays

sum_of := count({input.x, input.y})

member if input.x in {input.x, input.y}

found := [v | v := input.x; s := {input.x, input.y}; s[v]]

result := {input.x, input.y}

found_in_result if result[input.x]

of_many contains v if some v in [input.x, input.y]

many := [v | some v in of_many]

walked := [v | s := {input.x, input.y}; walk(s, [_, v])]

union := [v | some v in ({input.x} | {input.y, "3"})]

one := [v | some v in {input.x}]

constants := [v | some v in {"b", "a"}]

object := [v | o := {"a": input.x, "b": [input.y]}; some v in o]

beside := [v | o := {"s": {input.x, input.y}, "l": input.l}; some v in input.l; count(o.s) > 1]

comprehended := [v | some v in {w | some w in input.l}]

every_one if {
	every v in {input.x, input.y} { v > "0" }
}
`

func literal(t *testing.T, name, module, rule string) *question {
	t.Helper()
	c, err := ast.CompileModulesWithOpt(map[string]string{name: module}, ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	if err != nil {
		t.Fatal(err)
	}
	in := ast.MustInterfaceToValue(map[string]any{"x": "2", "y": "1", "l": []any{"b", "a"}})
	return &question{compiler: c, query: ast.MustParseBody("x = " + rule), data: map[string]any{}, input: in, strict: true}
}

func rulesIn(module string) (names []string) {
	for _, r := range ast.MustParseModuleWithOpts(module, ast.ParserOptions{RegoVersion: ast.RegoV1}).Rules {
		if len(r.Head.Args) == 0 {
			names = append(names, r.Head.Name.String())
		}
	}
	return names
}

// TestLiteralOrderIsLeftToTopdown: a literal that holds references is read in
// the order of these.
func TestLiteralOrderIsLeftToTopdown(t *testing.T) {
	for _, name := range rulesIn(unsettled) {
		if name == "both" || name == "result" {
			continue
		}
		_, err := literal(t, "left.rego", unsettled, "data.left."+name).run(t.Context())
		var refused *vm.Unsupported
		if !errors.As(err, &refused) || refused.File != "left.rego" || refused.Line == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLiteralValueStays: where the value is made first, a plan does the same.
func TestLiteralValueStays(t *testing.T) {
	for _, name := range rulesIn(settled) {
		q := literal(t, "stays.rego", settled, "data.stays."+name)
		got, err := q.run(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want, err := q.topdown(t.Context())
		if err != nil || len(want) == 0 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v, %v", name, got, want, err)
		}
	}
}
