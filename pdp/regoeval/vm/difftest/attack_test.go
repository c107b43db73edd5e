package difftest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
)

// shared are rules whose values are small in memory and endless when they are
// walked.
func shared(name, leaf string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s0 := %s\n", name, leaf)
	for i := range 50 {
		fmt.Fprintf(&s, "%s%d := array.concat([%s%d], [%s%d])\n", name, i+1, name, i, name, i) // hides its type, which OPA's checker goes through
	}
	return s.String()
}

// grown are rules of a text of 2^n letters.
func grown(n int) string {
	s := "t0 := concat(\"\", [input.s, \"a\"])\n"
	for i := range n {
		s += fmt.Sprintf("t%d := concat(\"\", [t%d, t%d])\n", i+1, i, i)
	}
	return s
}

// attacks are policies that would run, or grow, without an end.
var attacks = map[string]string{
	"equal":         shared("a", "input.n") + shared("b", "input.n") + "p if a50 == b50",
	"order":         shared("a", "input.n") + shared("b", "input.n") + "p if a50 < b50",
	"set":           shared("a", "input.n") + shared("b", "input.n") + "p := {a50, b50}",
	"object key":    shared("a", "input.n") + "p := {a50: 1}",
	"member":        shared("a", "input.n") + shared("b", "input.n") + "p if a50 in [b50]",
	"unify":         shared("a", "input.n") + shared("b", "input.n") + "p if [a50, 1] = [b50, 1]",
	"json":          shared("a", "input.n") + "p := json.marshal(a50)",
	"walk":          shared("a", "input.n") + "p if { walk(a50, [x, y]); y == 7 }",
	"foreign":       shared("a", "input.n") + "p := graph.reachable({\"a\": a50}, {\"a\"})",
	"object.subset": shared("a", "input.n") + shared("b", "input.n") + "p := object.subset({\"a\": a50}, {\"a\": b50})",
	"array.flatten": shared("a", "input.n") + "p := array.flatten(a50)",
	"sort":          shared("a", "input.n") + shared("b", "input.n") + "p := sort([a50, b50])",
	"max":           shared("a", "input.n") + shared("b", "input.n") + "p := max([a50, b50])",
	"conflict":      shared("a", "input.n") + shared("b", "input.n") + "p := a50\np := b50",
	"range":         "p := numbers.range(1, 1000000000000)",
	"cidr_expand":   "p := net.cidr_expand(\"10.0.0.0/8\")",
	"replace":       grown(16) + "p := replace(t16, \"a\", t16)",
	"width":         "p := sprintf(\"%1000000000d\", [1])",
	"shift":         "p := bits.lsh(1, 100000000000)",
	"regex replace": grown(16) + "p := regex.replace(t16, \"a\", t16)",
	"yaml bomb":     "p := yaml.unmarshal(\"a: &a [x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f]\\nh: [*g,*g,*g,*g,*g,*g,*g,*g]\")",
	"glob":          grown(16) + "p := glob.match(t16, null, t16)",
	"glob parts":    grown(20) + "p := glob.match(\"" + strings.Repeat("{a,b*}", 200) + "c\", null, t20)",
	"regex":         grown(18) + "p := regex.match(\"(a|aa|aaa|" + strings.Repeat("(a?a)", 100) + ")*b\", t18)",
	"regex counts":  grown(16) + "p := regex.match(\"(a{1,30}){1,30}b\", t16)",
	"regex begins":  grown(14) + "p := regex.find_n(\"a*b|a\", t14, -1)",
	"trim":          grown(20) + "p := trim(t20, replace(t20, \"a\", \"\u00e9\"))",
	"replace_n":     grown(20) + "p := strings.replace_n({x: \"\" | some i in numbers.range(1, 1000); x := format_int(i, 10)}, t20)",
	"sprintf":       shared("a", "input.n") + "p := sprintf(\"%v\", [a50])",
	"template":      shared("a", "input.n") + "p := $\"{a50}\"",
	"product":       "p := product(numbers.range(1, 200000))",
	"digits":        grown(20) + "p := to_number(replace(t20, \"a\", \"1\")) + 1",
	"json digits":   grown(20) + "p := json.unmarshal(replace(t20, \"a\", \"1\")) + 1",
	"units":         grown(20) + "p := units.parse(replace(t20, \"a\", \"1\"))",
	"square":        "x0 := input.n + 9\n" + squares(50) + "p := x50",
}

// squares are rules of a number of 2^n digits.
func squares(n int) (s string) {
	for i := range n {
		s += fmt.Sprintf("x%d := x%d * x%d\n", i+1, i, i)
	}
	return s
}

// deadline is when the evaluations end, grace what one call of a function takes
// after it at most, and memory how much they may make. What would go on does so
// for hours.
const (
	deadline = 50 * time.Millisecond
	grace    = 500 * time.Millisecond
	memory   = 1 << 29
)

// tries are how often an attack may be slow for want of a processor.
const tries = 4

// TestAttacksEndWithTheirTime holds that these policies do not go on after
// their deadline.
func TestAttacksEndWithTheirTime(t *testing.T) {
	for name, rules := range attacks {
		t.Run(name, func(t *testing.T) {
			took, grew := attack(t, rules)
			t.Logf("took %v, %d MiB", took, grew>>20)
			for range tries - 1 {
				if took <= deadline+grace {
					break
				}
				took, grew = attack(t, rules)
				t.Logf("then %v, %d MiB", took, grew>>20)
			}
			if took > deadline+grace {
				t.Errorf("took %v: its time was %v", took, deadline)
			}
			if grew > memory {
				t.Errorf("made %d MiB", grew>>20)
			}
		})
	}
}

func attack(t *testing.T, rules string) (took time.Duration, grew uint64) {
	t.Helper()
	c := ast.NewCompiler()
	if c.Compile(map[string]*ast.Module{"lib": ast.MustParseModuleWithOpts("package lib\n"+rules, v1)}); c.Failed() {
		t.Fatal(c.Errors)
	}
	program, err := vm.Plan(t.Context(), c, query("data.lib.p"))
	if err != nil {
		t.Fatal(err) // it would be topdown's to bound
	}
	entry, _ := program.Entry(ast.MustParseRef("data.lib.p"))
	in := vm.Input{Now: now, Value: valueOf(ast.MustParseTerm(`{"s": "a", "n": 1}`).Value)}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	run := program.Begin(ctx, in)
	_, err = run.Call(entry)
	took = time.Since(start)
	run.End()
	runtime.ReadMemStats(&after)
	var failed *vm.Error
	if errors.As(err, &failed) && len(failed.Stack) > 0 {
		t.Errorf("%v\n%s", failed, failed.Stack)
	}
	t.Log(err)
	return took, after.TotalAlloc - before.TotalAlloc
}
