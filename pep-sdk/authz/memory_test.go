package authz

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

func TestValueIsThreeWordsAndMemberFive(t *testing.T) {
	const word = unsafe.Sizeof(uint64(0))
	if got := unsafe.Sizeof(Value{}); got != 3*word {
		t.Errorf("a Value takes %d bytes", got)
	}
	if got := unsafe.Sizeof(Member{}); got != 5*word {
		t.Errorf("a Member takes %d bytes", got)
	}
}

// What is empty has no address, so that no pointer stands behind the end of
// what it was cut from.
func TestEmptyValuesPointNowhere(t *testing.T) {
	parsed, err := Parse([]byte(`{"":"","list":[],"object":{},"nested":{"list":[[]]}}`))
	if err != nil {
		t.Fatal(err)
	}
	one := MustValue(map[string]any{"a": 1})
	object, _ := ObjectValue(make([]Member, 0, 8)...)
	empty := map[string]Value{
		"null": {}, "text": StringValue(""), "no list": ListValue(), "no texts": Strings(), "object": object, "of Go": MustValue(""),
		"of a slice": MustValue(make([]any, 0, 8)), "of a map": MustValue(map[string]any{}), "without": one.Without("a"),
		"parsed text": parsed.Index(0), "parsed list": parsed.Index(1), "parsed object": parsed.Index(3),
		"mapped": ListValue().Map(func(_ string, v Value) Value { return v }),
	}
	for name, v := range empty {
		if v.ptr != nil || v.word != 0 || v.Len() != 0 || v.Text() != "" || len(v.Members()) != 0 {
			t.Errorf("%s: %v is at %p and %d long", name, v, v.ptr, v.word)
		}
		if fresh := (Value{kind: v.kind}); !v.Equal(fresh) || !fresh.Equal(v) {
			t.Errorf("%s differs from another that is empty", name)
		}
	}
	if string(parsed.AppendJSON(nil)) != `{"":"","list":[],"nested":{"list":[[]]},"object":{}}` {
		t.Errorf("read as %v", parsed)
	}
}

// No method reads memory that a value of another kind does not have.
func TestAValueIsReadAsItsOwnKindOnly(t *testing.T) {
	for _, data := range []any{nil, true, 1 << 50, -1, 1.5, "text", []any{1, "a"}, map[string]any{"a": "b"}} {
		v := MustValue(data)
		kind := v.Kind()
		if (v.Text() != "") != (kind == KindString) || (v.Len() > 0) != (kind >= KindList) || (v.Members() != nil) != (kind >= KindList) {
			t.Errorf("%v: text %q, length %d, members %v", v, v.Text(), v.Len(), v.Members())
		}
		if v.Bool() != (kind == KindBool) || (v.Int() != 0) != (kind == KindInt) || (v.Float() != 0) != (kind == KindInt || kind == KindFloat) {
			t.Errorf("%v: %t %d %g", v, v.Bool(), v.Int(), v.Float())
		}
		if _, found := v.Get("a"); found != (kind == KindObject) {
			t.Errorf("%v has a member a: %t", v, found)
		}
	}
}

func TestAppendingToMembersReachesNoNeighbour(t *testing.T) {
	v, err := Parse([]byte(`{"a":[1,2],"b":[3],"c":{"x":4}}`))
	if err != nil {
		t.Fatal(err)
	}
	before := v.String()
	for _, m := range v.Members() {
		if members := m.Value.Members(); cap(members) != len(members) {
			t.Errorf("%s: %d members with room for %d", m.Name, len(members), cap(members))
		}
		_ = append(m.Value.Members(), Member{"spoilt", BoolValue(true)})
	}
	if after := v.String(); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

// table is a document of n tenants, such as a server holds many of.
func table(n int) []byte {
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, `,"tenant-%06d":{"plugins":{`, i)
		for p := range 4 {
			fmt.Fprintf(&text, `%s"plugin-%d":{`, [...]string{"", ","}[min(p, 1)], p)
			for c := range 3 {
				fmt.Fprintf(&text, `%s"capability-%d":["cn-hangzhou","cn-shanghai"]`, [...]string{"", ","}[min(c, 1)], c)
			}
			text.WriteByte('}')
		}
		text.WriteString(`}}`)
	}
	text.WriteByte('}')
	text.Bytes()[0] = '{'
	return text.Bytes()
}

// Decisions are recorded when the buffer that their request came in holds the
// next one, and tables outlive what they were read from.
func TestValuesOwnTheirMemory(t *testing.T) {
	for name, text := range map[string]string{
		"a request": wholeRequest,
		"a table":   string(table(200)),
		"escapes":   `{"\u0061":["\n` + strings.Repeat(`\u00e4`, 40) + `",1.25,"` + strings.Repeat("x", 3000) + `"],"pad":"` + strings.Repeat("y", large) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					buffer := []byte(text)
					v, err := Parse(buffer)
					if err != nil {
						t.Error(err)
						return
					}
					want := string(v.AppendJSON(nil))
					part := v.Index(0)
					wantPart := part.String()
					for i := range buffer {
						buffer[i] = '!'
					}
					churn()
					if got := v.String(); got != want {
						t.Errorf("changed to %.200s", got)
					}
					churn() // v is gone, and a part keeps what it needs
					if got := part.String(); got != wantPart {
						t.Errorf("its part changed to %.200s", got)
					}
				})
			}
			all.Wait()
		})
	}
}

// churn frees what nobody holds and writes over it.
func churn() {
	runtime.GC()
	var garbage [][]byte
	for size := 16; size <= 16<<10; size *= 2 {
		for range 64 {
			garbage = append(garbage, bytes.Repeat([]byte{0xff}, size))
		}
	}
	runtime.KeepAlive(garbage)
}

// heldBy returns the live bytes of what parsing data returns.
func heldBy(t *testing.T, data []byte) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	v, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(v)
	runtime.KeepAlive(data)
	return after.HeapAlloc - before.HeapAlloc
}

func TestATableTakesAtMostFourTimesItsText(t *testing.T) {
	data := table(10_000)
	held := heldBy(t, data)
	t.Logf("%d KiB of JSON are held in %d KiB", len(data)>>10, held>>10)
	if held > 4*uint64(len(data)) {
		t.Errorf("%d bytes for %d of JSON", held, len(data))
	}
}

// The room for members is guessed by counting commas, which texts hold too.
func TestCommasInTextsTakeNoRoom(t *testing.T) {
	data := []byte(`["` + strings.Repeat(",", large/2) + `"]`)
	if held := heldBy(t, data); held > 2*uint64(len(data)) {
		t.Errorf("%d bytes for %d of JSON", held, len(data))
	}
}

func TestRepeatedTextsOfATableLieInOnePlace(t *testing.T) {
	v, err := Parse(table(500))
	if err != nil {
		t.Fatal(err)
	}
	names, places := map[string]int{}, map[*byte]bool{}
	var walk func(v Value)
	walk = func(v Value) {
		for _, m := range v.Members() {
			for _, text := range []string{m.Name, m.Value.Text()} {
				if text != "" && !strings.HasPrefix(text, "tenant-") {
					names[text]++
					places[unsafe.StringData(text)] = true
				}
			}
			walk(m.Value)
		}
	}
	walk(v)
	if len(names) != 10 || names["cn-hangzhou"] != 500*12 {
		t.Fatalf("the table holds %v", names)
	}
	// A text that was forgotten meanwhile is kept once more.
	if len(places) > 4*len(names) {
		t.Errorf("%d texts lie in %d places", len(names), len(places))
	}
}
