package vm_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// writer writes random Rego. Rules only refer to rules before them.
type writer struct {
	*rand.Rand
	rules []string // names of rules so far
	funcs []string
	vars  []string // bound where the writer is
	next  int
}

func (w *writer) one(of ...string) string { return of[w.IntN(len(of))] }

func (w *writer) fresh() string {
	w.next++
	return fmt.Sprintf("v%d", w.next)
}

func (w *writer) bind() string {
	v := w.fresh()
	w.vars = append(w.vars, v)
	return v
}

func (w *writer) scalar() string {
	return w.one("0", "1", "1.0", "2", "10", "-3", "1e2", `"a"`, `"b"`, `"c"`, `"1"`, `""`, "true", "false", "null")
}

func (w *writer) name() string { return w.one("a", "b", "c", "d") }

// ref is a reference; with unbound variables only where a body may bind them.
func (w *writer) ref(open bool) string {
	var s strings.Builder
	switch n := w.IntN(10); {
	case n < 4:
		s.WriteString("input")
	case n < 6:
		s.WriteString("data.base")
	case n < 7:
		s.WriteString(w.one("data.pkg", "data", "data.pkg.sub", "data.mix"))
	case len(w.rules) > 0:
		s.WriteString("data.pkg." + w.one(w.rules...))
	default:
		s.WriteString("input")
	}
	for range w.IntN(4) {
		switch n := w.IntN(12); {
		case n < 6:
			s.WriteString("." + w.name())
		case n < 7:
			s.WriteString("[" + w.one("0", "1", `"1"`) + "]")
		case n < 9 && len(w.vars) > 0:
			s.WriteString("[" + w.one(w.vars...) + "]")
		case open && n < 11:
			s.WriteString("[" + w.bind() + "]")
		case open:
			s.WriteString("[_]")
		}
	}
	return s.String()
}

func (w *writer) term(depth int) string {
	n := w.IntN(20)
	if depth <= 0 {
		n %= 12
	}
	switch {
	case n < 4:
		return w.scalar()
	case n < 8 && len(w.vars) > 0:
		return w.one(w.vars...)
	case n < 12:
		return w.ref(false)
	case n < 13:
		return "[" + w.term(depth-1) + ", " + w.term(depth-1) + "]"
	case n < 14:
		return "{" + w.term(depth-1) + ", " + w.scalar() + "}"
	case n < 15:
		return `{"a": ` + w.term(depth-1) + `, ` + w.scalar() + `: ` + w.term(depth-1) + "}"
	case n < 16:
		return w.call(depth)
	default:
		return w.comprehension(depth)
	}
}

func (w *writer) comprehension(depth int) string {
	vars := w.vars
	defer func() { w.vars = vars }()
	body := w.body(1+w.IntN(2), depth-1)
	switch w.IntN(3) {
	case 0:
		return "[" + w.term(0) + " | " + body + "]"
	case 1:
		return "{" + w.term(0) + " | " + body + "}"
	default:
		return "{" + w.term(0) + ": " + w.term(0) + " | " + body + "}"
	}
}

func (w *writer) call(depth int) string {
	if len(w.funcs) > 0 && w.IntN(3) == 0 {
		return w.one(w.funcs...) + "(" + w.term(depth-1) + ")"
	}
	a, b := w.term(depth-1), w.term(depth-1)
	return w.one("count("+a+")", "to_number("+a+")", "object.get("+a+`, "a", `+b+")", "sum("+a+")", "sort("+a+")",
		"concat(\",\", "+a+")", "union({"+a+", "+b+"})", "type_name("+a+")", "json.marshal("+a+")", "max("+a+")",
		"object.keys("+a+")", "array.concat("+a+", "+b+")", a+" | "+b, a+" & "+b, a+" + "+b, a+" - "+b, "sprintf(\"%v\", ["+a+"])")
}

func (w *writer) literal(depth int) string {
	switch n := w.IntN(22); {
	case n < 3:
		t := w.term(depth)
		return w.bind() + " := " + t
	case n < 5:
		t := w.term(depth)
		return "some " + w.bind() + ", " + w.bind() + " in " + t
	case n < 6:
		return w.term(depth) + w.one(" == ", " != ", " < ", " in ") + w.term(depth)
	case n < 9:
		return w.ref(true)
	case n < 11:
		return w.ref(true) + " = " + w.one(w.scalar(), w.term(depth))
	case n < 13:
		return w.closed("not ", depth)
	case n < 14 && depth > 0:
		domain := w.term(0)
		vars := w.vars
		defer func() { w.vars = vars }()
		return "every " + w.bind() + ", " + w.bind() + " in " + domain + " { " + w.body(1, 0) + " }"
	case n < 15:
		t := w.term(0)
		return "walk(" + t + ", [" + w.bind() + ", " + w.bind() + "])"
	case n < 18:
		return w.closed("", depth) + " with " + w.one("input", "input.a", "input.b.c", "data.base", "data.base.a", "data.mix.a") + " as " + w.term(1)
	case n < 19:
		t := w.term(depth)
		return "[" + w.bind() + ", " + w.one("_", w.scalar()) + "] = " + t
	case n < 20:
		return w.call(1)
	default:
		return w.term(depth)
	}
}

// closed is a literal whose variables end with it.
func (w *writer) closed(prefix string, depth int) string {
	vars := w.vars
	defer func() { w.vars = vars }()
	return prefix + w.one(w.ref(false), w.term(depth), w.term(0)+" == "+w.term(0), w.call(1))
}

func (w *writer) body(n, depth int) string {
	literals := make([]string, n)
	for i := range literals {
		literals[i] = w.literal(depth)
	}
	return strings.Join(literals, "; ")
}

// rule writes one rule, or several of one name.
func (w *writer) rule() (text, name string, function bool) {
	name = fmt.Sprintf("r%d", len(w.rules)+len(w.funcs))
	kind := w.IntN(9)
	for range 1 + w.IntN(3) {
		w.vars = nil
		switch kind {
		case 0, 1:
			body := w.body(1+w.IntN(3), 2)
			text += fmt.Sprintf("%s contains %s if { %s }\n", name, w.term(1), body)
		case 2, 3:
			body := w.body(1+w.IntN(3), 2)
			text += fmt.Sprintf("%s[%s] := %s if { %s }\n", name, w.term(0), w.term(1), body)
		case 4:
			body := w.body(1+w.IntN(2), 2)
			text += fmt.Sprintf("%s.%s[%s] := %s if { %s }\n", name, w.name(), w.term(0), w.term(0), body)
		case 5, 6:
			function = true
			arg := w.bind()
			if w.IntN(3) == 0 {
				arg = w.one(w.scalar(), "["+arg+", _]", `{"a": `+arg+`}`)
			}
			body := w.body(1+w.IntN(2), 1)
			text += fmt.Sprintf("%s(%s) := %s if { %s }\n", name, arg, w.one(w.term(1), "true"), body)
		default:
			body := w.body(1+w.IntN(3), 2)
			text += fmt.Sprintf("%s := %s if { %s }", name, w.one(w.scalar(), w.term(1)), body)
			if w.IntN(3) == 0 {
				w.vars = nil
				body = w.body(1, 1)
				text += fmt.Sprintf(" else := %s if { %s }", w.term(0), body)
			}
			text += "\n"
			if kind == 8 && !strings.Contains(text, "default") {
				text = "default " + name + " := " + w.scalar() + "\n" + text
			}
		}
	}
	return text, name, function
}

// document is a random value for input or data.
func (w *writer) document(depth int) any {
	n := w.IntN(10)
	if depth <= 0 {
		n %= 5
	}
	switch {
	case n < 5:
		return []any{0, 1, 1.5, 2, 10, "a", "b", "1", "", true, false, nil}[w.IntN(12)]
	case n < 7:
		list := make([]any, w.IntN(4))
		for i := range list {
			list[i] = w.document(depth - 1)
		}
		return list
	default:
		object := map[string]any{}
		for range w.IntN(4) {
			object[w.one("a", "b", "c", "d", "1", "0")] = w.document(depth - 1)
		}
		return object
	}
}
