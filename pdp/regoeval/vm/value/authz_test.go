package value_test

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

func TestAuthzIsWhatARequestCanHold(t *testing.T) {
	deep := strings.Repeat("[", 66) + strings.Repeat("]", 66)
	for rego, want := range map[string]string{
		`null`: `null`, `true`: `true`, `"a"`: `"a"`, `7`: `7`, `7.0`: `7`, `0.5`: `0.5`, `-0.5`: `-0.5`,
		`[1, "a", {}]`:             `[1,"a",{}]`,
		`{3, 1, "b", 2}`:           `[1,2,3,"b"]`,
		`set()`:                    `[]`,
		`{"b": {2, 1}, "a": null}`: `{"a":null,"b":[1,2]}`,
		`0.1234567890123456789`:    `0.123456789012346`,
		`3.0000000000000000001`:    `3`,
		`1e2`:                      `100`,
		`9007199254740991`:         `9007199254740991`,
		`9007199254740992`:         `integer 9007199254740992 is outside ±(2^53−1); send it as a string`,
		`[{"a": 1e400}]`:           `integer 1e400`,
		`{1: 2}`:                   `a member's name must be a string, not 1`,
		`{null: 2}`:                `a member's name must be a string, not null`,
		`{false: 2}`:               `a member's name must be a string, not false`,
		`{[1]: 2}`:                 `a member's name must be a string, not a value of type array`,
		`{{1}: 2}`:                 `a member's name must be a string, not a value of type set`,
		`[1, [2, 3], 4, 5, 6, 7]`:  `more than 7 values`,
		deep:                       `more than 7 values`,
	} {
		v := must(value.FromAST(nil, ast.MustParseTerm(rego).Value))
		got, err := value.Authz(v, 7)
		text := got.String()
		if err != nil {
			text = err.Error()
		}
		if text != want && (err == nil || !strings.Contains(text, want)) {
			t.Errorf("%s becomes %s, not %s", rego, text, want)
		}
	}
}

func TestAuthzOwnsItsMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := value.Heap{Poison: true}
		x := draw(t, 3)
		in, ok := inPlace(x)
		if !ok {
			return
		}
		v := held(t, &h, x)
		s := h.Keep(append(h.Buffer(3), "own"...))
		whole := h.NewArray(2)
		h.Append(whole, v)
		h.Append(whole, s)
		out, err := value.Authz(whole, 1_000_000)
		h.Reset()
		if err != nil || !out.Index(0).Equal(in) || out.Index(1).Text() != "own" {
			t.Fatalf("%v becomes %v, %v", x, out, err)
		}
	})
}

func TestValuesAreThreeWords(t *testing.T) {
	if size := unsafe.Sizeof(value.Value{}); size != 24 {
		t.Errorf("a value takes %d bytes", size)
	}
}
