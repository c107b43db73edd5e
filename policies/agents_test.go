package policies_test

import (
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/policies"
)

// No name of a business system, and no ALLOW of a tenant's own, registers an
// agent that nobody has reviewed (X8, L18).
func TestNoTenantRegistersAgentsWithoutReview(t *testing.T) {
	shipped, err := bundles.ReadFS(policies.FS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	content, err := shipped.Apply([]bundles.Change{{Path: "tenants/acme/agents.policy.yaml",
		Data: []byte("id: agents\nname: Agents\nrules:\n  - {id: anybody, condition: \"action == 'agent.register'\", effect: ALLOW}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, regoeval.New(), cedareval.New(), celeval.New())
	if err != nil {
		t.Fatal(err)
	}
	p := pdp.New(pdp.Config{Budget: time.Minute, Now: func() time.Time { return now }, NewID: func() string { return "id" }})
	p.Activate(&pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}, Directory: policytest.Answers{}})
	for _, system := range []any{nil, "tianshu", "Tianshu", "shop", "", "*", 7, []any{"tianshu"}, map[string]any{}} {
		contexts := []authz.Value{authz.MustValue(map[string]any{"business_system": system}), {}}
		for _, context := range contexts {
			d, err := p.Decide(t.Context(), authz.Request{
				Tenant: "acme", Subject: authz.Entity{Type: "service", ID: "shop"}, Action: authz.Action{Name: "agent.register"},
				Resource: authz.Entity{Type: "agent", ID: "copilot-7"}, Context: context,
			}, pdp.Caller{})
			if err != nil {
				t.Fatal(err)
			}
			if d.Effect != authz.Review {
				t.Errorf("in %s: %s, %+v", context.AppendJSON(nil), d.Effect, d.Reasons)
			}
		}
	}
}
