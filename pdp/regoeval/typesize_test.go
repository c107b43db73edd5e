package regoeval_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestTypesThatWouldNotEndAreFaults compiles pairs of pairs, for which OPA's
// checker takes time without an end.
func TestTypesThatWouldNotEndAreFaults(t *testing.T) {
	for name, step := range map[string]string{
		"array":         "x%[1]d := [x%[2]d, x%[2]d]",
		"object":        `x%[1]d := {"a": x%[2]d, "b": x%[2]d}`,
		"body":          "x%[1]d := y if { z := x%[2]d; y := [z, z] }",
		"unified":       "x%[1]d := y if { [y, _] = [[x%[2]d, x%[2]d], 1] }",
		"comprehension": "x%[1]d := [[x%[2]d, y] | y := x%[2]d]",
		"function":      "x%[1]d := f%[1]d(1)\nf%[1]d(_) := [x%[2]d, x%[2]d]",
		"partial":       "x%[1]d[k] := [x%[2]d, x%[2]d] if some k in [\"a\"]",
		"else":          "x%[1]d := 1 if input.tenant == \"a\" else := [x%[2]d, x%[2]d]",
		"contains":      "x%[1]d contains [x%[2]d, x%[2]d]",
		"one body":      "",
	} {
		t.Run(name, func(t *testing.T) {
			text := declared("r") + `deny contains {"rule": "r"} if input.tenant == "acme"` + "\nx0 := 1\n"
			for i := range 50 {
				if step != "" {
					text += fmt.Sprintf(step, i+1, i) + "\n"
				}
			}
			if step == "" {
				text += "\n\np if {\n\ty0 := input.tenant\n"
				for i := range 50 {
					text += fmt.Sprintf("\ty%d := [y%d, y%d]\n", i+1, i, i)
				}
				text += "}\n"
			}
			faults := faultsOf(t, policy(text))
			if f := faults[0]; f.File != "platform/p.rego" || f.Line < 8 || !strings.Contains(f.Message, "has more than") {
				t.Errorf("%v", faults)
			}
		})
	}
}
