package builtin

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var arrays = table{
	ast.ArrayConcat.Name:  concatenated,
	ast.ArraySlice.Name:   sliced,
	ast.ArrayReverse.Name: reversed,
	ast.ArrayFlatten.Name: flattened,
}

// extend appends elements from to to of another array.
func (c *Call) extend(array, other value.Value, from, to int) {
	for i := from; i < to; i++ {
		c.Heap.Append(array, other.Elem(i))
	}
}

func concatenated(c *Call, args []value.Value) (value.Value, error) {
	a, b := args[0], args[1]
	switch {
	case a.Kind() != value.Array || b.Kind() != value.Array:
		return ask()
	case a.Len() == 0:
		return b, nil
	case b.Len() == 0:
		return a, nil
	case !c.holdsValues(a.Len() + b.Len()):
		return full()
	}
	array := c.Heap.NewArray(a.Len() + b.Len())
	c.extend(array, a, 0, a.Len())
	c.extend(array, b, 0, b.Len())
	return array, nil
}

func sliced(c *Call, args []value.Value) (value.Value, error) {
	from, okFrom := args[1].Int()
	to, okTo := args[2].Int()
	if args[0].Kind() != value.Array || !okFrom || !okTo {
		return ask()
	}
	n := int64(args[0].Len())
	to = min(max(to, 0), n)
	from = min(max(from, 0), to)
	if from == 0 && to == n {
		return args[0], nil
	}
	array := c.Heap.NewArray(int(to - from))
	c.extend(array, args[0], int(from), int(to))
	return array, nil
}

func reversed(c *Call, args []value.Value) (value.Value, error) {
	v := args[0]
	if v.Kind() != value.Array {
		return ask()
	}
	array := c.Heap.NewArray(v.Len())
	for i := v.Len() - 1; i >= 0; i-- {
		c.Heap.Append(array, v.Elem(i))
	}
	return array, nil
}

func flattened(c *Call, args []value.Value) (value.Value, error) {
	v := args[0]
	if v.Kind() != value.Array {
		return ask()
	}
	n, nested := 0, false
	for i := range v.Len() {
		if e := v.Elem(i); e.Kind() == value.Array {
			n, nested = n+e.Len(), true
		} else {
			n++
		}
	}
	if !nested {
		return v, nil
	}
	if !c.holdsValues(n) {
		return full()
	}
	array := c.Heap.NewArray(n)
	for i := range v.Len() {
		if e := v.Elem(i); e.Kind() == value.Array {
			c.extend(array, e, 0, e.Len())
		} else {
			c.Heap.Append(array, e)
		}
	}
	return array, nil
}
