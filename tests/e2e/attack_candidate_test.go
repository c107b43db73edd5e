//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// secret is what only globex's policies may see.
const secret = "the-word-of-globex"

// withSecret are tables that hold it, and a platform policy and a library that
// read the table of the request's tenant.
func withSecret() files {
	return files{
		"tables/words.yaml": "platform: {shared: everybodys-word}\ntenants:\n  acme: {word: the-word-of-acme}\n  globex: {word: " + secret + "}\n",
		"platform/lib/words.rego": `package xiezhi.platform.lib.words

word := data.xiezhi.tenants[input.tenant].tables.words.word

of(tenant) := data.xiezhi.tenants[tenant].tables.words.word
`,
		"tenants/globex/word.rego": `# METADATA
# title: The word
# custom:
#   title_zh: 口令
#   scope: {actions: ["spy"]}
package xiezhi.tenants.globex.word

own := "the-word-of-globex"

# METADATA
# title: It speaks
# custom:
#   id: speaks
#   title_zh: 说
#   message: {en: "It speaks.", zh: "说。"}
#   severity: low
deny contains {"rule": "speaks", "args": {"word": own}} if input.subject.id == "nobody"
`,
	}
}

// spy is a candidate of acme whose finding carries what an expression found.
func spy(more, body string) string {
	return `# METADATA
# title: Spy
# custom:
#   title_zh: 探
#   scope: {actions: ["spy"]}
package xiezhi.tenants.acme.spy

` + more + `

# METADATA
# title: Found
# custom:
#   id: found
#   title_zh: 发现
#   message: {en: "Found {it}.", zh: "发现 {it}。"}
#   severity: low
deny contains {"rule": "found", "path": sprintf("/%v", [it]), "args": {"it": it}} if {
	` + body + `
}
`
}

func (s *server) evaluate(as string, body object) answer {
	s.t.Helper()
	request := object{"subject": object{"type": "user", "id": "li.wei"}, "action": "spy", "resource": object{"type": "t", "id": "r", "properties": object{}}, "explain": true}
	return s.do(call{as: as, path: "/api/v1/evaluate", body: encode(with(request, body))})
}

func TestACandidateReadsNoOtherTenantsTable(t *testing.T) {
	t.Parallel()
	s := start(t, withSecret())
	candidate := func(text string) object {
		return object{"candidate": object{"path": "tenants/acme/spy.rego", "content": text}}
	}

	// What it may see, so that the rest shows something.
	own := s.evaluate("author", candidate(spy("", `it := data.xiezhi.tenants.acme.tables.words.word`)))
	if r, _ := s.decisionOf(own).reason("tenants/acme/spy/found"); r.Message != "Found the-word-of-acme." {
		t.Fatalf("its own table: %d %s", own.status, own.text)
	}
	shared := s.evaluate("author", candidate(spy("", `it := data.xiezhi.platform.tables.words.shared`)))
	if r, _ := s.decisionOf(shared).reason("tenants/acme/spy/found"); r.Message != "Found everybodys-word." {
		t.Fatalf("the platform's table: %d %s", shared.status, shared.text)
	}

	for _, row := range []struct{ name, more, body string }{
		{"by name", "", `it := data.xiezhi.tenants.globex.tables.words.word`},
		{"by name in brackets", "", `it := data["xiezhi"]["tenants"]["globex"]["tables"]["words"]["word"]`},
		{"by import", "import data.xiezhi.tenants.globex.tables.words as w", `it := w.word`},
		{"by import of its policies", "import data.xiezhi.tenants.globex.word as w", `it := w.own`},
		{"by a name that is computed", "", `it := data.xiezhi.tenants[concat("", ["glo", "bex"])].tables.words.word`},
		{"by every name", "", `some tenant; it := data.xiezhi.tenants[tenant].tables.words.word; tenant != "acme"`},
		{"by the request", "", `it := data.xiezhi.tenants[input.subject.id].tables.words.word`},
		{"by all data", "", `it := json.marshal(data)`},
		{"by all of the tenants", "", `it := json.marshal(data.xiezhi.tenants)`},
		{"by walking all data", "", `walk(data, [_, it]); is_string(it); contains(it, "globex")`},
		{"by walking the tenants", "", `walk(data.xiezhi.tenants, [path, it]); path[0] != "acme"`},
		{"by object.get", "", `it := object.get(data, ["xiezhi", "tenants", "globex", "tables", "words", "word"], "nothing"); it != "nothing"`},
		{"by object.get below", "", `it := object.get(data.xiezhi.tenants, "globex", "nothing"); it != "nothing"`},
		{"by another request for a library", "", `it := data.xiezhi.platform.lib.words.word with input as {"tenant": "globex"}`},
		{"by another tenant for a library", "", `it := data.xiezhi.platform.lib.words.word with input.tenant as "globex"`},
		{"by asking a library", "import data.xiezhi.platform.lib.words", `it := words.of("globex")`},
		{"by another policy's eyes", "", `it := data.xiezhi.tenants.globex.word.deny with input as {"subject": {"id": "nobody"}}`},
		{"by a function with data handed in", "f(d) := d.xiezhi.tenants.globex.tables.words.word", `it := f(data)`},
		{"by a comprehension", "", `it := {t: w | w := data.xiezhi.tenants[t].tables.words.word; t != "acme"}; count(it) > 0`},
		{"by data laid over data", "", `it := data.xiezhi.tenants.acme.tables.words.word with data.xiezhi.tenants.acme as data.xiezhi.tenants.globex`},
		{"by an error's text", "", `it := to_number(data.xiezhi.tenants["globex"].tables.words.word)`},
		{"by walking every tenant's tables", "", `walk(data.xiezhi.tenants[_].tables, [_, it]); contains(it, "globex")`},
		{"by another policy's rule, computed", "", `some tenant; it := data.xiezhi.tenants[tenant].word.own`},
		{"by every name there is", "", `some a, b, c, d; it := data[a].tenants[b][c][d]; b != "acme"`},
		{"by the environment", "", `it := opa.runtime()`},
		{"by the network", "", `it := http.send({"method": "get", "url": "http://127.0.0.1"})`},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			a := s.evaluate("author", candidate(spy(row.more, row.body)))
			checkNoSecret(t, a)
			switch a.status {
			case http.StatusUnprocessableEntity:
				if a.textAt("/faults/0/file") != "tenants/acme/spy.rego" || a.at("/faults/0/line") == nil {
					t.Errorf("the fault has no place: %s", a.text)
				}
			case http.StatusOK:
				if strings.HasPrefix(row.name, "by name") || strings.HasPrefix(row.name, "by import") {
					t.Errorf("what names another tenant is refused: %s", a.text)
				}
				if s.decisionOf(a).has("tenants/acme/spy/found") {
					t.Errorf("it found something: %s", a.text)
				}
			default:
				t.Errorf("%d %s", a.status, a.text)
			}
		})
	}

	t.Run("a rule document", func(t *testing.T) {
		s := s.in(t)
		for _, condition := range []string{
			"tables.words.word == '" + secret + "'", "size(tables.words.word) == " + encode(len(secret)), "tables.globex.words.word != ''",
			"tables.exists(t, string(tables[t]).contains('globex'))", "data.xiezhi.tenants.globex.tables.words.word != ''",
		} {
			a := s.evaluate("author", object{"candidate": object{"path": "tenants/acme/spy.policy.json", "content": encode(object{
				"id": "spy", "name": "Spy", "version": "1", "rules": []object{{"id": "found", "condition": condition, "effect": "DENY", "message": object{"en": "Found.", "zh": "发现。"}}},
			})}})
			if a.status == http.StatusOK && s.decisionOf(a).has("tenants/acme/spy/found") {
				t.Errorf("%s holds: %s", condition, a.text)
			}
		}
	})
}

func checkNoSecret(t *testing.T, a answer) {
	t.Helper()
	if strings.Contains(a.text, secret) {
		t.Errorf("another tenant's word is in the answer: %s", a.text)
	}
}

func TestACandidateNeedsTheRightOfItsPlace(t *testing.T) {
	t.Parallel()
	s := start(t, withSecret())
	helper := func(path, content string) object {
		return object{"candidate": object{"path": path, "content": content}}
	}
	mine := strings.ReplaceAll(withSecret()["tenants/globex/word.rego"], "globex", "acme")
	for _, row := range []struct {
		name, as string
		body     object
		status   int
	}{
		{"an author for its tenant", "author", helper("tenants/acme/word.rego", mine), 200},
		{"a service", "service", helper("tenants/acme/word.rego", mine), 403},
		{"a gateway", "pep", helper("tenants/acme/word.rego", mine), 403},
		{"an auditor", "auditor", with(helper("tenants/acme/word.rego", mine), object{"tenant": "acme"}), 403},
		{"another tenant's file", "author", helper("tenants/globex/word.rego", withSecret()["tenants/globex/word.rego"]), 403},
		{"another tenant's request", "author", with(helper("tenants/acme/word.rego", mine), object{"tenant": "globex"}), 403},
		{"another tenant's file among its own", "author", object{"candidate": []object{{"path": "tenants/acme/word.rego", "content": mine}, {"path": "tenants/globex/word.rego", "content": ""}}}, 403},
		{"a guardrail", "author", helper("platform/regions.rego", "package xiezhi.platform.regions\n"), 403},
		{"a shared library", "author", helper("platform/lib/words.rego", "package xiezhi.platform.lib.words\n"), 403},
		{"the self policy", "author", helper("self/rights.cedar", "permit (principal, action, resource);"), 403},
		{"the tables", "author", helper("tables/words.yaml", "tenants: {acme: {word: x}}"), 403},
		{"what is trusted", "author", helper("attributes.yaml", "attributes: {}"), 403},
		{"the schema", "author", helper("schema.cedarschema", "entity user;"), 403},
		{"the obligations", "author", helper("obligations.yaml", "obligations: {}"), 403},
		{"a way around", "author", helper("tenants/acme/../globex/word.rego", mine), 400},
		{"a way to the platform", "author", helper("tenants/acme/../../platform/regions.rego", "package xiezhi.platform.regions\n"), 400},
		{"a path from the root", "author", helper("/tenants/acme/word.rego", mine), 400},
		{"a folder that nobody knows", "author", helper("Platform/regions.rego", "package xiezhi.platform.regions\n"), 400},
		{"another tenant's package in its own folder", "author", helper("tenants/acme/word.rego", withSecret()["tenants/globex/word.rego"]), 422},
		{"the platform's package in its own folder", "author", helper("tenants/acme/regions.rego", "package xiezhi.platform.regions\n"), 422},
		{"two of one path", "author", object{"candidate": []object{{"path": "tenants/acme/word.rego", "content": mine}, {"path": "tenants/acme/word.rego", "content": mine}}}, 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			if a := s.evaluate(row.as, row.body); a.status != row.status {
				t.Errorf("%d, want %d: %s", a.status, row.status, a.text)
			} else if row.status != 200 {
				checkNoSecret(t, a)
			}
		})
	}
	if got := s.release(); got != 1 {
		t.Errorf("release %v: a candidate is nobody's release", got)
	}
	if a := s.evaluate("author", object{}); strings.Contains(a.text, "tenants/acme/word") || strings.Contains(a.text, "globex") {
		t.Errorf("a candidate stayed, or the explanation shows other tenants' policies: %s", a.text)
	}
}

// A candidate runs under the budget: what never ends denies in time, and
// holds nobody else up.
func TestACandidateRunsUnderTheBudget(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for name, body := range map[string]string{
		"many steps":  `it := count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a == b])`,
		"much memory": `it := count(numbers.range(1, 900000000))`,
		"long texts":  `it := count(concat("", [x | some a in numbers.range(1, 100000); some b in numbers.range(1, 1000); x := sprintf("%d%d", [a, b])]))`,
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			began := time.Now()
			a := s.evaluate("author", object{"candidate": object{"path": "tenants/acme/spy.rego", "content": spy("", body)}})
			if d := s.decisionOf(a); d.Effect != "DENY" || !d.has("tenants/acme/spy/evaluation_error") {
				t.Errorf("%d %s", a.status, a.text)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %s", took)
			}
			if d := s.decide("pep", instance(engineer())); d.Effect != "ALLOW" {
				t.Errorf("somebody else's decision after it: %+v", d)
			}
		})
	}
}
