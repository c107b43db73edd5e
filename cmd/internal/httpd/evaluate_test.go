package httpd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func quoted(text string) string {
	data, _ := json.Marshal(text)
	return string(data)
}

func TestEvaluateHasNoEffect(t *testing.T) {
	r := newRig(t, testPolicies())
	g := r.do(ask{as: "shop", path: "/api/v1/evaluate", body: machineBody(`{"cpu":8}`, "")})
	if g.status != 200 || g.at("/effect") != "DENY" || g.json["explanation"] != nil {
		t.Errorf("%d %s", g.status, g.text)
	}
	if n := len(r.record.take()); n != 0 {
		t.Errorf("%d records", n)
	}
}

func TestEvaluateExplainsEveryRule(t *testing.T) {
	r := newRig(t, testPolicies())
	g := r.do(ask{as: "author", path: "/api/v1/evaluate", body: machineBody(`{"cpu":8}`, `,"explain":true`)})
	if g.status != 200 {
		t.Fatalf("%d %s", g.status, g.text)
	}
	seen := map[string]map[string]any{}
	for i := range g.at("/explanation/policies").([]any) {
		policy := g.at(fmt.Sprintf("/explanation/policies/%d", i)).(map[string]any)
		for _, rule := range policy["rules"].([]any) {
			rule := rule.(map[string]any)
			seen[policy["policy"].(string)+"/"+rule["rule"].(string)] = rule
		}
	}
	for rule, matched := range map[string]bool{
		"platform/machines/anybody": true, "platform/machines/small_only": true, "platform/machines/public_ip": false,
		"platform/records/readers": false, "tenants/acme/own/yes": false,
	} {
		if seen[rule] == nil || seen[rule]["matched"] != matched || seen[rule]["why"] == "" {
			t.Errorf("%s: %v", rule, seen[rule])
		}
	}
}

func TestEvaluateAnswersOnAnOlderRevision(t *testing.T) {
	r := newRig(t, testPolicies())
	old := r.head()
	r.publish(map[string]string{"tenants/acme/closed.policy.json": `{"id":"closed","name":"c","rules":[{"condition":"true","effect":"DENY","message":{"en":"Closed.","zh":"关闭。"}}]}`})
	ask := func(more string) got {
		return r.do(ask{as: "shop", path: "/api/v1/evaluate", body: machineBody(`{"cpu":2}`, more)})
	}
	if g := ask(""); g.at("/effect") != "DENY" {
		t.Errorf("now: %s", g.text)
	}
	if g := ask(`,"revision":"` + r.head().String() + `"`); g.at("/effect") != "DENY" {
		t.Errorf("now, by name: %s", g.text)
	}
	if g := ask(`,"revision":"` + old.String() + `"`); g.status != 200 || g.at("/effect") != "ALLOW" || g.at("/revision") != old.String() {
		t.Errorf("before: %d %s", g.status, g.text)
	}
	for _, unknown := range []string{"r99.g1", "r0.g0", "r1.g9999"} {
		want := 400
		if unknown == "r0.g0" {
			want = 200 // the zero revision asks for none
		}
		if g := ask(`,"revision":"` + unknown + `"`); g.status != want {
			t.Errorf("%s: %d %s", unknown, g.status, g.text)
		}
	}
	// The directory of then, too: a role that was bound since does not count.
	r.publish(map[string]string{"tenants/acme/roles.policy.json": `{"id":"roles","name":"r","reads":["subject.roles"],"scope":{"actions":["acme.r"]},"rules":[
		{"condition":"'dba' in subject.properties.roles","effect":"ALLOW"}]}`})
	before := r.head()
	bind := r.do(askBody("tenantadmin", "/api/v1/bindings", `{"subject":"service:shop","role":"dba"}`))
	if bind.status != 201 {
		t.Fatalf("bind: %d %s", bind.status, bind.text)
	}
	body := `{"subject":{"type":"service","id":"shop"},"action":"acme.r","resource":{"type":"t","id":"i"},"explain":false`
	now := r.do(askBody("shop", "/api/v1/evaluate", body+`}`))
	then := r.do(askBody("shop", "/api/v1/evaluate", body+`,"revision":"`+before.String()+`"}`))
	// The closed policy denies both; only the reasons differ.
	if !strings.Contains(now.text, "rule_1") || strings.Contains(then.text, `"policy":"tenants/acme/roles"`) || !strings.Contains(now.text, `"policy":"tenants/acme/roles"`) {
		t.Errorf("now %s\nthen %s", now.text, then.text)
	}
}

func askBody(as, path, body string) ask { return ask{as: as, path: path, body: body} }

func TestEvaluateTriesACandidate(t *testing.T) {
	r := newRig(t, testPolicies())
	closed := `{"id":"closed","name":"c","rules":[{"condition":"true","effect":"DENY","message":{"en":"Closed.","zh":"关闭。"}}]}`
	try := func(as, path, content string) got {
		return r.do(ask{as: as, path: "/api/v1/evaluate", body: machineBody(`{"cpu":2}`, `,"candidate":{"path":`+quoted(path)+`,"content":`+quoted(content)+`}`)})
	}
	before := r.head()
	if g := try("author", "tenants/acme/closed.policy.json", closed); g.status != 200 || g.at("/effect") != "DENY" {
		t.Errorf("%d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "shop", path: "/api/v1/evaluate", body: machineBody(`{"cpu":2}`, "")}); g.at("/effect") != "ALLOW" || r.head() != before {
		t.Errorf("the candidate stayed: %s", g.text)
	}
	for _, row := range []struct {
		name, as, path, content string
		status                  int
		right                   any
	}{
		{"by one who may only decide", "shop", "tenants/acme/x.policy.json", closed, 403, "evaluate.candidate"},
		{"for another tenant", "author", "tenants/globex/x.policy.json", closed, 403, "evaluate.candidate"},
		{"for the platform", "author", "platform/x.policy.json", closed, 403, "evaluate.candidate"},
		{"for the tables", "author", "tables/limits.yaml", "platform: {}", 403, "evaluate.candidate"},
		{"for the attributes", "author", "attributes.yaml", "attributes: {}", 403, "evaluate.candidate"},
		{"for the self policies", "author", "self/x.cedar", "permit(principal, action, resource);", 403, "evaluate.candidate"},
		{"for a place that climbs", "author", "tenants/acme/../globex/x.policy.json", closed, 400, nil},
		{"that does not parse", "author", "tenants/acme/x.policy.json", `{"id":"x",`, 422, nil},
		{"that does not compile", "author", "tenants/acme/x.policy.json", `{"id":"x","name":"x","rules":[{"condition":"nonsense(","effect":"DENY"}]}`, 422, nil},
		{"of no known kind", "author", "tenants/acme/x.sh", `rm -rf /`, 422, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := try(row.as, row.path, row.content)
			if g.status != row.status || g.at("/right") != row.right {
				t.Fatalf("%d %s", g.status, g.text)
			}
			if row.status == 422 && (g.code() != "policy_faults" || g.at("/faults/0/file") != row.path || g.at("/faults/0/message") == "") {
				t.Errorf("the fault is not named: %s", g.text)
			}
		})
	}
}

// A candidate of one tenant finds nothing of another's tables, however it asks.
func TestACandidateCannotReadAnotherTenantsTable(t *testing.T) {
	r := newRig(t, testPolicies())
	try := func(path, content string) got {
		return r.do(ask{as: "author", path: "/api/v1/evaluate", body: `{"subject":{"type":"user","id":"author"},"action":"peek","resource":{"type":"t","id":"globex"},
			"explain":true,"candidate":{"path":` + quoted(path) + `,"content":` + quoted(content) + `}}`})
	}
	rego := func(expression string) string {
		return "# METADATA\n# title: Peek\npackage xiezhi.tenants.acme.peek\n\n# METADATA\n# title: Peek\n# custom:\n#   id: found\n#   message: {en: \"{secret}\", zh: \"{secret}\"}\n#   severity: low\n" +
			"deny contains {\"rule\": \"found\", \"args\": {\"secret\": secret}} if {\n\t" + expression + "\n}\n"
	}
	own := try("tenants/acme/peek.rego", rego(`secret := data.xiezhi.tenants[input.tenant].tables.limits.secret`))
	if own.status != 200 || !strings.Contains(own.text, "acme-secret") {
		t.Fatalf("it does not even find its own: %d %s", own.status, own.text)
	}
	for name, expression := range map[string]string{
		"a static reference":   `secret := data.xiezhi.tenants.globex.tables.limits.secret`,
		"a computed reference": `secret := data.xiezhi.tenants[input.resource.id].tables.limits.secret`,
		"a walk":               `walk(data, [_, secret]); secret == "globex-secret"`,
		"an iteration":         `some name; secret := data.xiezhi.tenants[name].tables.limits.secret; name != "acme"`,
	} {
		t.Run(name, func(t *testing.T) {
			g := try("tenants/acme/peek.rego", rego(expression))
			if g.status >= 500 || strings.Contains(strings.ReplaceAll(g.text, "acme-secret", ""), "globex-secret") && !strings.Contains(expression, "globex-secret") {
				t.Errorf("%d %s", g.status, g.text)
			}
			for i := range 5 {
				if g.at(fmt.Sprintf("/reasons/%d/rule", i)) == "found" {
					t.Errorf("it found something: %s", g.text)
				}
			}
		})
	}
}

func TestEvaluateRefusesMalformedQuestions(t *testing.T) {
	r := newRig(t, testPolicies())
	for more, path := range map[string]string{
		`,"explain":"yes"`: "/explain",
		`,"revision":7`:    "/revision",
		`,"revision":"r1"`: "/revision",
		`,"candidate":"x"`: "/candidate",
		`,"candidate":[]`:  "/candidate",
		`,"candidate":[1]`: "/candidate/0",
		`,"candidate":{}`:  "/candidate/path",
		`,"permit":{}`:     "/permit",
		`,"candidate":{"path":"tenants/acme/x.policy.json","content":1}`:                                                       "/candidate/content",
		`,"candidate":{"path":"tenants/acme/x.policy.json","content":"","mode":"x"}`:                                           "/candidate/mode",
		`,"candidate":[{"path":"tenants/acme/x.policy.json","content":""},{"path":"tenants/acme/x.policy.json","content":""}]`: "/candidate/1/path",
	} {
		g := r.do(ask{as: "author", path: "/api/v1/evaluate", body: machineBody(`{}`, more)})
		if g.status != http.StatusBadRequest || g.at("/errors/0/path") != path {
			t.Errorf("%s: %d %s", more, g.status, g.text)
		}
	}
}
