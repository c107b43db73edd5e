package vm

import (
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// coded plans a rule p and returns its code.
func coded(t *testing.T, text string) (*Program, *function) {
	t.Helper()
	compiler, err := ast.CompileModulesWithOpt(map[string]string{"t.rego": "package t\n\n" + text},
		ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Plan(t.Context(), compiler, ast.MustParseBody("x = data.t.p"))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.functions, func(f function) bool { return strings.HasSuffix(f.name, ".p") })
	return p, &p.functions[i]
}

func codes(f *function) (all []opcode) {
	for i := range f.code {
		all = append(all, f.code[i].op)
	}
	return all
}

func TestCodeDoesNoMoreThanItMust(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []opcode
		unset      int // locals that must be cleared
	}{
		{"a test of a type is no call", `p if is_string(input.x)`,
			[]opcode{opLookUp, opIsKind, opReturn, opReturn}, 1},
		{"what skips a jump is one condition", `p if not input.x == 1`,
			[]opcode{opLookUp, opEqual, opReturn, opReturn}, 1},
		{"members in order are not looked for, and an empty loop not begun", `p contains {"a": x, "b": 1} if some x in input.x`,
			[]opcode{opMove, opLookUp, opScan, opNext, opObject, opInsertLast, opInsertLast, opAdd, opJump, opReturn}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, f := coded(t, c.text)
			if got := codes(f); !slices.Equal(got, c.want) || len(f.unset) != c.unset {
				t.Errorf("code %v, want %v; %d locals are cleared, want %d", got, c.want, len(f.unset), c.unset)
			}
		})
	}
}

func TestPathsShareTheirBeginnings(t *testing.T) {
	p, _ := coded(t, "p if {\n\tinput.a.b.c == 1\n\tinput.a.b.d == 2\n}")
	if len(p.lookUps) != 4 {
		t.Errorf("%d look-ups, want a, b, c and d", len(p.lookUps))
	}
}

func TestAFunctionTooLargeToLookAtIsLeftAsItIs(t *testing.T) {
	f := function{locals: 64 * mostLive, params: inputAndData, code: []instr{{op: opMove, a: 3}, {op: opReturn, b: 3}}, places: make([]place, 2)}
	f.dropUnread()
	f.settleLocals()
	if len(f.code) != 2 || f.locals != 3 {
		t.Errorf("%d instructions over %d locals", len(f.code), f.locals)
	}
}

func TestFramesAreForgotten(t *testing.T) {
	p, _ := coded(t, `p := concat("", [input, "!"])`)
	r := p.Begin(t.Context(), Input{Value: value.OfString("of one request")})
	if _, err := r.Call(0); err != nil {
		t.Fatal(err)
	}
	held := func() bool {
		return slices.ContainsFunc(r.stack, func(v value.Value) bool { return v.Defined() })
	}
	if !held() {
		t.Fatal("the frame holds nothing, so this shows nothing")
	}
	r.ended = forgetEvery - 1
	r.End()
	if held() {
		t.Error("a frame still holds values")
	}
}
