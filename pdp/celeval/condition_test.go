package celeval_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
)

func TestConditionsSeeTheRequest(t *testing.T) {
	in := input(t, request)
	for _, test := range []struct {
		condition string
		want      string // "true", "false", or what the error contains
	}{
		{"tenant == 'acme' && action == 'agent.register'", "true"},
		{"subject.type == 'user' && subject.id == 'li.wei' && resource.type == 'ecs.instance'", "true"},
		{"'engineer' in subject.properties.roles", "true"},
		{"'admin' in subject.properties.roles", "false"},
		{"resource.properties.ingress.exists(i, i.port == 22 && i.cidrs.exists(c, c == '0.0.0.0/0'))", "true"},
		{"resource.properties.ingress.all(i, i.port == 443)", "false"},
		{"resource.properties.ingress[1].port == 22", "true"},
		{"resource.properties.ingress[2].port == 22", "index out of bounds: 2"},
		{"resource.properties.ingress[0].cidrs.all(c, cidr('203.0.0.0/8').containsCIDR(c))", "true"},
		{"resource.properties.ingress.size() == 2 && size(resource.properties.tags) == 1", "true"},
		{"resource.properties.tags['itsm:owner'] == subject.id", "true"},
		{"has(resource.properties.tags.`cost-centre`) || 'itsm:owner' in resource.properties.tags", "true"},
		{"resource.properties.tags == {'itsm:owner': 'li.wei'}", "true"},
		{"{'itsm:owner': 'li.wei'} == resource.properties.tags", "true"},
		{"resource.properties.ingress[0].cidrs == ['203.0.113.0/24']", "true"},
		{"['203.0.113.0/24'] == resource.properties.ingress[0].cidrs", "true"},
		{"(resource.properties.ingress[0].cidrs + ['x']).size() == 2", "true"},
		{"(['x'] + resource.properties.ingress[0].cidrs).size() == 2", "true"},
		{"resource.properties.tags in ['a', 'b']", "false"}, // an object is not a Go map key
		{"resource.properties.tags.exists(k, k == 'itsm:owner')", "true"},
		{"resource.properties.ingress.map(i, i.port) == [443, 22]", "true"},
		{"resource.properties.tags in [{'itsm:owner': 'li.wei'}]", "true"},
		{"type(resource.properties.tags) == map && type(resource.properties.ingress) == list", "true"},

		// Numbers (docs/semantics.md).
		{"resource.properties.cpu == 2 && resource.properties.cpu == 2.0 && resource.properties.memory_gib == 4", "true"},
		{"type(resource.properties.memory_gib) == int && type(resource.properties.load) == double", "true"},
		{"resource.properties.memory_gib in [4, 8] && resource.properties.memory_gib in [4.0]", "true"},
		{"resource.properties.load < 1 && resource.properties.cpu > 1.5", "true"},
		{"resource.properties.tiny == 0.00001", "true"},
		{"resource.properties.big == 9007199254740991 && resource.properties.small == -9007199254740991", "true"},
		{"resource.properties.big > resource.properties.big - 1", "true"},
		{"math.greatest(resource.properties.cpu, 3) == 3", "true"},

		// Missing and null.
		{"resource.properties.disk > 100", "no such key: disk"},
		{"has(resource.properties.disk)", "false"},
		{"has(resource.properties.nothing)", "true"},
		{"resource.properties.nothing == null", "true"},
		{"resource.properties.nothing > 1", "no such overload"},
		{"has(resource.properties.disk.size)", "no such key: disk"},
		{"has(resource.properties.cpu.cores)", "no such key: cores"},
		{"resource.properties.cpu > 'a'", "no such overload"},
		{"resource.properties.cpu == 'a'", "false"},
		{"has(context.ticket)", "false"},
		{"context.run_id == 'run-7'", "true"},
		{"action_properties.size() == 0", "true"},
		{"3 in resource.properties.tags", "no such overload"},
		// An operand that does not matter may fail (CEL's own rule).
		{"tenant == 'acme' || resource.properties.disk > 1", "true"},
		{"resource.properties.disk > 1 && tenant == 'globex'", "false"},

		// Strings are bytes.
		{"resource.properties.nfc == resource.properties.nfd", "false"},
		{"subject.id == 'Li.Wei'", "false"},
		{"subject.id.upperAscii() == 'LI.WEI'", "true"},
		{"'B' < 'a' && 'z' < 'é'", "true"},
		{"subject.id.matches('^[a-z.]+$')", "true"},
		{"matches(subject.id, '^[0-9]+$')", "false"},
		{"resource.properties.cpu.matches('2')", "no such overload"},

		// The clock is the decision's.
		{"now == timestamp('2026-06-01T08:00:00Z')", "true"},
		{"now.getHours() == 8 && now.getHours('Asia/Shanghai') == 16", "true"},
		{"now < timestamp('2026-06-01T08:00:01Z') && now - duration('1h') < now", "true"},

		// A result that is no boolean.
		{"resource.properties.cpu", "gives int, want a boolean"},
		{"9223372036854775807 + resource.properties.cpu > 1", "overflow"},
	} {
		t.Run(test.condition, func(t *testing.T) {
			o := evaluate(t, compile(t, when(test.condition)), in)[0]
			switch got := found(o); {
			case test.want == "true" && (o.Err != nil || !slices.Equal(got, []string{"deny rule_1"})):
				t.Errorf("got %v, error %v", got, o.Err)
			case test.want == "false" && (o.Err != nil || len(got) != 0):
				t.Errorf("got %v, error %v", got, o.Err)
			case test.want == "true" || test.want == "false":
			case o.Err == nil || !strings.Contains(o.Err.Message, test.want) || o.Err.Cause != pdp.CausePolicyError || len(got) != 0:
				t.Errorf("got %v, error %v; want error with %q", got, o.Err, test.want)
			}
		})
	}
}

func TestAbsentPropertiesAndContextAreEmpty(t *testing.T) {
	bare := input(t, `{"tenant":"acme","subject":{"type":"user","id":"a"},"action":"x","resource":{"type":"t","id":"b"}}`)
	p := compile(t, when("!has(subject.properties.a) && !has(resource.properties.b) && !has(context.c) && !has(action_properties.d)"))
	if o := evaluate(t, p, bare)[0]; o.Err != nil || len(o.Findings) != 1 {
		t.Errorf("findings %v, error %v", o.Findings, o.Err)
	}
}

func TestConditionsThatAreRefused(t *testing.T) {
	for _, test := range []struct{ condition, want string }{
		{"action ==", "Syntax error"},
		{"'a", "Syntax error"},
		{"user == 'a'", "undeclared reference"},
		{"action == 5", "no matching overload"},
		{"action", "gives string, want a boolean"},
		{"1", "gives int, want a boolean"},
		{"null", "gives null"},
		{"context == {}", "context is used as a whole"},
		{"'a' in context", "context is used as a whole"},
		{"context.exists(k, k == 'a')", "context is used as a whole"},
		{"context[action] == 'a'", "context is used as a whole"},
		{"dyn(context).a", "context is used as a whole"},
		{".context == {}", "context is used as a whole"},
		{"[context][0].a == 1", "context is used as a whole"},
		{"{'c': context}.c.a == 1", "context is used as a whole"},
		{"(true ? context : resource).a == 1", "context is used as a whole"},
		{"[1].all(x, context[string(x)] == 1)", "context is used as a whole"},
		{"subject == resource", "subject is used as a whole"},
		{"subject.properties == {}", "subject.properties is used as a whole"},
		{"has(resource.properties)", "resource.properties is used as a whole"},
		{"resource['properties'][action] == 1", "resource.properties is used as a whole"},
		{"resource.properties[context.name] == 1", "resource.properties is used as a whole"},
		{"subject.roles == []", `no "roles"`},
		{"[1].exists(context, context == 1)", "would hide the input"},
		{"[1].all(subject, .subject.id == 'a')", "would hide the input"},
		{"action.replace('', action) == ''", "replace is not available"},
		{"[action].join(action) == ''", "join is not available"},
		{"'%s'.format([action]) == ''", "format is not available"},
		{"action.indexOf('a') == 1", "indexOf is not available"},
		{"action.matches(context.pattern)", "must be a literal"},
		{"matches(action, context.pattern)", "must be a literal"},
		{"action.matches('(')", "invalid matches argument"},
		{"action.matches('(a{1,100}){1,10}')", "exceeds limit"},
		{"now > timestamp('yesterday')", "invalid timestamp argument"},
		{"now - duration('soon') > now", "invalid duration argument"},
		{strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), "recursion limit"},
		{strings.Repeat("!", 9000) + "true", "at most 8192"},
		{"[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))", "nesting limit"},
	} {
		t.Run(test.condition[:min(len(test.condition), 60)], func(t *testing.T) {
			got := faults(t, when(test.condition))
			if !strings.Contains(got.Error(), test.want) {
				t.Errorf("got %v, want %q", got, test.want)
			}
			for _, f := range got {
				if f.File != "platform/test.policy.json" || f.Line != 1 || f.Policy != "platform/test" || f.Rule != "rule_1" {
					t.Errorf("fault %+v lacks its place", f)
				}
			}
		})
	}
}

func TestAFaultInALongConditionNamesItsLine(t *testing.T) {
	got := faults(t, files{"tenants/acme/a.policy.yaml": `id: a
rules:
  - effect: DENY
    condition: |
      action == 'a' &&
      context == {} &&
      nobody
  - effect: DENY
    condition: >
      nobody
`})
	for i, want := range []string{"a.policy.yaml:7: rule rule_1: condition: undeclared reference to 'nobody'", "a.policy.yaml:10: rule rule_2: "} {
		if !strings.Contains(got[i].String(), want) {
			t.Errorf("fault %d: %s, want %s", i, got[i], want)
		}
	}
	got = faults(t, files{"tenants/acme/a.policy.yaml": "id: a\nrules:\n  - effect: DENY\n    condition: |\n      action == 'a' &&\n      context == {}\n"})
	if len(got) != 1 || got[0].Line != 6 {
		t.Errorf("got %v, want line 6", got)
	}
}

// A list long enough that quadratic loops over it spend any budget.
func longRequest(t testing.TB) *pdp.Input {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, "%d,", i)
	}
	return input(t, `{"tenant":"acme","subject":{"type":"user","id":"a"},"action":"x","resource":{"type":"t","id":"b",
		"properties":{"n":[`+strings.TrimSuffix(b.String(), ",")+`],"long":"`+strings.Repeat("a", 40<<10)+`"}}}`)
}

const quadratic = "resource.properties.n.all(a, resource.properties.n.all(b, a + b >= 0))"

func TestACostlyConditionSpendsItsBudgetAndDenies(t *testing.T) {
	o := evaluate(t, compile(t, when(quadratic)), longRequest(t))[0]
	if o.Err == nil || o.Err.Cause != pdp.CauseBudgetSpent || !strings.Contains(o.Err.Message, "costs more than") {
		t.Errorf("error %v", o.Err)
	}
}

func TestMatchesRefusesATextTooLongToInterrupt(t *testing.T) {
	o := evaluate(t, compile(t, when("resource.properties.long.matches('a')")), longRequest(t))[0]
	if o.Err == nil || !strings.Contains(o.Err.Message, "too long for matches") {
		t.Errorf("error %v", o.Err)
	}
}

// expiring is a context that ends while Err is called for the asks-th time, and
// says so from the next call on: a condition is interrupted while it runs,
// without a clock.
type expiring struct {
	context.Context
	cancel context.CancelFunc
	asks   int
}

func (e *expiring) Err() error {
	if e.asks--; e.asks == 0 {
		e.cancel()
		return nil
	}
	return e.Context.Err()
}

func TestAContextThatEndsInterruptsAConditionAndTheRest(t *testing.T) {
	p := compile(t, files{
		"platform/a.policy.json": `{"id":"a","rules":[{"effect":"DENY","condition":"tenant == 'acme'"},{"effect":"DENY","condition":"` + quadratic + `"},{"effect":"DENY","condition":"true"}]}`,
		"platform/b.policy.json": `{"id":"b","rules":[{"effect":"DENY","condition":"true"}]}`,
	})
	inner, cancel := context.WithCancel(context.Background())
	ctx := &expiring{inner, cancel, 2}
	out := p.Evaluate(ctx, longRequest(t), p.Policies(), nil)
	if len(out) != 2 {
		t.Fatalf("%d outcomes, want 2", len(out))
	}
	if got := found(out[0]); !slices.Equal(got, []string{"deny rule_1"}) {
		t.Errorf("findings %v: what was answered before the end must stand", got)
	}
	for i, rule := range []string{"rule_2", "rule_1"} {
		if err := out[i].Err; err == nil || err.Cause != pdp.CauseBudgetSpent || err.Rule != rule || !strings.Contains(err.Message, "canceled") {
			t.Errorf("outcome %d: error %+v", i, err)
		}
	}
}

func TestReadsAreFoundInConditionsAndMessages(t *testing.T) {
	attributes := "attributes:\n  subject.roles: {trusted: true, source: directory}\n  resource.landing_zone: {trusted: true, source: cmdb}\n  subject.clearance: {trusted: true, source: hr}\n"
	release := func(document string) files {
		return files{"attributes.yaml": attributes, "platform/a.policy.yaml": document}
	}
	for _, test := range []struct{ name, document, want string }{
		{"select", "rules: [{effect: DENY, condition: \"context.a.b == 1 && 'x' in subject.properties.roles\"}]", "context.a subject.roles"},
		{"index", "rules: [{effect: DENY, condition: \"context['a']['b'] == 1 && resource['properties'].landing_zone == 'x'\"}]", "context.a resource.landing_zone"},
		{"has", "rules: [{effect: DENY, condition: 'has(context.a) || has(subject.properties.clearance)'}]", "context.a subject.clearance"},
		{"in a macro", "rules: [{effect: DENY, condition: 'resource.properties.list.exists(x, x == context.a)'}]", "context.a"},
		{"backquotes", "rules: [{effect: DENY, condition: 'context.`run-id` == 1'}]", "context.run-id"},
		{"leading dot", "rules: [{effect: DENY, condition: '.context.a == 1'}]", "context.a"},
		{"not an attribute", "rules: [{effect: DENY, condition: 'resource.properties.cpu > 1'}]", ""},
		{"message", "rules: [{effect: DENY, condition: 'true', message: {en: '{context.a} {resource.properties.landing_zone}', zh: '{context.b}'}}]", "context.a context.b resource.landing_zone"},
		{"declared too", "reads: [context.a, subject.roles]\nrules: [{effect: DENY, condition: 'context.b == 1'}]", "context.a context.b subject.roles"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := compile(t, release("id: a\n"+test.document+"\n"))
			if got := strings.Join(p.Policies()[0].Reads, " "); got != test.want {
				t.Errorf("reads %q, want %q", got, test.want)
			}
		})
	}
}

func TestTheClockIsHandedIn(t *testing.T) {
	p := compile(t, when("now >= timestamp('2026-06-01T08:00:00Z')"))
	in := input(t, request)
	before := *in
	before.Now = in.Now.Add(-time.Nanosecond).In(time.FixedZone("x", 3600))
	if evaluate(t, p, in)[0].Findings == nil || evaluate(t, p, &before)[0].Findings != nil {
		t.Error("the condition does not follow Input.Now")
	}
}

func TestValuesCompareAsTheirJSON(t *testing.T) {
	o := evaluate(t, compile(t, when("resource.properties.a == resource.properties.b")), input(t,
		`{"tenant":"acme","subject":{"type":"user","id":"a"},"action":"x","resource":{"type":"t","id":"b","properties":{"a":{"x":[1.0,{"y":null}]},"b":{"x":[1,{"y":null}]}}}}`))[0]
	if len(o.Findings) != 1 {
		t.Errorf("findings %v, error %v", o.Findings, o.Err)
	}
}
