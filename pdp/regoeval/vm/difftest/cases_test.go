package difftest

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestWhatProgramsFound keeps the differences that random programs showed,
// made small.
func TestWhatProgramsFound(t *testing.T) {
	for name, c := range map[string]struct{ rules, input, data string }{
		"a function is replaced before input": {
			"f(x) if input.o == x\nr contains 1 if data.base.t with data.lib.f as 1 with input as data.mix.l[1]", `{}`, `{"base": {"t": 1}, "mix": {"l": [1, 2]}}`,
		},
		"composites share variables": {
			`r := a if [a, _, b] = ["a", [a, b], input.l]`, `{"l": [1]}`, `{}`,
		},
		"composites share variables in a function": {
			`f(x) := a if [a, _, b] = ["a", [a, b], x]` + "\nr := f(input.l)", `{"l": [1]}`, `{}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := parsed([]byte(c.input)).Value
			data := parsed([]byte(c.data)).Value
			p := &program{
				texts: map[string][]string{"lib": lines(c.rules), "main": nil}, rules: []string{"data.lib.r"},
				worlds: []world{{input: members(in), data: members(data)}},
			}
			p.compile()
			if len(p.texts["lib"]) != len(lines(c.rules)) {
				t.Fatal("the rules do not compile")
			}
			if what := p.judge(t.Context(), &tally{}); what != "" {
				t.Error(what)
			}
		})
	}
}

func lines(rules string) []string { return strings.Split(rules, "\n") }

func members(v ast.Value) map[string]any {
	v2, err := ast.JSON(v)
	if err != nil {
		panic(err)
	}
	return v2.(map[string]any)
}
