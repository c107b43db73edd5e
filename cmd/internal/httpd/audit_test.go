package httpd

import (
	"fmt"
	"testing"
)

func TestThePlatformsOwnAuditIsNotEveryTenants(t *testing.T) {
	r := newRig(t, testPolicies())
	g := r.do(ask{as: "auditor", path: "/api/v1/audit?tenant=platform&limit=1000"})
	items, _ := g.at("/items").([]any)
	if len(items) == 0 {
		t.Fatalf("%d %s", g.status, g.text)
	}
	for i := range items {
		if tenant := g.at(fmt.Sprintf("/items/%d/tenant", i)); tenant != nil && tenant != "" {
			t.Fatalf("asked for the platform's own, and got a record of %v", tenant)
		}
	}
}
