package bundles

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// merkleRoot is RFC 6962 §2.1 as it is written there.
func merkleRoot(leaves []Digest) Digest {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	half := 1
	for half*2 < len(leaves) {
		half *= 2
	}
	left, right := merkleRoot(leaves[:half]), merkleRoot(leaves[half:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

func checkContent(t *rapid.T, c *Content) {
	leaves, total := make([]Digest, len(c.files)), 0
	for i, f := range c.files {
		leaves[i] = leafOf(f)
		total += len(f.Data)
		if i > 0 && c.files[i-1].Path >= f.Path {
			t.Fatalf("%s stands before %s", c.files[i-1].Path, f.Path)
		}
	}
	if merkleRoot(leaves) != c.Digest() {
		t.Fatalf("%d files have the digest %s, not that of their leaves", len(c.files), c.Digest())
	}
	if total != c.Bytes() {
		t.Fatalf("%d bytes, it says %d", total, c.Bytes())
	}
}

// TestContentsThatComeOfEachOtherAreWhatTheirFilesSay takes a content through
// changes of every kind, and holds each step against the files alone.
func TestContentsThatComeOfEachOtherAreWhatTheirFilesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var files []File
		for i := range rapid.SampledFrom([]int{0, 1, 2, 3, 63, 64, 65, 127, 128, 300}).Draw(t, "files") {
			files = append(files, File{fmt.Sprintf("f%03d", i), []byte("0")})
		}
		first, err := NewContent(files)
		if err != nil {
			t.Fatal(err)
		}
		checkContent(t, first)
		contents := []*Content{first}
		for range 4 {
			from := rapid.SampledFrom(contents).Draw(t, "from")
			var changes []Change
			for range rapid.IntRange(0, 5).Draw(t, "changes") {
				p := fmt.Sprintf("f%03d", rapid.IntRange(0, 310).Draw(t, "path"))
				if removed := rapid.IntRange(0, 3).Draw(t, "removed") == 0; !removed {
					changes = append(changes, Change{Path: p, Data: []byte(rapid.SampledFrom([]string{"", "0", "1"}).Draw(t, "data"))})
				} else if _, err := from.File(p); err == nil && !slices.ContainsFunc(changes, func(c Change) bool { return c.Path == p }) {
					changes = append(changes, Change{Path: p, Removed: true})
				}
			}
			next, err := from.Apply(changes)
			if err != nil {
				t.Fatal(err)
			}
			checkContent(t, next)
			checkContent(t, from)
			contents = append(contents, next)
		}
		a, b := rapid.SampledFrom(contents).Draw(t, "a"), rapid.SampledFrom(contents).Draw(t, "b")
		again, err := a.Apply(a.Diff(b))
		if err != nil || again.Digest() != b.Digest() {
			t.Fatalf("what differs leads to %v, %v", again, err)
		}
		prefix := fmt.Sprintf("f%02d", rapid.IntRange(0, 31).Draw(t, "prefix"))
		left := a.Without(prefix)
		checkContent(t, left)
		if same := a.Select(func(p string) bool { return !strings.HasPrefix(p, prefix) }); same.Digest() != left.Digest() {
			t.Fatalf("what is selected is %v, not %v", same, left)
		}
		if len(left.files)+len(a.Under(prefix)) != len(a.files) || len(left.Under(prefix)) > 0 {
			t.Fatalf("without %s %d of %d files are left, and %d under it", prefix, len(left.files), len(a.files), len(a.Under(prefix)))
		}
	})
}

func TestChangesToOneFileHoldInTheirOrder(t *testing.T) {
	c := content(t, map[string]string{"a": "1"})
	removed, added := Change{Path: "a", Removed: true}, Change{Path: "a", Data: []byte("2")}
	for _, row := range []struct {
		changes []Change
		want    string // "-": no file, "!": an error
	}{
		{[]Change{removed, added}, "2"}, {[]Change{added, removed}, "-"}, {[]Change{removed, removed}, "!"},
		{[]Change{added, {Path: "a", Data: []byte("3")}}, "3"}, {[]Change{removed, added, removed}, "-"},
	} {
		next, err := c.Apply(row.changes)
		got := "!"
		if err == nil {
			data, err := next.File("a")
			if got = string(data); err != nil {
				got = "-"
			}
		}
		if got != row.want {
			t.Errorf("%v: %q, want %q", row.changes, got, row.want)
		}
	}
	if next, err := c.Apply([]Change{{Path: "b"}, {Path: "b", Removed: true}}); err != nil || next.Digest() != c.Digest() {
		t.Errorf("a file that comes and goes leaves %v, %v", next, err)
	}
}

// many is a content of n tenants' files.
func many(t testing.TB, n int) *Content {
	files := make([]File, n)
	for i := range files {
		files[i] = File{fmt.Sprintf("tables/plugins/t%06d.json", i), fmt.Appendf(nil, `{"n":%d}`, i)}
	}
	c, err := NewContent(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOneChangeHashesItsWayToTheRoot counts the nodes that two contents do not
// share.
func TestOneChangeHashesItsWayToTheRoot(t *testing.T) {
	c := many(t, 10_000)
	next, err := c.Apply([]Change{{Path: c.files[5000].Path, Data: []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	fresh, pages := 0, 0
	for k := range next.tree.levels {
		for i, p := range next.tree.levels[k].pages {
			if pages++; p != c.tree.levels[k].pages[i] {
				fresh++
			}
		}
	}
	if fresh != len(next.tree.levels) || pages < 300 {
		t.Errorf("%d of %d pages are new in %d levels: want one a level", fresh, pages, len(next.tree.levels))
	}
	if got := c.Diff(next); len(got) != 1 || got[0].Path != c.files[5000].Path {
		t.Errorf("differ by %v", got)
	}
}

func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		c := many(b, n)
		step := func(name string, change Change) {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					next, err := c.Apply([]Change{change})
					if err != nil || len(c.Diff(next)) != 1 {
						b.Fatal(err)
					}
				}
			})
		}
		step("replaces", Change{Path: c.files[n/2].Path, Data: []byte("{}")})
		step("adds", Change{Path: c.files[n/2].Path + "x", Data: []byte("{}")})
		b.Run(fmt.Sprintf("%d/sealed anew", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := NewContent(c.files); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
