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

// instance is a request that the shipped policies let an engineer of acme
// make; the service shop is none.
func instance(subject object) object {
	return object{
		"tenant": "acme", "subject": subject, "action": object{"name": "ecs.instance.create"},
		"resource": object{"type": "ecs.instance", "id": "req-1/web", "properties": object{
			"cpu": 2, "memory_gib": 4, "region": "cn-hangzhou", "vpc_id": "vpc-bp1acme0hangzhou", "vswitch_id": "vsw-bp1acme0private",
			"data_classification": "internal",
			"tags": object{
				"itsm:tenant_code": "acme", "itsm:request_id": "req-1", "itsm:expire_at": "2099-12-31T00:00:00Z",
				"itsm:cost_center": "CC-1", "itsm:data_classification": "internal", "itsm:owner": "li.wei",
			},
		}},
	}
}

func engineer() object { return object{"type": "user", "id": "li.wei"} }

func shop() object { return object{"type": "service", "id": "shop"} }

// decisionDoors are all doors that answer for a subject, as calls that ask one
// request.
func decisionDoors(request object) map[string]call {
	standard := maps.Clone(request)
	delete(standard, "tenant")
	tenant := map[string]string{}
	if named, ok := request["tenant"].(string); ok {
		tenant["X-Xiezhi-Tenant"] = named
	}
	return map[string]call{
		"decide":      {path: "/api/v1/decide", body: encode(request)},
		"batch":       {path: "/api/v1/decide/batch", body: encode(object{"evaluations": []object{request}})},
		"inherited":   {path: "/api/v1/decide/batch", body: encode(with(maps.Clone(request), object{"evaluations": []object{{}}}))},
		"evaluation":  {path: "/access/v1/evaluation", body: encode(standard), header: tenant},
		"evaluations": {path: "/access/v1/evaluations", body: encode(object{"evaluations": []object{standard}}), header: tenant},
	}
}

func TestAServiceAsksForItselfOnly(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for name, c := range decisionDoors(instance(shop())) {
		c.as = "service"
		if a := s.must(http.StatusOK, c); strings.Contains(a.text, `"decision":true`) || !strings.Contains(a.text, "no_allow") {
			t.Errorf("%s: the shop is no engineer: %s", name, a.text)
		}
	}
	for _, row := range []struct {
		name    string
		subject object
	}{
		{"an engineer", engineer()},
		{"a service of a similar name", object{"type": "service", "id": "Shop"}},
		{"its own name with a blank", object{"type": "service", "id": "shop "}},
		{"its own name with an invisible character", object{"type": "service", "id": "shop\u200b"}},
		{"a person of its name", object{"type": "user", "id": "shop"}},
		{"its name as type and id", object{"type": "service:shop", "id": "service:shop"}},
		{"the gateway", object{"type": "service", "id": "gateway"}},
		{"the administrator", object{"type": "user", "id": "root"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			for _, c := range decisionDoors(instance(row.subject)) {
				c.as = "service"
				if a := s.refused(c, http.StatusForbidden); !strings.Contains(a.text, "decide.on_behalf") {
					t.Errorf("the missing right is not named: %s", a.text)
				}
			}
			// Nor does it learn what somebody else may do.
			s.refused(call{as: "service", path: "/api/v1/evaluate", body: encode(instance(row.subject))}, http.StatusForbidden)
		})
	}

	// Among items of its own, one that is not is denied, and is not asked.
	a := s.must(http.StatusOK, call{as: "service", path: "/api/v1/decide/batch", body: encode(object{"evaluations": []object{instance(shop()), instance(engineer())}})})
	if a.textAt("/evaluations/0/decision_id") == "" || a.at("/evaluations/1/decision") != false || a.textAt("/evaluations/1/error/code") != "forbidden" {
		t.Errorf("batch: %s", a.text)
	}
	// What a decision door refuses leaves no decision behind, but a trace of
	// who tried.
	s.recorded(t, "engineer", "/api/v1/audit?kind=decision&action=ecs.instance.create&subject=user:li.wei", 0)
	s.refused(call{as: "service", path: "/api/v1/tokens", body: encode(object{"subject": "user:root", "rights": []string{"*"}, "expires_at": "2099-01-01T00:00:00Z"})}, http.StatusForbidden)
	tried := s.recorded(t, "who tried", "/api/v1/audit?kind=access&actor=service:shop&action=token.create", 1)
	if tried.textAt("/items/0/effect") != "DENY" || tried.textAt("/items/0/tenant") != "acme" || tried.textAt("/items/0/body/operation") != "createToken" {
		t.Errorf("the trace of a refused call: %s", tried.text)
	}
}

// recorded waits until the audit holds the records asked for; records reach it
// soon after the answer.
func (s *server) recorded(t *testing.T, what, path string, want int) answer {
	t.Helper()
	// A decision made now is shipped after all those before it.
	probe := s.decide("pep", question("probe", object{})).ID
	await(t, patience, "the decision just made in the audit", func() bool {
		return strings.Contains(s.must(http.StatusOK, call{as: "auditor", path: "/api/v1/audit?kind=decision&action=probe&tenant=acme"}).text, probe)
	})
	a := s.must(http.StatusOK, call{as: "auditor", path: path})
	if items, _ := a.at("/items").([]any); len(items) != want {
		t.Errorf("%s: %d records, want %d: %s", what, len(items), want, a.text)
	}
	return a
}

func TestACredentialSpeaksForItsOwnTenantOnly(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.member("globex", "service:shop", "service") // a namesake
	for _, as := range []string{"service", "pep", "author"} {
		for _, tenant := range []string{"globex", "platform", "nowhere"} {
			for name, c := range decisionDoors(changed(instance(shop()), "tenant", tenant)) {
				c.as = as
				// An item of a batch may be refused by itself.
				a := s.do(c)
				item := a.status == http.StatusOK && a.at("/evaluations/0/decision") == false && a.textAt("/evaluations/0/error/code") == "forbidden"
				if a.status != http.StatusForbidden && !item {
					t.Errorf("%s as %s for %s: %d %s", name, as, tenant, a.status, a.text)
				}
			}
			s.refused(call{as: as, path: "/api/v1/evaluate", body: encode(changed(instance(shop()), "tenant", tenant))}, http.StatusForbidden)
		}
	}
	for _, row := range []struct{ name, tenant string }{
		{"capitals", "ACME"}, {"a blank", "acme "}, {"nothing", ""}, {"a path", "../globex"}, {"a wildcard", "*"}, {"an invisible character", "acme\u200b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.in(t).refused(call{as: "pep", path: "/api/v1/decide", body: encode(changed(instance(engineer()), "tenant", row.tenant))}, http.StatusBadRequest, http.StatusForbidden)
		})
	}

	// The tenant that a policy sees is the request's, whatever else says so.
	foreign := changed(instance(engineer()), "resource.properties", with(instance(engineer())["resource"].(object)["properties"].(object), object{"tenant": "globex"}))
	for name, context := range map[string]object{
		"plain":               {},
		"a tenant in context": {"tenant": "globex"},
		"a clock in context":  {"now": "1999-01-01T00:00:00Z", "tenant": "globex"},
	} {
		if d := s.decide("pep", changed(foreign, "context", context)); d.Effect != "DENY" || !d.has("platform/isolation/resource_of_another_tenant") && !d.has("platform/isolation/evaluation_error") {
			t.Errorf("globex's resource with %s: %+v", name, d)
		}
	}
}

func TestARequestSuppliesNoTrustedAttribute(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	if d := s.decide("pep", instance(engineer())); d.Effect != "ALLOW" {
		t.Fatalf("an engineer: %+v", d)
	}
	null := json.RawMessage("null")
	for name, roles := range map[string]any{
		"roles": []string{"engineer"}, "no roles": []string{}, "null": null, "a role that is no list": "engineer",
	} {
		t.Run(name, func(t *testing.T) {
			s.in(t).refusesTrusted("service", spoofed("subject", "roles", roles), "/subject/properties/roles")
		})
	}
	// Another spelling is another attribute, and opens nothing.
	for _, name := range []string{"Roles", "ROLES", "roles ", "role\u017f", "rоles", "subject.roles", "roles\u0000"} {
		for _, member := range []string{"subject", "resource"} {
			if d := s.decide("service", spoofed(member, name, []string{"engineer"})); d.Effect != "DENY" {
				t.Errorf("%s.%q: %+v", member, name, d)
			}
		}
	}
	for _, properties := range []object{{"Roles": []string{"engineer"}}, {"properties": object{"roles": []string{"engineer"}}}} {
		if d := s.decide("service", changed(instance(shop()), "context", properties)); d.Effect != "DENY" {
			t.Errorf("context %v: %+v", properties, d)
		}
	}
	s.refused(call{as: "service", path: "/api/v1/decide", body: encode(changed(instance(shop()), "subject.roles", []string{"engineer"}))}, http.StatusBadRequest)
	twice := strings.Replace(encode(spoofed("subject", "a", 1)), `"a":1`, `"a":1,"properties":{"roles":["engineer"]}`, 1)
	if d := s.decisionOf(s.do(call{as: "service", path: "/api/v1/decide", body: twice})); d.Effect != "DENY" {
		t.Errorf("roles in properties of properties: %+v", d)
	}
}

// A property of the resource may be trusted as well, whether or not a policy
// reads it.
func TestARequestSuppliesNoTrustedPropertyOfTheResource(t *testing.T) {
	t.Parallel()
	s := startOn(t, minimal(t, files{
		"attributes.yaml": "attributes:\n  subject.roles: {trusted: true, source: directory, description: roles}\n" +
			"  resource.grade: {trusted: true, source: inventory, description: as the inventory has it}\n",
		"platform/all.policy.yaml": "id: all\nname: All\nrules:\n  - {id: all, condition: 'true', effect: ALLOW, message: {en: Yes., zh: 可。}}\n",
	}))
	if d := s.decide("service", instance(shop())); d.Effect != "ALLOW" {
		t.Fatalf("without it: %+v", d)
	}
	s.refusesTrusted("service", spoofed("resource", "grade", 1), "/resource/properties/grade")
}

// spoofed is the shop's request with a property more.
func spoofed(member, name string, value any) object {
	request := instance(shop())
	part := maps.Clone(request[member].(object))
	properties, _ := part["properties"].(object)
	part["properties"] = with(with(object{}, properties), object{name: value})
	request[member] = part
	return request
}

// refusesTrusted: every door refuses the request for what it supplies at path.
func (s *server) refusesTrusted(as string, request object, path string) {
	s.t.Helper()
	for door, c := range decisionDoors(request) {
		c.as = as
		a := s.do(c)
		refused := a.status == http.StatusBadRequest
		if a.status == http.StatusOK { // one item of a batch is an item denied
			refused = a.at("/evaluations/0/decision") == false && strings.Contains(a.text, "trusted")
		}
		if !refused || !strings.Contains(a.text, path) {
			s.t.Errorf("%s: %d %s", door, a.status, a.text)
		}
	}
	s.refused(call{as: "author", path: "/api/v1/evaluate", body: encode(request)}, http.StatusBadRequest)
}

// A report says what it likes, and not who made it, where and when.
func TestAReportIsVouchedForByItsCredential(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, member := range []string{"actor", "tenant", "time", "kind", "id", "effect", "revision"} {
		a := s.refused(call{as: "pep", path: "/api/v1/audit", body: encode(object{"action": "done", member: "globex"})}, http.StatusBadRequest)
		if a.textAt("/errors/0/path") != "/"+member {
			t.Errorf("%s: the place is not named: %s", member, a.text)
		}
	}
	for _, as := range []string{"author", "service", "auditor"} {
		s.refused(call{as: as, path: "/api/v1/audit", body: `{"action":"done"}`}, http.StatusForbidden)
	}
	// It may look like a decision, in all it may say.
	before := time.Now().Add(-time.Second)
	s.must(http.StatusCreated, call{as: "pep", path: "/api/v1/audit", body: encode(object{
		"action": "release.publish", "subject": "user:root", "resource": "release:1",
		"body": object{"kind": "decision", "actor": "user:root", "tenant": "globex", "decision": object{"effect": "ALLOW"}},
	})})
	a := s.must(http.StatusOK, call{as: "auditor", path: "/api/v1/audit?kind=reported"})
	made, err := time.Parse(time.RFC3339Nano, a.textAt("/items/0/time"))
	if err != nil || made.Before(before) || a.textAt("/items/0/kind") != "reported" || a.textAt("/items/0/actor") != "service:gateway" || a.textAt("/items/0/tenant") != "acme" {
		t.Errorf("recorded as %s", a.text)
	}
	s.none("auditor", "/api/v1/audit?kind=decision")
	s.none("auditor", "/api/v1/audit?kind=reported&tenant=globex")
	s.none("auditor", "/api/v1/audit?actor=user:root&action=release.publish")
}
