//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// mark is in the name of everything of globex that nobody of acme may see.
const mark = "globex-only"

func TestAnotherTenantsThingsAreInvisible(t *testing.T) {
	t.Parallel()
	s := start(t, withSecret())
	boss, chief := s.member("acme", "user:boss", "admin"), s.member("globex", "user:chief", "admin")
	reader := s.member("acme", "user:reader", "auditor")
	gate := s.member("globex", "service:gate", "pep")
	s.must(http.StatusCreated, call{as: chief, path: "/api/v1/subjects", body: encode(object{"type": "user", "id": mark})})
	s.must(http.StatusCreated, call{as: chief, path: "/api/v1/roles", body: encode(object{"name": mark})})
	binding := s.must(http.StatusCreated, call{as: chief, path: "/api/v1/bindings", body: encode(object{"subject": "user:" + mark, "role": mark})}).textAt("/id")
	token := s.must(http.StatusCreated, call{as: chief, path: "/api/v1/tokens", body: encode(object{
		"subject": "user:" + mark, "name": mark, "rights": []string{"decide"}, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339),
	})}).textAt("/id")
	restriction := s.must(http.StatusCreated, call{as: chief, path: dynamic, body: encode(object{
		"type": "DYNAMIC", "kind": "restriction", "reason": mark, "rules": []object{{"condition": "resource.id == '" + mark + "'", "effect": "DENY"}},
		"validity": object{"end": time.Now().Add(time.Hour).Format(time.RFC3339)},
	})}).textAt("/id")
	s.must(http.StatusOK, s.draft(chief, "tenants/globex/"+mark+".policy.yaml", "id: "+mark+"\nname: Draft\nrules: []\n"))
	s.must(http.StatusOK, s.draft(chief, "tenants/globex/"+mark+"_ok.policy.yaml", "id: "+mark+"\nname: Published\nrules: [{condition: 'false', effect: DENY}]\n"))
	s.must(http.StatusCreated, call{as: chief, path: "/api/v1/releases", body: encode(object{"drafts": []string{"tenants/globex/" + mark + "_ok.policy.yaml"}, "note": mark})})
	s.must(http.StatusCreated, call{as: chief, path: "/api/v1/audit", body: encode(object{"action": "done", "subject": "user:" + mark})})
	if d := s.decide(gate, object{"subject": object{"type": "user", "id": mark}, "action": "x", "resource": object{"type": "t", "id": mark}}); d.Effect != "DENY" {
		t.Fatalf("%+v", d)
	}
	await(t, patience, "the decision in globex's audit", func() bool {
		return strings.Contains(s.must(http.StatusOK, call{as: chief, path: "/api/v1/audit?kind=decision"}).text, mark)
	})

	// Lists hold nothing of globex, whatever is asked for.
	for _, as := range []string{boss, "author", reader} {
		for _, path := range []string{
			"/api/v1/audit?limit=1000", "/api/v1/audit?subject=user:" + mark, "/api/v1/audit?actor=user:chief", "/api/v1/audit?kind=change&limit=1000",
			"/api/v1/policies?limit=1000", "/api/v1/policies?prefix=tenants/globex", "/api/v1/policies?drafts=true&deleted=true", "/api/v1/policies?layer=tenant",
			"/api/v1/subjects?limit=1000", "/api/v1/roles?limit=1000", "/api/v1/bindings?limit=1000", "/api/v1/tokens?limit=1000",
			dynamic + "?kind=restriction", dynamic + "?kind=grant", "/api/v1/tenants", "/api/v1/releases", "/api/v1/releases/1", "/api/v1/releases/2",
			"/api/v1/subjects?cursor=globex/", "/api/v1/tokens?cursor=0", dynamic + "?kind=restriction&cursor=" + restriction[:8],
		} {
			a := s.do(call{as: as, path: path})
			if a.status != http.StatusOK && a.status != http.StatusForbidden && a.status != http.StatusBadRequest {
				t.Errorf("%s as %s: %d %s", path, as, a.status, a.text)
			}
			for _, theirs := range []string{mark, "globex", "zhang.min", "chief"} {
				if strings.Contains(strings.ReplaceAll(a.text, path, ""), theirs) {
					t.Errorf("%s as %s shows %q: %s", path, as, theirs, shortened(a.text))
				}
			}
		}
		for _, path := range []string{"/api/v1/audit", "/api/v1/policies", "/api/v1/subjects", "/api/v1/roles", "/api/v1/bindings", "/api/v1/tokens", dynamic} {
			for _, tenant := range []string{"globex", "platform"} {
				s.refused(call{as: as, path: path + "?tenant=" + tenant}, http.StatusForbidden)
			}
		}
	}

	// What is asked for by name is not there, or not theirs to know.
	for _, as := range []string{boss, "author", reader, "service", "pep"} {
		for _, c := range []call{
			{path: "/api/v1/policies/tenants/globex/word.rego"},
			{path: "/api/v1/policies/tenants/globex/" + mark + ".policy.yaml"},
			{path: "/api/v1/policies/tenants/globex/nowhere.rego"},
			{path: dynamic + "/" + restriction},
			{method: http.MethodDelete, path: dynamic + "/" + restriction},
			{method: http.MethodDelete, path: "/api/v1/tokens/" + token},
			{method: http.MethodDelete, path: "/api/v1/bindings/" + binding},
			{method: http.MethodPatch, path: "/api/v1/subjects/user:" + mark, body: `{"disabled":true}`},
			{method: http.MethodPatch, path: "/api/v1/roles/" + mark, body: `{"disabled":true}`},
			{method: http.MethodPatch, path: "/api/v1/tenants/globex", body: `{"disabled":true}`},
			{method: http.MethodDelete, path: "/api/v1/policies/tenants/globex/word.rego", header: map[string]string{"If-Match": `"1"`}},
			{path: "/api/v1/policies/self/rights.cedar"},
			{path: "/api/v1/policies/tables/words.yaml"},
		} {
			c.as = as
			if a := s.refused(c, http.StatusNotFound, http.StatusForbidden); strings.Contains(a.text, secret) {
				t.Errorf("%s shows it: %s", c.path, a.text)
			}
		}
	}

	// Releases are everybody's sequence; of their files each sees its own and
	// the platform's, without tables.
	s.saved("tables/words.yaml", "tenants:\n  acme: {word: b}\n  globex: {word: "+secret+"-b}\n")
	s.saved("tenants/globex/word.rego", strings.Replace(withSecret()["tenants/globex/word.rego"], "It speaks", "It whispers", 2))
	for _, as := range []string{boss, "author", reader} {
		for _, path := range []string{"/api/v1/releases/1", "/api/v1/releases/3", "/api/v1/releases/1/diff/3", "/api/v1/releases/3/diff/1"} {
			a := s.must(http.StatusOK, call{as: as, path: path})
			for _, theirs := range []string{secret, "tenants/globex", "tables/", "self/"} {
				if strings.Contains(a.text, theirs) {
					t.Errorf("%s as %s shows %q: %s", path, as, theirs, shortened(a.text))
				}
			}
		}
	}
	if a := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/releases/1/diff/3"}); !strings.Contains(a.text, secret) {
		t.Errorf("the platform's administrator sees it: %s", a.text)
	}
	// And all of it is still there.
	s.must(http.StatusOK, call{as: chief, path: dynamic + "/" + restriction})
}

// The test cases and unit tests of a candidate run on the server: what they
// tell must not be another tenant's either.
func TestATenantsTestsReadNoOtherTenantsTable(t *testing.T) {
	t.Parallel()
	s := start(t, withSecret())
	unit := func(body string) string {
		return "package xiezhi.tenants.acme.spy_test\n\ntest_spy if {\n\t" + body + "\n}\n"
	}
	mine := strings.Replace(spy("", `it := data.xiezhi.tenants.acme.tables.words.word`), "deny contains", "allow contains", 1)
	a := s.publish("author", files{"tenants/acme/spy.rego": mine, "tenants/acme/spy_test.rego": unit(`count({w | w := data.xiezhi.tenants[t].tables.words.word}) == 1`)})
	if a.status != http.StatusCreated {
		t.Errorf("that there is one word, its own: %d %s", a.status, a.text)
	}
	for name, body := range map[string]string{
		"another's table is there":          `some t; data.xiezhi.tenants[t].tables.words; t != "acme"`,
		"another's word begins so":          `some t; startswith(data.xiezhi.tenants[t].tables.words.word, "the-word-of-globex")`,
		"another's rule":                    `some t; data.xiezhi.tenants[t].word.own == "` + secret + `"`,
		"a library, asked for globex":       `data.xiezhi.platform.lib.words.word == "` + secret + `" with input as {"tenant": "globex"}`,
		"a library's function, for globex":  `data.xiezhi.platform.lib.words.of("globex") == "` + secret + `"`,
		"by name":                           `data.xiezhi.tenants.globex.tables.words.word == "` + secret + `"`,
		"data laid over, then read by name": `data.xiezhi.tenants.acme.tables.words.word == "` + secret + `" with data.xiezhi.tenants.acme.tables.words as data.xiezhi.tenants.globex.tables.words`,
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			a := s.publish("author", files{"tenants/acme/spy_test.rego": unit(body)})
			if a.status != http.StatusUnprocessableEntity {
				t.Errorf("it holds: %d %s", a.status, a.text)
			}
			checkNoSecret(t, a)
		})
	}
	for name, text := range map[string]string{
		"cases that ask for globex":  "request: {tenant: globex, subject: {type: user, id: nobody}, action: spy, resource: {type: t, id: r}}\ncases: [{name: a, expect: {reasons: []}}]\n",
		"cases about globex":         "policy: tenants/globex/word\nrequest: {tenant: acme, subject: {type: user, id: nobody}, action: spy, resource: {type: t, id: r}}\ncases: [{name: a, expect: {reasons: [speaks]}}]\n",
		"cases that are the self's":  "policy: self/rights\nrequest: {tenant: acme, subject: {type: xiezhi.caller, id: a}, action: policy.read, resource: {type: xiezhi.tenant, id: acme}}\ncases: [{name: a, expect: {effect: ALLOW}}]\n",
		"cases merged to globex":     "request: {tenant: acme, subject: {type: user, id: nobody}, action: spy, resource: {type: t, id: r}}\ncases: [{name: a, merge: {tenant: globex}, expect: {reasons: []}}]\n",
		"cases set to globex":        "request: {tenant: acme, subject: {type: user, id: nobody}, action: spy, resource: {type: t, id: r}}\ncases: [{name: a, set: {/tenant: globex}, expect: {reasons: []}}]\n",
		"cases that include a file":  "request: !include ../globex/word.rego\ncases: []\n",
		"cases with a billion words": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nrequest: *c\ncases: []\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			a := s.publish("author", files{"tenants/acme/spy_cases.yaml": text, "tenants/acme/spy_test.rego": unit("true")})
			if a.status != http.StatusUnprocessableEntity || !strings.HasPrefix(a.textAt("/faults/0/file"), "tenants/acme/spy_cases.yaml") {
				t.Errorf("%d %s", a.status, a.text)
			}
			checkNoSecret(t, a)
		})
	}
}
