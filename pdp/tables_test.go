package pdp_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func contentOf(t interface{ Fatal(...any) }, files map[string]string) *bundles.Content {
	var list []bundles.File
	for path, data := range files {
		list = append(list, bundles.File{Path: path, Data: []byte(data)})
	}
	c, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// written is all tables as one JSON text.
func written(tables *pdp.Tables) string {
	all := map[string]any{}
	for tenant, own := range tables.All() {
		all[tenant] = own
	}
	return string(authz.MustValue(map[string]any{"platform": tables.Platform, "tenants": all}).AppendJSON(nil))
}

func TestTablesAreOneWhateverFormTheyHave(t *testing.T) {
	want := `{"platform":{"r":{"all":["a",1.5,null]}},"tenants":{"acme":{"r":{"allowed":["a","b"],"n":1}},"globex":{"r":{"allowed":[]}}}}`
	for name, files := range map[string]map[string]string{
		"JSON":          {"tables/r.json": `{"tenants":{"globex":{"allowed":[]},"acme":{"n":1.0,"allowed":["a","b"]}},"platform":{"all":["a",1.5,null]}}`},
		"YAML":          {"tables/r.yaml": "platform: {all: [a, 1.5, null]}\ntenants:\n  acme: {allowed: [a, b], n: 1}\n  globex: {allowed: []}\n"},
		"YML":           {"tables/r.yml": "platform: {all: [a, 1.5, null]}\ntenants:\n  acme: {allowed: [a, b], n: 1}\n  globex: {allowed: []}\n"},
		"a file a part": {"tables/r/platform.yaml": "all: [a, 1.5, null]", "tables/r/acme.json": `{"allowed":["a","b"],"n":1}`, "tables/r/globex.yml": "allowed: []", "tables/r/README.md": "prose"},
	} {
		tables, err := pdp.ReadTables(contentOf(t, files))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := written(tables); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if acme := tables.Tenant("acme"); acme.Len() != 1 || tables.Len() != 2 {
			t.Errorf("%s: %d tenants, and acme has %v", name, tables.Len(), acme)
		}
	}
	for _, files := range []map[string]string{{}, {"tables/r.yaml": ""}, {"tables/r.json": "null"}, {"tables/r.json": `{"platform":null,"tenants":null}`}, {"tables/a.md": "x"}} {
		if tables, err := pdp.ReadTables(contentOf(t, files)); err != nil || tables.Len() != 0 || tables.Tenant("acme").Kind() != authz.KindNull || tables.Platform.Kind() != authz.KindNull {
			t.Errorf("%v: %v, %v", files, tables, err)
		}
	}
}

func TestTablesThatAreWrongNameFileAndPlace(t *testing.T) {
	for _, row := range []struct {
		files      map[string]string
		file, says string
	}{
		{map[string]string{"tables/r.json": "{}", "tables/r.yaml": ""}, "tables/r.json", "tables/r.yaml is of the same table"},
		{map[string]string{"tables/r.json": "{}", "tables/r.md": "", "tables/r.yml": ""}, "tables/r.yml", "tables/r.json is of the same table"},
		{map[string]string{"tables/r.json": "{}", "tables/r/acme.json": "{}"}, "tables/r/acme.json", "tables/r.json is of the same table"},
		{map[string]string{"tables/r/acme.json": "{}", "tables/r/acme.yaml": ""}, "tables/r/acme.yaml", "tables/r/acme.json is of the same table"},
		{map[string]string{"tables/r/platform.json": "{}", "tables/r/platform.yaml": ""}, "tables/r/platform.yaml", "same table"},
		{map[string]string{"tables/r.json": `{"tenants":{"acme":{"a":[1,{"b":1e30}]}}}`}, "tables/r.json", "/tenants/acme/a/1/b: "},
		{map[string]string{"tables/r.json": `{"tenants":{"a":1,"a":2}}`}, "tables/r.json", "/tenants/a: this member is given twice"},
		{map[string]string{"tables/r.json": `{"tenants":{"ACME":{}}}`}, "tables/r.json", `/tenants: "ACME": want lower-case`},
		{map[string]string{"tables/r.yaml": "tenants: {ACME: {}}"}, "tables/r.yaml", `/tenants: "ACME": want lower-case`},
		{map[string]string{"tables/r.json": `{"tenants":{"platform":{}}}`}, "tables/r.json", "no tenant may be called"},
		{map[string]string{"tables/r.json": `{"tenant":{}}`}, "tables/r.json", "/tenant: unknown member"},
		{map[string]string{"tables/r.yaml": `tenant: {}`}, "tables/r.yaml", "/tenant: unknown member"},
		{map[string]string{"tables/r.json": `[]`}, "tables/r.json", "want an object"},
		{map[string]string{"tables/r.json": `{"tenants":[]}`}, "tables/r.json", "/tenants: want an object"},
		{map[string]string{"tables/r.json": ``}, "tables/r.json", "the text ends"},
		{map[string]string{"tables/r/ACME.json": `{}`}, "tables/r/ACME.json", "want <tenant> or platform"},
		{map[string]string{"tables/r/a/b.json": `{}`}, "tables/r/a/b.json", "want <tenant> or platform"},
		{map[string]string{"tables/r.s.json": `{}`}, "tables/r.s.json", "want one plain name"},
		{map[string]string{"tables/r.jsn": `{}`}, "tables/r.jsn", "a table is a .json, .yaml or .yml file"},
	} {
		_, err := pdp.Compile(t.Context(), 1, contentOf(t, row.files), celeval.New())
		if err == nil || !strings.Contains(err.Error(), row.file+": ") || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%v: got %v, want %s: …%s", slices.Sorted(maps.Keys(row.files)), err, row.file, row.says)
		}
	}
}

// TestTablesOfALaterReleaseAreAsIfReadAnew goes through releases, each from
// what is there of the one before, as a node that follows them does.
func TestTablesOfALaterReleaseAreAsIfReadAnew(t *testing.T) {
	compiler := celeval.New()
	rapid.Check(t, func(t *rapid.T) {
		var basis *pdp.Basis
		files := map[string]string{}
		for range rapid.IntRange(1, 6).Draw(t, "releases") {
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				part := `{"n":` + rapid.SampledFrom([]string{"1", "2", `["x",{"y":[true]}]`}).Draw(t, "value") + `}`
				text := rapid.SampledFrom([]string{part, `{"tenants":{"a":` + part + `,"b":{}},"platform":` + part + `}`, "null", "{", "-"}).Draw(t, "text")
				path := "tables/" + rapid.SampledFrom([]string{"r.json", "r.yaml", "r/a.json", "r/b.json", "r/b.yaml", "r/platform.json", "s.json", "r/README.md"}).Draw(t, "path")
				if files[path] = text; text == "-" {
					delete(files, path)
				}
			}
			content := contentOf(t, files)
			whole, wrong := pdp.Compile(context.Background(), 1, content, compiler)
			next, err := pdp.CompileFrom(context.Background(), basis, 1, content, compiler)
			if (err == nil) != (wrong == nil) {
				t.Fatalf("%v: %v read anew, %v after others", files, wrong, err)
			}
			if err != nil {
				continue // the basis stays, as on a node that refuses a release
			}
			if got, want := written(next.Basis().Tables()), written(whole.Basis().Tables()); got != want {
				t.Fatalf("%v: %s, want %s", files, got, want)
			}
			if next.Basis().Tables().Len() != whole.Basis().Tables().Len() {
				t.Fatalf("%d tenants, want %d", next.Basis().Tables().Len(), whole.Basis().Tables().Len())
			}
			basis = next.Basis()
		}
	})
}

// plugins is a table of n tenants, four plugins each with three capabilities
// and two regions, whole or in a file a tenant.
func plugins(n int, split bool, version int) map[string]string {
	regions := []string{"cn-hangzhou", "cn-shanghai", "cn-beijing", "cn-shenzhen", "ap-southeast-1"}
	files := map[string]string{}
	var all strings.Builder
	all.WriteString(`{"tenants":{`)
	for i := range n {
		var own strings.Builder
		own.WriteString(`{"plugins":{`)
		for p := range 4 {
			if p > 0 {
				own.WriteByte(',')
			}
			x := i*7 + p*3 + version
			fmt.Fprintf(&own, `"plugin-%d":{"capabilities":["extract-%d","load-%d","transform-%d"],"regions":[%q,%q]}`,
				p, x%97, x%89, x%83, regions[x%5], regions[(x+1+x%3)%5])
		}
		own.WriteString(`}}`)
		if split {
			files[fmt.Sprintf("tables/plugins/t%06d.json", i)] = own.String()
			continue
		}
		if i > 0 {
			all.WriteByte(',')
		}
		fmt.Fprintf(&all, `"t%06d":%s`, i, own.String())
	}
	if !split {
		files["tables/plugins.json"] = all.String() + `}}`
	}
	return files
}
