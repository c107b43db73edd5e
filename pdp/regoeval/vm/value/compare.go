package value

import (
	"cmp"
	"strings"
)

// Compare is negative where a comes before b in Rego's order, 0 where they are
// equal.
func Compare(a, b Value) int {
	if a.kind != b.kind {
		mustLive(a.kind | b.kind)
		return int(a.kind) - int(b.kind)
	}
	switch a.kind {
	case Bool:
		return int(a.word) - int(b.word)
	case Number:
		return compareNumbers(a, b)
	case String:
		return strings.Compare(a.text(), b.text())
	case Array:
		return compareArrays(a, b)
	case Object, Set:
		return compareTables(a, b)
	default:
		mustLive(a.kind)
		return 0
	}
}

// identical reports whether two composites of one kind are one and the same. A
// value that shares its parts is small and would be endless to go through.
func identical(a, b Value) bool {
	return a.ptr == b.ptr && a.word == b.word && a.form == b.form
}

func compareArrays(a, b Value) int {
	if identical(a, b) {
		return 0
	}
	n := min(a.Len(), b.Len())
	if a.form != members && b.form != members {
		l, m := a.list(), b.list()
		if l.root() == m.root() {
			return 0
		}
		x, y := l.elems[:n], m.elems[:n]
		for i := range x {
			if c := Compare(x[i], y[i]); c != 0 {
				return c
			}
		}
		if len(l.elems) == len(m.elems) {
			l.join(&m.known)
		}
		return a.Len() - b.Len()
	}
	for i := range n {
		if c := Compare(a.Elem(i), b.Elem(i)); c != 0 {
			return c
		}
	}
	return a.Len() - b.Len()
}

// compareTables compares objects member by member, and sets.
func compareTables(a, b Value) int {
	if identical(a, b) {
		return 0
	}
	tables := a.form != members && b.form != members
	if tables && a.table().root() == b.table().root() {
		return 0
	}
	for i := range min(a.Len(), b.Len()) {
		ka, va := a.At(i)
		kb, vb := b.At(i)
		if c := Compare(ka, kb); c != 0 {
			return c
		}
		if a.kind == Set {
			continue
		}
		if c := Compare(va, vb); c != 0 {
			return c
		}
	}
	if tables && a.Len() == b.Len() {
		a.table().join(&b.table().known)
	}
	return a.Len() - b.Len()
}

// Equal reports whether both are one Rego value.
func Equal(a, b Value) bool {
	if a.kind != b.kind {
		mustLive(a.kind | b.kind)
		return false
	}
	switch a.kind {
	case String:
		return a.text() == b.text()
	case Number:
		if a.form == integer && b.form == integer {
			return a.word == b.word
		}
		return compareNumbers(a, b) == 0
	case Bool:
		return a.word == b.word
	case Array:
		return a.Len() == b.Len() && compareArrays(a, b) == 0
	case Object, Set:
		return a.Len() == b.Len() && compareTables(a, b) == 0
	default:
		mustLive(a.kind)
		return true
	}
}

func compareNumbers(a, b Value) int {
	if a.form == integer && b.form == integer {
		return cmp.Compare(int64(a.word), int64(b.word))
	}
	x, exact := a.comparable()
	if exact {
		var y float64
		if y, exact = b.comparable(); exact {
			return cmp.Compare(x, y)
		}
	}
	return compareTexts(a, b)
}
