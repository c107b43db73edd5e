package policytest

import (
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
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

func TestCoverageKeepsLanguagesApart(t *testing.T) {
	content, err := bundles.NewContent([]bundles.File{
		{Path: "platform/a.policy.yaml", Data: []byte("id: a\nname: A\nrules:\n  - {id: never, condition: \"action == 'x'\", effect: DENY, message: {en: No., zh: 不。}}\n")},
		{Path: "platform/b.cedar", Data: []byte(`// @policy({"title":{"en":"B","zh":"乙"}})

@id("never")
@title("Never")
@title_zh("从不")
@message("No.")
@message_zh("不。")
@severity("low")
forbid (principal, action, resource) when { resource has closed };
`)},
		{Path: "platform/a_cases.yaml", Data: []byte(request + "cases: [{name: a, expect: {reasons: [no_allow]}}, {name: b, merge: {action: x}, expect: {reasons: [no_allow, platform/a/never]}}]\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, cedareval.New(), celeval.New())
	if err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), release, Options{})
	if !r.OK() || len(r.Coverage) != 2 || r.Coverage[0].Reached != 2 || r.Coverage[1].Reached != 1 {
		t.Errorf("got %s and %+v, want both branches of a and one of b", told(r), r.Coverage)
	}
	if len(r.Uncovered) != 1 || r.Uncovered[0].Policy != "platform/b" || r.Uncovered[0].What != "condition true" {
		t.Errorf("got %v", r.Uncovered)
	}
}
