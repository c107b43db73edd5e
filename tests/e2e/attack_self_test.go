//go:build unix

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const rights = "self/rights.cedar"

// everythingFor is a self policy that gives a role all rights.
func everythingFor(role string) string {
	return "// @policy({\"title\":{\"en\":\"Mine\",\"zh\":\"自有\"},\"reads\":[\"subject.roles\"]})\n\n" +
		"@id(\"mine\")\n@title(\"Mine\")\n@title_zh(\"自有\")\n@message(\"Mine.\")\n@message_zh(\"自有。\")\n@severity(\"low\")\n" +
		"permit (principal in role::\"" + role + "\", action, resource);\n"
}

// isNoAdministrator tries what only an administrator may.
func (s *server) isNoAdministrator(as string) {
	s.t.Helper()
	s.refused(call{as: as, path: "/api/v1/tenants", body: `{"id":"mine","name":"Mine"}`}, http.StatusForbidden)
	s.refused(call{as: as, path: "/api/v1/subjects", body: `{"tenant":"globex","type":"user","id":"mine"}`}, http.StatusForbidden)
	s.refused(call{as: as, path: "/api/v1/tokens", body: `{"tenant":"acme","subject":"user:li.wei","rights":["*"],"expires_at":"2026-12-31T00:00:00Z"}`}, http.StatusForbidden)
	s.refused(call{as: as, path: "/metrics"}, http.StatusForbidden)
}

func TestAnAuthorMakesItselfNoAdministrator(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.isNoAdministrator("author")
	paths := []string{
		"self/mine.cedar", rights, "self/schema.cedarschema", "self/rights_cases.yaml", "self/a/b.cedar", "self/mine.policy.json", "self/mine.rego",
		"self/../self/mine.cedar", "self/./mine.cedar", "self//mine.cedar", "./self/mine.cedar", "/self/mine.cedar", "self/", "self",
		"Self/mine.cedar", "SELF/rights.cedar", "self /mine.cedar", "ｓelf/mine.cedar", `self\mine.cedar`, "self/mine.cedar\u0000.md",
		"tenants/acme/../../self/mine.cedar", "tenants/acme/../self/mine.cedar", "tenants/acme/../globex/mine.cedar", "tenants/../self/mine.cedar",
		"tenants/acme/..%2f..%2fself/mine.cedar", "tenants//mine.cedar", "tenants/acme", "tenants/acme/", "tenants/ACME/mine.cedar", "tenants/acme /mine.cedar",
		"tenants/self/mine.cedar", "tenants/platform/mine.cedar", "tenants/globex/mine.cedar", "tenants/globex/exposure.cedar",
		"platform/mine.cedar", "platform/isolation.cedar", "platform/lib/cidr.rego", "platform/iam_cases.yaml",
		"tables/tenant_region_mapping.yaml", "tables/mine.yaml", "approvals/guardrail-waiver.yaml", "examples/allow.json",
		"schema.cedarschema", "attributes.yaml", "obligations.yaml", "README.md", ".git/config", "../self/mine.cedar", "",
	}
	before := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/policies?limit=1000"}).text
	for _, path := range paths {
		t.Run("draft of "+path, func(t *testing.T) {
			s := s.in(t)
			content := everythingFor("author")
			s.refused(call{as: "author", path: "/api/v1/policies", body: encode(object{"path": path, "content": content})}, http.StatusForbidden, http.StatusBadRequest)
			// Escaped, so that it arrives as it is; and as it is, which a server may clean first.
			whole := "/api/v1/policies/" + strings.ReplaceAll(escapePath(path), "/", "%2F")
			for _, at := range []string{whole, "/api/v1/policies/" + escapePath(path)} {
				s.refused(call{as: "author", method: http.MethodPut, path: at, body: encode(object{"content": content}), header: map[string]string{"If-None-Match": "*"}},
					http.StatusForbidden, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed)
				s.refused(call{as: "author", method: http.MethodDelete, path: at, header: map[string]string{"If-Match": `"1"`}},
					http.StatusForbidden, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed)
			}
		})
	}
	if after := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/policies?limit=1000"}).text; after != before {
		t.Errorf("something was stored:\n%s\nbefore:\n%s", after, before)
	}

	// A folder of its own that is called self is a tenant's folder.
	a := s.publish("author", files{"tenants/acme/self/rights.cedar": everythingFor("author")})
	if a.status != http.StatusCreated && a.status != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", a.status, a.text)
	}
	s.isNoAdministrator("author")
	s.discard("author", "tenants/acme/self/rights.cedar")
	if a := s.publish("author", files{"tenants/acme/rights.cedar": strings.Replace(everythingFor("author"), "principal in role::\"author\"", "principal", 1)}); a.status != http.StatusUnprocessableEntity && a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.text)
	}
	s.isNoAdministrator("author")
}

func TestPublishingASelfPolicyIsTheAdministrators(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	boss := s.member("acme", "user:boss", "admin")
	grants := call{as: "author", path: dynamic}
	s.refused(grants, http.StatusForbidden)

	// The administrator's draft waits; nobody else can see, publish, change or
	// remove it, and it is not among what they publish.
	readers := strings.Replace(everythingFor("author"), "action, resource", `action == Action::"dynamic.read", resource`, 1)
	s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/policies", body: encode(object{"path": "self/readers.cedar", "content": readers})})
	s.must(http.StatusOK, s.draft("author", "tenants/acme/mine.rego", strings.Replace(rego("xiezhi.tenants.acme.mine", "", allowAll), "title_zh: 自有\npackage", "title_zh: 自有\n#   scope: {actions: [\"mine\"]}\npackage", 1)))
	for _, as := range []string{"author", boss, "auditor", "service", "pep"} {
		s.refused(call{as: as, path: "/api/v1/releases", body: `{"drafts":["self/readers.cedar"],"note":"mine"}`}, http.StatusForbidden)
		s.refused(call{as: as, path: "/api/v1/releases", body: `{"drafts":["tenants/acme/mine.rego","self/readers.cedar"],"note":"mine"}`}, http.StatusForbidden)
		s.refused(call{as: as, method: http.MethodDelete, path: "/api/v1/policies/self/readers.cedar", header: map[string]string{"If-Match": `"1"`}}, http.StatusForbidden)
	}
	s.must(http.StatusCreated, call{as: "author", path: "/api/v1/releases", body: `{"drafts":[],"note":"all that is mine"}`})
	s.refused(grants, http.StatusForbidden)

	// Published by the administrator it holds, at once.
	s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/releases", body: `{"drafts":["self/readers.cedar"],"note":"authors read grants"}`})
	s.must(http.StatusOK, grants)

	// Nor does an author go back to another self policy, nor forward.
	for _, number := range []string{"1", "2"} {
		for _, as := range []string{"author", boss} {
			s.refused(call{as: as, method: http.MethodPost, path: "/api/v1/releases/" + number + "/restore"}, http.StatusForbidden)
		}
	}
	s.must(http.StatusOK, grants)
	s.must(http.StatusCreated, call{as: "admin", method: http.MethodPost, path: "/api/v1/releases/2/restore"})
	s.refused(grants, http.StatusForbidden)
	s.refused(call{as: "author", method: http.MethodPost, path: "/api/v1/releases/3/restore"}, http.StatusForbidden)
}

func TestASelfPolicyThatLeavesNoAdministratorIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, files{"self/changes_cases.yaml": ""}) // what it expects nobody could publish
	shipped := shipped(t, "self")[rights]
	release := s.release()
	none := `@id("nobody")
@title("Nobody")
@title_zh("无人")
@message("Nobody.")
@message_zh("无人。")
@severity("low")
forbid (principal, action == Action::"directory.write", resource);
`
	for _, row := range []struct{ name, path, text string }{
		{"nobody publishes self policies any more", rights, strings.ReplaceAll(shipped, `platform:admin`, `platform:chief`)},
		{"a forbid for all", "self/nobody.cedar", strings.Replace(none, `action == Action::"directory.write"`, "action", 1)},
		{"a forbid for one right that mends", "self/nobody.cedar", none},
		{"a forbid that fails for all", "self/nobody.cedar", strings.Replace(none, "resource);", "resource)\nwhen { 9223372036854775807 + 1 > 0 };", 1)},
		{"only a role that nobody holds", rights, everythingFor("platform:nobody")},
		{"only a tenant's role", rights, everythingFor("admin")},
		{"no policy at all", rights, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			drafts := []string{row.path, "self/rights_cases.yaml"}
			for _, path := range drafts { // the shipped test cases would stop it first
				text := row.text
				if path != row.path {
					text = ""
				}
				c := s.draft("admin", path, text)
				if text == "" {
					c = call{as: "admin", method: http.MethodDelete, path: c.path, header: c.header}
				}
				s.must(http.StatusOK, c)
			}
			a := s.do(call{as: "admin", path: "/api/v1/releases", body: encode(object{"drafts": drafts, "note": "a test"})})
			if a.status != http.StatusConflict || a.code() != "lockout" {
				t.Errorf("%d %s", a.status, a.text)
			}
			if s.release() != release {
				t.Error("it was published")
			}
			s.must(http.StatusOK, s.draft("admin", rights, shipped))
			s.must(http.StatusOK, s.draft("admin", "self/rights_cases.yaml", "cases: []"))
			if row.path != rights {
				etag := s.must(http.StatusOK, call{as: "admin", path: "/api/v1/policies/" + row.path}).header.Get("ETag")
				s.must(http.StatusOK, call{as: "admin", method: http.MethodDelete, path: "/api/v1/policies/" + row.path, header: map[string]string{"If-Match": etag}})
			}
		})
	}

	// Saved on disk it is refused as well, and said.
	if err := os.Remove(filepath.Join(s.policies, "self", "rights_cases.yaml")); err != nil {
		t.Fatal(err)
	}
	s.save(rights, everythingFor("platform:nobody"))
	await(t, patience, "that nobody would remain", func() bool { return strings.Contains(s.printed(), "no administrator remains") })
	if s.release() != release {
		t.Error("it was published")
	}
}
