package pdp

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// releaseOf compiles a release with a table of so many bytes and another of a
// few, from what the one before lends.
func releaseOf(t *testing.T, before *Release, number uint64, large int, small string) *Release {
	t.Helper()
	content, err := bundles.NewContent([]bundles.File{
		{Path: "tables/large.json", Data: fmt.Appendf(nil, `{"platform": "%s"}`, bytes.Repeat([]byte("x"), large))},
		{Path: "tables/small.json", Data: fmt.Appendf(nil, `{"platform": %q}`, small)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var basis *Basis
	if before != nil {
		basis = before.Basis()
	}
	r, err := CompileFrom(t.Context(), basis, number, content)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMemoryIsGivenBackWhenLargeTablesAreReplacedAndNotOtherwise(t *testing.T) {
	first := releaseOf(t, nil, 1, largeTables, "a")
	for _, row := range []struct {
		name          string
		before, after *Release
		want          bool
	}{
		{"the first release has large tables", nil, first, true},
		{"its tables stay", first, first.Numbered(2), false},
		{"a small table changes", first, releaseOf(t, first, 2, largeTables, "b"), false},
		{"the large one changes", first, releaseOf(t, first, 2, largeTables+1, "a"), true},
		{"all tables are small", nil, releaseOf(t, nil, 1, 10, "a"), false},
	} {
		p := New(Config{})
		given := make(chan struct{}, 2)
		if row.before != nil {
			p.active.Store(&Snapshot{Release: row.before})
		}
		p.freeMemory = func() { given <- struct{}{} }
		p.Activate(&Snapshot{Release: row.after})
		if got := p.givingBack.Load() || len(given) > 0; got != row.want {
			t.Errorf("%s: memory is given back: %v, want %v", row.name, got, row.want)
		}
		if row.want {
			<-given
		}
	}
	New(Config{}).Activate(&Snapshot{}) // has no release
}
