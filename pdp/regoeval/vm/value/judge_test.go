package value_test

import (
	"encoding/json"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// numbers are such as are held, written or compared in different ways. OPA's
// order leaves open how 0.1, 1e-1 and fractions of more digits lie to each
// other, and which of two equal elements beyond binary64 comes first: these are
// compared in pairs only (unordered).
var numbers = []string{
	"0", "-0", "0.0", "0e5", "1", "1.0", "1e0", "10e-1", "-1", "-1.0", "2", "2.000", "0.5", "0.50", "5e-1", "-0.5",
	"1e2", "1E2", "100", "100.0", "1.5e2", "150", "1e-7", "0.0000001", "0.000001", "0.000002", "1e300", "1e-320",
	"9007199254740991", "9007199254740992", "9007199254740993", "9007199254740992.0", "1e16", "10000000000000001", "4503599627370495.5",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551616",
	"123456789012345.5", "123456789.123456", "1.23456789012345", "1.000000000000000", "99999999999999.9",
	"1e400", "-1e400", "2e400", "1e-400", "10e-401", "1e308", "1e309",
}

var unordered = []string{"10e399", "1.0e400", "0.1", "1e-1", "0.10", "0.1000000000000000055", "0.10000000000000001", "0.1000000000000001", "1.0000000000000000001"}

func drawNumber(t *rapid.T) ast.Number {
	if rapid.Bool().Draw(t, "known") {
		return ast.Number(rapid.SampledFrom(numbers).Draw(t, "number"))
	}
	return ast.Number(rapid.StringMatching(`-?(0|[1-9][0-9]{0,6})(\.[0-9]{1,7})?(e[+-]?[0-9])?`).Draw(t, "number"))
}

var texts = []string{"", "a", "b", "ab", "deny", "\U0010FFFF", "é", "€", "<", ">", "&", "\u2028", "\x00", "1", "true", "[1]", `"`}

// draw draws one of OPA's values.
func draw(t *rapid.T, depth int) ast.Value {
	most := 7
	if depth == 0 {
		most = 3
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return ast.NullValue
	case 1:
		return ast.Boolean(rapid.Bool().Draw(t, "bool"))
	case 2, 4:
		return drawNumber(t)
	case 3:
		return ast.String(rapid.SampledFrom(texts).Draw(t, "text"))
	case 5:
		return ast.NewArray(drawTerms(t, depth)...)
	case 6:
		return ast.NewSet(drawTerms(t, depth)...)
	default:
		o := ast.NewObject()
		for _, k := range drawTerms(t, depth) {
			if o.Get(k) == nil { // OPA loses keys where it replaces one among fractions
				o.Insert(k, ast.NewTerm(draw(t, depth-1)))
			}
		}
		return o
	}
}

func drawTerms(t *rapid.T, depth int) []*ast.Term {
	most := rapid.SampledFrom([]int{3, 40}).Draw(t, "most")
	terms := make([]*ast.Term, rapid.IntRange(0, most).Draw(t, "len"))
	below := depth - 1
	if most > 3 {
		below = 0
	}
	for i := range terms {
		terms[i] = ast.NewTerm(draw(t, below))
	}
	return terms
}

// held holds one of OPA's values in a mixture of forms that are drawn: in place
// in a request, made by the heap in any order, or without a heap.
func held(t *rapid.T, h *value.Heap, v ast.Value) value.Value {
	if rapid.IntRange(0, 9).Draw(t, "constant") == 0 {
		return must(value.FromAST(nil, v))
	}
	if in, ok := inPlace(v); ok && rapid.Bool().Draw(t, "in place") {
		if rapid.IntRange(0, 3).Draw(t, "indexed") == 0 {
			return value.Indexed(in)
		}
		return value.Of(in)
	}
	switch v := v.(type) {
	case *ast.Array:
		a := h.NewArray(rapid.IntRange(0, v.Len()).Draw(t, "capacity"))
		v.Foreach(func(e *ast.Term) { h.Append(a, held(t, h, e.Value)) })
		return a
	case ast.Set:
		s := h.NewSet()
		for _, k := range rapid.Permutation(v.Slice()).Draw(t, "order") {
			h.Add(s, held(t, h, k.Value))
		}
		return s
	case ast.Object:
		o := h.NewObject()
		for _, k := range rapid.Permutation(v.Keys()).Draw(t, "order") {
			h.Insert(o, held(t, h, k.Value), held(t, h, v.Get(k).Value))
		}
		return o
	default:
		return must(value.FromAST(h, v))
	}
}

// inPlace is the value as a request would hold it, if one can.
func inPlace(v ast.Value) (authz.Value, bool) {
	switch v := v.(type) {
	case ast.Null:
		return authz.Value{}, true
	case ast.Boolean:
		return authz.BoolValue(bool(v)), true
	case ast.Number:
		n, err := authz.ValueOf(json.Number(v))
		return n, err == nil && n.Number() == string(v)
	case ast.String:
		return authz.StringValue(string(v)), true
	case *ast.Array:
		elems := make([]authz.Value, v.Len())
		for i := range elems {
			var ok bool
			if elems[i], ok = inPlace(v.Elem(i).Value); !ok {
				return authz.Value{}, false
			}
		}
		return authz.ListValue(elems...), true
	case ast.Object:
		var members []authz.Member
		for _, k := range v.Keys() {
			name, isText := k.Value.(ast.String)
			elem, ok := inPlace(v.Get(k).Value)
			if !isText || !ok {
				return authz.Value{}, false
			}
			members = append(members, authz.Member{Name: string(name), Value: elem})
		}
		o, err := authz.ObjectValue(members...)
		return o, err == nil
	default:
		return authz.Value{}, false
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func heap(t testing.TB) *value.Heap {
	h := &value.Heap{Poison: true}
	t.Cleanup(h.Reset)
	return h
}
