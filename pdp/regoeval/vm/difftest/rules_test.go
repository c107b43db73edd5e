package difftest

import (
	"fmt"
	"strings"
)

// modules writes the rules of two packages, the first of which the second uses
// also by names that it computes.
func (w *writer) modules() {
	w.texts["lib"] = []string{"sub.p := 1", "sub.q contains 2", `names contains "r0"`}
	for i := range 12 {
		pkg := "lib"
		if i >= 6 {
			pkg = "main"
		}
		w.rule(pkg, fmt.Sprintf("r%d", i))
	}
}

// rule writes one rule, or several of one name. Each is a line.
func (w *writer) rule(pkg, name string) {
	shape := w.roll(16)
	arity := 1 + w.roll(2)
	value := w.leaf(anything) // that several rules may agree on
	function := shape >= 11 && shape < 14
	var lines []string
	for range 1 + w.roll(3) {
		w.vars = nil
		var head, body, tail string
		switch shape {
		case 8, 9, 10:
			body = w.body(1+w.roll(3), 2)
			head = name + " := " + w.value(value)
			tail = w.elses()
		case 11, 12, 13:
			head = name + "(" + w.parameters(arity, shape == 11) + ")"
			body = w.body(1+w.roll(3), 2)
			if shape != 13 {
				head += " := " + w.value(value)
				tail = w.elses()
			}
		case 14:
			head = name + " := " + w.term(anything, 3)
		case 15:
			head, body = name, w.body(1+w.roll(2), 3)
		default:
			body = w.body(1+w.roll(3), 2)
			head = w.partial(name, shape)
		}
		if body != "" {
			head += " if { " + body + " }" + tail
		}
		lines = append(lines, head)
	}
	switch {
	case shape >= 9 && shape < 11 && w.once(2):
		lines = append(lines, "default "+name+" := "+pick(w.dice, "false", "1", `{"a": [1]}`, "[x | some x in [1, 1.0]]"))
	case function && w.once(3):
		lines = append(lines, "default "+name+"("+strings.TrimSuffix(strings.Repeat("_, ", arity), ", ")+") := "+pick(w.dice, "false", `"none"`))
	}
	full := "data." + pkg + "." + name
	if function {
		w.functions[full] = arity
		w.names = append(w.names, full)
	} else {
		w.rules = append(w.rules, full)
	}
	w.texts[pkg] = append(w.texts[pkg], lines...)
}

// partial is the head of a rule that gives a part of its value.
func (w *writer) partial(name string, shape int) string {
	switch shape {
	case 0, 1:
		return name + " contains " + w.term(anything, 1)
	case 2, 3:
		return fmt.Sprintf("%s[%s] := %s", name, w.term(anything, 0), w.term(anything, 1))
	case 4:
		return fmt.Sprintf("%s.%s[%s] := %s", name, pick(w.dice, "a", "b"), w.term(anything, 0), w.term(anything, 0))
	case 5:
		return fmt.Sprintf("%s[%s][%s] := %s", name, w.term(text, 0), w.term(anything, 0), w.term(anything, 0))
	case 6:
		return fmt.Sprintf("%s.a[%s].c contains %s", name, w.term(text, 0), w.term(anything, 0))
	default:
		return fmt.Sprintf("%s[%s].c := %s", name, w.term(text, 0), w.term(anything, 0))
	}
}

// value is what a rule gives: the same for several, or not.
func (w *writer) value(shared string) string {
	if w.once(3) {
		return w.term(anything, 1)
	}
	return shared
}

func (w *writer) elses() string {
	var s strings.Builder
	for range max(0, w.roll(5)-2) {
		w.vars = nil
		if w.once(4) {
			s.WriteString(" else := " + w.leaf(anything))
			break
		}
		body := w.body(1+w.roll(2), 1)
		s.WriteString(" else := " + w.term(anything, 1) + " if { " + body + " }")
	}
	return s.String()
}

// parameters may be patterns.
func (w *writer) parameters(n int, patterns bool) string {
	all := make([]string, n)
	for i := range all {
		shape := 0
		if patterns {
			shape = w.roll(6)
		}
		switch shape {
		case 1:
			all[i] = "[" + w.bind(anything) + ", " + w.bind(anything) + "]"
		case 2:
			all[i] = `{"n": ` + w.bind(anything) + "}"
		case 3:
			all[i] = pick(w.dice, "1", `"a"`, "true", "null", "1.0", `["a", 1]`)
		case 4:
			v := w.bind(anything)
			all[i] = "[" + v + ", " + v + "]"
		case 5:
			all[i] = "_"
		default:
			all[i] = w.bind(anything)
		}
	}
	return strings.Join(all, ", ")
}
