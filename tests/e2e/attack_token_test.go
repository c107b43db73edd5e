//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestACredentialThatIsNotGoodIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	ask := call{path: "/api/v1/decide", body: encode(instance(shop()))}
	good := s.tokens["service"]
	id, secret, _ := strings.Cut(strings.TrimPrefix(good, "xz_pat_"), "_")
	other := s.tokens["pep"]
	_, othersSecret, _ := strings.Cut(strings.TrimPrefix(other, "xz_pat_"), "_")

	for name, authorization := range map[string]string{
		"none":                    "",
		"no token":                "Bearer",
		"an empty token":          "Bearer ",
		"without its scheme":      good,
		"another scheme":          "Basic " + good,
		"another scheme's form":   "Basic c2VydmljZTpzaG9w",
		"a scheme twice":          "Bearer Bearer " + good,
		"without the prefix":      "Bearer " + id + "_" + secret,
		"without the secret":      "Bearer xz_pat_" + id,
		"an empty secret":         "Bearer xz_pat_" + id + "_",
		"another token's secret":  "Bearer xz_pat_" + id + "_" + othersSecret,
		"a secret too short":      "Bearer " + good[:len(good)-1],
		"a secret too long":       "Bearer " + good + "A",
		"a secret that differs":   "Bearer " + flipped(good),
		"an id that differs":      "Bearer xz_pat_x" + id[1:] + "_" + secret,
		"in capitals":             "Bearer " + strings.ToUpper(good),
		"two tokens":              "Bearer " + good + ", Bearer " + other,
		"two tokens in one":       "Bearer " + good + " " + other,
		"a token that nobody has": "Bearer xz_pat_nobody_" + strings.Repeat("A", 43),
		"a signed token":          "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
		"very long":               "Bearer xz_pat_" + id + "_" + strings.Repeat("A", 8000),
		"a path":                  "Bearer ../../admin",
		"SQL":                     "Bearer xz_pat_' OR '1'='1_" + secret,
	} {
		t.Run(name, func(t *testing.T) {
			c := ask
			if authorization != "" {
				c.header = map[string]string{"Authorization": authorization}
			}
			a := s.in(t).refused(c, http.StatusUnauthorized)
			if a.header.Get("WWW-Authenticate") == "" || len(authorization) > 30 && strings.Contains(a.text, secret) {
				t.Errorf("it says %s %v", a.text, a.header)
			}
		})
	}
	for name, c := range map[string]call{
		"in the query":          {path: "/api/v1/policies?access_token=" + good},
		"in a cookie":           {path: "/api/v1/policies", header: map[string]string{"Cookie": "access_token=" + good}},
		"in another header":     {path: "/api/v1/policies", header: map[string]string{"X-Api-Key": good}},
		"of the proxy":          {path: "/api/v1/policies", header: map[string]string{"Proxy-Authorization": "Bearer " + good}},
		"a method laid over it": {path: "/api/v1/policies", header: map[string]string{"X-HTTP-Method-Override": "GET"}},
	} {
		if a := s.do(c); a.status != http.StatusUnauthorized && a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	ask.as = "service"
	s.must(http.StatusOK, ask)
}

func flipped(token string) string {
	last := byte('A')
	if token[len(token)-2] == last {
		last = 'B'
	}
	return token[:len(token)-2] + string(last) + token[len(token)-1:]
}

func TestACredentialThatIsOverIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	ask := func(as string, status int) {
		t.Helper()
		s.must(status, call{as: as, path: "/api/v1/decide", body: encode(instance(object{"type": "service", "id": "till"}))})
	}
	patch := func(path string, disabled bool) {
		t.Helper()
		s.must(http.StatusOK, call{as: "admin", method: http.MethodPatch, path: path, body: encode(object{"disabled": disabled})})
	}
	till := s.member("acme", "service:till", "service")
	ask(till, http.StatusOK)
	for _, row := range []struct {
		name, path string
		status     int
	}{
		{"a disabled subject", "/api/v1/subjects/service:till?tenant=acme", http.StatusUnauthorized},
		{"a disabled tenant", "/api/v1/tenants/acme", http.StatusUnauthorized},
		{"a disabled role", "/api/v1/roles/service", http.StatusForbidden},
	} {
		patch(row.path, true)
		ask(till, row.status)
		patch(row.path, false)
		ask(till, http.StatusOK)
	}

	// An engineer that is off is no engineer, whoever asks.
	if d := s.decide("pep", instance(engineer())); d.Effect != "ALLOW" {
		t.Fatalf("%+v", d)
	}
	patch("/api/v1/subjects/user:li.wei?tenant=acme", true)
	if d := s.decide("pep", instance(engineer())); d.Effect != "DENY" || !d.has("no_allow") {
		t.Errorf("a disabled engineer: %+v", d)
	}
	patch("/api/v1/subjects/user:li.wei?tenant=acme", false)
	bindings := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/bindings?tenant=acme&limit=100"})
	for i := range bindings.at("/items").([]any) {
		at := "/items/" + encode(i)
		if bindings.at(at+"/subject") == "user:li.wei" {
			s.must(http.StatusOK, call{as: "admin", method: http.MethodDelete, path: "/api/v1/bindings/" + bindings.textAt(at+"/id")})
		}
	}
	if d := s.decide("pep", instance(engineer())); d.Effect != "DENY" {
		t.Errorf("an engineer without the role: %+v", d)
	}

	// Revoked.
	second := s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/tokens", body: encode(object{
		"tenant": "acme", "subject": "service:till", "rights": []string{"*"}, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339),
	})})
	s.tokens["second"] = second.textAt("/token")
	ask("second", http.StatusOK)
	s.must(http.StatusOK, call{as: "admin", method: http.MethodDelete, path: "/api/v1/tokens/" + second.textAt("/id")})
	ask("second", http.StatusUnauthorized)
	ask(till, http.StatusOK)

	// Expired.
	end := time.Now().Add(1200 * time.Millisecond)
	s.tokens["short"] = s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/tokens", body: encode(object{
		"tenant": "acme", "subject": "service:till", "rights": []string{"*"}, "expires_at": end.Format(time.RFC3339Nano),
	})}).textAt("/token")
	await(t, patience, "the token's end", func() bool {
		asked := time.Now()
		a := s.do(call{as: "short", path: "/api/v1/decide", body: encode(instance(object{"type": "service", "id": "till"}))})
		switch {
		case a.status == http.StatusOK && asked.After(end):
			t.Fatalf("good %s after its end", asked.Sub(end))
		case a.status != http.StatusOK && time.Now().Before(end):
			t.Fatalf("refused %s before its end: %s", time.Until(end), a.text)
		}
		return a.status == http.StatusUnauthorized
	})
}

func TestATokenGivesNoMoreThanItNames(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.subject("acme", "user:boss", "")
	s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/bindings", body: `{"tenant":"acme","subject":"user:boss","role":"admin"}`})
	boss := object{"type": "user", "id": "boss"}
	calls := map[string]call{
		"decide":             {path: "/api/v1/decide", body: encode(instance(boss))},
		"evaluate":           {path: "/api/v1/evaluate", body: encode(instance(boss))},
		"policy.read":        {path: "/api/v1/policies"},
		"directory.read":     {path: "/api/v1/subjects"},
		"directory.write":    {path: "/api/v1/roles", body: `{"name":"a-role"}`},
		"audit.read":         {path: "/api/v1/audit"},
		"token.read":         {path: "/api/v1/tokens"},
		"release.read":       {path: "/api/v1/releases"},
		"dynamic.read":       {path: dynamic},
		"tenant.read":        {path: "/api/v1/tenants"},
		"audit.report":       {path: "/api/v1/audit", body: `{"action":"done"}`},
		"restriction.create": {path: dynamic, body: `{"type":"DYNAMIC","kind":"restriction","rules":[{"condition":"action == 'x'","effect":"DENY"}],"validity":{"end":"` + time.Now().Add(time.Hour).Format(time.RFC3339) + `"},"reason":"a test"}`},
	}
	for right := range calls {
		t.Run(right, func(t *testing.T) {
			s := s.in(t)
			narrow := s.token("acme", "user:boss", right)
			for other, c := range calls {
				c.as = narrow
				a := s.do(c)
				if good := a.status < 300; good != (other == right) && !(right == "directory.write" && a.status == http.StatusConflict) {
					t.Errorf("%s with a token for %s: %d %s", other, right, a.status, a.text)
				}
			}
		})
	}

	// A token that may only make tokens makes none that may more.
	maker := s.token("acme", "user:boss", "token.create")
	end := time.Now().Add(time.Hour).Format(time.RFC3339)
	for _, rights := range [][]string{{"*"}, {"policy.write"}, {"token.create", "grant.mint"}} {
		s.refused(call{as: maker, path: "/api/v1/tokens", body: encode(object{"subject": "user:boss", "rights": rights, "expires_at": end})}, http.StatusForbidden)
	}
	s.must(http.StatusCreated, call{as: maker, path: "/api/v1/tokens", body: encode(object{"subject": "user:boss", "rights": []string{"token.create"}, "expires_at": end})})

	// A right that the owner's roles do not give is not in a token either, and
	// nor is one that is nearly named.
	for _, rights := range [][]string{{"release.publish.platform"}, {"platform.grant.mint"}, {"tenant.write"}, {"decide.on_behalf"}, {"*", "tenant.write"}, {"**"}, {"policy.*"}, {"Decide"}, {"decide "}} {
		narrow := s.token("acme", "user:boss", rights...)
		s.refused(call{as: narrow, path: "/api/v1/tenants", body: `{"id":"mine","name":"Mine"}`}, http.StatusForbidden)
		s.refused(call{as: narrow, path: "/api/v1/decide", body: encode(instance(engineer()))}, http.StatusForbidden)
	}
}

func TestATenantsAdministratorMakesNoPlatformsCredential(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	boss := s.member("acme", "user:boss", "admin")
	end := time.Now().Add(time.Hour).Format(time.RFC3339)
	for _, row := range []struct {
		name, path string
		body       object
		statuses   []int
	}{
		{"a token for the platform's administrator", "/api/v1/tokens", object{"tenant": "", "subject": "user:root", "rights": []string{"*"}, "expires_at": end}, []int{400}},
		{"the same by the platform's name", "/api/v1/tokens", object{"tenant": "platform", "subject": "user:root", "rights": []string{"*"}, "expires_at": end}, []int{403}},
		{"a token for another tenant's user", "/api/v1/tokens", object{"tenant": "globex", "subject": "user:zhang.min", "rights": []string{"*"}, "expires_at": end}, []int{403}},
		{"a token without rights", "/api/v1/tokens", object{"subject": "user:boss", "rights": []string{}, "expires_at": end}, []int{400}},
		{"a token for ten years", "/api/v1/tokens", object{"subject": "user:boss", "rights": []string{"*"}, "expires_at": "2036-01-01T00:00:00Z"}, []int{400}},
		{"a token that is over", "/api/v1/tokens", object{"subject": "user:boss", "rights": []string{"*"}, "expires_at": "2020-01-01T00:00:00Z"}, []int{400}},
		{"a subject of the platform", "/api/v1/subjects", object{"tenant": "platform", "type": "user", "id": "boss"}, []int{403}},
		{"a subject of another tenant", "/api/v1/subjects", object{"tenant": "globex", "type": "user", "id": "boss"}, []int{403}},
		{"a subject that looks like two", "/api/v1/subjects", object{"type": "user:x", "id": "boss"}, []int{400}},
		{"a role with a platform's name", "/api/v1/roles", object{"name": "platform:admin"}, []int{400}},
		{"a role with a shared one's name", "/api/v1/roles", object{"name": "admin"}, []int{409}},
		{"a role in capitals", "/api/v1/roles", object{"name": "Admin"}, []int{400}},
		{"a role of the platform", "/api/v1/roles", object{"tenant": "platform", "name": "mine"}, []int{403}},
		{"a binding to a platform's role", "/api/v1/bindings", object{"subject": "user:boss", "role": "platform:admin"}, []int{400}},
		{"a binding on the platform", "/api/v1/bindings", object{"tenant": "platform", "subject": "user:boss", "role": "admin"}, []int{403}},
		{"a binding in another tenant", "/api/v1/bindings", object{"tenant": "globex", "subject": "user:boss", "role": "admin"}, []int{403}},
		{"a binding for somebody who is not there", "/api/v1/bindings", object{"subject": "user:root", "role": "admin"}, []int{400}},
		{"a tenant", "/api/v1/tenants", object{"id": "mine", "name": "Mine"}, []int{403}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.in(t).refused(call{as: boss, path: row.path, body: encode(row.body)}, row.statuses...)
		})
	}
	for _, path := range []string{"/api/v1/tenants/acme", "/api/v1/roles/admin?tenant=platform", "/api/v1/subjects/user:root?tenant=platform", "/api/v1/subjects/user:zhang.min?tenant=globex"} {
		s.refused(call{as: boss, method: http.MethodPatch, path: path, body: `{"disabled":true}`}, http.StatusForbidden)
	}
	s.refused(call{as: boss, method: http.MethodPatch, path: "/api/v1/roles/admin", body: `{"disabled":true}`}, http.StatusNotFound) // a shared role is not acme's

	// A namesake of the administrator's is somebody else.
	root := s.member("acme", "user:root", "admin")
	s.ownsNoPlatform(root)
	s.ownsNoPlatform(boss)
}

// ownsNoPlatform is what a tenant's administrator may not do either.
func (s *server) ownsNoPlatform(as string) {
	s.t.Helper()
	s.refused(call{as: as, path: "/api/v1/tenants", body: `{"id":"mine","name":"Mine"}`}, http.StatusForbidden)
	s.refused(call{as: as, path: "/metrics"}, http.StatusForbidden)
	s.refused(call{as: as, path: "/api/v1/policies/" + rights}, http.StatusForbidden, http.StatusNotFound)
	s.refused(call{as: as, path: "/api/v1/decide", body: encode(changed(instance(engineer()), "tenant", "globex"))}, http.StatusForbidden)
}
