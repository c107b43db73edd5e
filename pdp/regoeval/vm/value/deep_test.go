package value_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// nested is a value within as many arrays and objects.
func nested(h *value.Heap, levels int) value.Value {
	v := value.True
	for i := range levels {
		var outer value.Value
		if i%2 == 0 {
			outer = h.NewArray(1)
			h.Append(outer, v)
		} else {
			outer = h.NewObject()
			h.Insert(outer, value.OfString("a"), v)
		}
		v = outer
	}
	return v
}

func TestDeepValuesAreOrdinary(t *testing.T) {
	const levels = 20_000 // twice as many as OPA's JSON reader lets pass
	var h value.Heap
	a, b, deeper := nested(&h, levels), nested(&h, levels), nested(&h, levels+2)
	if value.Compare(a, b) != 0 || value.Hash(a) != value.Hash(b) || value.Equal(a, deeper) {
		t.Error("equal values differ, or different ones are equal")
	}
	set := h.NewSet()
	h.Add(set, a)
	if !set.Has(b) || set.Has(deeper) {
		t.Error("a set does not hold what it was given")
	}
	if !value.Equal(value.Freeze(a), b) {
		t.Error("a frozen value differs")
	}
	if back, err := value.FromAST(&h, a.AST()); err != nil || !value.Equal(back, b) {
		t.Errorf("a value that comes back differs: %v", err)
	}
	if _, err := value.Authz(a, 1<<30); err == nil || err.Error() != "nested deeper than 64 levels" {
		t.Errorf("err = %v", err)
	}
}

func TestRequestsAsDeepAsTheyMayBe(t *testing.T) {
	data := any(1)
	for range authz.MaxDepth {
		data = []any{data}
	}
	in := authz.MustValue(data)
	if out, err := value.Authz(value.Of(in), 100); err != nil || !out.Equal(in) {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := value.Authz(value.Of(authz.ListValue(in)), 100); err == nil {
		t.Error("one level more passes")
	}
}

// doubled is a value of few bytes and endless length.
func doubled(h *value.Heap, levels int, v value.Value) value.Value {
	for range levels {
		pair := h.NewArray(2)
		h.Append(pair, v)
		h.Append(pair, v)
		v = pair
	}
	return v
}

func TestSharedPartsAreVisitedOnce(t *testing.T) {
	var h value.Heap
	v := doubled(&h, 200, value.True)
	set := h.NewSet()
	h.Add(set, v)
	if hash := value.Hash(v); value.Hash(v) != hash || !value.Equal(v, v) || !set.Has(v) {
		t.Error("a value differs from itself")
	}
	outer := h.NewObject()
	h.Insert(outer, v, v)
	if !value.Equal(outer.Get(v), v) {
		t.Error("a key is not found")
	}
	copied, ok := v.AST().(*ast.Array)
	if !ok || copied.Elem(0) != copied.Elem(1) {
		t.Error("OPA's copy does not share")
	}
	if _, err := value.Authz(v, 1000); err == nil || err.Error() != "nested deeper than 64 levels" {
		t.Errorf("err = %v", err)
	}
	if _, err := value.Authz(doubled(&h, 40, value.True), 1000); err == nil || err.Error() != "more than 1000 values" {
		t.Errorf("err = %v", err)
	}
	if b, err := value.AppendJSON(nil, doubled(&h, 200, value.OfString(strings.Repeat("a", 100_000)))); err == nil || len(b) > value.MaxJSON+200_000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	small := value.Heap{Limit: 1000}
	if _, err := value.FromAST(&small, copied); !errors.Is(err, value.ErrMemory) {
		t.Errorf("err = %v", err)
	}
}
