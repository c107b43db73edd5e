//go:build unix

package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestNobodyMintsAGrantForItself(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	large := satisfies("tenants/acme/desk/large")
	open := question("desk.open", object{"size": 20})
	asks := func(subject string) object {
		typ, id, _ := strings.Cut(subject, ":")
		return changed(open, "subject", object{"type": typ, "id": id})
	}
	boss := s.member("acme", "user:boss", "admin")
	s.subject("acme", "agent:hers", "user:boss")
	s.subject("acme", "service:theirs", "user:wang.fang")
	s.subject("acme", "agent:of-hers", "agent:hers")
	s.subject("acme", "agent:round", "agent:about")
	s.subject("acme", "agent:about", "agent:round")

	for _, row := range []struct{ name, subject string }{
		{"itself", "user:boss"},
		{"an agent that acts for it", "agent:hers"},
		{"an agent that acts for its agent", "agent:of-hers"},
	} {
		t.Run("a tenant's administrator for "+row.name, func(t *testing.T) {
			s := s.in(t)
			s.refused(call{as: boss, path: dynamic, body: grant(asks(row.subject), large)}, http.StatusForbidden)
			s.effect("REVIEW", asks(row.subject))
		})
	}

	// The other way round: the administrator is an agent, and mints for its
	// owner, or for another agent of its owner.
	s.subject("acme", "agent:hand", "user:wang.fang")
	s.must(http.StatusCreated, call{as: "admin", path: "/api/v1/bindings", body: encode(object{"tenant": "acme", "subject": "agent:hand", "role": "admin"})})
	hand := s.token("acme", "agent:hand", "*")
	for _, subject := range []string{"agent:hand", "user:wang.fang", "service:theirs"} {
		s.refused(call{as: hand, path: dynamic, body: grant(asks(subject), large)}, http.StatusForbidden)
	}

	// Who may ask in anybody's name mints for nobody.
	both := s.member("acme", "user:both", "admin", "pep")
	s.refused(call{as: both, path: dynamic, body: grant(asks("user:li.wei"), large)}, http.StatusForbidden)
	narrow := s.token("acme", "user:both", "grant.mint") // by whatever token
	s.refused(call{as: narrow, path: dynamic, body: grant(asks("user:li.wei"), large)}, http.StatusForbidden)

	// Nor do those without the right, and a platform's administrator is held
	// to the same rules.
	for _, as := range []string{"author", "service", "pep", "auditor"} {
		s.refused(call{as: as, path: dynamic, body: grant(asks("user:li.wei"), large)}, http.StatusForbidden)
	}
	s.refused(call{as: "admin", path: dynamic, body: grant(asks("user:root"), large)}, http.StatusForbidden)

	// What none of that touches is minted, also where owners go round in a
	// circle.
	s.mint(boss, asks("agent:round"), large)
	s.mint(boss, asks("user:li.wei"), large)
	s.effect("ALLOW", asks("user:li.wei"))
}

func TestATenantsAdministratorMintsNothingBeyondItsTenant(t *testing.T) {
	t.Parallel()
	s := start(t, merged(deskFiles(), files{
		"platform/gate.policy.yaml": `id: gate
name: Gate
rules:
  - {id: everybody, condition: "action == 'desk.open'", effect: ALLOW, message: {en: Yes., zh: 可。}}
  - {id: asks, condition: "has(resource.properties.asks)", effect: REVIEW, admits: false, message: {en: Ask., zh: 请问。}}
  - {id: closed, condition: "has(resource.properties.closed)", effect: DENY, waivable: true, message: {en: Closed., zh: 已闭。}}
`,
		"tenants/globex/own.policy.yaml": strings.Replace(desk, "id: desk", "id: own", 1),
		"tables/desk.yaml":               "tenants:\n  acme: {most: 10}\n  globex: {most: 10}\n",
	}))
	boss := s.member("acme", "user:boss", "admin")
	open := question("desk.open", object{"size": 20, "asks": true, "closed": true})
	globex := changed(open, "tenant", "globex")

	for _, row := range []struct {
		name   string
		body   string
		status int
		place  string
	}{
		{"a REVIEW of the platform", grant(open, satisfies("platform/gate/asks")), 403, ""},
		{"a DENY of the platform", grant(open, object{"waives": []string{"platform/gate/closed"}}), 403, ""},
		{"a REVIEW of the platform among its own", grant(open, satisfies("tenants/acme/desk/large", "platform/gate/asks")), 403, ""},
		{"in another tenant", grant(globex, with(satisfies("tenants/globex/own/large"), object{"tenant": "globex"})), 403, ""},
		{"on the platform", grant(open, with(satisfies("tenants/acme/desk/large"), object{"tenant": "platform"})), 403, ""},
		{"for a request of another tenant", grant(globex, satisfies("tenants/acme/desk/large")), 400, "/request/tenant"},
		{"another tenant's rule", grant(open, satisfies("tenants/globex/own/large")), 400, "/satisfies/0"},
		{"the self policy's rule", grant(open, object{"waives": []string{"self/rights/outside_token_rights"}}), 400, "/waives/0"},
		{"a DENY that is not waivable", grant(open, object{"waives": []string{"tenants/acme/desk/sealed"}}), 400, "/waives/0"},
		{"a guardrail's DENY that is not waivable", grant(open, object{"waives": []string{"platform/network/public_admin_port"}}), 400, "/waives/0"},
		{"the core's own DENY", grant(open, object{"waives": []string{"tenants/acme/desk/evaluation_error"}}), 400, "/waives/0"},
		{"no_allow", grant(open, object{"waives": []string{"no_allow"}}), 400, "/waives/0"},
		{"a DENY as a REVIEW", grant(open, satisfies("tenants/acme/desk/shut")), 400, "/satisfies/0"},
		{"a REVIEW as a DENY", grant(open, object{"waives": []string{"tenants/acme/desk/large"}}), 400, "/waives/0"},
		{"an ALLOW", grant(open, satisfies("tenants/acme/desk/opens")), 400, "/satisfies/0"},
		{"a pattern", grant(open, satisfies("tenants/acme/desk/*")), 400, "/satisfies/0"},
		{"a policy", grant(open, satisfies("tenants/acme/desk")), 400, "/satisfies/0"},
		{"a path around", grant(open, satisfies("tenants/acme/../../platform/gate/asks")), 400, "/satisfies/0"},
		{"nothing", grant(open, nil), 400, "/satisfies"},
		{"a rule twice", grant(open, satisfies("tenants/acme/desk/large", "tenants/acme/desk/large")), 400, "/satisfies/1"},
		{"with a source of its own", grant(open, with(satisfies("tenants/acme/desk/large"), object{"source": "case:42"})), 400, "/source"},
		{"with a digest of its own", grant(open, with(satisfies("tenants/acme/desk/large"), object{"requests": []string{"sha256:00"}})), 400, "/requests"},
		{"with an id of its own", grant(open, with(satisfies("tenants/acme/desk/large"), object{"id": "grt-1"})), 400, "/id"},
		{"with rules", grant(open, with(satisfies("tenants/acme/desk/large"), object{"rules": []object{{"condition": "true", "effect": "ALLOW"}}})), 400, "/rules"},
		{"without a reason", grant(open, with(satisfies("tenants/acme/desk/large"), object{"reason": " "})), 400, "/reason"},
		{"without uses", grant(open, with(satisfies("tenants/acme/desk/large"), object{"uses": 0})), 400, "/uses"},
		{"with uses below none", grant(open, with(satisfies("tenants/acme/desk/large"), object{"uses": -1})), 400, "/uses"},
		{"of no kind", grant(open, with(satisfies("tenants/acme/desk/large"), object{"kind": "permit"})), 400, "/kind"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			a := s.refused(call{as: boss, path: dynamic, body: row.body}, row.status)
			if row.place != "" && a.textAt("/errors/0/path") != row.place {
				t.Errorf("the place is not named %s: %s", row.place, a.text)
			}
		})
	}
	s.none(boss, dynamic+"?kind=grant")
	s.none("admin", dynamic+"?kind=grant&tenant=globex")

	// A platform's administrator may, and it opens what it names only.
	s.mint("admin", open, object{"satisfies": []string{"platform/gate/asks", "tenants/acme/desk/large"}, "waives": []string{"platform/gate/closed"}})
	s.effect("ALLOW", open)
	s.effect("DENY", changed(open, "resource.id", "desk-2"))
}

func merged(all, more files) files {
	maps.Copy(all, more)
	return all
}

// none expects an empty list.
func (s *server) none(as, path string) {
	s.t.Helper()
	if a := s.must(http.StatusOK, call{as: as, path: path}); len(a.at("/items").([]any)) != 0 {
		s.t.Errorf("%s is not empty: %s", path, a.text)
	}
}

func TestValidityIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss := s.member("acme", "user:boss", "admin")
	open := question("desk.open", object{"size": 20})
	now := time.Now()
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339Nano) }
	bodies := func(validity any) map[string]string {
		return map[string]string{
			"a grant": grant(open, with(satisfies("tenants/acme/desk/large"), object{"validity": validity})),
			"a restriction": encode(with(object{
				"type": "DYNAMIC", "kind": "restriction", "tenant": "acme", "reason": "a test",
				"rules": []object{{"condition": "true", "effect": "DENY"}},
			}, object{"validity": validity})),
		}
	}
	for name, validity := range map[string]any{
		"over 24 hours":            object{"end": at(24*time.Hour + time.Minute)},
		"24 hours, in a year":      object{"start": at(8760 * time.Hour), "end": at(8784 * time.Hour)},
		"the end of time":          object{"end": "9999-12-31T23:59:59Z"},
		"an end that is past":      object{"end": at(-time.Second)},
		"a start long past":        object{"start": at(-48 * time.Hour), "end": at(time.Hour)},
		"an end before the start":  object{"start": at(2 * time.Hour), "end": at(time.Hour)},
		"no end":                   object{"start": at(0)},
		"none":                     object{},
		"null":                     json.RawMessage("null"),
		"an end that is no time":   object{"end": "tomorrow"},
		"an end that is a number":  object{"end": 4102444800},
		"a member more":            object{"end": at(time.Hour), "forever": true},
		"an end in another offset": object{"end": now.Add(25 * time.Hour).In(time.FixedZone("", -12*3600)).Format(time.RFC3339)},
	} {
		for kind, body := range bodies(validity) {
			a := s.refused(call{as: boss, path: dynamic, body: body}, http.StatusBadRequest)
			if !strings.HasPrefix(a.textAt("/errors/0/path"), "/validity") {
				t.Errorf("%s, %s: the place is not named: %s", kind, name, a.text)
			}
		}
	}
	s.none(boss, dynamic+"?kind=grant")
	s.none(boss, dynamic+"?kind=restriction")
	s.effect("REVIEW", open)
}

func TestARestrictionOnlyCloses(t *testing.T) {
	t.Parallel()
	s := start(t, deskFiles())
	boss, chief := s.member("acme", "user:boss", "admin"), s.member("globex", "user:chief", "admin")
	restriction := func(rule, more object) string {
		return encode(with(object{
			"type": "DYNAMIC", "kind": "restriction", "tenant": "acme", "reason": "a test", "rules": []object{rule},
			"validity": object{"end": time.Now().Add(time.Hour).Format(time.RFC3339Nano)},
		}, more))
	}
	deny := object{"condition": "true", "effect": "DENY"}
	for _, row := range []struct {
		name, as, body string
		status         int
		place          string
	}{
		{"ALLOW", boss, restriction(object{"condition": "true", "effect": "ALLOW"}, nil), 400, "/rules/0/effect"},
		{"ALLOW in small letters", boss, restriction(object{"condition": "true", "effect": "allow"}, nil), 400, "/rules/0/effect"},
		{"an ALLOW behind a DENY", boss, restriction(nil, object{"rules": []object{deny, {"condition": "true", "effect": "ALLOW"}}}), 400, "/rules/1/effect"},
		{"a review that admits", boss, restriction(object{"condition": "true", "effect": "REVIEW", "admits": true}, nil), 400, "/rules/0/admits"},
		{"a limit", boss, restriction(with(object{"limits": []object{}}, deny), nil), 400, "/rules/0/limits"},
		{"satisfies", boss, restriction(deny, satisfies("tenants/acme/desk/large")), 400, "/satisfies"},
		{"waives", boss, restriction(deny, object{"waives": []string{"tenants/acme/desk/shut"}}), 400, "/waives"},
		{"uses", boss, restriction(deny, object{"uses": 1}), 400, "/uses"},
		{"a request", boss, restriction(deny, object{"request": question("desk.open", object{})}), 400, "/request"},
		{"no rules", boss, restriction(nil, object{"rules": []object{}}), 400, "/rules"},
		{"a condition that does not parse", boss, restriction(object{"condition": "action ==", "effect": "DENY"}, nil), 400, "/rules/0/condition"},
		{"a condition that is no truth", boss, restriction(object{"condition": "1 + 1", "effect": "DENY"}, nil), 400, "/rules/0/condition"},
		{"another tenant", boss, restriction(deny, object{"tenant": "globex"}), 403, ""},
		{"another tenant's administrator", chief, restriction(deny, nil), 403, ""},
		{"an author", "author", restriction(deny, nil), 403, ""},
		{"a gateway", "pep", restriction(deny, nil), 403, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := s.in(t).refused(call{as: row.as, path: dynamic, body: row.body}, row.status)
			if row.place != "" && !strings.HasPrefix(a.textAt("/errors/0/path"), row.place) {
				t.Errorf("the place is not named %s: %s", row.place, a.text)
			}
		})
	}
	s.none(boss, dynamic+"?kind=restriction")
	s.effect("ALLOW", question("desk.open", object{"size": 1}))

	// One that holds touches its own tenant only, and only those who may lift
	// it do.
	id := s.must(http.StatusCreated, call{as: boss, path: dynamic, body: restriction(deny, nil)}).textAt("/id")
	open := question("desk.open", object{"size": 1})
	s.effect("DENY", open)
	for _, as := range []string{"author", "service", "pep", chief} {
		s.refused(call{as: as, method: http.MethodDelete, path: dynamic + "/" + id}, http.StatusForbidden, http.StatusNotFound)
	}
	s.effect("DENY", open)
	s.must(http.StatusOK, call{as: boss, method: http.MethodDelete, path: dynamic + "/" + id})
	s.effect("ALLOW", open)

	// What the platform closed in a tenant, the tenant does not open.
	id = s.must(http.StatusCreated, call{as: "admin", path: dynamic, body: restriction(deny, nil)}).textAt("/id")
	s.refused(call{as: boss, method: http.MethodDelete, path: dynamic + "/" + id}, http.StatusForbidden)
	s.refused(call{as: boss, path: dynamic, body: grant(open, object{"waives": []string{"dynamic/" + id + "/rule_1"}})}, http.StatusBadRequest)
	s.effect("DENY", open)
	s.must(http.StatusOK, call{as: "admin", method: http.MethodDelete, path: dynamic + "/" + id})
	s.effect("ALLOW", open)
}
