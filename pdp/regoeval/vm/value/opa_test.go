package value_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

func TestNumbersCompareAsOPAs(t *testing.T) {
	h := heap(t)
	all := append(unordered, numbers...)
	for _, x := range all {
		for _, y := range all {
			a, b := value.OfNumber(x), value.OfNumber(y)
			if in, ok := inPlace(ast.Number(x)); ok {
				a = value.Of(in)
			}
			want := ast.NumberCompare(ast.Number(x), ast.Number(y))
			if got := value.Compare(a, b); sign(got) != want {
				t.Errorf("Compare(%s, %s) = %d, OPA has %d", x, y, got, want)
			}
			if value.Equal(a, b) != (want == 0) {
				t.Errorf("Equal(%s, %s) = %v", x, y, want != 0)
			}
			set := h.NewSet()
			h.Add(set, a)
			one := ast.NewSet(ast.NewTerm(ast.Number(x)))
			if has := one.Contains(ast.NewTerm(ast.Number(y))); set.Has(b) != has {
				t.Errorf("%s in {%s} is %v for OPA", y, x, has)
			} else if has && value.Hash(a) != value.Hash(b) {
				t.Errorf("%s and %s are one, with two hashes", x, y)
			}
		}
	}
}

func TestRandomNumbersCompareAsOPAs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := drawNumber(t), drawNumber(t)
		a, b := value.OfNumber(string(x)), value.OfNumber(string(y))
		if got, want := value.Compare(a, b), ast.NumberCompare(x, y); sign(got) != want {
			t.Fatalf("Compare(%s, %s) = %d, OPA has %d", x, y, got, want)
		}
		if a.Number() != string(x) {
			t.Fatalf("%s becomes %s", x, a.Number())
		}
		n, whole := a.Int()
		if m, w := x.Int64(); n != m || whole != w {
			t.Fatalf("Int(%s) = %d, %v, OPA has %d, %v", x, n, whole, m, w)
		}
	})
}

func TestNumbersKeepTheirText(t *testing.T) {
	for _, x := range append(unordered, numbers...) {
		if got := value.OfNumber(x).Number(); got != x {
			t.Errorf("%s becomes %s", x, got)
		}
	}
}

func TestEqualElementsBeyondBinary64AreFound(t *testing.T) {
	h := heap(t)
	terms := []string{"1e400", "10e399", "1.0e400", "100e398"}
	want := ast.NewSet()
	for i := range 20 {
		want.Add(ast.IntNumberTerm(i))
	}
	for _, text := range terms {
		want.Add(ast.NewTerm(ast.Number(text)))
	}
	set := must(value.FromAST(h, want))
	for _, text := range append(terms, "0.1e401", "1e401") {
		if has := want.Contains(ast.NewTerm(ast.Number(text))); set.Has(value.OfNumber(text)) != has {
			t.Errorf("%s in %v is %v", text, want, !has)
		}
	}
}

func TestOrderIsOPAs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h value.Heap
		x, y := draw(t, 3), draw(t, 3)
		if rapid.IntRange(0, 3).Draw(t, "same") == 0 {
			y = x
		}
		a, b := held(t, &h, x), held(t, &h, y)
		want := sign(ast.Compare(x, y))
		if got := sign(value.Compare(a, b)); got != want {
			t.Fatalf("Compare(%v, %v) = %d, OPA has %d", x, y, got, want)
		}
		if value.Equal(a, b) != (want == 0) {
			t.Fatalf("Equal(%v, %v) = %v", x, y, want != 0)
		}
		if x.String() == y.String() && value.Hash(a) != value.Hash(b) {
			t.Fatalf("%v has two hashes", x)
		}
	})
}

func TestValuesGoThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h value.Heap
		x := draw(t, 3)
		a := held(t, &h, x)
		if got := a.AST(); got.String() != x.String() || ast.Compare(got, x) != 0 {
			t.Fatalf("%v becomes %v", x, got)
		}
		frozen := value.Freeze(a)
		h.Reset()
		if got := frozen.AST(); got.String() != x.String() {
			t.Fatalf("frozen, %v becomes %v", x, got)
		}
	})
}

func TestElementsAreFoundAsOPADoes(t *testing.T) {
	member := topdown.GetBuiltin(ast.Member.Name)
	rapid.Check(t, func(t *rapid.T) {
		var h value.Heap
		x := draw(t, 2)
		key := draw(t, 1)
		if terms := parts(x); len(terms) > 0 && rapid.Bool().Draw(t, "inside") {
			key = rapid.SampledFrom(terms).Draw(t, "part").Value
		}
		a, k := held(t, &h, x), held(t, &h, key)
		var want ast.Value
		if found := ast.NewTerm(x).Get(ast.NewTerm(key)); found != nil {
			want = found.Value
		}
		if got := a.Get(k).AST(); (got == nil) != (want == nil) || got != nil && got.String() != want.String() {
			t.Fatalf("%v[%v] is %v, OPA has %v", x, key, got, want)
		}
		if name, ok := key.(ast.String); ok {
			for hint := range uint32(3) {
				if got := a.GetName(string(name), &hint); got.Defined() != (want != nil) || want != nil && got.AST().String() != want.String() {
					t.Fatalf("%v[%v] is %v by name, OPA has %v", x, key, got.AST(), want)
				}
			}
		}
		err := member(topdown.BuiltinContext{}, []*ast.Term{ast.NewTerm(key), ast.NewTerm(x)}, func(in *ast.Term) error {
			if got := a.Has(k); got != bool(in.Value.(ast.Boolean)) {
				t.Fatalf("%v in %v is %v", key, x, got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// parts are the keys and elements of a composite.
func parts(v ast.Value) (all []*ast.Term) {
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { all = append(all, e) })
	case ast.Set:
		v.Foreach(func(e *ast.Term) { all = append(all, e) })
	case ast.Object:
		v.Foreach(func(k, e *ast.Term) { all = append(all, k, e) })
	}
	return all
}

func TestSetOperationsAreOPAs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h value.Heap
		x, y := ast.NewSet(drawTerms(t, 1)...), ast.NewSet(drawTerms(t, 1)...)
		a, b := held(t, &h, x), held(t, &h, y)
		for _, c := range []struct {
			name string
			got  value.Value
			want ast.Value
		}{
			{"|", h.Union(a, b), x.Union(y)},
			{"&", h.Intersection(a, b), x.Intersect(y)},
			{"-", h.Difference(a, b), x.Diff(y)},
		} {
			if got := c.got.AST().String(); got != c.want.String() {
				t.Fatalf("%v %s %v = %s, OPA has %v", x, c.name, y, got, c.want)
			}
		}
	})
}

func TestSetsOfEqualNumbersHaveNoDifference(t *testing.T) {
	x, y := ast.MustParseTerm("{1e400, 1}").Value.(ast.Set), ast.MustParseTerm("{10e399, 1}").Value.(ast.Set)
	h := heap(t)
	got := h.Difference(must(value.FromAST(h, x)), must(value.FromAST(h, y))).AST()
	if want := x.Diff(y); got.String() != want.String() {
		t.Errorf("%v - %v is %v, OPA has %v", x, y, got, want)
	}
}

func TestJSONOfATextThatIsNone(t *testing.T) {
	for _, text := range []string{"a\xffb", "\xe2\x80", "\x7f", "\u2029", "漢字"} {
		want := must(json.Marshal(text))
		if got, err := value.AppendJSON(nil, value.OfString(text)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q is %s, %v; encoding/json has %s", text, got, err, want)
		}
	}
	for _, number := range []string{"+Inf", "NaN", "1.", "0x1"} {
		if got, err := value.AppendJSON(nil, value.OfNumber(number)); err == nil {
			t.Errorf("%s is %s", number, got)
		}
	}
}

func TestJSONIsAsOPAsDataAPI(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h value.Heap
		x := draw(t, 3)
		plain, err := ast.JSON(x)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(plain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := value.AppendJSON([]byte("before"), held(t, &h, x))
		if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("%v is\n%s (%v), OPA has\n%s", x, got, err, want)
		}
	})
}

func TestJSONNamesMembersAsOPADoes(t *testing.T) {
	for _, rego := range []string{
		`{1: "number", "1": "text"}`, `{true: 1, "true": 2, "a": 3}`, `{"[1]": 1, [1]: 2, "z": 0}`, `{"z": 1, ["<"]: 2}`,
		`{{"b": 1}: 1, {2, 1}: 2, null: 3, 1.50: 4}`,
	} {
		v := ast.MustParseTerm(rego).Value
		want := must(json.Marshal(must(ast.JSON(v))))
		if got, err := value.AppendJSON(nil, must(value.FromAST(nil, v))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is\n%s (%v), OPA has\n%s", rego, got, err, want)
		}
	}
}
