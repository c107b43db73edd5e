package policytest

import (
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
)

func TestSelfPoliciesAreAskedAsTheServerAsks(t *testing.T) {
	const rights = `// @policy({"title":{"en":"Rights","zh":"权限"},"reads":["subject.roles"]})

@id("administrators")
@title("Administrators")
@title_zh("管理员")
@message("Administrators may.")
@message_zh("管理员可。")
@severity("low")
permit (principal in role::"admin", action, resource);
`
	for _, row := range []struct{ name, text, want string }{
		{"roles as attributes", "attributes: {subject.roles: [admin]}\n" + request + "cases: [{name: a, expect: {effect: ALLOW, reasons: [self/rights/administrators]}}]\n", ""},
		{"roles as properties", "policy: self/rights\n" + request + "cases: [{name: a, set: {/subject/properties: {roles: [admin]}}, expect: {effect: ALLOW, reasons: [administrators]}}]\n", ""},
		{"nobody without a role", "policy: self/rights\n" + request + "cases: [{name: a, attributes: {subject.roles: []}, expect: {effect: DENY, reasons: []}}]\n", ""},
		{"another answer", "policy: self/rights\n" + request + "cases: [{name: a, attributes: {subject.roles: []}, expect: {effect: ALLOW}}]\n", "effect: want ALLOW, got DENY"},
		{"no property", "attributes: {roles: [admin]}\n" + request + "cases: [{name: a, expect: {effect: ALLOW}}]\n", "want subject.<property> or resource.<property>"},
		{"no other entity", "attributes: {context.self: true}\n" + request + "cases: [{name: a, expect: {effect: ALLOW}}]\n", "want subject.<property> or resource.<property>"},
	} {
		t.Run(row.name, func(t *testing.T) {
			content, err := bundles.NewContent([]bundles.File{
				{Path: "self/rights.cedar", Data: []byte(rights)},
				{Path: "self/rights_cases.yaml", Data: []byte(row.text)},
			})
			if err != nil {
				t.Fatal(err)
			}
			release, err := pdp.Compile(t.Context(), 1, content, cedareval.New())
			if err != nil {
				t.Fatal(err)
			}
			r := Run(t.Context(), release, Options{NoCoverage: true})
			if row.want == "" && (!r.OK() || r.Passed != 1) || row.want != "" && !strings.Contains(told(r), row.want) {
				t.Errorf("got %q and %d passed, want %q", told(r), r.Passed, row.want)
			}
		})
	}
}
