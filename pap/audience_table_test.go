package pap_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
)

func TestAudienceGetsItsPartsOfTablesInEveryForm(t *testing.T) {
	whole := release(t, map[string]string{
		"tables/j.json":    `{"tenants":{"globex":{"secret":1},"acme":{"b":[1.50,null],"a":"x"}},"platform":{"p":1}}`,
		"tables/none.json": `{"tenants":{"globex":{"secret":1}}}`, "tables/null.json": "null",
		"tables/s/acme.json": `{"own": 1}`, "tables/s/globex.yaml": "secret: 1", "tables/s/platform.yml": "shared: 1", "tables/s/README.md": "globex",
		"tables/s/acme-2.json": `{"other":1}`, "tables/u/globex.json": "{}",
	})
	for _, row := range []struct {
		tenants []string
		want    map[string]string
	}{
		{nil, map[string]string{"tables/j.json": `{"platform":{"p":1}}`, "tables/s/platform.yml": "shared: 1"}},
		{[]string{"acme"}, map[string]string{"tables/j.json": `{"platform":{"p":1},"tenants":{"acme":{"a":"x","b":[1.5,null]}}}`,
			"tables/s/acme.json": `{"own": 1}`, "tables/s/platform.yml": "shared: 1"}},
		{[]string{"acme-2"}, map[string]string{"tables/j.json": `{"platform":{"p":1}}`, "tables/s/acme-2.json": `{"other":1}`, "tables/s/platform.yml": "shared: 1"}},
	} {
		part, err := pap.Subset(whole, row.tenants)
		if err != nil {
			t.Fatal(err)
		}
		for p, want := range row.want {
			if data, err := part.File(p); err != nil || string(data) != want {
				t.Errorf("%v: %s is %s, %v; want %s", row.tenants, p, data, err, want)
			}
		}
		if len(part.Files()) != len(row.want) {
			t.Errorf("%v: got %v", row.tenants, paths(part))
		}
	}
	all, err := pap.Subset(whole, []string{bundles.AllTenants})
	if err != nil || len(all.Files()) != 8 {
		t.Errorf("all tenants get %v, %v", paths(all), err)
	}
	if _, err := pap.Subset(release(t, map[string]string{"tables/t.json": "{"}), []string{"acme"}); err == nil || !strings.Contains(err.Error(), "tables/t.json") {
		t.Errorf("got %v", err)
	}
}

// TestCutsOfALaterReleaseAreAsIfCutAnew goes from release to release, and cuts
// each for all tenants and for one.
func TestCutsOfALaterReleaseAreAsIfCutAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := append(slices.Collect(func(yield func(string) bool) {
			for p := range everything() {
				if p != "tables/both.yaml" && !yield(p) {
					return
				}
			}
		}), "tables/j.json", "tables/s/acme.json", "tables/s/globex.json", "tables/s/README.md", "tables/s/platform.json")
		slices.Sort(names)
		content, err := bundles.NewContent(nil)
		if err != nil {
			t.Fatal(err)
		}
		cut := pap.NewSubsets(content)
		for range rapid.IntRange(1, 5).Draw(t, "releases") {
			changes := map[string]bundles.Change{}
			for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 6, rapid.ID).Draw(t, "changed") {
				_, err := content.File(p)
				removed := err == nil && rapid.Bool().Draw(t, "removed")
				text := rapid.SampledFrom([]string{"{}", `{"tenants": {"acme": {"n": 1}}}`}).Draw(t, "text")
				if changes[p] = (bundles.Change{Path: p, Data: []byte(text)}); removed {
					changes[p] = bundles.Change{Path: p, Removed: true}
				}
			}
			var list []bundles.Change
			for _, c := range changes {
				list = append(list, c)
			}
			if content, err = content.Apply(list); err != nil {
				t.Fatal(err)
			}
			cut = cut.Next(content)
			for _, tenants := range [][]string{{bundles.AllTenants}, {"acme"}} {
				if tenants[0] == bundles.AllTenants && rapid.Bool().Draw(t, "not asked for") {
					continue
				}
				got, err := cut.For(tenants)
				want, wrong := pap.Subset(content, tenants)
				if err != nil || wrong != nil || got.Digest() != want.Digest() {
					t.Fatalf("%v of %v: %v, %v; want %v, %v", tenants, paths(content), paths(got), err, paths(want), wrong)
				}
			}
		}
	})
}

func BenchmarkSubsetOfOneTenantsChange(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		files := make([]bundles.File, n)
		for i := range files {
			files[i] = bundles.File{Path: fmt.Sprintf("tables/plugins/t%06d.json", i), Data: fmt.Appendf(nil, `{"n":%d}`, i)}
		}
		content, err := bundles.NewContent(files)
		if err != nil {
			b.Fatal(err)
		}
		changed, err := content.Apply([]bundles.Change{{Path: files[n/2].Path, Data: []byte("{}")}})
		if err != nil {
			b.Fatal(err)
		}
		for _, audience := range []string{bundles.AllTenants, "t000007"} {
			run := func(name string, cut func() *pap.Subsets) {
				b.Run(fmt.Sprintf("%d/%s/%s", n, audience, name), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if _, err := cut().For([]string{audience}); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			before := pap.NewSubsets(content)
			if _, err := before.For([]string{audience}); err != nil {
				b.Fatal(err)
			}
			run("anew", func() *pap.Subsets { return pap.NewSubsets(changed) })
			run("next", func() *pap.Subsets { return before.Next(changed) })
		}
	}
}
