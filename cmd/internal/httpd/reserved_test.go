package httpd

import (
	"fmt"
	"testing"
)

// What a tenant must not give itself includes the platform's own duties.
func TestATenantDoesNotGiveItselfAReservedRole(t *testing.T) {
	policies := testPolicies()
	policies["platform/duties.cedar"] = `// @policy({"title":{"en":"Duties","zh":"职责"},"reads":["subject.roles"]})
@id("builders") @title("Builders") @title_zh("建造者") @message("Builders build.") @message_zh("建造者可建造。") @severity("low") @requirement("L6")
permit (principal in role::"landing_zone_operator", action == Action::"zone.build", resource);
@id("keepers") @title("Keepers") @title_zh("守护者") @message("Keepers keep.") @message_zh("守护者可守护。") @severity("low") @requirement("L6")
permit (principal in role::"keeper", action == Action::"zone.keep", resource);
`
	r := newRig(t, policies)
	do := func(as, path, body string, status int) {
		t.Helper()
		if g := r.do(ask{as: as, path: path, body: body}); g.status != status {
			t.Errorf("%s %s %s: %d %s", as, path, body, g.status, g.text)
		}
	}
	effect := func(action, want string) {
		t.Helper()
		body := fmt.Sprintf(`{"subject":{"type":"user","id":"boss"},"action":%q,"resource":{"type":"zone","id":"z"}}`, action)
		if g := r.do(ask{as: "pep", path: "/api/v1/decide", body: body}); g.at("/effect") != want {
			t.Errorf("%s: %s", action, g.text)
		}
	}
	operator := `{"tenant":"acme","subject":"user:boss","role":"landing_zone_operator"}`
	do("tenantadmin", "/api/v1/roles", `{"name":"landing_zone_operator"}`, 409)
	do("tenantadmin", "/api/v1/bindings", operator, 403)
	effect("zone.build", "DENY")
	do("admin", "/api/v1/bindings", operator, 201)
	effect("zone.build", "ALLOW")

	// A name that a tenant used first is worth nothing once it is reserved.
	keeper := `{"tenant":"acme","subject":"user:boss","role":"keeper"}`
	do("tenantadmin", "/api/v1/roles", `{"name":"mine","reserved":true}`, 400)
	do("tenantadmin", "/api/v1/roles", `{"name":"keeper"}`, 201)
	do("tenantadmin", "/api/v1/bindings", keeper, 201)
	effect("zone.keep", "ALLOW")
	do("admin", "/api/v1/roles", `{"name":"keeper","reserved":true}`, 201)
	effect("zone.keep", "DENY")
	do("tenantadmin", "/api/v1/bindings", keeper, 403)
}
