package value

import "strings"

// Upsert returns an object like v with the value at a path of names set. What
// is on the way and is no object is replaced by one. All that is beside the
// path is shared with v.
func (h *Heap) Upsert(v Value, path []string, elem Value) Value {
	if len(path) == 0 {
		return elem
	}
	key := OfString(path[0])
	if v.kind != Object {
		object := h.NewObject()
		h.Insert(object, key, h.Upsert(Value{}, path[1:], elem))
		return h.done(object)
	}
	var below Value
	at := 0 // where the key is or belongs
	for ; at < v.Len(); at++ {
		k, e := v.At(at)
		if c := Compare(k, key); c == 0 {
			below = e
		} else if c < 0 {
			continue
		}
		break
	}
	return h.with(v, at, below.Defined(), key, h.Upsert(below, path[1:], elem))
}

// with returns an object like v that has one member set at a place in its
// order, where one is replaced or not.
func (h *Heap) with(v Value, at int, replaced bool, key, elem Value) Value {
	t := h.newTable()
	n := v.Len()
	t.grow(h, n+1, true)
	for i := range n + 1 {
		if i == at {
			t.keys, t.vals = append(t.keys, key), append(t.vals, elem)
		}
		if i < n && (i != at || !replaced) {
			k, e := v.At(i)
			t.keys, t.vals = append(t.keys, k), append(t.vals, e)
		}
	}
	return h.done(ofTable(Object, t))
}

// Union returns the set of what is in a or b.
func (h *Heap) Union(a, b Value) Value {
	set := h.NewSet()
	t := set.table()
	t.grow(h, h.bounded(a.Len()+b.Len()), false)
	for i := range a.Len() {
		k, _ := a.At(i)
		t.push(h, k, Value{}, false)
	}
	for i := range b.Len() {
		k, _ := b.At(i)
		h.Add(set, k)
	}
	return set
}

// Intersection returns the set of what is in a and b, as the smaller one
// writes it.
func (h *Heap) Intersection(a, b Value) Value {
	if b.Len() < a.Len() {
		a, b = b, a
	}
	return h.filter(a, b, true)
}

// Difference returns the set of what is in a and not in b.
func (h *Heap) Difference(a, b Value) Value {
	if Equal(a, b) {
		return h.NewSet()
	}
	return h.filter(a, b, false)
}

// filter returns the set of what is in a and, or and not, in b.
func (h *Heap) filter(a, b Value, in bool) Value {
	set := h.NewSet()
	t, other := set.table(), b.table()
	for i := range a.Len() {
		if k, _ := a.At(i); other.find(k) >= 0 == in {
			t.push(h, k, Value{}, false)
		}
	}
	return set
}

// Freeze returns a copy that no Heap owns and any goroutine may read.
func Freeze(v Value) Value {
	var h *Heap
	switch v.kind {
	case String:
		return OfString(strings.Clone(v.text()))
	case Number:
		if v.form == decimal {
			return OfNumber(strings.Clone(v.text()))
		}
	case Array:
		a := h.NewArray(v.Len())
		for i := range v.Len() {
			h.Append(a, Freeze(v.Elem(i)))
		}
		return fix(a)
	case Object, Set:
		copied := ofTable(v.kind, &table{})
		t := copied.table()
		for i := range v.Len() {
			k, e := v.At(i)
			if v.kind == Object {
				e = Freeze(e)
			}
			t.push(h, Freeze(k), e, v.kind == Object)
		}
		return fix(copied)
	default:
		mustLive(v.kind)
	}
	return v
}

// fix does now what reading a composite that the garbage collector owns would
// do later, so that any number of goroutines may read it.
func fix(v Value) Value {
	if v.kind == Array {
		Hash(v)
		v.list().fixed = true
		return v
	}
	t := v.table()
	if t.unordered {
		t.sort()
	}
	if len(t.keys) > maxScan && t.index == nil {
		t.reindex(nil)
	}
	Hash(v)
	t.fixed = true
	return v
}
