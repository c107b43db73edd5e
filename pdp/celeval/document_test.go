package celeval_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// The example of X8, letter for letter.
const seed = `{"id":"policy-001","name":"Agent registration","version":"1.0",
 "rules":[{"condition":"action == 'agent.register'","effect":"REVIEW"}],
 "scope":{"business_system":"tianshu"}}`

func TestTheSeedDocumentAsksForReviewInThePlatformLayer(t *testing.T) {
	p := compile(t, files{"platform/agent.policy.json": seed})
	policy := p.Policies()[0]
	if policy.ID != "platform/policy-001" || policy.Layer != pdp.LayerPlatform || policy.Language != "cel" ||
		policy.Title.EN != "Agent registration" || policy.Scope.BusinessSystem != "tianshu" || policy.File != "platform/agent.policy.json" {
		t.Errorf("policy %+v", policy)
	}
	r := policy.Rules[0]
	if r.ID != "rule_1" || r.Kind != pdp.KindReview || r.Admits || r.Message.EN != "Agent registration" || r.Line != 2 {
		t.Errorf("rule %+v", r)
	}
	if got := found(evaluate(t, p, input(t, request))[0]); !slices.Equal(got, []string{"review rule_1"}) {
		t.Errorf("findings %v", got)
	}
}

const whole = `
id: everything
name: Everything
version: "2.3"
title: {en: Everything there is, zh: 应有尽有}
scope: {actions: ["ecs.*", agent.register], resource_types: [ecs.instance], business_system: tianshu}
reads: [context.run_id]
unbound: [run_id]
masks: [/resource/properties/user_data]
audit: strict
stale_bound: 90m
rules:
  - id: big
    condition: resource.properties.cpu >= 2
    effect: REVIEW
    title: {en: Big, zh: 大}
    message: {en: "{resource.properties.cpu} cores", zh: "{resource.properties.cpu} 核"}
    severity: high
    requirement: [L11, X8]
    admits: false
    template: owner
    path: /resource/properties/cpu
    obligations:
      - id: encrypt_at_rest
      - {id: retention, must: false, params: {days: 30, deep: [1.5, null, true, x]}}
    limits:
      - {key: plugin.calls, rate: 0.5, burst: 10, window: 1m, quota: {max: 100, reset: day}, cost: 2}
    route: {pool: pool-a, standby: pool-b}
  - condition: "true"
    effect: DENY
    waivable: true
    template: owner
  - condition: |
      tenant == 'acme'
    obligations: [{id: audit}]
  - condition: "true"
    limits: [{key: k, rate: 1}]
  - condition: "true"
    route: {pool: pool-a}
`

func TestADocumentCarriesAllItsMembers(t *testing.T) {
	p := compile(t, files{"tenants/acme/e.policy.yaml": whole, "approvals/owner.yaml": "owner"})
	policy := p.Policies()[0]
	if policy.ID != "tenants/acme/everything" || policy.Layer != pdp.LayerTenant || policy.Tenant != "acme" ||
		policy.Title != (pdp.Text{EN: "Everything there is", ZH: "应有尽有"}) ||
		!slices.Equal(policy.Scope.Actions, []string{"ecs.*", "agent.register"}) || !slices.Equal(policy.Scope.ResourceTypes, []string{"ecs.instance"}) ||
		!slices.Equal(policy.Reads, []string{"context.run_id"}) || !slices.Equal(policy.Unbound, []string{"run_id"}) ||
		!slices.Equal(policy.Masks, []string{"/resource/properties/user_data"}) || policy.Audit != pdp.Strict || policy.StaleBound != 90*time.Minute {
		t.Errorf("policy %+v", policy)
	}
	big := policy.Rules[0]
	if big.ID != "big" || big.Kind != pdp.KindReview || big.Title.ZH != "大" || big.Message.ZH != "{resource.properties.cpu} 核" ||
		big.Severity != "high" || !slices.Equal(big.Requirement, []string{"L11", "X8"}) || big.Admits || big.Template != "owner" || big.Line != 13 {
		t.Errorf("rule %+v", big)
	}
	deny := policy.Rules[1]
	if deny.ID != "rule_2" || deny.Kind != pdp.KindDeny || !deny.Waivable || deny.Title.EN != "Everything there is" {
		t.Errorf("rule %+v", deny)
	}
	for i, kind := range []pdp.RuleKind{pdp.KindObligation, pdp.KindLimit, pdp.KindRoute} {
		if r := policy.Rules[2+i]; r.Kind != kind {
			t.Errorf("rule %s is %s, want %s", r.ID, r.Kind, kind)
		}
	}

	o := evaluate(t, p, input(t, request))[0]
	if got := found(o); !slices.Equal(got, []string{"review big", "deny rule_2"}) || o.Findings[0].Path != "/resource/properties/cpu" {
		t.Errorf("findings %v", o.Findings)
	}
	if len(o.Obligations) != 3 || o.Obligations[0].Rule != "big" || !o.Obligations[0].Must || o.Obligations[0].Params.Kind() != authz.KindObject ||
		o.Obligations[1].Must || !o.Obligations[1].Params.Equal(authz.MustValue(map[string]any{"days": 30, "deep": []any{1.5, nil, true, "x"}})) ||
		o.Obligations[2].Policy != "tenants/acme/everything" || o.Obligations[2].Rule != "rule_3" {
		t.Errorf("obligations %+v", o.Obligations)
	}
	if l := o.Limits[0]; len(o.Limits) != 2 || l.Key != "plugin.calls" || l.Rate != 0.5 || l.Burst != 10 || l.Window != "1m" || l.Cost != 2 ||
		l.Quota.Max != 100 || l.Quota.Reset != "day" || l.Rule != "big" {
		t.Errorf("limits %+v", o.Limits)
	}
	if len(o.Routes) != 2 || o.Routes[0] != (authz.Route{Policy: "tenants/acme/everything", Rule: "big", Pool: "pool-a", Standby: "pool-b"}) {
		t.Errorf("routes %+v", o.Routes)
	}
}

func TestAdmitsIsTheDefaultInTenantsDocumentsOnly(t *testing.T) {
	for _, test := range []struct {
		file, rule string
		want       bool
	}{
		{"tenants/acme/a.policy.yaml", `{effect: REVIEW, condition: "true"}`, true},
		{"tenants/acme/a.policy.yaml", `{effect: REVIEW, condition: "true", admits: false}`, false},
		{"tenants/acme/a.policy.yaml", `{effect: DENY, condition: "true"}`, false},
		{"platform/a.policy.yaml", `{effect: REVIEW, condition: "true"}`, false},
		{"platform/a.policy.yaml", `{effect: REVIEW, condition: "true", admits: true}`, true},
	} {
		p := compile(t, files{test.file: "id: a\nrules: [" + test.rule + "]\n"})
		if got := p.Policies()[0].Rules[0].Admits; got != test.want {
			t.Errorf("%s %s: admits %v", test.file, test.rule, got)
		}
	}
}

func TestAFaultyDocumentSaysWhere(t *testing.T) {
	const rule = "rules: [{effect: DENY, condition: 'true'}]\n"
	for _, test := range []struct {
		name, file, text string
		line             int
		want             string
	}{
		{"unknown member", "platform/a.policy.yaml", "id: a\n" + rule + "extra: 1\n", 3, `unknown member "extra"; it has audit, id, masks`},
		{"unknown member of a rule", "platform/a.policy.json", "{\"id\":\"a\",\n\"rules\":[\n{\"effect\":\"DENY\",\"condition\":\"true\",\n\"when\":1}]}", 4, `rule rule_1: rule: unknown member "when"`},
		{"duplicate member, JSON", "platform/a.policy.json", "{\"id\":\"a\",\n\"rules\":[{\"effect\":\"ALLOW\",\n\"condition\":\"true\",\n\"effect\":\"DENY\"}]}", 4, "given twice"},
		{"duplicate member, YAML", "platform/a.policy.yaml", "id: a\nrules:\n  - effect: ALLOW\n    condition: 'true'\n    effect: DENY\n", 5, "given twice"},
		{"wrong type", "platform/a.policy.yaml", "id: a\nversion: 1.0\n" + rule, 2, "version: want a string, not the number 1.0"},
		{"a date", "platform/a.policy.yaml", "id: a\nversion: 2026-01-01\n" + rule, 2, "version: want a string, not the date 2026-01-01"},
		{"null", "platform/a.policy.json", "{\"id\":\"a\",\"name\":null,\"rules\":[{\"effect\":\"DENY\",\"condition\":\"true\"}]}", 1, "name: want a string, not null"},
		{"no id", "platform/a.policy.yaml", rule, 1, `"id" is required`},
		{"an id that leaves its folder", "platform/a.policy.yaml", "id: ../tenants/acme/a\n" + rule, 1, "want letters, digits"},
		{"an id with a slash", "platform/a.policy.yaml", "id: a/b\n" + rule, 1, "want letters, digits"},
		{"no rules", "platform/a.policy.yaml", "id: a\n", 1, `"rules" is required`},
		{"empty rules", "platform/a.policy.yaml", "id: a\nrules: []\n", 2, "decides nothing"},
		{"no condition", "platform/a.policy.yaml", "id: a\nrules:\n  - effect: REVIEW\n", 3, `"condition" is required`},
		{"an empty condition", "platform/a.policy.yaml", "id: a\nrules:\n  - effect: REVIEW\n    condition: ' '\n", 4, "must not be empty"},
		{"a boolean condition", "platform/a.policy.yaml", "id: a\nrules:\n  - effect: REVIEW\n    condition: true\n", 4, "want a string, not a boolean"},
		{"no effect", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n", 3, `"effect" is required`},
		{"an effect in small letters", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: deny, condition: 'true'}\n", 3, "want ALLOW, REVIEW, DENY"},
		{"two rules of one id", "platform/a.policy.yaml", "id: a\nrules:\n  - {id: x, effect: DENY, condition: 'true'}\n  - {id: x, effect: DENY, condition: 'true'}\n", 4, "already another rule's"},
		{"an id that is another's default", "platform/a.policy.yaml", "id: a\nrules:\n  - {id: rule_2, effect: DENY, condition: 'true'}\n  - {effect: DENY, condition: 'true'}\n", 4, "already another rule's"},
		{"a name of the core", "platform/a.policy.yaml", "id: a\nrules:\n  - {id: evaluation_error, effect: DENY, condition: 'true'}\n", 3, "the decision core speaks"},
		{"a waivable review", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: REVIEW, condition: 'true', waivable: true}\n", 3, "only a DENY can be waived"},
		{"an admitting deny", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: DENY, condition: 'true', admits: false}\n", 3, "only a REVIEW admits"},
		{"a template nobody asks with", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: DENY, condition: 'true', template: t}\n", 3, "only a REVIEW or a waivable DENY"},
		{"a template that is not there", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: REVIEW, condition: 'true', template: t}\n", 3, `template "t" is not in approvals/`},
		{"a path outside the request", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: DENY, condition: 'true', path: /password}\n", 3, "want a JSON pointer into the request"},
		{"a severity nobody knows", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: DENY, condition: 'true', severity: huge}\n", 3, "want low, medium, high, critical"},
		{"a placeholder that leads nowhere", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: DENY, condition: 'true', message: {en: 'Port {port}'}}\n", 3, "placeholder {port}"},
		{"a placeholder beyond a name", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: DENY, condition: 'true', message: {en: '{action}'}}\n", 3, "placeholder {action}"},
		{"a placeholder with a slash", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: DENY, condition: 'true', message: {en: '{resource.properties.a/b}'}}\n", 3, "placeholder {resource.properties.a/b}"},
		{"a placeholder for everything", "platform/a.policy.yaml", "id: a\nrules:\n  - {effect: DENY, condition: 'true', message: {zh: '{context}'}}\n", 3, "context is used as a whole"},
		{"an obligation without id", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    obligations:\n      - {must: true}\n", 5, `"id" is required`},
		{"params that are a list", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    obligations:\n      - {id: x, params: []}\n", 5, "params: want an object"},
		{"a parameter that is a date", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    obligations:\n      - {id: x, params: {d: 2026-01-01}}\n", 5, "put it in quotes"},
		{"a parameter given twice", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    obligations:\n      - {id: x, params: {d: 1, d: 2}}\n", 5, "given twice"},
		{"a hexadecimal parameter", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    obligations:\n      - {id: x, params: {d: 0x10}}\n", 5, "not a JSON number"},
		{"a limit that bounds nothing", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    limits: [{key: k}]\n", 4, "it bounds nothing"},
		{"a negative rate", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    limits: [{key: k, rate: -1}]\n", 4, "above 0"},
		{"half a burst", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    limits: [{key: k, burst: 1.5}]\n", 4, "an integer above 0"},
		{"a reset nobody knows", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    limits: [{key: k, quota: {max: 1, reset: week}}]\n", 4, "want hour, day, month"},
		{"a route without a pool", "platform/a.policy.yaml", "id: a\nrules:\n  - condition: 'true'\n    route: {standby: b}\n", 4, `"pool" is required`},
		{"a pattern with two stars", "platform/a.policy.yaml", "id: a\nscope: {actions: ['*.create*']}\n" + rule, 2, "one * at its end"},
		{"a bound that is no time", "platform/a.policy.yaml", "id: a\nstale_bound: soon\n" + rule, 2, "want a duration above 0"},
		{"a bound of nothing", "platform/a.policy.yaml", "id: a\nstale_bound: 0s\n" + rule, 2, "want a duration above 0"},
		{"an audit nobody knows", "platform/a.policy.yaml", "id: a\naudit: often\n" + rule, 2, "want strict, buffered"},
		{"a read that is no attribute", "platform/a.policy.yaml", "id: a\nreads: [subject.roles]\n" + rule, 2, "an attribute that attributes.yaml declares"},
		{"a read of everything", "platform/a.policy.yaml", "id: a\nreads: [context]\n" + rule, 2, "want context.<member>"},
		{"unbound but not read", "platform/a.policy.yaml", "id: a\nunbound: [run_id]\n" + rule, 2, "no rule reads context.run_id"},
		{"an anchor", "platform/a.policy.yaml", "id: &a a\nname: *a\n" + rule, 1, "anchors, aliases"},
		{"a merge key", "platform/a.policy.yaml", "id: a\nscope:\n  <<: {actions: [x]}\n" + rule, 3, "anchors, aliases and merge keys"},
		{"a tag", "platform/a.policy.yaml", "id: a\nname: !!binary aGk=\n" + rule, 2, "tags are not read"},
		{"two documents", "platform/a.policy.yaml", "id: a\n" + rule + "---\nid: b\n", 3, "one file holds one rule document"},
		{"an empty file", "platform/a.policy.yaml", "", 1, "the file is empty"},
		{"only a comment", "platform/a.policy.yaml", "# nothing\n", 1, "the file is empty"},
		{"not YAML", "platform/a.policy.yaml", "id: a\nrules: [\n", 2, "not YAML"},
		{"not JSON", "platform/a.policy.json", "{\"id\":\"a\",\n\"rules\":[}\n", 2, "not JSON"},
		{"YAML in a JSON file", "platform/a.policy.json", "id: a\n" + rule, 1, "not JSON"},
		{"a JSON file cut short", "platform/a.policy.json", "{\"id\":\"a\",\n\"rules\":[", 2, "unexpected EOF"},
		{"text after the JSON", "platform/a.policy.json", seed + "{}", 1, "unexpected text after"},
		{"a trailing comma", "platform/a.policy.json", "{\"id\":\"a\",}", 1, "not JSON"},
		{"not UTF-8", "platform/a.policy.json", "{\"id\":\"a\xff\"}", 0, "not valid UTF-8"},
		{"half a surrogate pair", "platform/a.policy.json", "{\"id\":\"a\",\n\"name\":\"\\ud800\"}", 2, "surrogate"},
		{"nested too deep", "platform/a.policy.json", strings.Repeat("[", 100_000), 1, "nested deeper"},
		{"nested too deep, YAML", "platform/a.policy.yaml", "id: a\nrules: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), 2, "nested deeper"},
		{"too long", "platform/a.policy.yaml", "id: a\n#" + strings.Repeat("x", 1<<20), 0, "at most 1048576"},
		{"a list", "platform/a.policy.json", "[]", 1, "document: want an object, not a list"},
		{"in self/", "self/a.policy.json", seed, 0, "written in Cedar"},
		{"below a folder", "platform/lib/a.policy.json", seed, 0, "in platform/ and tenants/<tenant>/ only"},
		{"a tenant that cannot be", "tenants/Acme/a.policy.json", seed, 0, "in platform/ and tenants/<tenant>/ only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := faults(t, files{test.file: test.text})
			i := slices.IndexFunc(all, func(f pdp.Fault) bool { return strings.Contains(f.String(), test.want) })
			if i < 0 {
				t.Fatalf("got %v, want %q", all, test.want)
			}
			if all[i].File != test.file || all[i].Line != test.line {
				t.Errorf("fault on %s:%d, want line %d", all[i].File, all[i].Line, test.line)
			}
		})
	}
}

func TestEveryFaultIsReported(t *testing.T) {
	all := faults(t, files{
		"platform/a.policy.yaml": "id: a\nextra: 1\nrules:\n  - {effect: DENY, condition: nobody}\n  - {effect: maybe, condition: 'true'}\n",
		"platform/b.policy.yaml": "id: b\nrules: 7\n",
	})
	if len(all) != 4 {
		t.Errorf("%d faults: %v", len(all), all)
	}
}

func TestTwoDocumentsOfOneIDAreRefused(t *testing.T) {
	all := faults(t, files{"platform/a.policy.json": seed, "platform/b.policy.json": seed, "tenants/acme/c.policy.json": seed})
	if len(all) != 1 || all[0].File != "platform/b.policy.json" || !strings.Contains(all[0].Message, "platform/a.policy.json") {
		t.Errorf("faults %v", all)
	}
}

func TestJSONThatYAMLCannotReadIsRead(t *testing.T) {
	p := compile(t, files{"platform/a.policy.json": "{\t\"id\":\"a\",\n\t\"name\":\"\\ud83d\\ude00 \\/\",\n\t\"rules\":[{\"condition\":\"true\",\t\"effect\":\"DENY\"}]}"})
	if got := p.Policies()[0].Title.EN; got != "😀 /" {
		t.Errorf("name %q", got)
	}
}

func TestADigestFollowsTextTemplateAndRuleAndNothingElse(t *testing.T) {
	two := func(condition string) string {
		return "id: a\nrules:\n  - {effect: REVIEW, condition: \"" + condition + "\", template: owner}\n  - {effect: REVIEW, condition: 'true'}\n"
	}
	base := files{"platform/a.policy.yaml": two("tenant == 'acme'"), "approvals/owner.yaml": "x", "tables/t.yaml": "tenants: {acme: {a: 1}}\n"}
	with := func(path, text string) files {
		changed := files{path: text}
		for p, t := range base {
			if _, ok := changed[p]; !ok {
				changed[p] = t
			}
		}
		return changed
	}
	rules := compile(t, base).Policies()[0].Rules
	for _, test := range []struct {
		name          string
		release       files
		first, second bool // whether the digest stays
	}{
		{"again", base, true, true},
		{"another table", with("tables/t.yaml", "tenants: {acme: {a: 2}}\n"), true, true},
		{"another document", with("platform/b.policy.json", seed), true, true},
		{"another template text", with("approvals/owner.yaml", "y"), false, true},
		{"another condition", with("platform/a.policy.yaml", two("tenant == 'globex'")), false, false},
	} {
		changed := compile(t, test.release).Policies()[0].Rules
		if (changed[0].Digest == rules[0].Digest) != test.first || (changed[1].Digest == rules[1].Digest) != test.second {
			t.Errorf("%s: digests stay %v %v", test.name, changed[0].Digest == rules[0].Digest, changed[1].Digest == rules[1].Digest)
		}
	}
	if rules[0].Digest == rules[1].Digest {
		t.Error("two rules of one document share a digest")
	}
}
