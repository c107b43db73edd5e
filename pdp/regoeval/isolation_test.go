package regoeval_test

import (
	"strings"
	"testing"
)

// twoTenants have a table each, of which the other must see nothing.
var twoTenants = files{"tables/secrets.yaml": "platform: {of: platform}\ntenants: {acme: {of: acme}, globex: {of: globex}}"}

func tenantPolicy(tenant, condition, helpers string) (path, text string) {
	return "tenants/" + tenant + "/p.rego", "package xiezhi.tenants." + tenant + ".p\n" + declared("r") +
		`deny contains {"rule": "r"` + condition + "\n" + helpers
}

func TestStaticReferencesAcrossTenantsAreFaults(t *testing.T) {
	for name, c := range map[string]struct{ path, text, place, want string }{
		"tenant to tenant":       {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nx := data.xiezhi.tenants.globex.tables.secrets", "tenants/acme/p.rego:2", "another tenant, globex"},
		"in brackets":            {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nx := data[\"xiezhi\"][\"tenants\"][\"globex\"]", "tenants/acme/p.rego:2", "another tenant, globex"},
		"by import":              {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nimport data.xiezhi.tenants.globex.q\nx := 1", "tenants/acme/p.rego:2", "another tenant, globex"},
		"by a shorter import":    {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nimport data.xiezhi.tenants as t\nx := t.globex.tables", "tenants/acme/p.rego:3", "another tenant, globex"},
		"behind a variable":      {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nx contains y if { some a; y := data[a].tenants.globex.tables }", "tenants/acme/p.rego:2", "another tenant, globex"},
		"a call":                 {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nx := data.xiezhi.tenants.globex.q.f(1)", "tenants/acme/p.rego:2", "another tenant, globex"},
		"in a nested body":       {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nx := [y | every z in [1] { y = data.xiezhi.tenants.globex.tables }]", "tenants/acme/p.rego:2", "another tenant, globex"},
		"in a head":              {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nx.a[data.xiezhi.tenants.globex.tables.y].b := 1", "tenants/acme/p.rego:2", "another tenant, globex"},
		"as a replacement":       {"tenants/acme/p.rego", "package xiezhi.tenants.acme.p\nx if y with input as data.xiezhi.tenants.globex.tables\ny := 1", "tenants/acme/p.rego:2", "another tenant, globex"},
		"platform to a tenant":   {"platform/p.rego", "package xiezhi.platform.p\nx := data.xiezhi.tenants.acme.tables.secrets", "platform/p.rego:2", "names the tenant acme"},
		"platform to rules":      {"platform/p.rego", "package xiezhi.platform.p\nx := data.xiezhi.tenants[input.tenant].sizes.max", "platform/p.rego:2", "tables and nothing else"},
		"platform to computed":   {"platform/p.rego", "package xiezhi.platform.p\nx := data.xiezhi.tenants[input.tenant][input.resource.id]", "platform/p.rego:2", "tables and nothing else"},
		"platform to all of one": {"platform/p.rego", "package xiezhi.platform.p\nx := data.xiezhi.tenants[input.tenant]", "platform/p.rego:2", "tables and nothing else"},
		"platform to everything": {"platform/p.rego", "package xiezhi.platform.p\nx if walk(data, [_, \"globex\"])", "platform/p.rego:2", "tables and nothing else"},
		"library to a tenant":    {"platform/lib/p.rego", "package xiezhi.platform.lib.p\nx := data.xiezhi.tenants.acme.tables", "platform/lib/p.rego:2", "names the tenant acme"},
	} {
		t.Run(name, func(t *testing.T) { wantFault(t, twoTenants.with(c.path, c.text), c.place, c.want) })
	}
}

func TestTenantsSeeTheirOwnTablesAndRulesOnly(t *testing.T) {
	for name, c := range map[string]struct{ head, helpers, acme, globex string }{
		"its own table":        {`, "path": concat("/", ["", data.xiezhi.tenants.acme.tables.secrets.of])}`, "", "/acme", ""},
		"by the request":       {`, "path": concat("/", ["", data.xiezhi.tenants[input.tenant].tables.secrets.of])}`, "", "/acme", ""},
		"the platform's":       {`, "path": concat("/", ["", data.xiezhi.platform.tables.secrets.of])}`, "", "/platform", ""},
		"a computed name":      {`, "path": "/none"} if not stolen`, `stolen if data.xiezhi.tenants[concat("", ["glo", "bex"])].tables`, "/none", ""},
		"iteration":            {`, "path": concat("/", array.concat([""], [t | data.xiezhi.tenants[t].tables]))}`, "", "/acme", ""},
		"iteration to a value": {`, "path": concat("/", array.concat([""], [o | o := data.xiezhi.tenants[_].tables.secrets.of]))}`, "", "/acme", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path, text := tenantPolicy("acme", c.head, c.helpers)
			p := compile(t, twoTenants.with(path, text))
			o := ask(t, p, request)
			if len(o) != 1 || o[0].Err != nil || len(o[0].Findings) != 1 || o[0].Findings[0].Path != c.acme {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestPlatformPoliciesSeeTheTablesOfTheRequestsTenant(t *testing.T) {
	f := twoTenants.with("platform/p.rego", "package xiezhi.platform.p\n"+declared("r")+
		`deny contains {"rule": "r", "path": concat("/", ["", kind, of])} if some kind, of in {
			"own": data.xiezhi.tenants[input.tenant].tables.secrets.of,
			"all": concat(",", [t | data.xiezhi.tenants[t].tables]),
			"other": concat(",", [x | x := data.xiezhi.tenants[input.resource.id].tables.secrets.of]),
		}`)
	// A tenant with Rego has a unit of its own; the answers must not differ.
	f = f.with("tenants/globex/q.rego", "package xiezhi.tenants.globex.q\nx := 1")
	p := compile(t, f)
	for tenant, other := range map[string]string{"acme": "globex", "globex": "acme"} {
		r := strings.Replace(strings.Replace(request, `"tenant":"acme"`, `"tenant":"`+tenant+`"`, 1), "req-42/web", other, 1)
		var paths []string
		for _, f := range ask(t, p, r)[0].Findings {
			paths = append(paths, f.Path)
		}
		if got, want := strings.Join(paths, " "), "/all/"+tenant+" /other/ /own/"+tenant; got != want {
			t.Errorf("%s sees %s, want %s", tenant, got, want)
		}
	}
	if o := ask(t, p, strings.Replace(request, `"tenant":"acme"`, `"tenant":"initech"`, 1))[0]; len(o.Findings) != 0 || o.Err != nil {
		t.Errorf("a tenant without tables sees %+v", o)
	}
}

func TestTenantsDoNotSeeEachOthersRules(t *testing.T) {
	f := files{
		"tenants/globex/q.rego": "package xiezhi.tenants.globex.q\nx := 1",
		"tenants/acme/p.rego": "package xiezhi.tenants.acme.p\n" + declared("r") +
			`deny contains {"rule": "r", "path": concat("/", array.concat([""], [t | data.xiezhi.tenants[t].q.x]))}`,
		"tenants/acme/q.rego": "package xiezhi.tenants.acme.q\nx := 1",
	}
	o := ask(t, compile(t, f), request)
	if len(o) != 1 || len(o[0].Findings) != 1 || o[0].Findings[0].Path != "/acme" {
		t.Errorf("%+v", o)
	}
}

func TestPolicyOfAnotherTenantDoesNotAnswer(t *testing.T) {
	path, text := tenantPolicy("globex", "}", "")
	p := compile(t, files{path: text})
	in := input(t, request)
	o := p.Evaluate(t.Context(), in, p.Policies(), nil)
	if len(o) != 1 || o[0].Err == nil || len(o[0].Findings) != 0 || !strings.Contains(o[0].Err.Message, "of the tenant globex") {
		t.Errorf("%+v", o)
	}
}

func TestOneTenantsBrokenPolicyIsNamedOnce(t *testing.T) {
	faults := faultsOf(t, files{
		"platform/p.rego":       "package xiezhi.platform.p\nx := 1",
		"tenants/acme/p.rego":   "package xiezhi.tenants.acme.p\nx := nope(1)",
		"tenants/globex/p.rego": "package xiezhi.tenants.globex.p\nx := nope(1)",
	})
	if len(faults) != 2 || faults[0].File != "tenants/acme/p.rego" || faults[1].File != "tenants/globex/p.rego" {
		t.Errorf("%v", faults)
	}
}
