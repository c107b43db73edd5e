package vm

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func small(t *testing.T) *Program {
	t.Helper()
	compiler, err := ast.CompileModulesWithOpt(map[string]string{"t.rego": "package t\n\np := input.x"},
		ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Plan(t.Context(), compiler, ast.MustParseBody("x = data.t.p"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPanicIsAnErrorWithItsStack(t *testing.T) {
	p := small(t)
	p.functions[0].code[0] = instr{op: opMove, a: 1 << 20}
	r := p.Begin(t.Context(), Input{})
	defer r.End()
	_, err := r.Call(0)
	failed, ok := err.(*Error)
	if !ok || failed.Code != "eval_internal_error" || !strings.Contains(string(failed.Stack), "exec.go") {
		t.Errorf("got %#v", err)
	}
	if _, err := r.Call(0); err != failed {
		t.Errorf("a failed run goes on: %v", err)
	}
}

func TestDeepCallsFail(t *testing.T) {
	r := small(t).Begin(t.Context(), Input{})
	defer r.End()
	r.depth = maxDepth
	_, err := r.Call(0)
	if failed, ok := err.(*Error); !ok || failed.Code != "eval_internal_error" {
		t.Errorf("got %#v", err)
	}
}
