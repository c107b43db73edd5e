package policytest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
)

func TestACaseHoldsOrTellsWhatCame(t *testing.T) {
	for _, row := range []struct {
		name, path, text string
		want             string // the difference; empty: it holds
	}{
		{"what is expected comes", "", one("    expect: {effect: ALLOW, reasons: [engineer], obligations: [], limits: [], route: null}\n"), ""},
		{"another effect", "", one("    expect: {effect: DENY}\n"), "effect: want DENY, got ALLOW"},
		{"a reason that does not come", "", one("    expect: {reasons: [engineer, too_large]}\n"), "reasons: want engineer, too_large, got engineer"},
		{"a reason too many", "", one("    expect: {reasons: []}\n"), "reasons: want none, got engineer"},
		{"merge changes the request", "", one("    merge: {resource: {properties: {cpu: 16}}}\n    expect: {effect: DENY, reasons: [too_large, engineer], paths: {too_large: /resource/properties/cpu}, obligations: [report_size]}\n"), ""},
		{"another path", "", one("    merge: {resource: {properties: {cpu: 16}}}\n    expect: {paths: {too_large: /resource}}\n"), "path of too_large: want /resource, got /resource/properties/cpu"},
		{"a path of a rule that is silent", "", one("    expect: {paths: {too_large: /resource/properties/cpu}}\n"), "path of too_large: want /resource/properties/cpu, got none"},
		{"set gives a real null, which fails", "", one("    set: {/resource/properties/cpu: null}\n    expect: {effect: DENY, reasons: [engineer, evaluation_error]}\n"), ""},
		{"merge removes, which fails", "", one("    merge: {resource: {properties: {cpu: null}}}\n    expect: {effect: DENY, reasons: [engineer, evaluation_error]}\n"), ""},
		{"a source that does not answer", "", one("    attributes: {subject.roles: null}\n    expect: {effect: DENY, reasons: [evaluation_error]}\n"), ""},
		{"a case's own answer", "", one("    now: 2026-01-01T13:00:00Z\n    attributes: {subject.roles: [dba]}\n    expect: {effect: DENY, reasons: []}\n"), ""},
		{"a trusted attribute in the request", "", one("    merge: {subject: {properties: {roles: [engineer]}}}\n    expect: {effect: DENY}\n"), "the request is refused: /subject/properties/roles"},
		{"an obligation of the policy alone", "", one("    now: 2026-01-01T23:00:00Z\n    expect: {effect: REVIEW, reasons: [engineer], obligations: []}\n"), ""},
		{"all policies, with a clock and a limit", "", "now: 2026-01-01T09:00:00Z\nattributes: {subject.roles: []}\n" + request +
			"cases: [{name: a, expect: {effect: ALLOW, reasons: [platform/hours/in_the_morning], limits: [ecs.calls], route: morning}}]\n", ""},
		{"all policies, the core's own reason", "", "now: 2026-01-01T13:00:00Z\nattributes: {subject.roles: []}\n" + request +
			"cases: [{name: a, expect: {effect: DENY, reasons: [no_allow], route: null}}]\n", ""},
		{"all policies, an obligation at night", "", "now: 2026-01-01T23:00:00Z\nattributes: {subject.roles: [engineer]}\n" + request +
			"cases: [{name: a, expect: {effect: REVIEW, reasons: [platform/hours/at_night, platform/sizes/engineer], obligations: [call_somebody]}}]\n", ""},
		{"no clock is midnight", "", "policy: platform/hours\n" + request + "cases: [{name: a, expect: {reasons: [in_the_morning], route: morning, limits: [ecs.calls]}}]\n", ""},
		{"another route", "", "policy: platform/hours\n" + request + "cases: [{name: a, expect: {route: noon}}]\n", "route: want noon, got morning"},
		{"a route where none is expected", "", "policy: platform/hours\n" + request + "cases: [{name: a, expect: {route: null}}]\n", "route: want none, got morning"},
		{"a tenant's case with another source", "tenants/acme/x_cases.yaml", "policy: tenants/acme/zones\nattributes: {resource.zone: closed}\n" + strings.Replace(request, "globex", "acme", 1) +
			"cases: [{name: a, expect: {reasons: [closed_zone]}}, {name: b, attributes: {resource.zone: null}, expect: {reasons: [evaluation_error]}}]\n", ""},
		{"an action can be changed in part", "", one("    set: {/action/properties: {dry_run: true}}\n    expect: {reasons: [engineer]}\n"), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := row.path
			if path == "" {
				path = "platform/x_cases.yaml"
			}
			r := run(t, release.with(files{path: row.text}), Options{NoCoverage: true})
			if len(r.Faults) > 0 {
				t.Fatal(told(r))
			}
			switch {
			case row.want == "" && (!r.OK() || r.Passed == 0):
				t.Errorf("got %q, want it to hold", told(r))
			case row.want != "" && (r.OK() || !strings.Contains(told(r), row.want)):
				t.Errorf("got %q, want %q", told(r), row.want)
			}
		})
	}
}

// Or no tenant could publish what the platform's cases do not foresee.
func TestATenantsPolicyChangesNoCaseOfThePlatform(t *testing.T) {
	closed := "id: closed\nname: Closed\nrules:\n  - {id: all, condition: 'true', effect: DENY, message: {en: No., zh: 不。}}\n"
	acme := strings.Replace(request, "globex", "acme", 1) + "attributes: {subject.roles: [engineer]}\n"
	with := release.with(files{
		"tenants/acme/closed.policy.yaml": closed,
		"platform/x_cases.yaml":           acme + "cases: [{name: a, expect: {effect: ALLOW, reasons: [platform/sizes/engineer, platform/hours/in_the_morning]}}]\n",
		"tenants/acme/x_cases.yaml":       "policy: tenants/acme/closed\n" + acme + "cases: [{name: a, expect: {effect: DENY, reasons: [all]}}]\n",
	})
	if r := run(t, with, Options{NoCoverage: true}); !r.OK() || r.Passed != 2 {
		t.Errorf("got %q, %d passed", told(r), r.Passed)
	}
}

func TestAFailureHasItsPlaceAndAllReasons(t *testing.T) {
	text := one("    merge: {resource: {properties: {cpu: 16}}}\n    expect: {effect: ALLOW}\n")
	r := run(t, release.with(files{"platform/x_cases.yaml": text}), Options{NoCoverage: true})
	if len(r.Failed) != 1 {
		t.Fatalf("got %d failures", len(r.Failed))
	}
	f := r.Failed[0]
	if f.File != "platform/x_cases.yaml" || f.Line != 9 || f.Name != "a case" || f.Policy != "platform/sizes" {
		t.Errorf("got %s:%d %q %q", f.File, f.Line, f.Name, f.Policy)
	}
	var rules []string
	for _, reason := range f.Reasons {
		rules = append(rules, reason.Policy+"/"+reason.Rule)
	}
	if want := []string{"platform/sizes/too_large", "platform/hours/in_the_morning", "platform/sizes/engineer"}; !slices.Equal(rules, want) {
		t.Errorf("got reasons %v, want %v", rules, want)
	}
	if want := `platform/x_cases.yaml:9: test case "a case": effect: want ALLOW, got DENY`; told(r) != want {
		t.Errorf("got %q, want %q", told(r), want)
	}
}

func TestCoverageNamesWhatNoCaseReaches(t *testing.T) {
	cases := files{"platform/sizes_cases.yaml": one("    expect: {reasons: [engineer]}\n")}
	r := run(t, release.with(cases), Options{Only: []string{"platform/sizes"}})
	if !r.OK() || r.Passed != 1 {
		t.Fatal(told(r))
	}
	want := []RuleCoverage{
		{Policy: "platform/sizes", Rule: "engineer", File: "platform/sizes.policy.yaml", Line: 4, Cases: 1, Branches: 2, Reached: 1},
		{Policy: "platform/sizes", Rule: "too_large", File: "platform/sizes.policy.yaml", Line: 8, Cases: 0, Branches: 2, Reached: 1},
	}
	if !slices.Equal(r.Coverage, want) {
		t.Errorf("got coverage %+v, want %+v", r.Coverage, want)
	}
	var uncovered []string
	for _, u := range r.Uncovered {
		uncovered = append(uncovered, u.String())
	}
	if want := []string{
		"platform/sizes.policy.yaml:5: platform/sizes/engineer: condition false is never reached",
		"platform/sizes.policy.yaml:9: platform/sizes/too_large: condition true is never reached",
	}; !slices.Equal(uncovered, want) {
		t.Errorf("got %q, want %q", uncovered, want)
	}

	whole := one("    expect: {reasons: [engineer]}\n") +
		"  - name: large\n    attributes: {subject.roles: []}\n    set: {/resource/properties/cpu: 9}\n    expect: {reasons: [too_large]}\n"
	r = run(t, release.with(files{"platform/sizes_cases.yaml": whole}), Options{Only: []string{"platform/sizes"}})
	if !r.OK() || len(r.Uncovered) != 0 || r.Passed != 2 {
		t.Errorf("got %q and %v uncovered, want all of it reached", told(r), r.Uncovered)
	}
}

func TestAReleaseWithoutCasesIsUncovered(t *testing.T) {
	r := run(t, release, Options{})
	if len(r.Coverage) != 5 || len(r.Uncovered) != 10 || r.Passed != 0 {
		t.Errorf("got %d rules and %d uncovered", len(r.Coverage), len(r.Uncovered))
	}
}

func TestOnlyChoosesByPolicyFileAndFolder(t *testing.T) {
	f := release.with(files{
		"platform/sizes_cases.yaml":     one("    expect: {effect: DENY}\n"),
		"platform/hours_cases.yaml":     "policy: platform/hours\n" + request + "cases: [{name: a, expect: {reasons: [in_the_morning]}}]\n",
		"tenants/acme/zones_cases.yaml": "policy: tenants/acme/zones\n" + strings.Replace(request, "globex", "acme", 1) + "cases: [{name: a, expect: {reasons: [evaluation_error]}}]\n",
	})
	for _, row := range []struct {
		only         []string
		passed       int
		failed       int
		policies     []string
		withoutCases bool
	}{
		{nil, 2, 1, []string{"platform/hours", "platform/sizes", "tenants/acme/zones"}, false},
		{[]string{"."}, 2, 1, []string{"platform/hours", "platform/sizes", "tenants/acme/zones"}, false},
		{[]string{"platform"}, 1, 1, []string{"platform/hours", "platform/sizes"}, false},
		{[]string{"platform/"}, 1, 1, []string{"platform/hours", "platform/sizes"}, false},
		{[]string{"platform/hours"}, 1, 0, []string{"platform/hours"}, false},
		{[]string{"platform/hours_cases.yaml"}, 1, 0, []string{"platform/hours"}, false},
		{[]string{"platform/hours.policy.yaml"}, 1, 0, []string{"platform/hours"}, false},
		{[]string{"tenants/acme", "platform/hours"}, 2, 0, []string{"platform/hours", "tenants/acme/zones"}, false},
		{[]string{"platform/hour"}, 0, 0, nil, true},
	} {
		r := run(t, f, Options{Only: row.only})
		var policies []string
		for _, c := range r.Coverage {
			if !slices.Contains(policies, c.Policy) {
				policies = append(policies, c.Policy)
			}
		}
		if r.Passed != row.passed || len(r.Failed) != row.failed || !slices.Equal(policies, row.policies) {
			t.Errorf("%v: got %d passed, %d failed, %v; %s", row.only, r.Passed, len(r.Failed), policies, told(r))
		}
	}
}

func TestAnEndedContextIsNotSuccess(t *testing.T) {
	release := compile(t, release.with(files{"platform/x_cases.yaml": one("    expect: {reasons: [engineer]}\n")}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := Run(ctx, release, Options{}); r.OK() || !strings.Contains(told(r), "stopped before this case") {
		t.Errorf("got %q", told(r))
	}
}

func TestUnitTestsCountAmongTheCases(t *testing.T) {
	release := compile(t, release)
	hit := Run(t.Context(), release, Options{UnitTests: func(_ context.Context, _ pdp.Program, _ time.Time, hits []int) ([]UnitTest, error) {
		for i := range hits {
			hits[i]++
		}
		return []UnitTest{{File: "platform/a_test.rego", Line: 3, Name: "test_a"}, {File: "platform/a_test.rego", Line: 5, Name: "test_b", Why: "not true"},
			{File: "platform/a_test.rego", Line: 7, Name: "todo_test_c", Skipped: true}}, nil
	}})
	if hit.Passed != 1 || hit.Skipped != 1 || len(hit.Failed) != 1 || hit.Ran() != 2 {
		t.Errorf("got %+v", hit)
	}
	// Every branch was reached, and yet no rule has spoken.
	if len(hit.Uncovered) != 5 || hit.Uncovered[0].What != "rule" {
		t.Errorf("got %v", hit.Uncovered)
	}
	if want := `platform/a_test.rego:5: test case "test_b": not true`; told(hit) != want {
		t.Errorf("got %q, want %q", told(hit), want)
	}
}

func TestAReportIsJSONWithoutNulls(t *testing.T) {
	text, err := json.Marshal(run(t, files{}, Options{}))
	if want := `{"passed":0,"skipped":0,"failed":[],"faults":[],"coverage":[],"uncovered":[]}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
}

func TestAnswersAreHeldToTheSchema(t *testing.T) {
	schema := compile(t, release).Attributes()
	answers, err := ReadAnswers("a.yaml", []byte("subject.roles: [engineer]\nresource.zone: null\n"), schema)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok, err := answers.Attribute(t.Context(), pdp.AttributeQuery{Name: "subject.roles"}); err != nil || !ok || v.Len() != 1 {
		t.Errorf("got %v %v %v, want the roles", v, ok, err)
	}
	if _, _, err := answers.Attribute(t.Context(), pdp.AttributeQuery{Name: "resource.zone"}); err == nil {
		t.Error("null answered")
	}
	if _, ok, err := answers.Attribute(t.Context(), pdp.AttributeQuery{Name: "resource.owner"}); ok || err != nil {
		t.Errorf("got %v %v, want no answer and no error", ok, err)
	}
	for _, text := range []string{"subject.rolls: []", "[]", "subject.roles: []\nsubject.roles: []", ""} {
		if answers, err := ReadAnswers("a.yaml", []byte(text), schema); err == nil {
			t.Errorf("%q: got %v, want a fault", text, answers)
		}
	}
}
