package builtin

import (
	"net/netip"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// Bind returns the function of that name for calls whose arguments are args
// where those are defined: patterns and networks that a program spells out are
// compiled once. The function is called with all of its arguments still. It is
// nil where [Lookup]'s is as good. The arguments belong to the program.
func Bind(name string, args []value.Value) Func {
	if f := bound(name, args); f != nil {
		return settled(f, foreign(name))
	}
	return nil
}

func bound(name string, args []value.Value) Func {
	if f, ok := patternFuncs[name]; ok {
		return f.bound(args)
	}
	switch name {
	case ast.GlobMatch.Name:
		return boundGlob(args)
	case ast.NetCIDRContains.Name, ast.NetCIDROverlap.Name:
		return boundNetwork(args)
	case ast.NetCIDRContainsMatches.Name:
		return boundNetworks(args)
	case ast.AnyPrefixMatch.Name, ast.AnySuffixMatch.Name:
		return boundAffixes(name, args)
	}
	return nil
}

// boundNetworks reads constant networks once.
func boundNetworks(args []value.Value) Func {
	if !args[0].Defined() {
		return nil
	}
	known := make([]indexed, entries(args[0]))
	for i := range known {
		index, cidr, ok := entry(args[0], i)
		n, valid := network(cidr)
		if !ok || !valid {
			return nil
		}
		known[i] = indexed{index, n}
	}
	return func(c *Call, args []value.Value) (value.Value, error) { return matchesOf(c, known, args[1]) }
}

// indexed is a network and what stands for it in a result.
type indexed struct {
	index   value.Value
	network netip.Prefix
}

func matchesOf(c *Call, outer []indexed, inner value.Value) (value.Value, error) {
	result := c.Heap.NewSet()
	for i := range entries(inner) {
		index, cidr, ok := entry(inner, i)
		within, sure := networkOrAddress(cidr)
		if !ok || !sure {
			return ask()
		}
		for _, o := range outer {
			if contains(o.network, within) {
				c.addPair(result, o.index, index)
			}
		}
		if c.Heap.Full() {
			return full()
		}
	}
	return result, nil
}

// boundAffixes has looked at constant texts once.
func boundAffixes(name string, args []value.Value) Func {
	if !listOfTexts(args[1]) || lengthOf(args[1]) > mostPairs {
		return nil
	}
	affixes := make([]string, lengthOf(args[1]))
	for i := range affixes {
		affixes[i] = textAt(args[1], i)
	}
	match := affixMatch[name]
	return func(_ *Call, args []value.Value) (value.Value, error) {
		if !listOfTexts(args[0]) || lengthOf(args[0])*len(affixes) > mostPairs {
			return ask()
		}
		for i := range lengthOf(args[0]) {
			s := textAt(args[0], i)
			for _, affix := range affixes {
				if match(s, affix) {
					return ofBool(true)
				}
			}
		}
		return ofBool(false)
	}
}
