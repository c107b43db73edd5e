package value_test

import (
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// TestEqualValuesThatShareTheirPartsAreComparedOnce would not end if each part
// was gone through wherever it is.
func TestEqualValuesThatShareTheirPartsAreComparedOnce(t *testing.T) {
	var h value.Heap
	for name, wrap := range map[string]func(v value.Value) value.Value{
		"lists": func(v value.Value) value.Value {
			a := h.NewArray(2)
			h.Append(a, v)
			h.Append(a, v)
			return a
		},
		"objects": func(v value.Value) value.Value {
			o := h.NewObject()
			h.Insert(o, value.OfString("a"), v)
			h.Insert(o, value.OfString("b"), v)
			return o
		},
	} {
		a, b, c := value.OfInt(1), value.OfNumber("1.0"), value.OfInt(2)
		for range 60 {
			a, b, c = wrap(a), wrap(b), wrap(c)
		}
		if !value.Equal(a, b) || value.Compare(b, a) != 0 || value.Hash(a) != value.Hash(b) {
			t.Errorf("%s: two equal values are not equal", name)
		}
		if value.Equal(a, c) || value.Compare(b, c) >= 0 || value.Compare(c, a) <= 0 {
			t.Errorf("%s: two values are taken for equal", name)
		}
	}
	h.Reset()
	a, b := h.NewArray(1), h.NewArray(1)
	h.Append(a, value.OfInt(1))
	h.Append(b, value.OfInt(2))
	if value.Equal(a, b) {
		t.Error("what was equal before Reset is still taken for equal")
	}
}
