package difftest

import (
	"fmt"
	"strings"
)

// writer writes random policies. Rules refer to rules before them, so that
// few are recursive; lines that do not compile are left out afterwards.
type writer struct {
	*dice
	rules     []string       // references to rules so far
	functions map[string]int // by name, how many arguments they take
	names     []string       // of functions, in order
	vars      []variable     // bound where the writer is
	next      int
	request   bool                // documents are such as a request and a table may be
	texts     map[string][]string // rules by package
}

type variable struct {
	name string
	kind kind
}

func newWriter(b []byte) *writer {
	return &writer{dice: &dice{bytes: b}, functions: map[string]int{}, texts: map[string][]string{}}
}

func (w *writer) bind(k kind) string {
	w.next++
	v := fmt.Sprintf("v%d", w.next)
	w.vars = append(w.vars, variable{v, k})
	return v
}

// known is a bound variable that may be of the kind, "" if there is none.
func (w *writer) known(k kind) string {
	var fit []string
	for _, v := range w.vars {
		if k == anything || v.kind == k || v.kind == anything {
			fit = append(fit, v.name)
		}
	}
	if len(fit) == 0 {
		return ""
	}
	return pick(w.dice, fit...)
}

// scope begins one: variables that are bound until it ends are its own.
func (w *writer) scope() (end func()) {
	vars := w.vars
	return func() { w.vars = vars[:len(vars):len(vars)] }
}

func (w *writer) function() string {
	if len(w.names) == 0 {
		return ""
	}
	return pick(w.dice, w.names...)
}

func (w *writer) arguments(name string, depth int) string {
	args := make([]string, w.functions[name])
	for i := range args {
		args[i] = w.term(anything, depth)
	}
	return strings.Join(args, ", ")
}

func (w *writer) body(n, depth int) string {
	literals := make([]string, n)
	for i := range literals {
		literals[i] = w.literal(max(depth, 0))
	}
	return strings.Join(literals, "; ")
}

func (w *writer) literal(depth int) string {
	switch w.roll(28) {
	case 0:
		return w.term(truth, depth)
	case 1, 2, 3:
		k := pick(w.dice, anything, number, text, array, object, set)
		t := w.term(k, depth)
		return w.bind(k) + " := " + t
	case 4, 5, 6, 7:
		return w.some(depth)
	case 8:
		return w.term(anything, depth) + pick(w.dice, " == ", " != ", " < ", " <= ", " > ", " in ") + w.term(anything, depth)
	case 11, 12:
		return w.ref(true) + " = " + w.pattern(depth)
	case 13:
		return w.pattern(depth) + " = " + w.pattern(depth)
	case 14, 15, 16:
		return "not " + w.closed(depth)
	case 17, 18:
		if depth > 0 {
			return w.every(depth)
		}
	case 19:
		t := w.term(pick(w.dice, object, array, anything), 0)
		if w.once(3) {
			return "walk(" + t + ", [" + w.bind(array) + ", " + w.leaf(anything) + "])"
		}
		return "walk(" + t + ", [" + w.bind(array) + ", " + w.bind(anything) + "])"
	case 20, 21, 22, 23:
		return w.closed(depth) + w.withs(depth)
	case 24:
		list := w.ref(false)
		i := w.bind(number)
		return "some " + i + "; " + list + "[" + i + "] = " + w.pattern(depth)
	case 25:
		return w.term(anything, 0) + ", " + w.term(anything, 0) + " in " + w.term(pick(w.dice, array, object), depth)
	case 26:
		return w.callOr(truth, depth)
	}
	return w.ref(true)
}

func (w *writer) some(depth int) string {
	t := w.term(pick(w.dice, array, object, set, anything), depth)
	switch w.roll(6) {
	case 0, 1, 2:
		return "some " + w.bind(anything) + ", " + w.bind(anything) + " in " + t
	case 3:
		return "some " + w.bind(anything) + " in " + t
	case 4:
		return "some [" + w.bind(anything) + ", " + w.bind(anything) + "] in " + t
	default:
		return `some {"n": ` + w.bind(number) + "} in " + t
	}
}

func (w *writer) every(depth int) string {
	domain := w.term(pick(w.dice, array, object, set, anything), depth-1)
	defer w.scope()()
	return "every " + w.bind(anything) + ", " + w.bind(anything) + " in " + domain + " { " + w.body(1+w.roll(2), depth-1) + " }"
}

func (w *writer) callOr(k kind, depth int) string {
	if c := w.callOf(k, depth); c != "" {
		return c
	}
	return w.leaf(k)
}

// pattern is a term that may hold variables that it binds.
func (w *writer) pattern(depth int) string {
	part := func() string {
		switch w.roll(5) {
		case 0:
			return w.bind(anything)
		case 1:
			return "_"
		case 2:
			if depth > 0 {
				return w.pattern(depth - 1)
			}
		}
		return w.term(anything, depth-1)
	}
	switch w.roll(6) {
	case 0:
		return w.bind(anything)
	case 1, 2:
		return "[" + part() + ", " + part() + "]"
	case 3:
		return fmt.Sprintf("{%q: %s, %q: %s}", "n", part(), pick(w.dice, "s", "a"), part())
	case 4:
		return "[" + part() + ", " + part() + ", " + part() + "]"
	default:
		return w.term(anything, depth)
	}
}

// closed is a literal whose variables end with it.
func (w *writer) closed(depth int) string {
	defer w.scope()()
	switch w.roll(8) {
	case 0, 1:
		return w.ref(false)
	case 2:
		return w.term(anything, 0) + pick(w.dice, " == ", " != ", " < ", " in ") + w.term(anything, depth)
	case 3:
		return w.callOr(pick(w.dice, truth, anything), depth)
	case 4:
		return w.term(anything, depth)
	case 5:
		return "[" + w.term(anything, depth-1) + ", 1] = " + w.term(anything, depth)
	}
	if f := w.function(); f != "" {
		return f + "(" + w.arguments(f, depth-1) + ")"
	}
	return w.ref(false) + "[_]"
}

// withs are one to three replacements, of the same thing too.
func (w *writer) withs(depth int) string {
	var s strings.Builder
	for range 1 + w.roll(3) {
		target := pick(w.dice, "input", "input.n", "input.e", "input.c.a.b", "input.o.new", "data.base", "data.base.o", "data.base.n", "data.lib.extra", "data.mix.x", "builtin", "rule", "function")
		value := w.term(anything, min(depth, 1))
		switch target {
		case "builtin":
			target = pick(w.dice, "count", "lower", "to_number", "time.now_ns", "concat", "json.unmarshal", "net.cidr_contains")
			if f := w.function(); f != "" && w.once(2) {
				value = f
			}
		case "rule":
			if target = "input.x"; len(w.rules) > 0 {
				target = pick(w.dice, w.rules...)
			}
		case "function":
			if target = w.function(); target == "" {
				target = "input"
			} else if w.once(2) {
				value = w.function()
			}
		}
		s.WriteString(" with " + target + " as " + value)
	}
	return s.String()
}
