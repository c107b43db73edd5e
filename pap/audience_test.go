package pap_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
)

func release(t testing.TB, files map[string]string) *bundles.Content {
	t.Helper()
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

func paths(c *bundles.Content) []string {
	var all []string
	for _, f := range c.Files() {
		all = append(all, f.Path)
	}
	return all
}

func everything() map[string]string {
	return map[string]string{
		"attributes.yaml": "a", "obligations.yaml": "o", "schema.cedarschema": "s", "README.md": "r", "LICENSE": "l",
		"platform/p.rego": "p", "platform/p_test.rego": "pt", "platform/p_cases.yaml": "pc", "platform/NOTES.md": "n",
		"self/rights.cedar": "s", "self/schema.cedarschema": "ss", "approvals/a.yaml": "a", "examples/e.json": "e",
		"tenants/acme/x.cedar": "x", "tenants/acme/x_cases.yaml": "xc", "tenants/acme.b/y.cedar": "y", "tenants/globex/z.cedar": "z",
		"tables/both.yaml":   "# globex pays more\nplatform: {b: 2, a: 1.50, off: \"no\"}\ntenants:\n  globex: &g {secret: 1}\n  acme: {limit: 3, none: }\n  acme.b: *g\n",
		"tables/theirs.yaml": "tenants: {globex: {secret: 1}}\n", "tables/empty.yaml": "", "tables/README.md": "t",
	}
}

func TestAudienceGetsWhatItDecidesByAndNothingOfOthers(t *testing.T) {
	whole := release(t, everything())
	shared := []string{"approvals/a.yaml", "attributes.yaml", "obligations.yaml", "platform/p.rego", "schema.cedarschema", "tables/both.yaml"}
	for _, row := range []struct {
		tenants []string
		more    []string
		table   string
	}{
		{[]string{"acme"}, []string{"tenants/acme/x.cedar"},
			"platform:\n    a: 1.5\n    b: 2\n    \"off\": \"no\"\ntenants:\n    acme:\n        limit: 3\n        none: null\n"},
		{[]string{"acme.b"}, []string{"tenants/acme.b/y.cedar"},
			"platform:\n    a: 1.5\n    b: 2\n    \"off\": \"no\"\ntenants:\n    acme.b:\n        secret: 1\n"},
		{[]string{"unknown"}, nil, "platform:\n    a: 1.5\n    b: 2\n    \"off\": \"no\"\n"},
		{nil, nil, "platform:\n    a: 1.5\n    b: 2\n    \"off\": \"no\"\n"},
		{[]string{"globex", "acme", "globex"}, []string{"tables/theirs.yaml", "tenants/acme/x.cedar", "tenants/globex/z.cedar"}, ""},
		{[]string{"acme", bundles.AllTenants}, []string{"tables/empty.yaml", "tables/theirs.yaml", "tenants/acme.b/y.cedar", "tenants/acme/x.cedar", "tenants/globex/z.cedar"},
			everything()["tables/both.yaml"]},
	} {
		part, err := pap.Subset(whole, row.tenants)
		if err != nil {
			t.Errorf("%v: %v", row.tenants, err)
			continue
		}
		want := slices.Sorted(slices.Values(append(slices.Clone(shared), row.more...)))
		if got := paths(part); !slices.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", row.tenants, got, want)
		}
		table, _ := part.File("tables/both.yaml")
		if row.table != "" && string(table) != row.table {
			t.Errorf("%v: the table is\n%s\nwant\n%s", row.tenants, table, row.table)
		}
		if !slices.Contains(row.tenants, "globex") && !slices.Contains(row.tenants, bundles.AllTenants) && strings.Contains(string(table), "globex") {
			t.Errorf("%v: it speaks of another tenant: %s", row.tenants, table)
		}
		again, err := pap.Subset(whole, row.tenants)
		if err != nil || again.Digest() != part.Digest() {
			t.Errorf("%v: two subsets differ", row.tenants)
		}
	}
}

func TestTableThatDoesNotParseNamesItsFile(t *testing.T) {
	_, err := pap.Subset(release(t, map[string]string{"tables/t.yaml": "tenants: ["}), []string{"acme"})
	if err == nil || !strings.Contains(err.Error(), "tables/t.yaml") {
		t.Errorf("got %v", err)
	}
}
