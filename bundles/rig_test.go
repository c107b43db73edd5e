package bundles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// rig is an installation in a test: its keys, and two releases.
type rig struct {
	dir      string
	ring     *trust.Ring
	old, new *Content
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	ring, err := trust.NewRing(dir, "test", noon)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{dir, ring,
		contentOf(t, File{"a.rego", []byte("a")}, File{"b/c.rego", []byte("bc")}, File{"gone.rego", []byte("g")}),
		contentOf(t, File{"a.rego", []byte("a")}, File{"b/c.rego", []byte("changed")}, File{"new.rego", nil}),
	}
}

func contentOf(t testing.TB, files ...File) *Content {
	t.Helper()
	c, err := NewContent(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sign signs as the installation does at noon.
func (r *rig) sign(kind trust.Kind, body any) (string, error) { return r.ring.Sign(kind, body, noon) }

func (r *rig) seal(t testing.TB, m Manifest) string {
	t.Helper()
	signed, err := Seal(r.sign, m)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// manifest is c's, as release 42 of one tenant.
func manifest(c *Content) Manifest { return ManifestFor(c, 42, 0, []string{"acme"}, noon) }

func (r *rig) snapshot(t testing.TB, c *Content) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteSnapshot(&b, r.seal(t, manifest(c)), c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (r *rig) delta(t testing.TB, from, to *Content) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteDelta(&b, r.seal(t, manifest(to)), from, to); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (r *rig) read(data []byte, base *Content) (*Bundle, error) {
	return Read(bytes.NewReader(data), r.ring.Set(), noon, base)
}

// entry is one entry of a bundle written by hand.
type entry struct {
	name, data string
	change     func(*tar.Header)
}

// pack writes entries as they are, right or wrong.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for _, e := range entries {
		h := entryHeader(e.name, int64(len(e.data)))
		if e.change != nil {
			e.change(h)
		}
		if err := archive.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := archive.Write([]byte(e.data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// gunzip and gzipped lay bare the tar.
func gunzip(t testing.TB, data []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte, change func(*gzip.Header)) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if change != nil {
		change(&w.Header)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stored wraps a tar in a gzip that compresses nothing, by hand: that costs
// a fuzzer little.
func stored(data []byte) []byte {
	b := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255} // RFC 1952 §2.3
	rest := data
	for last := false; !last; {
		n := min(len(rest), 1<<16-1)
		last = n == len(rest)
		kind := byte(0)
		if last {
			kind = 1
		}
		b = append(b, kind) // RFC 1951 §3.2.4
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(n))
		b, rest = append(b, rest[:n]...), rest[n:]
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(data))
	return binary.LittleEndian.AppendUint32(b, uint32(len(data)))
}
