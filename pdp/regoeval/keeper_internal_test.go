package regoeval

import (
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

func TestWhatIsKeptStaysAsItIs(t *testing.T) {
	k, text := &keeper{}, []byte("0123456789")
	var kept []string
	for i := range 4 * keptText / len(text) {
		text[0] = byte('A' + i%26)
		kept = append(kept, k.text(string(text)))
	}
	long := k.text(strings.Repeat("x", keptText))
	for i := range text {
		text[i] = '!'
	}
	for i, s := range kept {
		if want := string(rune('A'+i%26)) + "123456789"; s != want {
			t.Errorf("text %d is %q, want %q", i, s, want)
		}
	}
	if len(long) != keptText {
		t.Errorf("a long text is %q", long)
	}
}

func TestObjectsThatShareRoomAreApart(t *testing.T) {
	k, h := &keeper{}, &value.Heap{}
	made := func(n int64) value.Value {
		object := h.NewObject()
		for _, name := range []string{"b", "a", "c"} {
			h.Insert(object, value.OfString(name), value.OfInt(n))
		}
		return object
	}
	first, err := k.value(made(1))
	second, errToo := k.value(made(2))
	if err != nil || errToo != nil {
		t.Fatal(err, errToo)
	}
	changed := first.With("d", second)
	h.Reset()
	if got := string(first.AppendJSON(nil)) + string(second.AppendJSON(nil)) + string(changed.AppendJSON(nil)); got !=
		`{"a":1,"b":1,"c":1}{"a":2,"b":2,"c":2}{"a":1,"b":1,"c":1,"d":{"a":2,"b":2,"c":2}}` {
		t.Error(got)
	}
}
