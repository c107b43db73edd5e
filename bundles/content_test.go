package bundles

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"
)

func content(t *testing.T, files map[string]string) *Content {
	t.Helper()
	var list []File
	for p, text := range files {
		list = append(list, File{p, []byte(text)})
	}
	c, err := NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDigestFollowsPathsAndBytesAlone(t *testing.T) {
	base := content(t, map[string]string{"a": "1", "b/c": "2"})
	same, err := NewContent([]File{{"b/c", []byte("2")}, {"a", []byte("1")}})
	if err != nil || same.Digest() != base.Digest() {
		t.Errorf("another order gives %s, %v", same.Digest(), err)
	}
	seen := map[Digest]string{base.Digest(): "base"}
	for name, files := range map[string]map[string]string{
		"another byte":         {"a": "1", "b/c": "3"},
		"another path":         {"a": "1", "b/d": "2"},
		"a file more":          {"a": "1", "b/c": "2", "d": ""},
		"a file less":          {"a": "1"},
		"no files":             {},
		"bytes moved to names": {"a": "", "1b/c": "2"},
		"one file of both":     {"a": "1b/c2"},
	} {
		d := content(t, files).Digest()
		if other, taken := seen[d]; taken {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[d] = name
	}
	if parsed, err := ParseDigest(base.Digest().String()); err != nil || parsed != base.Digest() {
		t.Errorf("%s reads as %s, %v", base.Digest(), parsed, err)
	}
}

func TestPathsThatCouldLeaveTheFolderAreRefused(t *testing.T) {
	for _, p := range []string{"", ".", "..", "../a", "a/../b", "/a", "a/", "a//b", `a\b`, "a/./b", ".git/config", "a/.hidden", "a\x00b", "c:a", "a\nb", "\xff", strings.Repeat("a", 513)} {
		if _, err := NewContent([]File{{p, nil}}); err == nil {
			t.Errorf("%q passes", p)
		}
	}
	if _, err := NewContent([]File{{"a", nil}, {"a", nil}}); err == nil {
		t.Error("one path twice passes")
	}
}

func TestReadFSRefusesLinksAndSkipsHiddenFiles(t *testing.T) {
	c, err := ReadFS(fstest.MapFS{"a.rego": {Data: []byte("x")}, ".git/config": {Data: []byte("y")}, "b/.swp": {}, "b/c.rego": {}, "n.go": {}},
		func(p string) bool { return p != "n.go" })
	if err != nil || len(c.Files()) != 2 || c.Files()[0].Path != "a.rego" || c.Files()[1].Path != "b/c.rego" {
		t.Errorf("read %v, %v", c, err)
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "a.rego")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFS(os.DirFS(dir), nil); err == nil {
		t.Error("a link passes")
	}
}

func TestDiffLeadsFromOneContentToTheOther(t *testing.T) {
	draw := func(t *rapid.T, label string) *Content {
		files := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "b/c", "d", "e/f/g"}), rapid.SampledFrom([]string{"", "1", "2"})).Draw(t, label)
		delete(files, "b/c") // a file and a folder of one name cannot be in one tree
		var list []File
		for p, text := range files {
			list = append(list, File{p, []byte(text)})
		}
		c, err := NewContent(list)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rapid.Check(t, func(t *rapid.T) {
		from, to := draw(t, "from"), draw(t, "to")
		changes := from.Diff(to)
		got, err := from.Apply(changes)
		if err != nil || got.Digest() != to.Digest() {
			t.Fatalf("applying %v gives %v, %v; want %v", changes, got, err, to)
		}
		if len(changes) == 0 != (from.Digest() == to.Digest()) {
			t.Fatalf("%d changes between %s and %s", len(changes), from.Digest(), to.Digest())
		}
		for _, c := range changes {
			before, _ := from.File(c.Path)
			after, _ := to.File(c.Path)
			if bytes.Equal(before, after) && before != nil && after != nil {
				t.Fatalf("%s did not change", c.Path)
			}
		}
		if !slices.IsSortedFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) }) {
			t.Fatal("changes are not sorted")
		}
	})
}

func TestRemovingWhatIsNotThereIsAnError(t *testing.T) {
	if _, err := content(t, map[string]string{"a": ""}).Apply([]Change{{Path: "b", Removed: true}}); !errors.Is(err, ErrNoFile) {
		t.Errorf("got %v, want ErrNoFile", err)
	}
}
