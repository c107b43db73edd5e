package builtin

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var sets = table{
	ast.And.Name:          both,
	ast.Or.Name:           either,
	ast.SetDiff.Name:      difference,
	ast.Union.Name:        union,
	ast.Intersection.Name: intersection,
}

func twoSets(args []value.Value) bool {
	return args[0].Kind() == value.Set && args[1].Kind() == value.Set
}

// setOf is the set of an array's or a set's elements.
func (c *Call) setOf(v value.Value) value.Value {
	set := c.Heap.NewSet()
	c.addAll(set, v)
	return set
}

func (c *Call) addAll(set, from value.Value) {
	for i := range from.Len() {
		c.Heap.Add(set, elem(from, i))
	}
}

func both(c *Call, args []value.Value) (value.Value, error) {
	if !twoSets(args) {
		return ask()
	}
	return c.Heap.Intersection(args[0], args[1]), nil
}

func either(c *Call, args []value.Value) (value.Value, error) {
	switch {
	case !twoSets(args):
		return ask()
	case args[0].Len() == 0:
		return args[1], nil
	case args[1].Len() == 0:
		return args[0], nil
	}
	return c.Heap.Union(args[0], args[1]), nil
}

func difference(c *Call, args []value.Value) (value.Value, error) {
	if !twoSets(args) {
		return ask()
	}
	return c.Heap.Difference(args[0], args[1]), nil
}

// setOfSets reports whether v is a set of nothing but sets.
func setOfSets(v value.Value) bool {
	// Sets come last in Rego's order.
	return v.Kind() == value.Set && (v.Len() == 0 || elem(v, 0).Kind() == value.Set)
}

func union(c *Call, args []value.Value) (value.Value, error) {
	if !setOfSets(args[0]) {
		return ask()
	}
	set := c.Heap.NewSet()
	for i := range args[0].Len() {
		c.addAll(set, elem(args[0], i))
	}
	return set, nil
}

func intersection(c *Call, args []value.Value) (value.Value, error) {
	all := args[0]
	switch {
	case !setOfSets(all):
		return ask()
	case all.Len() == 0:
		return c.Heap.NewSet(), nil
	}
	set := elem(all, 0)
	for i := 1; i < all.Len(); i++ {
		set = c.Heap.Intersection(set, elem(all, i))
	}
	return set, nil
}
