package value_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// upserted is what OPA has for `v with path as elem`.
func upserted(v ast.Value, path []string, elem *ast.Term) *ast.Term {
	if len(path) == 0 {
		return elem
	}
	o, ok := v.(ast.Object)
	if !ok {
		o = ast.NewObject()
	}
	key := ast.StringTerm(path[0])
	var below ast.Value
	if found := o.Get(key); found != nil {
		below = found.Value
	}
	merged, _ := o.MergeWith(ast.NewObject(ast.Item(key, upserted(below, path[1:], elem))), func(_, b *ast.Term) (*ast.Term, bool) { return b, false })
	return ast.NewTerm(merged)
}

func TestUpsertSetsOnePath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h value.Heap
		x, e := draw(t, 3), draw(t, 1)
		path := rapid.SliceOfN(rapid.SampledFrom(texts), 0, 3).Draw(t, "path")
		v := held(t, &h, x)
		got := h.Upsert(v, path, held(t, &h, e)).AST().String()
		if want := upserted(x, path, ast.NewTerm(e)).String(); got != want {
			t.Fatalf("%v with %q as %v is %s, not %s", x, path, e, got, want)
		}
		if v.AST().String() != x.String() {
			t.Fatalf("%v changed to %v", x, v.AST())
		}
	})
}

func TestUpsertSharesWhatIsBesideThePath(t *testing.T) {
	wide := make(map[string]any)
	for i := range 1000 {
		wide[strconv.Itoa(i)] = i
	}
	var h value.Heap
	in := value.Of(authz.MustValue(map[string]any{"wide": wide, "a": map[string]any{"b": 1, "c": 2}}))
	out := h.Upsert(in, []string{"a", "b"}, value.True)
	if out.AST().(ast.Object).Get(ast.StringTerm("a")).String() != `{"b": true, "c": 2}` {
		t.Errorf("it is %v", out.AST())
	}
	if h.Spent() > 30 {
		t.Errorf("%d values were made to set one of four", h.Spent())
	}
}

func TestAKeyStaysAsItWasFirstWritten(t *testing.T) {
	var h value.Heap
	o, s := h.NewObject(), h.NewSet()
	for _, text := range []string{"1.0", "1", "1e0"} {
		h.Insert(o, value.OfNumber(text), value.OfString(text))
		h.Add(s, value.OfNumber(text))
	}
	if o.AST().String() != `{1.0: "1e0"}` || s.AST().String() != "{1.0}" {
		t.Errorf("%v, %v", o.AST(), s.AST())
	}
	if got := s.Get(value.OfInt(1)).Number(); got != "1" {
		t.Errorf("{1.0}[1] is %s", got)
	}
	list := value.Of(authz.MustValue([]any{"a", "b"}))
	if got := list.Get(value.OfNumber("1.0")).Text(); got != "b" {
		t.Errorf(`["a", "b"][1.0] is %q`, got)
	}
	if got := list.Get(value.OfNumber("1e0")); got.Defined() {
		t.Errorf(`["a", "b"][1e0] is %v`, got.AST())
	}
}

func TestAppendedElementsChangeTheHash(t *testing.T) {
	var h value.Heap
	a, s, o := h.NewArray(0), h.NewSet(), h.NewObject()
	for i := range 40 {
		n := value.OfInt(int64(i * 7 % 40))
		before := [3]uint64{value.Hash(a), value.Hash(s), value.Hash(o)}
		h.Append(a, n)
		h.Add(s, n)
		h.Insert(o, n, n)
		if after := [3]uint64{value.Hash(a), value.Hash(s), value.Hash(o)}; after[0] == before[0] || after[1] == before[1] || after[2] == before[2] {
			t.Fatal("a hash stayed")
		}
		before[2] = value.Hash(o)
		h.Insert(o, n, value.True)
		if value.Hash(o) == before[2] || !s.Has(n) || !o.Get(n).IsTrue() {
			t.Fatal("what was sorted lost an element")
		}
	}
}

func TestWhatNoHeapOwnsIsReadByMany(t *testing.T) {
	terms := make([]*ast.Term, 100)
	members := make(map[string]any)
	for i := range terms {
		terms[i] = ast.IntNumberTerm(i * 7919 % 100)
		members[strconv.Itoa(i)] = map[string]any{"a": i}
	}
	var h value.Heap
	set := h.NewSet()
	for i := range 100 {
		h.Add(set, value.OfInt(int64(i*7919%100)))
	}
	frozen := value.Freeze(set)
	for _, v := range []value.Value{
		frozen, must(value.FromAST(nil, ast.NewSet(terms...))), must(value.FromAST(nil, ast.NewArray(ast.SetTerm(terms...)))),
		value.Indexed(authz.MustValue([]any{members})), (*value.Heap)(nil).Upsert(value.Of(authz.MustValue(members)), []string{"x", "y"}, value.True),
	} {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				value.Hash(v)
				value.Equal(v, frozen)
				v.Has(value.OfInt(3))
				v.AST()
			})
		}
		wg.Wait()
	}
}

func TestIndexedFindsAsOf(t *testing.T) {
	wide := make(map[string]any)
	for i := range 500 {
		wide["key "+strconv.Itoa(i)] = []any{i, map[string]any{"a": i}}
	}
	for _, data := range []any{wide, map[string]any{"b": wide, "a": 1, "c": "x"}, []any{1, wide, []any{}}, map[string]any{"a": []any{1}}, 1, nil} {
		in := authz.MustValue(data)
		plain, indexed := value.Of(in), value.Indexed(in)
		if !value.Equal(plain, indexed) || indexed.AST().String() != plain.AST().String() {
			t.Errorf("%v differs", indexed.AST())
		}
	}
	v := value.Indexed(authz.MustValue(wide))
	for name := range wide {
		var hint uint32
		if !value.Equal(v.GetName(name, &hint), v.Get(value.OfString(name))) || !v.GetName(name, &hint).Defined() {
			t.Errorf("%s is not found", name)
		}
	}
	if v.Get(value.OfString("key")).Defined() {
		t.Error("a name is found that is not there")
	}
}

func TestReadingBesideWhatIsThere(t *testing.T) {
	var h value.Heap
	for _, in := range []value.Value{
		value.Of(authz.MustValue(map[string]any{"a": 1, "b": 2, "c": 3})),
		must(value.FromAST(&h, ast.MustParseTerm(`{"a": 1, "b": 2, "c": 3}`).Value)),
	} {
		for hint := range uint32(4) {
			at := hint
			if n, _ := in.GetName("b", &at).Int(); n != 2 || at != 1 {
				t.Errorf("with hint %d, b is %d at %d", hint, n, at)
			}
			if got := in.GetName("d", &at); got.Defined() {
				t.Errorf("with hint %d, d is %v", hint, got.AST())
			}
		}
	}
	for _, list := range []value.Value{value.Of(authz.MustValue([]any{1, 2})), must(value.FromAST(&h, ast.MustParseTerm(`[1, 2]`).Value))} {
		for _, i := range []int64{-1, 2, 1 << 40} {
			if got := list.Get(value.OfInt(i)); got.Defined() {
				t.Errorf("[1, 2][%d] is %v", i, got.AST())
			}
		}
		for _, longer := range []value.Value{value.Of(authz.MustValue([]any{1, 2, 0})), must(value.FromAST(&h, ast.MustParseTerm(`[1, 2, 0]`).Value))} {
			if value.Compare(list, longer) >= 0 || value.Compare(longer, list) <= 0 {
				t.Error("a list does not come before one that goes on")
			}
		}
	}
}

func TestMembersInOrderMakeTheSameObject(t *testing.T) {
	h := &value.Heap{}
	for _, n := range []int{0, 1, 3, 8, 9, 40} {
		object, other := h.NewObjectOf(n/2), h.NewObject()
		for i := range n {
			key := value.OfString(fmt.Sprintf("%03d", i))
			h.InsertLast(object, key, value.OfInt(int64(i)))
			h.Insert(other, key, value.OfInt(int64(i)))
		}
		if !value.Equal(object, other) || value.Hash(object) != value.Hash(other) {
			t.Errorf("%d members make another object", n)
		}
		for i := range n {
			key, _ := other.At(i)
			if found := object.Get(key); !value.Equal(found, value.OfInt(int64(i))) {
				t.Errorf("member %d of %d is %v", i, n, found.AST())
			}
		}
		if object.Fixed() || !value.Freeze(object).Fixed() {
			t.Error("what a heap made is fixed, or a copy is not")
		}
	}
}
