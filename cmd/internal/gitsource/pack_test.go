package gitsource

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"strings"
	"testing"
)

// packed writes a pack that says it holds count objects.
func packed(count uint32, objects ...[]byte) []byte {
	pack := binary.BigEndian.AppendUint32([]byte("PACK"), 2)
	pack = binary.BigEndian.AppendUint32(pack, count)
	for _, o := range objects {
		pack = append(pack, o...)
	}
	return append(pack, make([]byte, 20)...)
}

// packedObject is an object of a kind (3 is a blob, 7 a delta of a named base)
// that says it is as large as size.
func packedObject(kind byte, size uint64, base, data []byte) []byte {
	first := kind<<4 | byte(size&0xf)
	size >>= 4
	var head []byte
	for size > 0 {
		head = append(head, first|0x80)
		first, size = byte(size&0x7f), size>>7
	}
	head = append(append(head, first), base...)
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(data) // to memory
	_ = w.Close()
	return append(head, packed.Bytes()...)
}

// delta is one that says what it unpacks to.
func delta(target uint64) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(nil, 10), target), 0x80)
}

func TestAPackThatWouldUnpackToTooMuchIsRefused(t *testing.T) {
	base := make([]byte, 20)
	deltaOf := func(target uint64) []byte {
		d := delta(target)
		return packedObject(7, uint64(len(d)), base, d)
	}
	for name, c := range map[string]struct {
		pack []byte
		want string
	}{
		"a small blob":               {packed(1, packedObject(3, 5, nil, []byte("hello"))), ""},
		"a small delta":              {packed(2, deltaOf(100), packedObject(3, 5, nil, []byte("hello"))), ""},
		"a blob that says it is big": {packed(1, packedObject(3, maxObject+1, nil, nil)), "too large"},
		"a delta that makes it big":  {packed(1, deltaOf(maxObject+1)), "too large"},
		"a delta after a good one":   {packed(2, deltaOf(100), deltaOf(1<<50)), "too large"},
		"a number without end":       {packed(1, packedObject(7, 20, base, bytes.Repeat([]byte{0xff}, 20))), "not a good pack"},
		"too many objects":           {packed(maxObjects + 1), "too large"},
		"fewer than it says":         {packed(2, packedObject(3, 5, nil, []byte("hello")))[:30], "not a good pack"},
		"more data than it says":     {packed(2, packedObject(3, 1, nil, []byte("hello")), packedObject(3, 1, nil, []byte("x"))), "not a good pack"},
		"no pack":                    {[]byte("hello, this is no pack"), "not a pack"},
		"nothing":                    {nil, "not a pack"},
	} {
		err := checkPack(context.Background(), bytes.NewReader(c.pack))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzCheckPack(f *testing.F) {
	f.Add(packed(1, packedObject(3, 5, nil, []byte("hello"))))
	d := delta(100)
	f.Add(packed(1, packedObject(7, uint64(len(d)), make([]byte, 20), d)))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = checkPack(context.Background(), bytes.NewReader(data)) // it ends, and without a panic
	})
}
