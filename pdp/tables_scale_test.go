package pdp_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// manyTenants is a tenth of 100,000 unless XIEZHI_TEST_LONG asks for all.
func manyTenants() int {
	if os.Getenv("XIEZHI_TEST_LONG") != "" {
		return 100_000
	}
	return 10_000
}

func heap() float64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and weak pointers held
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// TestTablesHeldCostAFewTimesTheirText holds a release with its files in memory,
// and after each update the newest alone.
func TestTablesHeldCostAFewTimesTheirText(t *testing.T) {
	compilers := []pdp.Compiler{cedareval.New(), celeval.New()}
	for _, split := range []bool{false, true} {
		before := heap()
		var active *pdp.Release
		var text float64
		var rest []float64
		for version := range 5 { // start, and four full updates
			content := contentOf(t, plugins(manyTenants(), split, version))
			text = float64(content.Bytes())
			var basis *pdp.Basis
			if active != nil {
				basis = active.Basis()
			}
			next, err := pdp.CompileFrom(t.Context(), basis, uint64(version+1), content, compilers...)
			if err != nil {
				t.Fatal(err)
			}
			active, content, basis = next, nil, nil
			rest = append(rest, heap()-before)
		}
		times, grown := rest[0]/text, slices.Max(rest)/rest[0]
		t.Logf("split %v: %.0f KiB of text, held in %.2f times as much; after updates at most %.2f times that", split, text/1024, times, grown)
		if times > 6 || grown > 2 {
			t.Error("want at most 6, and 2")
		}
		runtime.KeepAlive(active)
	}
}

// TestOneTenantsTablesAreReadAlone changes one file and looks at what the two
// releases share.
func TestOneTenantsTablesAreReadAlone(t *testing.T) {
	compilers := []pdp.Compiler{cedareval.New(), celeval.New()}
	files := plugins(100, true, 0)
	files["platform/p.cedar"] = "@id(\"r\") permit (principal, action, resource);\n"
	first, err := pdp.Compile(t.Context(), 1, contentOf(t, files), compilers...)
	if err != nil {
		t.Fatal(err)
	}
	content, err := first.Content.Apply([]bundles.Change{
		{Path: "tables/plugins/t000007.json", Data: []byte(`{"n":1}`)}, {Path: "tables/plugins/t000008.json", Removed: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	next, err := pdp.CompileFrom(t.Context(), first.Basis(), 2, content, compilers...)
	if err != nil {
		t.Fatal(err)
	}
	if next.Policies()[0] != first.Policies()[0] {
		t.Error("the policies were compiled anew")
	}
	if rule, ok := next.Rule("platform/p/r"); !ok || rule.Digest != first.Policies()[0].Rules[0].Digest {
		t.Errorf("the rule is %v", rule)
	}
	before, after := first.Basis().Tables(), next.Basis().Tables()
	for i := range 100 {
		tenant := fmt.Sprintf("t%06d", i)
		a, b := before.Tenant(tenant), after.Tenant(tenant)
		shared := a.Len() > 0 && b.Len() > 0 && &a.Members()[0] == &b.Members()[0]
		if shared == (i == 7 || i == 8) {
			t.Errorf("%s: one value in both is %v", tenant, shared)
		}
	}
	if got := after.Tenant("t000007"); got.Len() != 1 || after.Len() != 99 || string(got.AppendJSON(nil)) != `{"plugins":{"n":1}}` {
		t.Errorf("%d tenants, and one has %s", after.Len(), got.AppendJSON(nil))
	}
}

// TestOneTenantsChangeCostsLessThanAll is a ratio: a change of one tenant among
// many against reading all of them.
func TestOneTenantsChangeCostsLessThanAll(t *testing.T) {
	compilers := []pdp.Compiler{cedareval.New(), celeval.New()}
	content := contentOf(t, plugins(manyTenants(), true, 0))
	var ratios []float64
	for i := range 7 {
		start := time.Now()
		first, err := pdp.Compile(t.Context(), 1, content, compilers...)
		if err != nil {
			t.Fatal(err)
		}
		all := time.Since(start)
		start = time.Now()
		changed, err := content.Apply([]bundles.Change{{Path: content.Files()[i*1000].Path, Data: []byte(`{"n":1}`)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pdp.CompileFrom(t.Context(), first.Basis(), 2, changed, compilers...); err != nil {
			t.Fatal(err)
		}
		ratios = append(ratios, float64(time.Since(start))/float64(all))
	}
	slices.Sort(ratios)
	t.Logf("one tenant of %d costs %.4f of all", manyTenants(), ratios[len(ratios)/2])
	if ratios[len(ratios)/2] > 0.1 {
		t.Error("want at most a tenth")
	}
}

// TestWhatTenantsHaveInCommonIsHeldOnce counts the places in which a hundred
// tenants' lists lie, of which there are ten. Two that a sharer remembers in one
// place, by chance, lie in more.
func TestWhatTenantsHaveInCommonIsHeldOnce(t *testing.T) {
	whole, split := map[string]any{}, map[string]string{}
	for i := range 100 {
		own := authz.MustValue(map[string]any{"n": i, "l": []any{"x", map[string]any{"y": i % 10}}})
		whole[fmt.Sprint("t", i)] = own
		split[fmt.Sprintf("tables/t/t%d.json", i)] = string(own.AppendJSON(nil))
	}
	for name, files := range map[string]map[string]string{
		"whole": {"tables/t.json": string(authz.MustValue(map[string]any{"tenants": whole}).AppendJSON(nil))}, "split": split,
	} {
		tables, err := pdp.ReadTables(contentOf(t, files))
		if err != nil {
			t.Fatal(err)
		}
		places := map[*authz.Member]int64{}
		for tenant, own := range tables.All() {
			list, _ := own.Lookup("/t/l")
			y, _ := list.Lookup("/1/y")
			if first, known := places[&list.Members()[0]]; known && first != y.Int() {
				t.Errorf("%s: %s has another's list", name, tenant)
			}
			places[&list.Members()[0]] = y.Int()
		}
		if n := len(places); n < 10 || n > 60 {
			t.Errorf("%s: the lists lie in %d places, want 10, or a few more", name, n)
		}
	}
}

func BenchmarkTables(b *testing.B) {
	compilers := []pdp.Compiler{cedareval.New(), celeval.New()}
	for _, split := range []bool{false, true} {
		for _, n := range []int{100, 100_000} {
			content := contentOf(b, plugins(n, split, 0))
			first, err := pdp.Compile(b.Context(), 1, content, compilers...)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("read all/split %v/%d", split, n), func(b *testing.B) {
				b.SetBytes(int64(content.Bytes()))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := pdp.Compile(b.Context(), 1, content, compilers...); err != nil {
						b.Fatal(err)
					}
				}
			})
			if split {
				b.Run(fmt.Sprintf("one tenant/%d", n), func(b *testing.B) {
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						changed, err := content.Apply([]bundles.Change{{Path: content.Files()[i%n].Path, Data: fmt.Appendf(nil, `{"n":%d}`, i)}})
						if err != nil {
							b.Fatal(err)
						}
						if _, err := pdp.CompileFrom(b.Context(), first.Basis(), 2, changed, compilers...); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			b.Run(fmt.Sprintf("look up/split %v/%d", split, n), func(b *testing.B) {
				tables, names := first.Basis().Tables(), make([]string, n)
				for i := range names {
					names[i] = fmt.Sprintf("t%06d", i*7919%n)
				}
				for i := 0; b.Loop(); i++ {
					if tables.Tenant(names[i%n]).Len() == 0 {
						b.Fatal("a tenant is not there")
					}
				}
			})
		}
	}
}
