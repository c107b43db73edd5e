//go:build unix

package e2e

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// rego is a tenant's package with one set and what else is written.
func rego(pkg, more, rule string) string {
	return `# METADATA
# title: Mine
# custom:
#   title_zh: 自有
package ` + pkg + `

` + more + `

# METADATA
# title: Mine
# custom:
#   id: mine
#   title_zh: 自有
#   message: {en: "Mine.", zh: "自有。"}
#   severity: low
` + rule + "\n"
}

const allowAll = `allow contains {"rule": "mine"}`

// withoutAcmesCases: what acme's author publishes below makes acme's own test
// cases fail, which is not what these tests are about.
func withoutAcmesCases() files { return files{"tenants/acme/change_freeze_cases.yaml": ""} }

// What a tenant's author publishes never lifts a guardrail: it does not
// compile, or the guardrails answer as before.
func TestATenantsPolicyLiftsNoGuardrail(t *testing.T) {
	t.Parallel()
	s := start(t, withoutAcmesCases())
	region := instance(engineer()) // acme may not use this region
	region["resource"].(object)["properties"].(object)["region"] = "us-west-1"
	ssh := instance(engineer())
	ssh["resource"].(object)["properties"].(object)["ingress"] = []object{{"port": 22, "cidrs": []string{"0.0.0.0/0"}}}
	public := instance(engineer())
	public["resource"].(object)["properties"].(object)["ingress"] = []object{{"port": 443, "cidrs": []string{"203.0.113.0/24"}}}
	public["resource"].(object)["properties"].(object)["vswitch_id"] = "vsw-bp1acme0public"
	foreign := instance(engineer())
	foreign["resource"].(object)["properties"].(object)["tenant"] = "globex"
	guarded := map[string]object{"region": region, "ssh": ssh, "public": public, "foreign": foreign}
	before := map[string]decision{}
	for name, request := range guarded {
		before[name] = s.decide("pep", request)
	}
	for name, want := range map[string]string{
		"region": "platform/regions/region_not_allowed", "ssh": "platform/network/public_admin_port",
		"public": "platform/network/public_ingress_needs_review", "foreign": "platform/isolation/resource_of_another_tenant",
	} {
		if d := before[name]; d.Effect == "ALLOW" || !d.has(want) {
			t.Fatalf("%s: no guardrail: %+v", name, d)
		}
	}

	for _, row := range []struct {
		name, path, text string
		publishes        bool // else it is refused with the place
	}{
		{"allow everything, in Rego", "tenants/acme/mine.rego", rego("xiezhi.tenants.acme.mine", "", allowAll), true},
		{"allow everything, in Cedar", "tenants/acme/mine.cedar", "@id(\"mine\")\n@title(\"Mine\")\n@title_zh(\"自有\")\n@message(\"Mine.\")\n@message_zh(\"自有。\")\n@severity(\"low\")\npermit (principal, action, resource);\n", true},
		{"allow everything, in a rule document", "tenants/acme/mine.policy.yaml", "id: mine\nname: Mine\nrules:\n  - {id: mine, condition: 'true', effect: ALLOW, message: {en: Mine., zh: 自有。}}\n", true},
		{"a review that admits", "tenants/acme/mine.policy.yaml", "id: mine\nname: Mine\nrules:\n  - {id: mine, condition: 'true', effect: REVIEW, admits: true, message: {en: Mine., zh: 自有。}}\n", true},
		{"its own DENY, waivable", "tenants/acme/mine.policy.yaml", "id: mine\nname: Mine\nrules:\n  - {id: mine, condition: 'true', effect: DENY, waivable: true, message: {en: Mine., zh: 自有。}}\n", true},
		{"a guardrail's name for its own", "tenants/acme/network.rego", strings.ReplaceAll(rego("xiezhi.tenants.acme.network", "", `allow contains {"rule": "mine"}`), "mine", "public_admin_port"), true},
		{"a package deep in its own", "tenants/acme/mine.rego", rego("xiezhi.tenants.acme.mine.platform.network", "", allowAll), false},
		{"a condition that grants itself", "tenants/acme/mine.policy.yaml", "id: mine\nname: Mine\nrules:\n  - {id: mine, condition: 'true', effect: ALLOW, waives: [platform/network/public_admin_port], message: {en: Mine., zh: 自有。}}\n", false},
		{"a document that says it is the platform's", "tenants/acme/mine.policy.yaml", "id: mine\nname: Mine\nlayer: platform\nrules:\n  - {id: mine, condition: 'true', effect: ALLOW, message: {en: Mine., zh: 自有。}}\n", false},
		{"a scope that says it is another tenant's", "tenants/acme/mine.policy.yaml", "id: mine\nname: Mine\nscope: {tenant: globex}\nrules:\n  - {id: mine, condition: 'true', effect: ALLOW, message: {en: Mine., zh: 自有。}}\n", false},
		{"the guardrail's package again", "tenants/acme/network.rego", rego("xiezhi.platform.network", "", allowAll), false},
		{"the guardrail's package, beside its own", "tenants/acme/mine.rego", "package xiezhi.platform.network\n\ndeny := set()\n", false},
		{"a library's package", "tenants/acme/cidr.rego", "package xiezhi.platform.lib.cidr\n\nclass(_) := \"private\"\n", false},
		{"the package above all", "tenants/acme/xiezhi.rego", "package xiezhi\n\nplatform := {}\n", false},
		{"the tenants' package", "tenants/acme/tenants.rego", "package xiezhi.tenants\n\nacme := {}\n", false},
		{"its tenant's own package", "tenants/acme/acme.rego", "package xiezhi.tenants.acme\n\ntables := {\"tenant_region_mapping\": {\"regions\": [\"us-west-1\"]}}\n", false},
		{"its tables' package", "tenants/acme/tables.rego", rego("xiezhi.tenants.acme.tables", "tenant_region_mapping := {\"regions\": [\"us-west-1\"]}", allowAll), false},
		{"its tables' package without rules", "tenants/acme/tables.rego", "package xiezhi.tenants.acme.tables\n\ntenant_region_mapping := {\"regions\": [\"us-west-1\"]}\n", false},
		{"a table within its tables", "tenants/acme/tables/regions.rego", "package xiezhi.tenants.acme.tables.tenant_region_mapping\n\nregions := [\"us-west-1\"]\n", false},
		{"a rule that reaches out of its package", "tenants/acme/mine.rego", rego("xiezhi.tenants.acme.mine", "data.xiezhi.platform.network.deny := set()", allowAll), false},
		{"another tenant's package", "tenants/acme/mine.rego", rego("xiezhi.tenants.globex.mine", "", allowAll), false},
		{"another tenant's, spelt in brackets", "tenants/acme/mine.rego", rego(`xiezhi.tenants["globex"].mine`, "", allowAll), false},
		{"a self policy in its folder", "tenants/acme/rights.rego", rego("xiezhi.self.rights", "", allowAll), false},
		{"no package of ours", "tenants/acme/mine.rego", rego("system.authz", "", allowAll), false},
		{"a file that no reader takes", "tenants/acme/mine.yaml", "allow: true\n", false},
		{"a table in its folder", "tenants/acme/tables/tenant_region_mapping.yaml", "tenants:\n  acme: {regions: [us-west-1]}\n", false},
		{"a schema in its folder that breaks the rest", "tenants/acme/schema.cedarschema", "entity broken in [\n", false},
		{"test cases that fail others'", "tenants/acme/mine_cases.yaml", "policy: platform/network\nrequest: {tenant: acme, subject: {type: user, id: a}, action: x, resource: {type: y, id: z}}\ncases: [{name: nothing, expect: {reasons: [public_admin_port]}}]\n", false},
		{"a laid-over guardrail, used within", "tenants/acme/mine.rego", rego("xiezhi.tenants.acme.mine", "", `allow contains {"rule": "mine"} if count(data.xiezhi.platform.network.deny) == 0 with data.xiezhi.platform.network.deny as set()`), true},
		{"a laid-over table, used within", "tenants/acme/mine.rego", rego("xiezhi.tenants.acme.mine", "", `allow contains {"rule": "mine"} if count(data.xiezhi.platform.regions.deny) == 0 with data.xiezhi.tenants.acme.tables.tenant_region_mapping as {"regions": ["us-west-1"]}`), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			release := s.release()
			a := s.publish("author", files{row.path: row.text})
			switch {
			case row.publishes && a.status != http.StatusCreated:
				t.Errorf("it should publish: %d %s", a.status, a.text)
			case !row.publishes && (a.status != http.StatusUnprocessableEntity || !strings.HasPrefix(a.textAt("/faults/0/file"), "tenants/acme/")):
				t.Errorf("it should be refused at its place: %d %s", a.status, a.text)
			case !row.publishes && s.release() != release:
				t.Error("it was refused, and there is a new release")
			}
			for name, request := range guarded {
				d := s.decide("pep", request)
				if d.Effect != before[name].Effect && d.Effect != "DENY" {
					t.Errorf("%s is now %s: %+v", name, d.Effect, d.Reasons)
				}
				for _, r := range before[name].Reasons {
					if r.Effect != "ALLOW" && r.Policy != "" && !slices.Contains(d.Reasons, r) {
						t.Errorf("%s: the guardrail's %s is gone or changed: %+v", name, r.Rule, d.Reasons)
					}
				}
			}
			s.discard("author", row.path)
		})
	}
}

// discard removes what a test published or left as a draft.
func (s *server) discard(as, path string) {
	s.t.Helper()
	at := "/api/v1/policies/" + escapePath(path)
	etag := s.must(http.StatusOK, call{as: as, path: at}).header.Get("ETag")
	s.must(http.StatusOK, call{as: as, method: http.MethodDelete, path: at, header: map[string]string{"If-Match": etag}})
	a := s.do(call{as: as, path: "/api/v1/releases", body: encode(object{"drafts": []string{path}})})
	if a.status != http.StatusCreated && a.code() != "nothing_to_publish" {
		s.t.Fatalf("take back %s: %d %s", path, a.status, a.text)
	}
}

// A tenant's policy speaks in its own tenant only.
func TestATenantsPolicySpeaksInItsTenantOnly(t *testing.T) {
	t.Parallel()
	s := start(t, withoutAcmesCases())
	gate := s.member("globex", "service:gate", "pep")
	request := question("anything", object{})
	theirs := changed(request, "tenant", "globex")
	s.effect("DENY", request)
	if a := s.publish("author", files{"tenants/acme/mine.rego": rego("xiezhi.tenants.acme.mine", "", allowAll)}); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.text)
	}
	s.effect("ALLOW", request)
	if d := s.decide(gate, theirs); d.Effect != "DENY" || d.has("tenants/acme/mine/mine") {
		t.Errorf("in globex: %+v", d)
	}
	for _, c := range []object{{"tenant": "acme"}, {"platform": true}} {
		if d := s.decide(gate, changed(maps.Clone(theirs), "context", c)); d.Effect != "DENY" {
			t.Errorf("in globex, with context %v: %+v", c, d)
		}
	}
}
