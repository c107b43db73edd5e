package builtin

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// call parses the arguments of a call, which are spelt as an array.
func parsed(t testing.TB, h *value.Heap, list string) []value.Value {
	t.Helper()
	array := ast.MustParseTerm(list).Value.(*ast.Array)
	args := make([]value.Value, array.Len())
	for i := range args {
		v, err := value.FromAST(h, array.Elem(i).Value)
		if err != nil {
			t.Fatal(err)
		}
		args[i] = v
	}
	return args
}

// shared is a value of so many levels, each of which holds the one below twice:
// small in memory, and endless where it is written out.
func shared(levels int) value.Value {
	var h *value.Heap
	v := value.OfInt(1)
	for range levels {
		object := h.NewObject()
		h.Insert(object, value.OfString("a"), v)
		h.Insert(object, value.OfString("b"), v)
		v = object
	}
	return value.Freeze(v)
}

// Freeze copies, so levels are few; the heap of the test is smaller still.
const sharedLevels = 14

func TestFunctionsStopBeforeTheMemoryIsGone(t *testing.T) {
	text := fmt.Sprintf("%q", strings.Repeat("a", 6_000))
	long := fmt.Sprintf("%q", strings.Repeat("a", 60_000))
	short := fmt.Sprintf("%q", strings.Repeat("a", 2_000))
	groups := fmt.Sprintf("%q", strings.Repeat("(", 200)+"a"+strings.Repeat(")", 200))
	for _, call := range []struct{ name, args string }{
		{"numbers.range", `[0, 1000000000000]`},
		{"numbers.range", `[1e30, 0]`},
		{"numbers.range", `[-9223372036854775808, 9223372036854775807]`},
		{"numbers.range_step", `[0, 1e18, 2]`},
		{"bits.lsh", `[1, 1000000000]`},
		{"bits.lsh", `[1.0, 1e18]`},
		{"bits.lsh", `[123456789012345678901234567890, 18446744073709551615]`},
		{"replace", `[` + long + `, "a", ` + long + `]`},
		{"replace", `[` + long + `, "", ` + long + `]`},
		{"strings.replace_n", `[{"a": ` + long + `}, ` + long + `]`},
		{"strings.replace_n", `[{"": ` + long + `}, ` + long + `]`},
		{"regex.replace", `[` + text + `, "a", ` + text + `]`},
		{"regex.replace", `[` + text + `, "(a+)", ` + fmt.Sprintf("%q", strings.Repeat("$1", 1000)) + `]`},
		{"regex.find_all_string_submatch_n", `[` + groups + `, ` + short + `, -1]`},
		{"regex.find_n", `["a", ` + text + `, -1]`},
		{"regex.split", `["a", ` + text + `]`},
		{"concat", `[` + long + `, ["a", "b", "c"]]`},
		{"split", `[` + long + `, ""]`},
		{"strings.split_n", `[` + long + `, "a", -10000]`},
		{"indexof_n", `[` + long + `, "a"]`},
		{"sprintf", `["%1000000d", [1]]`},
		{"sprintf", `["%.999999f", [1]]`},
		{"sprintf", `["%*d", [1000000, 1]]`},
		{"sprintf", `["%[1]s%[1]s%[1]s%[1]q", [` + long + `]]`},
		{"sprintf", `["%s%s%s", [` + long + `, ` + long + `, ` + long + `]]`},
		{"internal.template_string", `[[` + long + `, ` + long + `]]`},
		{"net.cidr_expand", `["10.0.0.0/8"]`},
		{"net.cidr_expand", `["::/0"]`},
		{"base64.encode", `[` + long + `]`},
		{"upper", `[` + long + `]`},
		{"strings.reverse", `[` + long + `]`},
	} {
		stops(t, call.name, parsed(t, nil, call.args))
	}
	endless := shared(sharedLevels)
	var h *value.Heap
	list := h.NewArray(1)
	h.Append(list, endless)
	set := h.NewSet()
	h.Add(set, endless)
	parts := h.NewArray(1)
	h.Append(parts, set)
	stops(t, "walk", []value.Value{endless})
	stops(t, "json.marshal", []value.Value{endless})
	stops(t, "sprintf", []value.Value{value.OfString("%v"), list})
	stops(t, "internal.template_string", []value.Value{parts})
	both := h.NewArray(2)
	h.Append(both, endless)
	h.Append(both, endless)
	stops(t, "object.union_n", []value.Value{both})
}

// stops holds that a call ends for want of memory, and has not used much of it.
func stops(t *testing.T, name string, args []value.Value) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, _ := Lookup(name)
	_, err := f(newCall(&value.Heap{Limit: 2000}), args)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, value.ErrMemory) {
		t.Errorf("%s: %v", name, err)
	}
	most := uint64(8 << 20)
	if strings.HasPrefix(name, "regex.") {
		most = 256 << 20 // regexp's buffers, which are thrown away again
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > most {
		t.Errorf("%s used %d MiB", name, used>>20)
	}
}

func TestArraysThatGrowInALoopStop(t *testing.T) {
	c := newCall(&value.Heap{Limit: 10_000})
	f, _ := Lookup("array.concat")
	array := parsed(t, nil, `[[1, 2]]`)[0]
	for range 30 {
		longer, err := f(c, []value.Value{array, array})
		if errors.Is(err, value.ErrMemory) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		array = longer
	}
	t.Errorf("an array of %d elements was made", array.Len())
}

// What is hot allocates nothing once its heap and its Call are warm.
func TestHotFunctionsAllocateNothing(t *testing.T) {
	for _, call := range hot {
		if call.allocates {
			continue
		}
		h := &value.Heap{}
		c := newCall(h)
		args := parsed(t, nil, call.args)
		f, _ := Lookup(call.name)
		if n := testing.AllocsPerRun(20, func() {
			if _, err := f(c, args); err != nil {
				t.Fatal(err)
			}
			h.Reset()
		}); n != 0 {
			t.Errorf("%s%s allocates %v times", call.name, call.args, n)
		}
	}
}

func TestPatternsOfRequestsAreKeptWithinBounds(t *testing.T) {
	h := &value.Heap{Poison: true}
	c := newCall(h)
	match, _ := Lookup("regex.match")
	glob, _ := Lookup("glob.match")
	text := func(s string) value.Value { return h.Keep(append(h.Buffer(len(s)), s...)) }
	for _, repeated := range []string{"", strings.Repeat("(ab){2}", 5)} {
		for i := range 3 * mostCompiled {
			if _, err := match(c, []value.Value{text(fmt.Sprintf("^a%d%s", i, repeated)), value.OfString("a")}); err != nil {
				t.Fatal(err)
			}
			if _, err := glob(c, []value.Value{text(fmt.Sprintf("a%d*", i)), value.NullValue, value.OfString("a")}); err != nil {
				t.Fatal(err)
			}
			h.Reset()
			if len(regexps.known) > mostCompiled || len(compiledGlobs.known) > mostCompiled || regexps.spent > maxCompiled {
				t.Fatalf("%d patterns of about %d bytes and %d globs are kept", len(regexps.known), regexps.spent, len(compiledGlobs.known))
			}
		}
	}
	if _, err := match(c, parsed(t, nil, fmt.Sprintf(`[%q, "a"]`, strings.Repeat("(a{1,9}|b)", 500)))); err != nil {
		t.Fatal(err)
	}
	spent := 0
	for s := range regexps.known {
		spent += s.size()
		if strings.Contains(s.text, "\xDB") {
			t.Fatal("a kept pattern lies in a heap that was reset")
		}
		if len(s.text) > 4000 {
			t.Error("a pattern that may be large is kept")
		}
	}
	for s := range compiledGlobs.known {
		if strings.Contains(s.text, "\xDB") {
			t.Fatal("a kept glob lies in a heap that was reset")
		}
	}
	if spent == 0 || spent != regexps.spent {
		t.Errorf("patterns of about %d bytes are kept, %d by count", spent, regexps.spent)
	}
}
