package builtin

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var objects = table{
	ast.ObjectGet.Name:    objectGet,
	ast.ObjectKeys.Name:   objectKeys,
	ast.ObjectUnion.Name:  objectUnion,
	ast.ObjectUnionN.Name: objectUnionN,
	ast.ObjectRemove.Name: objectRemove,
	ast.ObjectFilter.Name: objectFilter,
	ast.ObjectSubset.Name: objectSubset,
}

func objectGet(_ *Call, args []value.Value) (value.Value, error) {
	at, path := args[0], args[1]
	if at.Kind() != value.Object {
		return ask()
	}
	if path.Kind() != value.Array {
		if at = at.Get(path); at.Defined() {
			return at, nil
		}
		return args[2], nil
	}
	for i := range path.Len() {
		key := path.Elem(i)
		switch {
		case at.Kind() == value.Set && at.Has(key):
			at = key
		case at.Kind() == value.Set:
			return args[2], nil
		default:
			at = at.Get(key)
		}
		if !at.Defined() {
			return args[2], nil
		}
	}
	return at, nil
}

func objectKeys(c *Call, args []value.Value) (value.Value, error) {
	if args[0].Kind() != value.Object {
		return ask()
	}
	return c.keysOf(args[0]), nil
}

func (c *Call) keysOf(object value.Value) value.Value {
	keys := c.Heap.NewSet()
	for i := range object.Len() {
		k, _ := object.At(i)
		c.Heap.Add(keys, k)
	}
	return keys
}

func objectUnion(c *Call, args []value.Value) (value.Value, error) {
	a, b := args[0], args[1]
	switch {
	case a.Kind() != value.Object || b.Kind() != value.Object:
		return ask()
	case a.Len() == 0:
		return b, nil
	case b.Len() == 0 || value.Equal(a, b):
		return a, nil
	}
	return c.merge(a, b), nil
}

// merge is a with the members of b, objects in both merged in turn.
func (c *Call) merge(a, b value.Value) value.Value {
	object := c.Heap.NewObject()
	for i := 0; i < a.Len() && !c.Heap.Full(); i++ {
		k, v := a.At(i)
		if w := b.Get(k); w.Defined() {
			v = c.merged(v, w)
		}
		c.Heap.Insert(object, k, v)
	}
	for i := 0; i < b.Len() && !c.Heap.Full(); i++ {
		k, v := b.At(i)
		if !a.Get(k).Defined() {
			c.Heap.Insert(object, k, v)
		}
	}
	return object
}

func (c *Call) merged(v, w value.Value) value.Value {
	if v.Kind() == value.Object && w.Kind() == value.Object {
		return c.merge(v, w)
	}
	return w
}

// objectUnionN merges from left to right. OPA does it from right to left, so
// that keys which are numbers may be written differently: those it does itself.
func objectUnionN(c *Call, args []value.Value) (value.Value, error) {
	all := args[0]
	if all.Kind() != value.Array {
		return ask()
	}
	members := 0
	for i := range all.Len() {
		if all.Elem(i).Kind() != value.Object || !namedThroughout(all.Elem(i), &members) {
			return ask()
		}
	}
	if members > maxMembers {
		return full()
	}
	switch all.Len() {
	case 0:
		return c.Heap.NewObject(), nil
	case 1:
		return all.Elem(0), nil
	}
	object := c.Heap.NewObject()
	for i := range all.Len() {
		next := all.Elem(i)
		for j := range next.Len() {
			k, v := next.At(j)
			if before := object.Get(k); before.Defined() {
				v = c.merged(before, v)
			}
			c.Heap.Insert(object, k, v)
		}
		if c.Heap.Full() {
			return full()
		}
	}
	return object, nil
}

// maxMembers is up to how many members are merged. An object that shares its
// parts may have more than can be counted.
const maxMembers = 1_000_000

// namedThroughout reports whether the keys of the objects that may be merged
// are texts. It counts members, up to one too many.
func namedThroughout(v value.Value, members *int) bool {
	if v.Kind() != value.Object {
		return true
	}
	for i := 0; i < v.Len() && *members <= maxMembers; i++ {
		*members++
		if k, e := v.At(i); k.Kind() != value.String || !namedThroughout(e, members) {
			return false
		}
	}
	return true
}

// keys returns what tells whether a key is among those of an argument: the
// elements of an array or a set, the keys of an object.
func (c *Call) keys(v value.Value) (keys value.Value, ok bool) {
	switch v.Kind() {
	case value.Set:
		return v, true
	case value.Array:
		return c.setOf(v), true
	case value.Object:
		return c.keysOf(v), true
	}
	return value.Value{}, false
}

func objectRemove(c *Call, args []value.Value) (value.Value, error) {
	if args[0].Kind() != value.Object {
		return ask()
	}
	keys, ok := c.keys(args[1])
	if !ok {
		return ask()
	}
	object := c.Heap.NewObject()
	for i := range args[0].Len() {
		if k, v := args[0].At(i); !keys.Has(k) {
			c.Heap.Insert(object, k, v)
		}
	}
	return object, nil
}

// objectFilter takes keys from the smaller of both, as OPA does.
func objectFilter(c *Call, args []value.Value) (value.Value, error) {
	v := args[0]
	if v.Kind() != value.Object {
		return ask()
	}
	keys, ok := c.keys(args[1])
	if !ok {
		return ask()
	}
	object := c.Heap.NewObject()
	if v.Len() < keys.Len() {
		for i := range keys.Len() {
			k := elem(keys, i)
			if e := v.Get(k); e.Defined() {
				c.Heap.Insert(object, k, e)
			}
		}
		return object, nil
	}
	for i := range v.Len() {
		if k, e := v.At(i); keys.Has(k) {
			c.Heap.Insert(object, k, e)
		}
	}
	return object, nil
}

func objectSubset(_ *Call, args []value.Value) (value.Value, error) {
	super, sub := args[0], args[1]
	if super.Kind() == value.Array && sub.Kind() == value.Set {
		return ofBool(arrayHoldsSet(super, sub))
	}
	if super.Kind() != sub.Kind() || !super.Composite() {
		return ask()
	}
	return ofBool(within(sub, super))
}

// within reports whether sub is equal to super, or part of it in the way of its
// kind.
func within(sub, super value.Value) bool {
	if sub.Kind() != super.Kind() {
		return false
	}
	switch sub.Kind() {
	case value.Object:
		for i := range sub.Len() {
			k, v := sub.At(i)
			if in := super.Get(k); !in.Defined() || !within(v, in) {
				return false
			}
		}
		return true
	case value.Set:
		for i := range sub.Len() {
			if !super.Has(elem(sub, i)) {
				return false
			}
		}
		return true
	case value.Array:
		return value.Equal(sub, super) || runWithin(sub, super)
	}
	return value.Equal(sub, super)
}

// runWithin reports whether the elements of sub follow one another somewhere in
// super.
func runWithin(sub, super value.Value) bool {
	for start := 0; start+sub.Len() <= super.Len(); start++ {
		same := 0
		for same < sub.Len() && value.Equal(sub.Elem(same), super.Elem(start+same)) {
			same++
		}
		if same == sub.Len() {
			return true
		}
	}
	return false
}

// arrayHoldsSet counts as OPA does: an element that comes twice counts twice,
// and an empty array holds not even the empty set.
func arrayHoldsSet(super, sub value.Value) bool {
	missing := sub.Len()
	for i := range super.Len() {
		if sub.Has(super.Elem(i)) {
			missing--
		}
		if missing == 0 {
			return true
		}
	}
	return false
}
