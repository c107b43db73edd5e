package builtin

import (
	"slices"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var aggregates = table{
	ast.Count.Name:   count,
	ast.Sum.Name:     fold(0, add, func(longest, _ int) int { return longest }),
	ast.Product.Name: fold(1, multiply, func(_, all int) int { return all }),
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

// fold computes with integers; the result of larger ones has at most as many
// digits as largest says.
func fold(start int64, f func(x, y int64) (int64, bool), largest func(longest, all int) int) Func {
	return func(c *Call, args []value.Value) (value.Value, error) {
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
				return askTotal(c, args[0], largest)
			}
		}
		return value.OfInt(total), nil
	}
}

// askTotal leaves the call to OPA if the result cannot be too long.
func askTotal(c *Call, v value.Value, largest func(longest, all int) int) (value.Value, error) {
	longest, all := 0, 0
	for i := range v.Len() {
		n := elem(v, i)
		if n.Kind() != value.Number {
			return ask()
		}
		size := len(n.Number())
		longest, all = max(longest, size), all+size
		if largest(longest, all) > value.MaxNumber {
			return full()
		}
	}
	if !c.works(all) {
		return tooMuch()
	}
	return ask()
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
