package regoeval

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func release(t *testing.T, c *Compiler, files map[string]string) *Program {
	t.Helper()
	var list []bundles.File
	for path, text := range files {
		list = append(list, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pdp.Compile(t.Context(), 1, content, c)
	if err != nil {
		t.Fatal(err)
	}
	return r.Programs()[0].(*Program)
}

const one = "# METADATA\n# custom: {id: r}\ndeny contains {\"rule\": \"r\"}\n"

func TestReleasesShareThePlansOfWhatTheyHaveInCommon(t *testing.T) {
	c := New()
	files := map[string]string{
		"platform/p.rego":       "package xiezhi.platform.p\n" + one,
		"tenants/acme/a.rego":   "package xiezhi.tenants.acme.a\n" + one,
		"tenants/globex/g.rego": "package xiezhi.tenants.globex.g\n" + one,
	}
	before := release(t, c, files)
	files["tenants/acme/a.rego"] += "x := 1\n"
	after := release(t, c, files)
	for i, shared := range []bool{true, false, true} { // in the order of the files
		if same := before.entries[i].program == after.entries[i].program; same != shared || after.entries[i].program == nil {
			t.Errorf("%s: shared is %v", after.policies[i].ID, same)
		}
	}
	if before.entries[0].program == before.entries[1].program {
		t.Error("a tenant's policies are in the platform's program")
	}
}

func TestEndOfTheContextEndsPlanning(t *testing.T) {
	p := release(t, NewWith(Options{Engine: Topdown}), map[string]string{"platform/p.rego": "package xiezhi.platform.p\n" + one})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.units[""].planOf(ctx, p.modules); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if made, err := p.units[""].planOf(t.Context(), p.modules); err != nil || len(made.sets) != 1 {
		t.Errorf("after that: %+v, %v", made, err)
	}
}

func TestTenantsCostNothingUntilTheyAreAskedFor(t *testing.T) {
	tables := "tenants: {acme: {x: 1}, globex: {x: 2}}"
	p := release(t, New(), map[string]string{
		"tables/t.yaml": tables,
		"platform/p.rego": "package xiezhi.platform.p\n# METADATA\n# custom: {id: r}\n" +
			`deny contains {"rule": "r", "args": {"x": data.xiezhi.tenants[input.tenant].tables.t.x}}`,
	})
	made := func() (n int) {
		p.documents.tenants.Range(func(any, any) bool { n++; return true })
		return n
	}
	if made() != 0 {
		t.Fatalf("%d tenants are there before anybody asks", made())
	}
	first, again := p.documents.find("acme"), p.documents.find("acme")
	if first != again || made() != 1 || p.documents.find("nobody") != p.documents.nobody || made() != 1 {
		t.Errorf("%d tenants are there", made())
	}
	if n := testing.AllocsPerRun(100, func() { p.documents.value("acme") }); n > 0 {
		t.Errorf("data costs %v allocations a decision", n)
	}
}

func TestOtherTablesTakeTheSamePlans(t *testing.T) {
	files := map[string]string{
		"tables/t.yaml": "platform: {y: 0}\ntenants: {acme: {x: 1}}",
		"platform/p.rego": "package xiezhi.platform.p\n# METADATA\n# custom: {id: r}\n" +
			`deny contains {"rule": "r", "args": {"x": data.xiezhi.tenants[input.tenant].tables.t.x, "y": data.xiezhi.platform.tables.t.y}}`,
	}
	for _, e := range []Engine{Compiled, Topdown} {
		p := release(t, NewWith(Options{Engine: e}), files)
		content, err := bundles.NewContent([]bundles.File{{Path: "tables/t.yaml", Data: []byte("platform: {y: 5}\ntenants: {globex: {x: 2}}")}})
		if err != nil {
			t.Fatal(err)
		}
		tables, err := pdp.ReadTables(content)
		if err != nil {
			t.Fatal(err)
		}
		next := p.WithTables(tables).(*Program)
		if next.entries[0].program != p.entries[0].program {
			t.Error("other tables are another plan")
		}
		for program, want := range map[*Program]string{p: `acme: {"x":1,"y":0} globex:`, next: `acme: globex: {"x":2,"y":5}`} {
			got := ""
			for _, tenant := range []string{"acme", "globex"} {
				r := authz.Request{Tenant: tenant}
				got += " " + tenant + ":"
				for _, f := range program.Evaluate(t.Context(), &pdp.Input{Request: &r, Value: r.Value(), Now: time.Unix(1, 0)}, program.Policies(), nil)[0].Findings {
					got += " " + string(f.Args.AppendJSON(nil))
				}
			}
			if got[1:] != want {
				t.Errorf("%v: found %s, want %s", e, got[1:], want)
			}
		}
	}
}
