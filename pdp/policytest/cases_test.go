package policytest

import (
	"strings"
	"testing"
)

// one wraps a case into a file about the sizes policy.
func one(text string) string {
	return "policy: platform/sizes\nattributes: {subject.roles: [engineer]}\n" + request + "cases:\n  - name: a case\n" + text
}

func TestWrongCaseFilesAreFaultsWithTheirLine(t *testing.T) {
	const good = "    expect: {reasons: [engineer]}\n"
	for _, row := range []struct {
		name, path, text string
		want             string // begins the first fault
	}{
		{"unknown member of the file", "", "polcy: platform/sizes\n" + request + "cases: [{name: a, expect: {reasons: []}}]\n", "platform/x_cases.yaml:1: /polcy: unknown member"},
		{"unknown member of a case", "", one(good + "    explain: true\n"), "platform/x_cases.yaml:11: /cases/0/explain: unknown member"},
		{"unknown member of what is expected", "", one("    expect: {reason: [engineer]}\n"), "platform/x_cases.yaml:10: /cases/0/expect/reason: unknown member"},
		{"a member given twice", "", one(good + good), `platform/x_cases.yaml:11: member "expect" is given twice`},
		{"no YAML", "", "policy: [", "platform/x_cases.yaml:1: not YAML"},
		{"nothing", "", "", "platform/x_cases.yaml: the file is empty"},
		{"two documents", "", one(good) + "---\na: b\n", "platform/x_cases.yaml:11: want one YAML document"},
		{"an alias", "", "policy: &p platform/sizes\n", "platform/x_cases.yaml:1: anchors and aliases are not read"},
		{"a tag", "", "policy: !!binary cGxhdGZvcm0=\n", "platform/x_cases.yaml:1: tag !!binary"},
		{"a member that is no string", "", one("    expect: {reasons: []}\n    merge: {resource: {properties: {1: 2}}}\n"), `platform/x_cases.yaml:11: member name "1"`},
		{"a number no request can carry", "", one(good + "    set: {/resource/properties/cpu: 9007199254740993}\n"), "platform/x_cases.yaml:11: 9007199254740993 is not a number"},
		{"a number JSON has not", "", one(good + "    set: {/resource/properties/cpu: .inf}\n"), "platform/x_cases.yaml:11: .inf is not a number"},
		{"no cases", "", request, "platform/x_cases.yaml:1: /cases: want a list"},
		{"an empty list of cases", "", request + "cases: []\n", "platform/x_cases.yaml:6: /cases: want a list"},
		{"no name", "", request + "cases:\n  - expect: {reasons: []}\n", "platform/x_cases.yaml:7: /cases/0/name: want a string"},
		{"a name given twice", "", one(good) + "  - name: a case\n" + good, `platform/x_cases.yaml:11: case "a case" is named like the one in line 9`},
		{"nothing expected", "", one("    expect: {}\n"), "platform/x_cases.yaml:10: /cases/0/expect: a case must expect something"},
		{"an effect that is none", "", one("    expect: {effect: allow}\n"), `platform/x_cases.yaml:10: /cases/0/expect/effect: effect "allow"`},
		{"a time that is none", "", one("    now: tomorrow\n" + good), "platform/x_cases.yaml:10: /cases/0/now: want a time"},
		{"a pointer that is none", "", one("    set: {cpu: 3}\n" + good), "platform/x_cases.yaml:10: /cases/0/set/cpu: want a JSON pointer"},
		{"a pointer to nowhere", "", one("    set: {/resource/tags/a: 3}\n" + good), "platform/x_cases.yaml:10: /cases/0/set/~1resource~1tags~1a: there is no member"},
		{"a request the wire refuses", "", one("    merge: {tenant: ACME}\n" + good), "platform/x_cases.yaml:9: /cases/0: its request is refused: /tenant"},
		{"an attribute nobody declares", "", one("    attributes: {subject.role: [a]}\n" + good), "platform/x_cases.yaml:10: /cases/0/attributes/subject.role: attributes.yaml does not declare"},
		{"an attribute without a source", "", one("    attributes: {resource.owner: a}\n" + good), "platform/x_cases.yaml:10: /cases/0/attributes/resource.owner: no source answers"},
		{"a policy that is not there", "", "policy: platform/size\n" + request + "cases: [{name: a, expect: {reasons: []}}]\n", "platform/x_cases.yaml:1: /policy: there is no policy platform/size"},
		{"a policy nowhere", "", "policy: sizes\n" + request + "cases: [{name: a, expect: {reasons: []}}]\n", `platform/x_cases.yaml:1: /policy: "sizes"`},
		{"a self policy from outside", "", "policy: self/rights\n" + request + "cases: [{name: a, expect: {reasons: []}}]\n", "platform/x_cases.yaml:1: /policy: self policies are asked by cases under self/"},
		{"a tenant's policy from the platform", "", "policy: tenants/acme/zones\n" + request + "cases: [{name: a, expect: {reasons: []}}]\n", "platform/x_cases.yaml:1: /policy: cases of the platform are answered without any tenant's policies"},
		{"a platform policy from self", "self/x_cases.yaml", "policy: platform/sizes\n" + request + "cases: [{name: a, expect: {reasons: []}}]\n", "self/x_cases.yaml:1: /policy: self policies are asked by cases under self/"},
		{"a silent source in self", "self/x_cases.yaml", request + "attributes: {subject.roles: null}\ncases: [{name: a, expect: {reasons: []}}]\n", "self/x_cases.yaml:6: /attributes/subject.roles: the server supplies"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := row.path
			if path == "" {
				path = "platform/x_cases.yaml"
			}
			r := run(t, release.with(files{path: row.text}), Options{NoCoverage: true})
			if r.OK() || len(r.Faults) == 0 || !strings.HasPrefix(r.Faults[0].String(), row.want) {
				t.Errorf("got %q, want it to begin with %q", told(r), row.want)
			}
			if r.Passed != 0 && !strings.Contains(row.name, "twice") {
				t.Errorf("%d cases ran", r.Passed)
			}
		})
	}
}

func TestATenantsCasesShowNothingOfAnotherTenant(t *testing.T) {
	const about = "policy: tenants/acme/zones\n"
	foreign := release.with(files{"tenants/globex/x_cases.yaml": about + request + "cases: [{name: a, expect: {reasons: []}}]\n"})
	if r := run(t, foreign, Options{}); !strings.Contains(told(r), "cannot be about a policy of another tenant") || r.Passed+len(r.Failed) != 0 {
		t.Errorf("a case about another tenant's policy: got %q", told(r))
	}
	asking := release.with(files{"tenants/acme/x_cases.yaml": request + "cases: [{name: a, expect: {reasons: []}}]\n"})
	if r := run(t, asking, Options{}); !strings.Contains(told(r), "cases of tenant acme cannot ask for tenant globex") || r.Passed+len(r.Failed) != 0 {
		t.Errorf("a case that asks for another tenant: got %q", told(r))
	}
}

func TestManyFaultsLetNothingThrough(t *testing.T) {
	var text strings.Builder
	text.WriteString("cases:\n" + strings.Repeat("  - {}\n", maxFaults))
	text.WriteString("  - {name: a, merge: {tenant: globex, subject: {type: user, id: a}, action: x, resource: {type: y, id: z}}, expect: {effect: ALLOW}}\n")
	r := run(t, release.with(files{"tenants/acme/x_cases.yaml": text.String()}), Options{})
	if r.Ran() != 0 || len(r.Faults) != maxFaults {
		t.Errorf("%d cases ran, %d faults; want none and %d", r.Ran(), len(r.Faults), maxFaults)
	}
}

func TestAnUnquotedDateIsItsText(t *testing.T) {
	d := readDocument("x", []byte("{a: 2026-06-01, b: 2026-06-01T08:00:00Z, c: yes, d: 0x10}"))
	got := string(d.value.AppendJSON(nil))
	if want := `{"a":"2026-06-01","b":"2026-06-01T08:00:00Z","c":"yes","d":null}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(d.faults) != 1 || !strings.Contains(d.faults[0].Message, "0x10") {
		t.Errorf("faults: %v", d.faults)
	}
}
