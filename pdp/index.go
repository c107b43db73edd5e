package pdp

import (
	"hash/maphash"
	"iter"
	"maps"
)

// index is an immutable map whose changed copies share what did not change: a
// change costs the part of the map that it falls into and a list of the parts.
// The zero value is empty.
type index[K comparable, V any] struct {
	seed  maphash.Seed
	parts []map[K]V // a power of two of them, or none
	count int
}

// partSize is how many entries a part holds before the index gets more parts.
const partSize = 128

func (x *index[K, V]) get(key K) (V, bool) {
	if len(x.parts) == 0 {
		var none V
		return none, false
	}
	v, ok := x.parts[x.part(key)][key]
	return v, ok
}

func (x *index[K, V]) part(key K) int {
	return int(maphash.Comparable(x.seed, key) & uint64(len(x.parts)-1)) //nolint:gosec // below len(parts)
}

func (x *index[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, part := range x.parts {
			for k, v := range part {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// edit is a changed copy under way. Its index is not read by others yet.
type edit[K comparable, V any] struct {
	index[K, V]
	owned []bool // parts that are no longer shared
}

func (x *index[K, V]) edit() *edit[K, V] {
	e := &edit[K, V]{index: *x}
	if len(x.parts) == 0 {
		e.seed, e.parts, e.owned = maphash.MakeSeed(), []map[K]V{{}}, []bool{true}
		return e
	}
	e.parts = append([]map[K]V(nil), x.parts...)
	e.owned = make([]bool, len(e.parts))
	return e
}

// own returns the part that holds the key, to be changed.
func (e *edit[K, V]) own(at int) map[K]V {
	if !e.owned[at] {
		e.parts[at], e.owned[at] = maps.Clone(e.parts[at]), true
	}
	return e.parts[at]
}

func (e *edit[K, V]) put(key K, v V) {
	part := e.own(e.part(key))
	before := len(part)
	part[key] = v
	if e.count += len(part) - before; e.count > partSize*len(e.parts) {
		e.grow()
	}
}

func (e *edit[K, V]) remove(key K) {
	if _, ok := e.get(key); ok {
		delete(e.own(e.part(key)), key)
		e.count--
	}
}

// grow spreads the entries over four times the parts, so that growing costs a
// constant for each entry.
func (e *edit[K, V]) grow() {
	old := e.index
	e.parts, e.owned = make([]map[K]V, 4*len(old.parts)), make([]bool, 4*len(old.parts))
	for i := range e.parts {
		e.parts[i], e.owned[i] = map[K]V{}, true
	}
	for k, v := range old.all() {
		e.parts[e.part(k)][k] = v
	}
}
