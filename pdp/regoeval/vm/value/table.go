package value

import (
	"slices"
	"sort"
)

// list is an array that a Heap made.
type list struct {
	known
	elems []Value
}

// known is what was found out about a list or a table.
type known struct {
	hash  uint64 // Hash once it was asked for; else 0
	same  *known // of one that is equal
	fixed bool   // read by any number of goroutines: nothing is written any more
	made  bool   // by a heap, which takes it back
}

// table is an object, or a set, whose vals stay empty, that a Heap made.
type table struct {
	known
	keys, vals []Value
	// Of a table that grew beyond maxScan out of order, and was not sorted since:
	// by hash, with linear probing, the low half of a key's hash and 1 + where
	// it is in keys.
	index     []uint64
	unordered bool
}

const (
	maxScan = 8 // up to how many keys a table is searched from end to end
	minRoom = 4 // of what grows
)

// find returns where the key is, -1 where it is not.
func (t *table) find(key Value) int {
	switch {
	case key.kind == String && len(t.keys) <= maxScan:
		return t.scanText(key)
	case t.index != nil:
		return t.lookUp(key)
	case len(t.keys) > maxScan && !t.unordered:
		return t.search(key)
	}
	for i := range t.keys {
		if sameKey(t.keys[i], key) {
			return i
		}
	}
	return -1
}

func (t *table) scanText(key Value) int {
	text := key.text()
	for i := range t.keys {
		if k := &t.keys[i]; k.kind == String && k.text() == text {
			return i
		}
	}
	if len(t.keys) > 0 {
		mustLive(t.keys[0].kind)
	}
	return -1
}

func (t *table) lookUp(key Value) int {
	hash := uint32(Hash(key))
	mask := uint32(len(t.index) - 1)
	for at := hash & mask; t.index[at] != 0; at = (at + 1) & mask {
		if slot := t.index[at]; uint32(slot>>32) == hash {
			if i := int(uint32(slot)) - 1; sameKey(t.keys[i], key) {
				return i
			}
		}
	}
	return -1
}

// search looks among keys that are in order.
func (t *table) search(key Value) int {
	low, high := 0, len(t.keys)
	for low < high {
		if middle := int(uint(low+high) >> 1); Compare(t.keys[middle], key) < 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	for ; low < len(t.keys) && Compare(t.keys[low], key) == 0; low++ {
		if sameKey(t.keys[low], key) {
			return low
		}
	}
	return -1
}

// push appends a key that is not there yet.
func (t *table) push(h *Heap, key, val Value, object bool) {
	n := len(t.keys)
	if n == cap(t.keys) {
		t.grow(h, max(minRoom, 2*n), object)
	}
	if n > 0 && !t.unordered && Compare(t.keys[n-1], key) > 0 {
		t.unordered = true
	}
	t.keys = append(t.keys, key)
	if object {
		t.vals = append(t.vals, val)
	}
	t.hash, t.same = 0, nil
	switch {
	case t.index != nil && 2*len(t.keys) <= len(t.index):
		t.enter(n)
	case t.index != nil || t.unordered && n >= maxScan:
		t.reindex(h)
	}
}

// grow makes room for n keys in all.
func (t *table) grow(h *Heap, n int, object bool) {
	if !object {
		grown := h.newValues(n)
		t.keys = grown[:copy(grown, t.keys)]
		return
	}
	grown := h.newValues(2 * n)
	t.keys = grown[:copy(grown[:n], t.keys):n]
	t.vals = grown[n : n+copy(grown[n:], t.vals)]
}

// reindex makes an index with room for as many keys again.
func (t *table) reindex(h *Heap) {
	size := 4 * maxScan
	for size < 4*len(t.keys) {
		size *= 2
	}
	t.index = h.newSlots(size)
	for i := range t.keys {
		t.enter(i)
	}
}

// enter writes key i into the index.
func (t *table) enter(i int) {
	hash := uint32(Hash(t.keys[i]))
	mask := uint32(len(t.index) - 1)
	at := hash & mask
	for t.index[at] != 0 {
		at = (at + 1) & mask
	}
	t.index[at] = uint64(hash)<<32 | uint64(i+1)
}

// sort brings the keys of an unordered table into Rego's order.
func (t *table) sort() {
	t.unordered, t.index = false, nil // it is searched from now on
	if len(t.vals) == 0 {
		slices.SortFunc(t.keys, Compare)
		return
	}
	sort.Sort((*byKey)(t))
}

// byKey sorts keys together with their values.
type byKey table

func (t *byKey) Len() int           { return len(t.keys) }
func (t *byKey) Less(i, j int) bool { return Compare(t.keys[i], t.keys[j]) < 0 }

func (t *byKey) Swap(i, j int) {
	t.keys[i], t.keys[j] = t.keys[j], t.keys[i]
	t.vals[i], t.vals[j] = t.vals[j], t.vals[i]
}
