package value

import (
	"errors"
	"unsafe"
)

// ErrMemory means that an evaluation made more values than it may.
var ErrMemory = errors.New("the evaluation needs more memory than it may use")

// Heap makes values. All of them end at Reset, which keeps the memory for the
// next ones: at most 5 MiB, whatever an evaluation used. A nil *Heap makes
// values that the garbage collector frees.
type Heap struct {
	// Limit is how much may be made between Resets, in values of 24 bytes each;
	// 0: anything. A text counts by its bytes, an array or a table by the room
	// that it has, and what it had before it grew counts too.
	Limit int
	// Poison makes Reset overwrite every value, so that reading one afterwards
	// panics or shows poisonText. For tests.
	Poison bool

	spent  int // bytes since Reset
	lists  arena[list]
	tables arena[table]
	values arena[Value]
	slots  arena[uint64]
	bytes  arena[byte]
}

// valueSize is how many bytes a Value has.
const valueSize = int(unsafe.Sizeof(Value{}))

// Reset ends every value that was made.
func (h *Heap) Reset() {
	h.spent = 0
	if h.Poison {
		h.poison()
		return
	}
	h.lists.reset()
	h.tables.reset()
	h.values.reset()
	h.slots.reset()
	h.bytes.reset()
}

// Full reports whether more was made than may be. Who makes values in a loop
// looks now and then: one array or table at most doubles when it grows, so that
// a heap that is looked at after every value holds at most three times Limit.
func (h *Heap) Full() bool { return h != nil && h.Limit > 0 && h.spent > h.Limit*valueSize }

// Spent returns how much was made since Reset, as Limit counts.
func (h *Heap) Spent() int { return (h.spent + valueSize - 1) / valueSize }

func (h *Heap) newList() *list {
	if h == nil {
		return &list{}
	}
	h.spent += cellSize[list]()
	l := &h.lists.take(1)[0]
	l.made = true
	return l
}

func (h *Heap) newTable() *table {
	if h == nil {
		return &table{}
	}
	h.spent += cellSize[table]()
	t := &h.tables.take(1)[0]
	t.made = true
	return t
}

func (h *Heap) newValues(n int) []Value {
	if h == nil {
		return make([]Value, n)
	}
	h.spent += n * valueSize
	return h.values.take(n)
}

func (h *Heap) newSlots(n int) []uint64 {
	if h == nil {
		return make([]uint64, n)
	}
	h.spent += n * cellSize[uint64]()
	return h.slots.take(n)
}

// NewArray returns an empty array with room for some elements.
func (h *Heap) NewArray(capacity int) Value {
	l := h.newList()
	if capacity > 0 {
		l.elems = h.newValues(h.bounded(capacity))[:0]
	}
	return ofList(l)
}

// bounded is a capacity that was asked for, or what the limit leaves of it.
func (h *Heap) bounded(capacity int) int {
	if h == nil || h.Limit <= 0 {
		return capacity
	}
	return max(1, min(capacity, h.Limit-h.spent/valueSize+1))
}

// Append adds an element to an array that this Heap made and nobody else has
// seen yet.
func (h *Heap) Append(array, elem Value) {
	l := array.list()
	if len(l.elems) == cap(l.elems) {
		grown := h.newValues(max(minRoom, 2*len(l.elems)))
		l.elems = grown[:copy(grown, l.elems)]
	}
	l.elems = append(l.elems, elem)
	l.hash, l.same = 0, nil
}

// NewSet returns an empty set.
func (h *Heap) NewSet() Value { return ofTable(Set, h.newTable()) }

// Add puts an element into a set that this Heap made and nobody else has seen
// yet.
func (h *Heap) Add(set, elem Value) {
	t := set.table()
	if t.find(elem) < 0 {
		t.push(h, elem, Value{}, false)
	}
}

// NewObject returns an empty object.
func (h *Heap) NewObject() Value { return ofTable(Object, h.newTable()) }

// NewObjectOf returns an empty object with room for some members.
func (h *Heap) NewObjectOf(members int) Value {
	t := h.newTable()
	if members > 0 {
		t.grow(h, h.bounded(members), true)
	}
	return ofTable(Object, t)
}

// InsertLast is Insert of a key that comes after all that the object has.
func (h *Heap) InsertLast(object, key, elem Value) {
	t := object.table()
	if len(t.keys) == cap(t.keys) {
		t.grow(h, max(minRoom, 2*len(t.keys)), true)
	}
	t.keys, t.vals = append(t.keys, key), append(t.vals, elem)
	t.hash, t.same = 0, nil
}

// Insert sets a member of an object that this Heap made and nobody else has
// seen yet. A key that is there already stays as it is written.
func (h *Heap) Insert(object, key, elem Value) {
	t := object.table()
	if i := t.find(key); i >= 0 {
		t.vals[i], t.hash, t.same = elem, 0, nil
		return
	}
	t.push(h, key, elem, true)
}

// poisonText is what texts of a heap say after Reset when it poisons.
const poisonText = 0xDB

// poisoned is no kind: whatever looks at such a value panics. Kinds up to Set
// take three bits.
const poisoned Kind = 0xDB

func (h *Heap) poison() {
	bad := []Value{{kind: poisoned}}
	h.lists.poison(list{elems: bad})
	h.tables.poison(table{keys: bad, vals: bad})
	h.values.poison(bad[0])
	h.slots.poison(0)
	h.bytes.poison(poisonText)
}

// mustLive panics on the kind, or the kinds that are joined by |, of a value
// that a Reset has ended, where a heap poisons.
func mustLive(kinds Kind) {
	if kinds > Set {
		panic("a value is used after its heap was reset")
	}
}
