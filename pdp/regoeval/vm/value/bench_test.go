package value_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Each benchmark does the same with a value and with OPA's.

var sink bool

func benchObject(n int) (ast.Object, authz.Value) {
	o := ast.NewObject()
	data := make(map[string]any)
	for i := range n {
		name := "member " + strconv.Itoa(i)
		o.Insert(ast.StringTerm(name), ast.IntNumberTerm(i))
		data[name] = i
	}
	return o, authz.MustValue(data)
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{8, 1000} {
		o, in := benchObject(n)
		name := "member " + strconv.Itoa(n/2)
		term := ast.StringTerm(name)
		b.Run(fmt.Sprintf("opa/%d", n), func(b *testing.B) {
			for b.Loop() {
				sink = o.Get(term) != nil
			}
		})
		for form, v := range map[string]value.Value{
			"request": value.Of(in), "indexed": value.Indexed(in), "table": must(value.FromAST(&value.Heap{}, o)),
		} {
			var hint uint32
			b.Run(fmt.Sprintf("%s/%d", form, n), func(b *testing.B) {
				for b.Loop() {
					hint = 0
					sink = v.GetName(name, &hint).Defined()
				}
			})
			b.Run(fmt.Sprintf("%s-hinted/%d", form, n), func(b *testing.B) {
				for b.Loop() {
					sink = v.GetName(name, &hint).Defined()
				}
			})
		}
	}
}

func BenchmarkCompare(b *testing.B) {
	for _, pair := range [][2]string{
		{`"a text of some length"`, `"a text of some lengtH"`}, {`12`, `13`}, {`0.25`, `7`}, {`1e2`, `100`},
		{`[1, 2, 3, "a", {"b": 1}]`, `[1, 2, 3, "a", {"b": 2}]`},
	} {
		x, y := ast.MustParseTerm(pair[0]).Value, ast.MustParseTerm(pair[1]).Value
		v, w := must(value.FromAST(nil, x)), must(value.FromAST(nil, y))
		b.Run("opa/"+pair[0], func(b *testing.B) {
			for b.Loop() {
				sink = ast.Compare(x, y) == 0
			}
		})
		b.Run("value/"+pair[0], func(b *testing.B) {
			for b.Loop() {
				sink = value.Compare(v, w) == 0
			}
		})
	}
}

func BenchmarkSetAddAndVisit(b *testing.B) {
	for _, n := range []int{3, 16, 200} {
		names := make([]string, n)
		for i := range names {
			names[i] = "element " + strconv.Itoa(i*7919%n)
		}
		b.Run(fmt.Sprintf("opa/%d", n), func(b *testing.B) {
			for b.Loop() {
				s := ast.NewSet()
				for _, name := range names {
					s.Add(ast.StringTerm(name))
				}
				s.Foreach(func(t *ast.Term) { sink = t != nil })
			}
		})
		var h value.Heap
		b.Run(fmt.Sprintf("value/%d", n), func(b *testing.B) {
			for b.Loop() {
				s := h.NewSet()
				for _, name := range names {
					h.Add(s, value.OfString(name))
				}
				for i := range s.Len() {
					k, _ := s.At(i)
					sink = k.Defined()
				}
				h.Reset()
			}
		})
	}
}

func BenchmarkVisit(b *testing.B) {
	o, in := benchObject(100)
	b.Run("opa", func(b *testing.B) {
		for b.Loop() {
			o.Foreach(func(k, v *ast.Term) { sink = k == v })
		}
	})
	for form, v := range map[string]value.Value{"request": value.Of(in), "table": must(value.FromAST(nil, o))} {
		b.Run(form, func(b *testing.B) {
			for b.Loop() {
				for i := range v.Len() {
					k, e := v.At(i)
					sink = k.Kind() == e.Kind()
				}
			}
		})
	}
}

func BenchmarkHas(b *testing.B) {
	roles := ast.MustParseTerm(`["reader", "writer", "auditor", "owner", "operator"]`)
	in := value.Of(authz.MustValue([]any{"reader", "writer", "auditor", "owner", "operator"}))
	term, owner := ast.StringTerm("owner"), value.OfString("owner")
	b.Run("opa", func(b *testing.B) {
		for b.Loop() {
			sink = roles.Value.(*ast.Array).Until(term.Equal)
		}
	})
	b.Run("request", func(b *testing.B) {
		for b.Loop() {
			sink = in.Has(owner)
		}
	})
}
