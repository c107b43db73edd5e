package regoeval_test

import (
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
)

// digests are the rules' digests of the release by full name.
func digests(t *testing.T, f files) map[string]bundles.Digest {
	t.Helper()
	release, err := load(t, f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bundles.Digest{}
	for _, p := range release.Policies() {
		for _, r := range p.Rules {
			if r.Digest == (bundles.Digest{}) {
				t.Errorf("%s/%s has no digest", p.ID, r.ID)
			}
			all[p.ID+"/"+r.ID] = r.Digest
		}
	}
	return all
}

func TestRuleDigestCoversWhatTheRuleCanReach(t *testing.T) {
	base := files{
		"attributes.yaml":        schema,
		"approvals/a.yaml":       "title: A",
		"approvals/b.yaml":       "title: B",
		"tables/sizes.yaml":      "platform: {max: 4}\ntenants: {acme: {max: 2}}",
		"platform/lib/near.rego": "package xiezhi.platform.lib.near\nok if data.xiezhi.platform.lib.far.ok",
		"platform/lib/far.rego":  "package xiezhi.platform.lib.far\nok := true",
		"platform/lib/else.rego": "package xiezhi.platform.lib.else\nok := true",
		"platform/p.rego": "package xiezhi.platform.p\n# METADATA\n# custom: {id: one, template: a}\nreview contains {\"rule\": \"one\"} if data.xiezhi.platform.lib.near.ok\n" +
			"# METADATA\n# custom: {id: two, template: b}\nreview contains {\"rule\": \"two\"} if data.xiezhi.tenants[input.tenant].tables.sizes.max == data.xiezhi.platform.tables.sizes.max\n" +
			"# METADATA\n# custom: {id: three, template: b}\nreview contains {\"rule\": \"three\"}\n",
		"tenants/acme/q.rego": "package xiezhi.tenants.acme.q\n" + declared("r") + `deny contains {"rule": "r"} if data.xiezhi.platform.p.review`,
	}
	const one, two, three, tenants = "platform/p/one", "platform/p/two", "platform/p/three", "tenants/acme/q/r"
	before := digests(t, base)
	if before[two] == before[three] {
		t.Error("two rules have one digest")
	}
	for name, c := range map[string]struct {
		path, text string
		changed    []string
	}{
		"nothing":             {"attributes.yaml", base["attributes.yaml"], nil},
		"the policy's text":   {"platform/p.rego", base["platform/p.rego"] + "# a comment\n", []string{one, two, three, tenants}},
		"a library":           {"platform/lib/near.rego", base["platform/lib/near.rego"] + "\nx := 1\n", []string{one, two, three, tenants}},
		"a library's library": {"platform/lib/far.rego", base["platform/lib/far.rego"] + "\nx := 1\n", []string{one, two, three, tenants}},
		"another library":     {"platform/lib/else.rego", base["platform/lib/else.rego"] + "\nx := 1\n", nil},
		"its template":        {"approvals/a.yaml", "title: Another", []string{one}},
		"the schema":          {"attributes.yaml", schema + "  subject.level: {}\n", []string{one, two, three, tenants}},
		"tables":              {"tables/sizes.yaml", "platform: {max: 8}", nil},
		"the tenant's policy": {"tenants/acme/q.rego", base["tenants/acme/q.rego"] + "\nx := 1\n", []string{tenants}},
		"another policy":      {"platform/other.rego", "package xiezhi.platform.other\nx := 1\n", nil},
		"another tenant's":    {"tenants/globex/q.rego", "package xiezhi.tenants.globex.q\nx := 1\n", nil},
		"a neighbour's":       {"tenants/acme/z.rego", "package xiezhi.tenants.acme.z\nx := 1\n", nil},
		"a test":              {"platform/p_test.rego", "package xiezhi.platform.p_test\nx := 1\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			after := digests(t, base.with(c.path, c.text))
			for rule, digest := range before {
				changed := after[rule] != digest
				want := false
				for _, r := range c.changed {
					want = want || r == rule
				}
				if changed != want {
					t.Errorf("%s changed: %v, want %v", rule, changed, want)
				}
			}
		})
	}
}

func TestRecompilingGivesTheSameDigestsAndAnswers(t *testing.T) {
	f := files{
		"platform/lib/l.rego": "package xiezhi.platform.lib.l\nok := true",
		"platform/p.rego":     "package xiezhi.platform.p\n" + declared("r") + `deny contains {"rule": "r"} if data.xiezhi.platform.lib.l.ok`,
	}
	compiler := newCompiler(t)
	first, err := loadWith(t, compiler, f)
	if err != nil {
		t.Fatal(err)
	}
	second, err := loadWith(t, compiler, f.with("tables/x.yaml", "platform: 1")) // the modules are used again
	if err != nil {
		t.Fatal(err)
	}
	third, err := loadWith(t, compiler, f.with("platform/lib/l.rego", "package xiezhi.platform.lib.l\nok := false"))
	if err != nil {
		t.Fatal(err)
	}
	if first.Policies()[0] == second.Policies()[0] || first.Policies()[0].Rules[0].Digest != second.Policies()[0].Rules[0].Digest {
		t.Error("the second release shares a policy with the first, or differs from it")
	}
	for i, want := range []string{"platform/p/r", "platform/p/r", ""} {
		p := []*regoeval.Program{first.Programs()[0].(*regoeval.Program), second.Programs()[0].(*regoeval.Program), third.Programs()[0].(*regoeval.Program)}[i]
		if got := spoke(ask(t, p, request)); got != want {
			t.Errorf("release %d spoke %q, want %q", i+1, got, want)
		}
	}
}
