package httpd

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestATokenMakesNoTokenOfMoreRights(t *testing.T) {
	r := newRig(t, testPolicies())
	r.token("maker", "acme", "user:boss", "token.create", "audit.read")
	for _, row := range []struct {
		as, subject, rights string
		status              int
	}{
		{"maker", "user:boss", `"*"`, 403},
		{"maker", "user:boss", `"audit.read","grant.mint"`, 403},
		{"maker", "service:gateway", `"decide.on_behalf"`, 403},
		{"maker", "user:boss", `"audit.*"`, 403},
		{"maker", "user:boss", `"token.create","audit.read"`, 201},
		{"maker", "service:gateway", `"audit.read"`, 201},
		{"tenantadmin", "service:gateway", `"decide.on_behalf"`, 201},
	} {
		body := fmt.Sprintf(`{"subject":%q,"rights":[%s],"expires_at":%q}`, row.subject, row.rights, time.Now().Add(time.Hour).Format(time.RFC3339))
		if g := r.do(ask{as: row.as, path: "/api/v1/tokens", body: body}); g.status != row.status {
			t.Errorf("%s makes [%s] for %s: %d %s", row.as, row.rights, row.subject, g.status, g.text)
		}
	}
}

func TestANarrowTokenDoesNotHideThatItsOwnerAsksOnBehalf(t *testing.T) {
	r := newRig(t, testPolicies())
	bind := func(subject, role string) {
		t.Helper()
		if g := r.do(ask{as: "tenantadmin", path: "/api/v1/bindings", body: fmt.Sprintf(`{"subject":%q,"role":%q}`, subject, role)}); g.status != 201 {
			t.Fatal(g.text)
		}
	}
	mint := func(as string) got {
		return r.do(ask{as: as, path: "/api/v1/policy/dynamic", body: fmt.Sprintf(`{"type":"DYNAMIC","kind":"grant","satisfies":["tenants/acme/own/ask"],
			"request":{"subject":{"type":"user","id":"li.wei"},"action":"acme.do","resource":{"type":"thing","id":"t","properties":{"ask":true}}},
			"validity":{"end":%q},"reason":"a test"}`, time.Now().Add(time.Hour).Format(time.RFC3339))})
	}
	r.subject("both", "acme", "user", "both")
	bind("user:both", "admin")
	r.token("minter", "acme", "user:both", "grant.mint")
	if g := mint("minter"); g.status != http.StatusCreated {
		t.Fatalf("a minter that asks for nobody: %d %s", g.status, g.text)
	}
	bind("user:both", "pep")
	// The refusal of the one is no answer to the other, in whatever order.
	for _, as := range []string{"minter", "both", "minter"} {
		if g := mint(as); g.status != http.StatusForbidden {
			t.Errorf("%s mints, and asks on behalf with another token: %d %s", as, g.status, g.text)
		}
	}
	if g := r.do(ask{as: "minter", path: "/api/v1/decide", body: `{"subject":{"type":"user","id":"li.wei"},"action":"acme.do","resource":{"type":"thing","id":"t"}}`}); g.status != http.StatusForbidden {
		t.Errorf("what the owner could do opens the narrow token: %d %s", g.status, g.text)
	}
}
