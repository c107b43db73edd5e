package builtin

import (
	"slices"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var aggregates = table{
	ast.Count.Name:   count,
	ast.Sum.Name:     fold(0, add),
	ast.Product.Name: fold(1, multiply),
	ast.Max.Name:     most(1),
	ast.Min.Name:     most(-1),
	ast.Sort.Name:    sorted,
	ast.All.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		return quantified(args[0], false)
	},
	ast.Any.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		return quantified(args[0], true)
	},
}

func count(_ *Call, args []value.Value) (value.Value, error) {
	switch v := args[0]; {
	case v.Composite():
		return ofInt(v.Len())
	case v.Kind() == value.String:
		return ofInt(utf8.RuneCountInString(v.Text()))
	}
	return ask()
}

// collection reports whether v is an array or a set.
func collection(v value.Value) bool { return v.Kind() == value.Array || v.Kind() == value.Set }

// elem returns element i of an array or a set.
func elem(v value.Value, i int) value.Value {
	_, e := v.At(i)
	return e
}

func fold(start int64, f func(x, y int64) (int64, bool)) Func {
	return func(_ *Call, args []value.Value) (value.Value, error) {
		if !collection(args[0]) {
			return ask()
		}
		total := start
		for i := range args[0].Len() {
			n, ok := elem(args[0], i).Int()
			if ok {
				total, ok = f(total, n)
			}
			if !ok {
				return ask()
			}
		}
		return value.OfInt(total), nil
	}
}

// most is the largest element where the sign is 1, the smallest where it is −1.
// Of equal ones in an array (1 and 1.0) it is the last.
func most(sign int) Func {
	return func(_ *Call, args []value.Value) (value.Value, error) {
		v := args[0]
		if !collection(v) {
			return ask()
		}
		var best value.Value
		for i := range v.Len() {
			if e := elem(v, i); i == 0 || value.Compare(e, best)*sign >= 0 {
				best = e
			}
		}
		return best, nil
	}
}

func sorted(c *Call, args []value.Value) (value.Value, error) {
	v := args[0]
	if !collection(v) {
		return ask()
	}
	elems := c.elems[:0]
	for i := range v.Len() {
		elems = append(elems, elem(v, i))
	}
	if v.Kind() == value.Array {
		// OPA sorts in the same way, so that 1 and 1.0 come out alike.
		slices.SortFunc(elems, value.Compare)
	}
	result := c.Heap.NewArray(len(elems))
	for _, e := range elems {
		c.Heap.Append(result, e)
	}
	c.release(elems)
	return result, nil
}

// quantified reports whether any element is true, or else whether all are.
func quantified(v value.Value, any bool) (value.Value, error) {
	if !collection(v) {
		return ask()
	}
	for i := range v.Len() {
		if elem(v, i).IsTrue() == any {
			return ofBool(any)
		}
	}
	return ofBool(!any)
}
