package pap

import (
	"slices"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
)

func TestARolloutConcernsTheTenantsWhosePartChanges(t *testing.T) {
	content := func(files map[string]string) *bundles.Content {
		t.Helper()
		var list []bundles.File
		for path, text := range files {
			list = append(list, bundles.File{Path: path, Data: []byte(text)})
		}
		c, err := bundles.NewContent(list)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	base := content(map[string]string{
		"platform/p.rego": "1", "tenants/acme/a.rego": "1", "tenants/globex/g.rego": "1",
		"tables/t.yaml": "platform: {x: 1}\ntenants: {acme: {n: 1}, initech: {n: 1}}\n", "tables/empty.yaml": "",
		"tables/j.json": `{"platform":{"x":1},"tenants":{"acme":{"n":1},"initech":{"n":1}}}`, "tables/split/platform.json": "1", "tables/split/acme.json": "1",
	})
	for name, row := range map[string]struct {
		changed map[string]string // "" removes
		want    []string
	}{
		"the platform's policies":             {map[string]string{"platform/p.rego": "2", "platform/q.rego": "1"}, nil},
		"a tenant's policy":                   {map[string]string{"tenants/acme/a.rego": "2"}, []string{"acme"}},
		"one added and one removed":           {map[string]string{"tenants/hooli/h.rego": "1", "tenants/globex/g.rego": ""}, []string{"globex", "hooli"}},
		"a tenant's part of a table":          {map[string]string{"tables/t.yaml": "platform: {x: 1}\ntenants: {acme: {n: 2}, initech: {n: 1}}\n"}, []string{"acme"}},
		"the platform's part, written anew":   {map[string]string{"tables/t.yaml": "tenants: {initech: {n: 1}, acme: {n: 1}}\nplatform: {x: 2}\n"}, nil},
		"a part that is gone, one that came":  {map[string]string{"tables/t.yaml": "tenants: {globex: {}, acme: {n: 1}}\n"}, []string{"globex", "initech"}},
		"a tenant's part of a table in JSON":  {map[string]string{"tables/j.json": `{"platform":{"x":2},"tenants":{"acme":{"n":2},"initech":{"n":1}}}`}, []string{"acme"}},
		"files of a table of a file a tenant": {map[string]string{"tables/split/platform.json": "2", "tables/split/acme.json": "2", "tables/split/hooli.json": "1"}, []string{"acme", "hooli"}},
		"a table that is gone":                {map[string]string{"tables/t.yaml": ""}, []string{"acme", "initech"}},
	} {
		var changes []bundles.Change
		for path, text := range row.changed {
			changes = append(changes, bundles.Change{Path: path, Removed: text == "", Data: []byte(text)})
		}
		next, err := base.Apply(changes)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := concernedTenants(base, next); err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, row.want)
		}
	}
}
