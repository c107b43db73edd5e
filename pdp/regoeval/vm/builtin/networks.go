package builtin

import (
	"net/netip"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var networks = table{
	ast.NetCIDRContains.Name:        cidrContains,
	ast.NetCIDROverlap.Name:         cidrContains,
	ast.NetCIDRIntersects.Name:      cidrIntersects,
	ast.NetCIDRContainsMatches.Name: cidrContainsMatches,
	ast.NetCIDRExpand.Name:          text1(cidrExpand),
	ast.NetCIDRMerge.Name:           cidrMerge,
	ast.NetCIDRIsValid.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		_, ok := network(args[0])
		return ofBool(ok)
	},
}

// network returns the network that a text names as net.ParseCIDR reads it: the
// address masked, and one of IPv4 written as IPv6 is one of IPv4.
func network(v value.Value) (netip.Prefix, bool) {
	address, length, found := strings.Cut(v.Text(), "/")
	if !found || length == "" {
		return netip.Prefix{}, false
	}
	bits := 0
	for i := range len(length) {
		if length[i] < '0' || length[i] > '9' {
			return netip.Prefix{}, false
		}
		if bits = bits*10 + int(length[i]-'0'); bits > 128 {
			return netip.Prefix{}, false
		}
	}
	ip, ok := parseAddress(address)
	if !ok || bits > ip.BitLen() {
		return netip.Prefix{}, false
	}
	masked := netip.PrefixFrom(ip, bits).Masked()
	if masked.Addr().Is4In6() {
		return netip.PrefixFrom(masked.Addr().Unmap(), bits-96), true
	}
	return masked, true
}

// parseAddress makes no error, which would cost memory.
func parseAddress(s string) (netip.Addr, bool) {
	if strings.IndexByte(s, '.') < 0 && strings.IndexByte(s, ':') < 0 {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(s)
	return ip, err == nil && ip.Zone() == ""
}

// networkOrAddress is network, but an address is a network of itself alone.
func networkOrAddress(v value.Value) (netip.Prefix, bool) {
	s := v.Text()
	if strings.IndexByte(s, '/') >= 0 {
		return network(v)
	}
	ip, ok := parseAddress(s)
	ip = ip.Unmap()
	return netip.PrefixFrom(ip, ip.BitLen()), ok
}

// contains reports whether a network holds all of another.
func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// inside reports whether a network holds an address or all of a network. It is
// not sure of a text that names neither.
func inside(outer netip.Prefix, v value.Value) (holds, sure bool) {
	inner, ok := networkOrAddress(v)
	return ok && contains(outer, inner), ok
}

func cidrContains(_ *Call, args []value.Value) (value.Value, error) {
	outer, ok := network(args[0])
	if !ok {
		return ask()
	}
	holds, sure := inside(outer, args[1])
	if !sure {
		return ask()
	}
	return ofBool(holds)
}

func cidrIntersects(_ *Call, args []value.Value) (value.Value, error) {
	a, okA := network(args[0])
	b, okB := network(args[1])
	if !okA || !okB {
		return ask()
	}
	return ofBool(a.Overlaps(b))
}

// cidrContainsMatches is the set of [i, j] where network i of the first
// argument holds j of the second.
func cidrContainsMatches(c *Call, args []value.Value) (value.Value, error) {
	result := c.Heap.NewSet()
	for i := range entries(args[0]) {
		index, cidr, ok := entry(args[0], i)
		outer, valid := network(cidr)
		for j := range entries(args[1]) {
			other, within, okToo := entry(args[1], j)
			holds, sure := inside(outer, within)
			if !ok || !valid || !okToo || !sure {
				return ask()
			}
			if holds {
				c.addPair(result, index, other)
			}
		}
		if !ok {
			return ask()
		}
		if c.Heap.Full() {
			return full()
		}
	}
	return result, nil
}

// cidrMerge merges one network, which brings it into its canonical form;
// several are left to OPA.
func cidrMerge(c *Call, args []value.Value) (value.Value, error) {
	if k := args[0].Kind(); k != value.Array && k != value.Set || args[0].Len() != 1 {
		return ask()
	}
	_, cidr := args[0].At(0)
	only, ok := network(cidr)
	if !ok || only.Addr().Is6() && strings.IndexByte(cidr.Text(), '.') >= 0 {
		return ask()
	}
	merged, err := c.made(only.AppendTo(c.text[:0]))
	result := c.Heap.NewSet()
	c.Heap.Add(result, merged)
	return result, err
}

func (c *Call) addPair(set, a, b value.Value) {
	pair := c.Heap.NewArray(2)
	c.Heap.Append(pair, a)
	c.Heap.Append(pair, b)
	c.Heap.Add(set, pair)
}

// entries is how many networks an argument names.
func entries(v value.Value) int {
	if v.Kind() == value.String {
		return 1
	}
	return v.Len()
}

// entry returns network i, which is a text or an array that begins with it, and
// what stands for it in the result.
func entry(v value.Value, i int) (index, cidr value.Value, ok bool) {
	if v.Kind() == value.String {
		return v, v, true
	}
	index, cidr = v.At(i)
	if cidr.Kind() == value.Array && cidr.Len() > 0 {
		return index, cidr.Elem(0), true
	}
	return index, cidr, cidr.Kind() == value.String
}

// maxHostBits is the largest network that is written out.
const maxHostBits = 24

func cidrExpand(c *Call, s string) (value.Value, error) {
	n, ok := network(value.OfString(s))
	if !ok {
		return ask()
	}
	host := n.Addr().BitLen() - n.Bits()
	if host > maxHostBits || !c.holdsValues(1<<host) {
		return full()
	}
	set := c.Heap.NewSet()
	for ip := n.Addr(); n.Contains(ip) && !c.Heap.Full(); ip = ip.Next() {
		c.Heap.Add(set, c.Heap.Text(ip.String()))
	}
	return set, nil
}

// boundNetwork reads a constant network once.
func boundNetwork(args []value.Value) Func {
	outer, ok := network(args[0])
	if !ok {
		return nil
	}
	return func(_ *Call, args []value.Value) (value.Value, error) {
		holds, sure := inside(outer, args[1])
		if !sure {
			return ask()
		}
		return ofBool(holds)
	}
}
