package vm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// planned plans data.t.p of a module.
func planned(t testing.TB, module string) (*vm.Program, error) {
	t.Helper()
	compiler, err := ast.CompileModulesWithOpt(map[string]string{"t.rego": "package t\n\n" + module},
		ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	if err != nil {
		t.Fatal(err)
	}
	return vm.Plan(t.Context(), compiler, ast.MustParseBody("x = data.t.p"))
}

func program(t testing.TB, module string) (*vm.Program, vm.Entry) {
	t.Helper()
	p, err := planned(t, module)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := p.Entry(ast.MustParseRef("data.t.p"))
	if !ok {
		t.Fatal("data.t.p is no entry")
	}
	return p, e
}

// call asks data.t.p once.
func call(ctx context.Context, p *vm.Program, e vm.Entry, in vm.Input) (string, error) {
	r := p.Begin(ctx, in)
	defer r.End()
	v, err := r.Call(e)
	if err != nil || !v.Defined() {
		return "undefined", err
	}
	return v.AST().String(), nil
}

func term(t testing.TB, text string) value.Value {
	t.Helper()
	v, err := value.FromAST(nil, ast.MustParseTerm(text).Value)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wantCode(t *testing.T, err error, code string) *vm.Error {
	t.Helper()
	var failed *vm.Error
	if !errors.As(err, &failed) || failed.Code != code {
		t.Fatalf("got %v, want an error with the code %s", err, code)
	}
	return failed
}

func TestRunsEndAtTheirBounds(t *testing.T) {
	p, e := program(t, "p := [1 | some a in input; some b in input; a != b]")
	list := term(t, "["+strings.Repeat("0, ", 150)+strings.Repeat("1, ", 150)+"]")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, row := range map[string]struct {
		ctx context.Context
		in  vm.Input
	}{
		"steps":   {t.Context(), vm.Input{Steps: 50_000}},
		"values":  {t.Context(), vm.Input{Values: 5_000}},
		"context": {ended, vm.Input{}},
	} {
		t.Run(name, func(t *testing.T) {
			row.in.Value = list
			_, err := call(row.ctx, p, e, row.in)
			wantCode(t, err, vm.CodeBudget)
		})
	}
	if got, err := call(t.Context(), p, e, vm.Input{Value: list}); strings.Count(got, "1") != 45_000 {
		t.Error(len(got), err)
	}
}

// ending is a context that ends when it is looked at for the second time.
type ending struct {
	context.Context
	looks int
}

func (e *ending) Err() error {
	if e.looks++; e.looks > 1 {
		return context.Canceled
	}
	return nil
}

func TestARunEndsWithItsContext(t *testing.T) {
	p, e := program(t, "p := count([1 | some a in numbers.range(1, 300); some b in numbers.range(1, 300); a != b])")
	_, err := call(&ending{Context: t.Context()}, p, e, vm.Input{})
	wantCode(t, err, vm.CodeBudget)
}

func TestWithHasValuesOfItsOwn(t *testing.T) {
	p, e := program(t, `a := input.x

f(y) := input.x + y

p := [a, f(1), inner, f2, a, f(1)] if {
	inner := a with input as {"x": 2}
	f2 := f(1) with input.x as 5
}`)
	got, err := call(t.Context(), p, e, vm.Input{Value: term(t, `{"x": 1}`)})
	if got != "[1, 2, 2, 6, 1, 2]" {
		t.Error(got, err)
	}
}

// What follows an expression with `with` knows what was computed before: each
// rule here would else be evaluated twice as often as the one after it.
func TestRulesAreEvaluatedOnceAroundWith(t *testing.T) {
	var module strings.Builder
	module.WriteString("r0 := 1\n")
	for i := range 40 {
		fmt.Fprintf(&module, "\nr%d := a + b if {\n\ttrue with input as 1\n\ta := r%d\n\ttrue with input as 2\n\tb := r%d\n}\n", i+1, i, i)
	}
	p, e := program(t, module.String()+"\np := r40\n")
	if got, err := call(t.Context(), p, e, vm.Input{Steps: 1000}); got != "1099511627776" {
		t.Error(got, err)
	}
}

func TestFunctionsAreEvaluatedOnceInARow(t *testing.T) {
	var module strings.Builder
	module.WriteString("f0(x) := x\n")
	for i := range 40 {
		fmt.Fprintf(&module, "\nf%d(x) := a + b if {\n\ta := f%d(x)\n\tb := f%d(x)\n}\n", i+1, i, i)
	}
	p, e := program(t, module.String()+"\np := [f40(1), f40(2)]\n")
	if got, err := call(t.Context(), p, e, vm.Input{Steps: 1000}); got != "[1099511627776, 2199023255552]" {
		t.Error(got, err)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	for module, want := range map[string]vm.Error{
		"p := 1 if input.a\n\np := 2 if input.a":     {Code: "eval_conflict_error", Message: "rule data.t.p produced conflicting values", File: "t.rego", Line: 5},
		"f(x) := input[x][_]\n\np := f(\"b\")":       {Code: "eval_conflict_error", Message: "function data.t.f produced conflicting values for the same inputs", File: "t.rego", Line: 3},
		"p := {x: y |\n\tx := 1\n\ty := input.b[_]}": {Code: "eval_conflict_error", Message: "object keys must be unique", File: "t.rego", Line: 3},
		"p := to_number(input.b)":                    {Code: "eval_type_error", File: "t.rego", Line: 3},
		"p := to_number(input.c)":                    {Code: "eval_builtin_error", File: "t.rego", Line: 3},
	} {
		p, e := program(t, module)
		_, err := call(t.Context(), p, e, vm.Input{Value: term(t, `{"a": true, "b": [1, 2], "c": "x"}`)})
		got := wantCode(t, err, want.Code)
		if want.Message != "" && got.Message != want.Message || got.File != want.File || got.Line != want.Line {
			t.Errorf("%s\ngot  %+v\nwant %+v", module, *got, want)
		}
	}
}

func TestLenientRunsForgiveBuiltins(t *testing.T) {
	p, e := program(t, "p := to_number(input.c)")
	in := vm.Input{Value: term(t, `{"c": "x"}`), Lenient: true}
	if got, err := call(t.Context(), p, e, in); got != "undefined" || err != nil {
		t.Error(got, err)
	}
}

func TestWhatTopdownDoesOtherwiseIsRefused(t *testing.T) {
	for module, want := range map[string]string{
		"p := http.send({})": "http.send",
		`p[g] := names if {
	g := input.groups[_].id
	names := [n | e := input.list[_]; e.group == g; n := to_number(e.name)]
}`: "for all values of a variable at once",
		"p if { [x | x := to_number(input.a)] }":                    "nobody reads",
		"p.a := {\"b\": 1}\n\np[x].c := 2 if some x in input.names": "goes on below another",
	} {
		_, err := planned(t, module)
		var refused *vm.Unsupported
		if !errors.As(err, &refused) || !strings.Contains(refused.Why, want) {
			t.Errorf("%s\ngot %v, want it refused: %s", module, err, want)
		}
	}
}

func TestOnlyRulesAreEntries(t *testing.T) {
	p, e := program(t, "f(x) := x\n\np := f(1)\n\nq := 1")
	for _, ref := range []string{"data.t.f", "data.t.q", "data.t", "data.t.p.x", "input.t.p", "data.t[x]"} {
		if _, ok := p.Entry(ast.MustParseRef(ref)); ok {
			t.Errorf("%s is an entry", ref)
		}
	}
	if got, err := call(t.Context(), p, e, vm.Input{}); got != "1" {
		t.Error(got, err)
	}
}

const warm = `deny contains {"rule": "port", "at": i} if {
	some i, entry in input.entries
	entry.port in {22, 3389}
	not open(entry)
}

open(entry) if entry.public == true

p := {"deny": deny, "count": count(deny)}`

func TestWarmRunsAllocateNothing(t *testing.T) {
	p, e := program(t, warm)
	in := vm.Input{Value: term(t, `{"entries": [{"port": 22}, {"port": 443}, {"port": 3389, "public": true}]}`)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	least := 1e9 // the detector of races empties pools now and then
	for range 50 {
		least = min(least, testing.AllocsPerRun(1, func() {
			r := p.Begin(ctx, in)
			defer r.End()
			if v, err := r.Call(e); err != nil || v.Len() != 2 {
				t.Fatal(v.AST(), err)
			}
		}))
	}
	if least > 0 {
		t.Errorf("%v allocations a run", least)
	}
}

func TestAProgramServesManyRuns(t *testing.T) {
	p, e := program(t, warm)
	var all sync.WaitGroup
	for i := range 8 {
		in := vm.Input{Value: term(t, fmt.Sprintf(`{"entries": [{"port": 22, "n": %d}, {"port": 3389, "public": %t}]}`, i, i%2 == 0))}
		want := fmt.Sprintf(`"count": %d`, 2-(i+1)%2)
		all.Go(func() {
			for range 200 {
				if got, err := call(t.Context(), p, e, in); !strings.Contains(got, want) {
					t.Error(got, err)
				}
			}
		})
	}
	all.Wait()
}
