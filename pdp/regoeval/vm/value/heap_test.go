package value_test

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// evaluate makes about what an evaluation makes, of a size.
func evaluate(h *value.Heap, size int) value.Value {
	set, object, array := h.NewSet(), h.NewObject(), h.NewArray(0)
	for i := range size {
		n := value.OfInt(int64((i * 7919) % size))
		text := h.Keep(strconv.AppendInt(append(h.Buffer(40), "element "...), int64(i), 10))
		h.Add(set, n)
		h.Insert(object, text, n)
		h.Append(array, text)
	}
	h.Append(array, set)
	h.Append(array, object)
	fewer := h.Difference(h.Union(set, set), set)
	h.Append(array, fewer)
	h.Append(array, h.Upsert(object, []string{"element 0", "x"}, set))
	for i := range set.Len() { // which sorts
		_, e := set.At(i)
		if !set.Has(e) {
			panic("an element is lost")
		}
	}
	value.Hash(array)
	return object
}

func TestAWarmHeapAllocatesNothing(t *testing.T) {
	for _, size := range []int{1, 10, 100, 1000} {
		var h value.Heap
		evaluate(&h, size)
		h.Reset()
		if n := testing.AllocsPerRun(20, func() {
			evaluate(&h, size)
			h.Reset()
		}); n != 0 {
			t.Errorf("%v allocations an evaluation of size %d", n, size)
		}
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	in := value.Of(authz.MustValue(map[string]any{"n": 1, "f": 0.25, "s": "text", "l": []any{1, "a", map[string]any{"k": 0.5}}}))
	half, one := value.OfNumber("0.25"), value.OfNumber("1.0")
	set := must(value.FromAST(nil, ast.MustParseTerm(`{1, 0.5, "a", [1]}`).Value))
	var hint uint32
	if n := testing.AllocsPerRun(100, func() {
		f := in.GetName("f", &hint)
		if !value.Equal(f, half) || !in.Has(one) || !set.Has(one) || set.Has(in) || value.Compare(in, set) >= 0 {
			panic("not as expected")
		}
		for i := range in.Len() {
			k, e := in.At(i)
			value.Hash(k)
			value.Hash(e)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestALimitBoundsMemory(t *testing.T) {
	const limit = 400_000
	grow := map[string]func(h *value.Heap, i int){
		"a set":      func(h *value.Heap, i int) { h.Add(set(h), value.OfInt(int64(i*7919%1_000_003))) },
		"texts":      func(h *value.Heap, i int) { h.Keep(append(h.Buffer(100), strings.Repeat("x", 100)...)) },
		"outgrown":   func(h *value.Heap, i int) { h.Keep(append(h.Buffer(1), strings.Repeat("x", 100)...)) },
		"arrays":     func(h *value.Heap, i int) { h.NewArray(10) },
		"capacities": func(h *value.Heap, i int) { h.NewArray(1 << 40) },
		"objects":    func(h *value.Heap, i int) { h.Insert(h.NewObject(), value.OfInt(1), value.OfInt(1)) },
	}
	for name, grow := range grow {
		t.Run(name, func(t *testing.T) {
			h := &value.Heap{Limit: limit}
			before := live()
			for i := 0; !h.Full(); i++ {
				grow(h, i)
			}
			const bound = 3*limit*24 + 5<<20
			if used := live() - before; used > bound {
				t.Errorf("%d bytes are held, more than %d", used, bound)
			}
			if h.Spent() > 3*limit {
				t.Errorf("%d values were spent", h.Spent())
			}
			sets = value.Value{}
			h.Reset()
			if kept := live() - before; kept > 5<<20+100<<10 {
				t.Errorf("%d bytes are kept", kept)
			}
			runtime.KeepAlive(h)
		})
	}
}

var sets value.Value

func set(h *value.Heap) value.Value {
	if !sets.Defined() {
		sets = h.NewSet()
	}
	return sets
}

func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestFromASTStopsAtTheLimit(t *testing.T) {
	h := &value.Heap{Limit: 100}
	terms := make([]*ast.Term, 1000)
	for i := range terms {
		terms[i] = ast.IntNumberTerm(i)
	}
	for _, v := range []ast.Value{ast.NewArray(terms...), ast.NewSet(terms...), ast.NewArray(ast.ObjectTerm(ast.Item(terms[0], ast.ArrayTerm(terms...))))} {
		if _, err := value.FromAST(h, v); !errors.Is(err, value.ErrMemory) {
			t.Errorf("err = %v", err)
		}
		h.Reset()
	}
}

func TestUseAfterResetIsSeen(t *testing.T) {
	h := &value.Heap{Poison: true}
	array := h.NewArray(1)
	h.Append(array, value.True)
	nested := h.NewArray(1)
	h.Append(nested, array)
	set, object := h.NewSet(), h.NewObject()
	h.Add(set, value.True)
	h.Insert(object, value.OfString("a"), value.True)
	text := h.Keep(append(h.Buffer(2), "ab"...))
	h.Append(nested, text)
	h.Append(nested, h.KeepNumber(append(h.Buffer(3), "1e2"...)))
	frozen, copied := value.Freeze(nested), nested.AST()
	h.Reset()

	if text.Text() != "\xDB\xDB" {
		t.Errorf("the text is %q", text.Text())
	}
	if frozen.AST().String() != `[[true], "ab", 1e2]` || copied.String() != frozen.AST().String() {
		t.Errorf("what was frozen is %v, OPA's copy is %v", frozen.AST(), copied)
	}
	for name, use := range map[string]func(){
		"compare": func() { value.Compare(nested, frozen.Elem(0)) },
		"equal":   func() { value.Equal(array, frozen.Elem(0)) },
		"hash":    func() { value.Hash(set) },
		"get":     func() { object.Get(value.OfString("a")).Get(value.True) },
		"has":     func() { frozen.Has(array.Elem(0)); _ = set.Has(value.True) && array.Elem(0).Has(value.True) },
		"member":  func() { array.Elem(0).GetName("a", new(uint32)) },
		"ast":     func() { array.AST() },
		"authz":   func() { value.Authz(nested.Elem(0), 10) },
		"freeze":  func() { value.Freeze(object) },
		"kind":    func() { _ = array.Elem(0).Kind().String() },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("nobody noticed")
				}
			}()
			use()
		})
	}
}

func TestHeapKeepsWhatItMade(t *testing.T) {
	var h value.Heap
	for round := range 3 {
		var made []value.Value
		var want []string
		for size := range 60 {
			object := evaluate(&h, size)
			made = append(made, object)
			want = append(want, fmt.Sprint(object.AST()))
		}
		for i, v := range made {
			if got := v.AST().String(); got != want[i] {
				t.Fatalf("round %d: %s became %s", round, want[i], got)
			}
		}
		h.Reset()
	}
}

func TestKeepGivesBackWhatIsNotUsed(t *testing.T) {
	var h value.Heap
	a := h.Keep(append(h.Buffer(1000), "a"...))
	b := h.Keep(append(h.Buffer(1000), "bc"...))
	n := h.KeepNumber(append(h.Buffer(10), "1e2"...))
	if h.Spent() != 1 {
		t.Errorf("six bytes count as %d values", h.Spent())
	}
	h.Keep(append(h.Buffer(1), make([]byte, 240)...))
	if h.Spent() < 10 {
		t.Errorf("what outgrows its buffer counts as %d values", h.Spent())
	}
	before := live()
	for range 1000 {
		h.Keep(append(h.Buffer(10_000), "a"...))
	}
	if used := live() - before; used > 1<<20 {
		t.Errorf("1000 bytes take %d", used)
	}
	runtime.KeepAlive(&h)
	if a.Text() != "a" || b.Text() != "bc" || n.Number() != "1e2" {
		t.Errorf("kept %q, %q and %s", a.Text(), b.Text(), n.Number())
	}
}

func TestChunksServeOtherSizesAfterAReset(t *testing.T) {
	h := heap(t)
	h.Poison = false
	for _, sizes := range [][]int{{10, 100, 1000, 5000}, {10, 5000, 100, 1000, 20_000}, {5000, 5000, 1, 1000}} {
		var made []value.Value
		for _, n := range sizes {
			a := h.NewArray(n)
			for i := range n {
				h.Append(a, value.OfInt(int64(n+i)))
			}
			made = append(made, a)
		}
		for k, a := range made {
			for i := range a.Len() {
				if n, _ := a.Elem(i).Int(); n != int64(sizes[k]+i) {
					t.Fatalf("element %d of %d is %d", i, sizes[k], n)
				}
			}
		}
		h.Reset()
	}
}
