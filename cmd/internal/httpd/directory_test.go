package httpd

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestTheDirectoryIsBuiltOverTheWire(t *testing.T) {
	r := newRig(t, testPolicies())
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, step := range []struct {
		as, method, path, body string
		status                 int
	}{
		{"admin", "POST", "/api/v1/tenants", `{"id":"north-sea","name":"North Sea"}`, 201},
		{"admin", "POST", "/api/v1/tenants", `{"id":"north-sea","name":"again"}`, 409},
		{"admin", "POST", "/api/v1/tenants", `{"id":"North Sea"}`, 400},
		{"admin", "POST", "/api/v1/tenants", `{"id":"platform"}`, 400},
		{"tenantadmin", "POST", "/api/v1/tenants", `{"id":"mine"}`, 403},
		{"admin", "POST", "/api/v1/subjects", `{"tenant":"north-sea","type":"user","id":"li.wei","name":"李伟"}`, 201},
		{"admin", "POST", "/api/v1/subjects", `{"tenant":"nowhere","type":"user","id":"x"}`, 400},
		{"tenantadmin", "POST", "/api/v1/subjects", `{"tenant":"north-sea","type":"user","id":"y"}`, 403},
		{"tenantadmin", "POST", "/api/v1/subjects", `{"type":"user","id":"z","created_by":"me"}`, 400},
		{"admin", "POST", "/api/v1/roles", `{"tenant":"north-sea","name":"captain","title":"Captain"}`, 201},
		{"admin", "POST", "/api/v1/bindings", `{"tenant":"north-sea","subject":"user:li.wei","role":"service"}`, 201},
		{"admin", "POST", "/api/v1/bindings", `{"tenant":"north-sea","subject":"user:li.wei","role":"service"}`, 409},
		{"admin", "POST", "/api/v1/bindings", `{"tenant":"north-sea","subject":"user:nobody","role":"service"}`, 400},
		{"admin", "POST", "/api/v1/tokens", `{"tenant":"north-sea","subject":"user:li.wei","rights":["*"],"expires_at":"` + expires + `"}`, 201},
		{"admin", "POST", "/api/v1/tokens", `{"tenant":"north-sea","subject":"user:li.wei","rights":[],"expires_at":"` + expires + `"}`, 400},
		{"admin", "POST", "/api/v1/tokens", `{"tenant":"north-sea","subject":"user:li.wei","rights":["*"]}`, 400},
		{"shop", "POST", "/api/v1/tokens", `{"subject":"service:shop","rights":["*"],"expires_at":"` + expires + `"}`, 403},
	} {
		g := r.do(ask{as: step.as, method: step.method, path: step.path, body: step.body})
		if g.status != step.status {
			t.Errorf("%s %s %s: %d %s", step.as, step.path, step.body, g.status, g.text)
		}
		if step.status < 300 && (g.at("/revision") != r.head().String() || g.header.Get("Xiezhi-Revision") != r.head().String()) {
			t.Errorf("%s answers revision %v, header %q; the store is at %s", step.path, g.at("/revision"), g.header.Get("Xiezhi-Revision"), r.head())
		}
		if token, made := g.at("/token").(string); made {
			r.tokens["li.wei"] = token
		}
	}
	for path, want := range map[string]string{
		"/api/v1/tenants":                   "/items/2/id",
		"/api/v1/subjects?tenant=north-sea": "/items/0/id",
		"/api/v1/roles?tenant=north-sea":    "/items/0/name",
		"/api/v1/bindings?tenant=north-sea": "/items/0/role",
		"/api/v1/tokens?tenant=north-sea":   "/items/0/subject",
	} {
		if g := r.do(ask{as: "admin", path: path}); g.status != 200 || g.at(want) == nil || strings.Contains(g.text, "hash") {
			t.Errorf("%s: %d %s", path, g.status, g.text)
		}
	}
	decide := func() int {
		return r.do(ask{as: "li.wei", path: "/api/v1/decide", body: `{"subject":{"type":"user","id":"li.wei"},"action":"ecs.create","resource":{"type":"t","id":"i","properties":{"cpu":1}}}`}).status
	}
	if status := decide(); status != 200 {
		t.Fatalf("the new subject decides: %d", status)
	}
	binding := r.do(ask{as: "admin", path: "/api/v1/bindings?tenant=north-sea"}).at("/items/0/id")
	if g := r.do(ask{as: "admin", method: "DELETE", path: fmt.Sprintf("/api/v1/bindings/%s", binding)}); g.status != 200 || g.at("/disabled") != true || decide() != 403 {
		t.Errorf("take the role back: %d %s", g.status, g.text)
	}
	for path, after := range map[string]int{
		"/api/v1/subjects/user:li.wei?tenant=north-sea": 401, "/api/v1/tenants/north-sea": 401, "/api/v1/roles/captain?tenant=north-sea": 403,
	} {
		if g := r.do(ask{as: "admin", method: "PATCH", path: path, body: `{"disabled":true}`}); g.status != 200 || g.at("/disabled") != true {
			t.Errorf("disable %s: %d %s", path, g.status, g.text)
		}
		if status := decide(); status != after {
			t.Errorf("after disabling %s: %d", path, status)
		}
		if g := r.do(ask{as: "admin", method: "PATCH", path: path, body: `{"disabled":false}`}); g.status != 200 || g.at("/disabled") != false {
			t.Errorf("enable %s: %d %s", path, g.status, g.text)
		}
	}
	if g := r.do(ask{as: "admin", method: "PATCH", path: "/api/v1/tenants/acme", body: `{}`}); g.status != 400 || g.at("/errors/0/path") != "/disabled" {
		t.Errorf("an empty change: %d %s", g.status, g.text)
	}
}

func TestATokenIsShownOnce(t *testing.T) {
	r := newRig(t, testPolicies())
	body := `{"subject":"service:shop","rights":["decide"],"expires_at":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"}`
	key := map[string]string{"Idempotency-Key": "make-token"}
	first := r.do(ask{as: "tenantadmin", path: "/api/v1/tokens", body: body, header: key})
	secret, _ := first.at("/token").(string)
	if first.status != 201 || !strings.HasPrefix(secret, "xz_pat_") {
		t.Fatalf("%d %s", first.status, first.text)
	}
	again := r.do(ask{as: "tenantadmin", path: "/api/v1/tokens", body: body, header: key})
	if again.status != 201 || again.at("/id") != first.at("/id") || again.at("/token") != nil || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the retry: %d %s", again.status, again.text)
	}
	if strings.Contains(r.log.String(), secret) {
		t.Error("the secret is in the log")
	}
	id := fmt.Sprint(first.at("/id"))
	if g := r.do(ask{as: "globexshop", method: "DELETE", path: "/api/v1/tokens/" + id}); g.status != 404 {
		t.Errorf("another tenant revokes it: %d %s", g.status, g.text)
	}
	r.tokens["made"] = secret
	if g := r.do(ask{as: "tenantadmin", method: "DELETE", path: "/api/v1/tokens/" + id}); g.status != 200 || g.at("/revoked_at") == nil {
		t.Errorf("revoke: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "made", path: "/api/v1/decide", body: machineBody(`{}`, "")}); g.status != 401 {
		t.Errorf("the revoked token: %d", g.status)
	}
}

func TestListsArePagedByCursor(t *testing.T) {
	r := newRig(t, testPolicies())
	for i := range 5 {
		if g := r.do(ask{as: "tenantadmin", path: "/api/v1/subjects", body: fmt.Sprintf(`{"type":"robot","id":"r%d"}`, i)}); g.status != 201 {
			t.Fatalf("%d %s", g.status, g.text)
		}
	}
	seen, cursor := map[any]bool{}, ""
	for range 20 {
		g := r.do(ask{as: "tenantadmin", path: "/api/v1/subjects?limit=2&cursor=" + cursor})
		items := g.at("/items").([]any)
		if g.status != 200 || len(items) > 2 {
			t.Fatalf("%d %s", g.status, g.text)
		}
		for i := range items {
			id := g.at(fmt.Sprintf("/items/%d/id", i))
			if seen[id] {
				t.Errorf("%v twice", id)
			}
			seen[id] = true
		}
		if g.at("/next_cursor") == nil {
			break
		}
		cursor = fmt.Sprint(g.at("/next_cursor"))
	}
	if len(seen) != 9 { // author, boss, gateway, shop and the robots
		t.Errorf("%d subjects: %v", len(seen), seen)
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?cursor=a&cursor=b", "?page=2"} {
		if g := r.do(ask{as: "tenantadmin", path: "/api/v1/subjects" + query}); g.status != 400 {
			t.Errorf("%s: %d", query, g.status)
		}
	}
}

func TestAMutatingCallIsAnsweredOncePerKey(t *testing.T) {
	r := newRig(t, testPolicies())
	create := func(as, key, body string) got {
		return r.do(ask{as: as, path: "/api/v1/policies", body: body, header: map[string]string{"Idempotency-Key": key}})
	}
	body := `{"path":` + quoted(policyPath) + `,"content":"x"}`
	first := create("author", "k", body)
	again := create("author", "k", body)
	if first.status != 201 || again.status != 201 || again.text != first.text || again.header.Get("ETag") != first.header.Get("ETag") ||
		again.header.Get("Location") != first.header.Get("Location") || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %s\n%d %s", first.status, first.text, again.status, again.text)
	}
	if g := create("author", "k", strings.Replace(body, `"x"`, `"y"`, 1)); g.status != 422 || g.code() != "idempotency_mismatch" {
		t.Errorf("another call under the key: %d %s", g.status, g.text)
	}
	if g := create("tenantadmin", "k", body); g.status != 409 {
		t.Errorf("another caller's key: %d %s", g.status, g.text)
	}
	if g := create("author", "k2", body); g.status != 409 {
		t.Errorf("another key: %d %s", g.status, g.text)
	}
	for name, key := range map[string]string{"too long": strings.Repeat("k", 256), "not ASCII": "ключ"} {
		if g := create("author", key, body); g.status != 400 || g.at("/errors/0/parameter") != "Idempotency-Key" {
			t.Errorf("%s: %d %s", name, g.status, g.text)
		}
	}
	// What failed was not done, and may be tried again under its key.
	if g := create("shop", "s", body); g.status != 403 {
		t.Fatalf("%d", g.status)
	}
	if g := create("shop", "s", body); g.status != 403 || g.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestAnswersToRetriesAreForgottenInTheEnd(t *testing.T) {
	r := newRig(t, testPolicies())
	create := func() got {
		return r.do(ask{as: "author", path: "/api/v1/policies", body: `{"path":` + quoted(policyPath) + `,"content":"x"}`, header: map[string]string{"Idempotency-Key": "k"}})
	}
	create()
	for _, row := range []struct {
		before time.Time
		status int
	}{
		{time.Now().Add(-time.Hour), 201}, // the answer is younger, and given again
		{time.Now().Add(time.Hour), 409},  // the call is made anew, and meets its own document
	} {
		if err := r.forgetReplaysBefore(context.Background(), row.before); err != nil {
			t.Fatal(err)
		}
		if g := create(); g.status != row.status {
			t.Errorf("%d %s", g.status, g.text)
		}
	}
}

func TestReportsAreTheCallersWord(t *testing.T) {
	r := newRig(t, testPolicies())
	report := func(as, body string) got { return r.do(ask{as: as, path: "/api/v1/audit", body: body}) }
	g := report("pep", `{"action":"host.plugin.tenant.blocked","subject":"user:x","resource":"plugin:pay","body":{"region":"cn-hangzhou"}}`)
	if g.status != 201 || g.at("/kind") != "reported" || g.at("/actor") != "service:gateway" || g.at("/tenant") != "acme" {
		t.Fatalf("%d %s", g.status, g.text)
	}
	for _, vouched := range []string{`"actor":"user:root"`, `"tenant":"globex"`, `"time":"2020-01-01T00:00:00Z"`, `"kind":"decision"`, `"id":"1"`, `"effect":"ALLOW"`} {
		if g := report("pep", `{"action":"x",`+vouched+`}`); g.status != 400 {
			t.Errorf("%s: %d %s", vouched, g.status, g.text)
		}
	}
	if g := report("shop", `{"action":"x"}`); g.status != 403 {
		t.Errorf("without the right: %d", g.status)
	}
	if g := report("pep", `{"action":"`+strings.Repeat("x", authz.MaxIDLength+1)+`"}`); g.status != 400 {
		t.Errorf("a long name: %d", g.status)
	}
}

func TestAuditIsReadByFilterAndTenant(t *testing.T) {
	r := newRig(t, testPolicies())
	for i := range 3 {
		if g := r.do(ask{as: "pep", path: "/api/v1/audit", body: fmt.Sprintf(`{"action":"seen.%d","subject":"user:x"}`, i)}); g.status != 201 {
			t.Fatalf("%d %s", g.status, g.text)
		}
	}
	read := func(as, query string) got { return r.do(ask{as: as, path: "/api/v1/audit?" + query}) }
	g := read("tenantadmin", "kind=reported&subject=user:x&limit=2")
	if g.status != 200 || g.at("/items/0/action") != "seen.2" || g.at("/items/1/action") != "seen.1" || g.at("/items/2") != nil {
		t.Fatalf("%d %s", g.status, g.text)
	}
	g = read("tenantadmin", "kind=reported&limit=2&cursor="+fmt.Sprint(g.at("/next_cursor")))
	if g.at("/items/0/action") != "seen.0" || g.at("/next_cursor") != nil {
		t.Errorf("next page: %s", g.text)
	}
	all := read("tenantadmin", "limit=1000")
	for i := range all.at("/items").([]any) {
		if tenant := all.at(fmt.Sprintf("/items/%d/tenant", i)); tenant != "acme" {
			t.Errorf("a tenant reads a record of %v", tenant)
		}
	}
	for _, row := range []struct {
		as, query string
		status    int
		first     any
	}{
		{"auditor", "action=seen.1", 200, "seen.1"},
		{"auditor", "tenant=acme&kind=reported", 200, "seen.2"},
		{"auditor", "tenant=globex&kind=reported", 200, nil},
		{"auditor", "tenant=platform&action=role.create&limit=1", 200, "role.create"},
		{"auditor", "from=2999-01-01T00:00:00Z", 200, nil},
		{"auditor", "to=2001-01-01T00:00:00Z", 200, nil},
		{"auditor", "actor=service:gateway&kind=reported&limit=1", 200, "seen.2"},
		{"tenantadmin", "tenant=globex", 403, nil},
		{"tenantadmin", "tenant=platform", 403, nil},
		{"shop", "", 403, nil},
		{"auditor", "effect=MAYBE", 400, nil},
		{"auditor", "kind=gossip", 400, nil},
		{"auditor", "from=yesterday", 400, nil},
	} {
		if g := read(row.as, row.query); g.status != row.status || g.at("/items/0/action") != row.first {
			t.Errorf("%s %s: %d %s", row.as, row.query, g.status, g.text)
		}
	}
}

func TestStrictDoorsRefuseWhatTheyDoNotKnow(t *testing.T) {
	r := newRig(t, testPolicies())
	for body, path := range map[string]string{
		`{"id":"x","nmae":"y"}`: "/nmae", `{"ID":"x"}`: "/ID", `{"id":null}`: "/id", `{"id":7}`: "/id", `{"id":["x"]}`: "/id",
		`{"id":"x","id":"y"}`: "/id", `[]`: "", `{"id":"x"} {}`: "", `null`: "",
	} {
		g := r.do(ask{as: "admin", path: "/api/v1/tenants", body: body})
		if g.status != http.StatusBadRequest || g.at("/errors/0/path") != path {
			t.Errorf("%s: %d %s", body, g.status, g.text)
		}
	}
}
