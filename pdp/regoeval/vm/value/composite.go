package value

import (
	"strings"
	"unsafe"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func (v Value) list() *list   { return (*list)(v.ptr) }
func (v Value) table() *table { return (*table)(v.ptr) }

// Len returns the number of elements of an array or set, of members of an
// object, 0 for other kinds.
func (v Value) Len() int {
	switch {
	case v.form == members:
		return int(v.word)
	case v.kind == Array:
		return len(v.list().elems)
	case v.kind >= Object:
		return len(v.table().keys)
	default:
		return 0
	}
}

// At returns element i of an array with its index, of a set twice, and member i
// of an object, in Rego's order; v has more than i.
func (v Value) At(i int) (key, elem Value) {
	switch {
	case v.kind == Array:
		return OfInt(int64(i)), v.Elem(i)
	case v.form == members:
		m := &v.members()[i]
		return OfString(m.Name), of(&m.Value)
	}
	t := v.table()
	if t.unordered {
		t.sort()
	}
	key = t.keys[i]
	if v.kind == Set {
		return key, key
	}
	return key, t.vals[i]
}

// Elem returns element i of an array; v has more than i.
func (v Value) Elem(i int) Value {
	if v.form == members {
		return of(&v.members()[i].Value)
	}
	return v.list().elems[i]
}

// Get returns what a reference v[key] is: an element of an array, a member of
// an object, or the key itself where a set holds it; undefined where there is
// none or v is a scalar.
func (v Value) Get(key Value) Value {
	switch v.kind {
	case Array:
		if i, ok := key.Int(); ok && i >= 0 && i < int64(v.Len()) {
			return v.Elem(int(i))
		}
	case Object:
		if v.form == members {
			if key.kind == String {
				var hint uint32
				return v.GetName(key.text(), &hint)
			}
			break
		}
		t := v.table()
		if i := t.find(key); i >= 0 {
			return t.vals[i]
		}
	case Set:
		if v.table().find(key) >= 0 {
			return key
		}
	default:
		mustLive(v.kind)
	}
	mustLive(key.kind)
	return Value{}
}

// GetName is Get with a constant text. The hint says where it was found the
// last time, and is set.
func (v Value) GetName(name string, hint *uint32) Value {
	switch {
	case v.kind == Object && v.form == members:
		return v.member(name, hint)
	case v.kind == Object:
		t := v.table()
		if h := int(*hint); h < len(t.keys) && t.keys[h].kind == String && t.keys[h].text() == name {
			return t.vals[h]
		}
		if i := t.find(OfString(name)); i >= 0 {
			*hint = uint32(i)
			return t.vals[i]
		}
	case v.kind == Set:
		return v.Get(OfString(name))
	default:
		mustLive(v.kind)
	}
	return Value{}
}

func (v Value) member(name string, hint *uint32) Value {
	all := v.members()
	if h := int(*hint); h < len(all) && all[h].Name == name {
		return of(&all[h].Value)
	}
	if len(all) <= maxScan {
		for i := range all {
			if all[i].Name == name {
				*hint = uint32(i)
				return of(&all[i].Value)
			}
		}
		return Value{}
	}
	low, high := 0, len(all)
	for low < high {
		middle := int(uint(low+high) >> 1)
		switch c := strings.Compare(all[middle].Name, name); {
		case c == 0:
			*hint = uint32(middle)
			return of(&all[middle].Value)
		case c < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return Value{}
}

// Has reports what Rego's `elem in v` is: whether an array holds the element,
// an object has it as a value, or a set as a key. Of a scalar it is false.
func (v Value) Has(elem Value) bool {
	switch {
	case v.kind == Set:
		return v.table().find(elem) >= 0
	case v.form == members:
		return membersHold(v.members(), elem)
	case v.kind == Array:
		return holds(v.list().elems, elem)
	case v.kind == Object:
		return holds(v.table().vals, elem)
	default:
		mustLive(v.kind)
		return false
	}
}

func membersHold(all []authz.Member, elem Value) bool {
	if elem.kind == String { // the usual case
		text := elem.text()
		for i := range all {
			if m := &all[i].Value; m.Kind() == authz.KindString && m.Text() == text {
				return true
			}
		}
		return false
	}
	for i := range all {
		if Equal(of(&all[i].Value), elem) {
			return true
		}
	}
	return false
}

func holds(all []Value, elem Value) bool {
	for i := range all {
		if Equal(all[i], elem) {
			return true
		}
	}
	return false
}

// Fixed reports whether the value is an object, or a set, that no evaluation
// made, other than one that is read in place.
func (v Value) Fixed() bool { return v.kind >= Object && v.form != members && v.table().fixed }

func ofList(l *list) Value           { return Value{kind: Array, ptr: unsafe.Pointer(l)} }
func ofTable(k Kind, t *table) Value { return Value{kind: k, ptr: unsafe.Pointer(t)} }
