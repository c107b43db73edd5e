package httpd

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
)

func TestAnAccountIsBoundToOneSubjectAtATime(t *testing.T) {
	r := newRig(t, testPolicies())
	const bound = "/api/v1/identities"
	boss, author := `{"subject":"user:boss","channel":"feishu","platform":"ou_1"}`, `{"subject":"user:author","channel":"feishu","platform":"ou_1"}`
	id := bound + "/" + url.PathEscape("feishu:ou_1")
	for _, step := range []struct {
		as, method, path, body string
		status                 int
	}{
		{"shop", "POST", bound, boss, 403},
		{"author", "POST", bound, author, 403},
		{"tenantadmin", "POST", bound, `{"subject":"user:nobody","channel":"feishu","platform":"ou_1"}`, 400},
		{"tenantadmin", "POST", bound, `{"subject":"user:boss","channel":"fei:shu","platform":"ou_1"}`, 400},
		{"tenantadmin", "POST", bound, `{"subject":"user:boss","channel":"feishu","platform":""}`, 400},
		{"tenantadmin", "POST", bound, `{"subject":"user:boss","channel":"feishu","platform":"` + strings.Repeat("x", 513) + `"}`, 400},
		{"tenantadmin", "POST", bound, `{"tenant":"globex","subject":"service:shop","channel":"feishu","platform":"ou_1"}`, 403},
		{"tenantadmin", "POST", bound, boss, 201},
		{"tenantadmin", "POST", bound, boss, 409},
		{"tenantadmin", "POST", bound, author, 409},
		{"author", "DELETE", id, "", 403},
		{"globexshop", "DELETE", id, "", 403},
		{"tenantadmin", "DELETE", bound + "/feishu:ou_2", "", 404},
		{"tenantadmin", "DELETE", id, "", 200},
		{"tenantadmin", "DELETE", id, "", 404},
		{"tenantadmin", "POST", bound, author, 201},
		{"admin", "POST", bound, `{"tenant":"globex","subject":"service:shop","channel":"matrix","platform":"@shop:x"}`, 201},
		{"tenantadmin", "DELETE", bound + "/" + url.PathEscape("matrix:@shop:x"), "", 404}, // another tenant's business
	} {
		if g := r.do(ask{as: step.as, method: step.method, path: step.path, body: step.body}); g.status != step.status {
			t.Errorf("%s %s %s %s: %d %s", step.as, step.method, step.path, step.body, g.status, g.text)
		}
	}
	g := r.do(ask{as: "tenantadmin", path: bound})
	if g.status != 200 || g.at("/items/0/subject") != "user:author" || g.at("/items/0/active") != true || g.at("/items/0/bound_by") != "user:boss" || g.at("/items/1") != nil {
		t.Errorf("the tenant's: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "author", path: bound}); g.status != 403 {
		t.Errorf("an author lists them: %d", g.status)
	}
	records, err := r.node.store.QueryAudit(t.Context(), pap.AuditFilter{Tenant: "acme"}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	actions := map[string]int{}
	for _, record := range records {
		actions[record.Actor+" "+record.Action]++
	}
	if actions["user:boss identity.bind"] != 2 || actions["user:boss identity.unbind"] != 1 {
		t.Errorf("audited %v", actions)
	}
}

func TestACodeBindsTheAccountThatSendsItOnce(t *testing.T) {
	r := newRig(t, testPolicies())
	code := func(want int) string {
		t.Helper()
		g := r.do(ask{as: "author", method: "POST", path: "/api/v1/identities/code"})
		if g.status != want {
			t.Fatalf("%d %s", g.status, g.text)
		}
		return fmt.Sprint(g.at("/code"))
	}
	ctx, bind := context.Background(), r.node.pap.BindByCode
	first := code(201)
	if len(first) != 8 || strings.Contains(r.log.String(), first) {
		t.Errorf("the code is %q", first)
	}
	if _, err := bind(ctx, "feishu", "ou_1", "AAAAAAAA"); err == nil {
		t.Error("a wrong code binds")
	}
	i, err := bind(ctx, "feishu", "ou_1", " "+strings.ToLower(first)+"\n")
	if err != nil || i.Subject != "user:author" || i.Tenant != "acme" || i.BoundBy != "user:author" {
		t.Errorf("bound %+v, %v", i, err)
	}
	if _, err := bind(ctx, "feishu", "ou_2", first); err == nil {
		t.Error("a code binds twice")
	}
	for range 3 {
		code(201)
	}
	code(429)
	records, err := r.node.store.QueryAudit(ctx, pap.AuditFilter{Action: "identity.bind"}, 10)
	if err != nil || len(records) != 1 || records[0].Actor != "user:author" || records[0].Tenant != "acme" {
		t.Errorf("audited %v, %v", records, err)
	}
}
