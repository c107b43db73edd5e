package difftest

import (
	"fmt"
	"strings"
)

// kind is what a term should be. Terms of other kinds are written now and
// then where the compiler cannot see it: through input and data.
type kind byte

const (
	anything kind = '.'
	number   kind = 'n'
	text     kind = 's'
	truth    kind = 'b'
	array    kind = 'l'
	object   kind = 'o'
	set      kind = 'u'
	other    kind = 'x'
)

func (w *writer) quoted(family string) string {
	if some := near[family]; some != nil && !w.once(4) {
		return fmt.Sprintf("%q", pick(w.dice, some...))
	}
	return fmt.Sprintf("%q", pick(w.dice, texts...))
}

// term is an expression without unbound variables.
func (w *writer) term(k kind, depth int) string {
	if w.once(3) {
		if v := w.known(k); v != "" {
			return v
		}
	}
	if k == anything {
		k = pick(w.dice, number, text, truth, array, object, set, other, other)
	}
	if depth <= 0 {
		return w.leaf(k)
	}
	switch w.roll(10) {
	case 0, 1, 2:
		return w.leaf(k)
	case 3, 4:
		if call := w.callOf(k, depth); call != "" {
			return call
		}
	case 5:
		if name := w.function(); name != "" {
			return name + "(" + w.arguments(name, depth-1) + ")"
		}
	case 6:
		return w.ref(false)
	}
	return w.composed(k, depth)
}

func (w *writer) composed(k kind, depth int) string {
	switch k {
	case array:
		if w.once(2) {
			return "[" + w.comprehension(false, depth) + "]"
		}
		return "[" + w.several(depth-1) + "]"
	case object:
		if w.once(2) {
			return "{" + w.comprehension(true, depth) + "}"
		}
		return fmt.Sprintf("{%q: %s, %s: %s}", pick(w.dice, "a", "n", "é"), w.term(anything, depth-1), w.leaf(pick(w.dice, text, number, anything)), w.term(anything, depth-1))
	case set:
		if w.once(2) {
			return "{" + w.comprehension(false, depth) + "}"
		}
		return "{" + w.several(depth-1) + ", " + w.leaf(anything) + "}"
	case number:
		return fmt.Sprintf("(%s %s %s)", w.term(number, depth-1), pick(w.dice, "+", "-", "*", "/", "%"), w.term(number, depth-1))
	case text:
		if w.once(3) {
			return fmt.Sprintf("$\"é{%s}-{%s}\"", w.plain(depth-1), w.plain(depth-1))
		}
		return fmt.Sprintf("sprintf(%s, [%s])", w.quoted("sprintf"), w.several(depth-1))
	case truth:
		return fmt.Sprintf("(%s %s %s)", w.term(anything, depth-1), pick(w.dice, "==", "!=", "<", "<=", ">", ">="), w.term(anything, depth-1))
	default:
		return w.leaf(anything)
	}
}

// plain is a term that a template may hold.
func (w *writer) plain(depth int) string {
	t := w.term(anything, depth)
	if strings.ContainsAny(t, "\"{}") {
		return w.ref(false)
	}
	return t
}

func (w *writer) several(depth int) string {
	terms := make([]string, 1+w.roll(3))
	for i := range terms {
		terms[i] = w.term(anything, depth)
	}
	return strings.Join(terms, ", ")
}

func (w *writer) leaf(k kind) string {
	if w.once(2) {
		return w.given(k)
	}
	switch k {
	case number:
		return pick(w.dice, numbers...)
	case text:
		return w.quoted("")
	case truth:
		return pick(w.dice, "true", "false")
	case array:
		return pick(w.dice, "[]", "[1, 2]", `["b", "a", "é"]`, `[[1, "a"], {"a": 1}]`, "[1, 1.0, null]", `[{"n": 1}, {"n": 1.0}]`)
	case object:
		return pick(w.dice, "{}", `{"a": 1}`, `{"b": {"a": 2}, "a": [1]}`, `{1: "a", "1": "b", true: null}`, `{[1]: {2}, {3}: 4}`)
	case set:
		return pick(w.dice, "set()", "{1, 2}", `{"b", "a", 3, null, [1], {2}, {"x": 1}}`, "{1, 1.0, 100, 1e2}", "{0, -0}")
	default:
		return pick(w.dice, "null", "1", "true", `"a"`)
	}
}

// given is something of the kind in input or data, most of the time.
func (w *writer) given(k kind) string {
	root := pick(w.dice, "input", "input", "input", "data.base", "data.base", "data.mix")
	if k == other || k == anything || w.once(8) {
		return root + pick(w.dice, ".x", ".n", ".e[0].l", ".o.a", `["é"]`, ".c.a.b", ".missing", ".l[1]", "")
	}
	if k == set {
		return fmt.Sprintf("{y | some y in %s.l}", root)
	}
	switch w.roll(6) {
	case 4:
		return root + ".e[0]." + string(rune(k))
	case 5:
		return root + ".c." + string(rune(k))
	}
	return root + "." + string(rune(k))
}

// ref is a reference, which binds variables where it is open.
func (w *writer) ref(open bool) string {
	var s strings.Builder
	s.WriteString(w.root())
	for range w.roll(4) {
		switch n := w.roll(14); {
		case n < 5:
			s.WriteString("." + pick(w.dice, "a", "b", "n", "s", "l", "o", "e", "x", "t"))
		case n < 7:
			s.WriteString("[" + pick(w.dice, "0", "1", `"1"`, `"é"`, "1.0", "true", "[1]", "-1", "input.s", "input.n") + "]")
		case n < 9:
			if v := w.known(anything); v != "" {
				s.WriteString("[" + v + "]")
			}
		case open && n < 12:
			s.WriteString("[" + w.bind(anything) + "]")
		case open:
			s.WriteString(pick(w.dice, "[_]", "[[1, _]]", "[[_, "+w.leaf(number)+"]]"))
		}
	}
	return s.String()
}

// root is what a reference begins with.
func (w *writer) root() string {
	switch n := w.roll(12); {
	case n < 4:
		return pick(w.dice, "input", "input.e", "input.c", "input.o", "input.t")
	case n < 6:
		return pick(w.dice, "data.base", "data.base.e", "data.base.t", "data.mix")
	case n < 7:
		return pick(w.dice, "data.lib", "data", "data.mix", "data.lib.sub", "data.main")
	case n < 8:
		if v := w.known(anything); v != "" {
			return v
		}
	case len(w.rules) > 0:
		return pick(w.dice, w.rules...)
	}
	return "input"
}

func (w *writer) comprehension(pair bool, depth int) string {
	defer w.scope()()
	body := w.body(1+w.roll(3), depth-1)
	if pair {
		return w.term(anything, 0) + ": " + w.term(anything, depth-2) + " | " + body
	}
	return w.term(anything, depth-2) + " | " + body
}
