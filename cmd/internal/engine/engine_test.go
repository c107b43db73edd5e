package engine

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/policytest"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

type files map[string]string

func content(t *testing.T, f files) *bundles.Content {
	t.Helper()
	var list []bundles.File
	for path, data := range f {
		list = append(list, bundles.File{Path: path, Data: []byte(data)})
	}
	c, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	sizes = "id: sizes\nname: Sizes\nrules:\n  - {id: too_large, condition: resource.properties.cpu > 8, effect: DENY, message: {en: No., zh: 不。}}\n"
	cases = "policy: platform/sizes\nrequest: {tenant: acme, subject: {type: user, id: a}, action: x, resource: {type: y, id: z, properties: {cpu: 2}}}\n" +
		"cases: [{name: small, expect: {reasons: []}}]\n"
	ordinary = "title: {en: T, zh: 模板}\ndecide_by: 1h\ngrant_for: {default: 1h, ceiling: 1h}\nall_of:\n  - {title: {en: A, zh: 甲}, role: a, approvals: 1}\n"
	lib      = "package xiezhi.platform.lib.n\n\nlimit := 8\n"
	libTest  = "package xiezhi.platform.lib.n_test\n\nimport data.xiezhi.platform.lib.n\n\ntest_limit if {\n\tn.limit == 8\n}\n"
)

func TestTheGateNamesWhatIsWrongAndWhere(t *testing.T) {
	good := files{"platform/sizes.policy.yaml": sizes, "platform/sizes_cases.yaml": cases, "platform/lib/n.rego": lib, "platform/lib/n_test.rego": libTest}
	for _, row := range []struct {
		name, path, text string
		want             string
	}{
		{"everything holds", "platform/sizes.policy.yaml", sizes, ""},
		{"what no case reaches does not stop a release", "platform/more.policy.yaml", strings.ReplaceAll(sizes, "sizes", "more"), ""},
		{"a rule document that does not compile", "platform/sizes.policy.yaml", strings.Replace(sizes, "> 8", ">", 1), "platform/sizes.policy.yaml:4: "},
		{"a Rego file that does not compile", "platform/lib/n.rego", "package xiezhi.platform.lib.n\n\nlimit := ]\n", "platform/lib/n.rego:3: "},
		{"a Cedar file that does not compile", "platform/c.cedar", "\npermit (principal, action);\n", "platform/c.cedar:2: "},
		{"a template that nobody could answer", "approvals/t.yaml", "title: {en: T, zh: 模板}\ndecide_by: 1h\ngrant_for: {default: 1h, ceiling: 1h}\nall_of:\n  - {title: {en: A, zh: 甲}, role: a, approvals: 0}\n", "approvals/t.yaml:5: all_of/0: approvals"},
		{"an emergency template that is not there", "approvals/t.yaml", ordinary + "break_glass: fire\n", `approvals/t.yaml:6: break_glass: there is no approval template "fire"`},
		{"an emergency template that is for no emergency", "approvals/t.yaml", ordinary + "break_glass: t\n", `approvals/t.yaml:6: break_glass: there is no approval template "t"`},
		{"a card that takes no answer to the end", "approvals/t.yaml", strings.Replace(ordinary, "1h", "337h", 1) + "notify: [{channel: feishu, to: 'chat:oc_1'}]\n", "approvals/t.yaml:2: decide_by: at most 336h"},
		{"the longest card", "approvals/t.yaml", strings.Replace(ordinary, "1h", "336h", 1) + "notify: [{channel: feishu, to: 'chat:oc_1'}]\n", ""},
		{"a case that does not hold", "platform/sizes_cases.yaml", strings.Replace(cases, "[]", "[too_large]", 1), `platform/sizes_cases.yaml:3: test case "small": reasons: want too_large, got none`},
		{"a case that cannot be read", "platform/sizes_cases.yaml", cases + "more: 1\n", "platform/sizes_cases.yaml:4: /more: unknown member"},
		{"a Rego unit test that does not hold", "platform/lib/n.rego", strings.Replace(lib, "8", "9", 1), `platform/lib/n_test.rego:5: test case "test_limit": `},
		{"a Rego unit test that does not compile", "platform/lib/n_test.rego", strings.Replace(libTest, "n.limit", "m.limit", 1), "platform/lib/n_test.rego:6: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			candidate := files{row.path: row.text}
			for path, text := range good {
				if path != row.path {
					candidate[path] = text
				}
			}
			release, err := New().Gate(t.Context(), content(t, candidate), nil)
			if row.want == "" {
				if err != nil || release == nil {
					t.Fatalf("got %v, want it to pass", err)
				}
				return
			}
			var faults pdp.Faults
			if !errors.As(err, &faults) || release != nil || !strings.HasPrefix(faults[0].String(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestATenantsCasesHoldUpItsOwnReleasesOnly(t *testing.T) {
	veto := "request: {tenant: acme, subject: {type: user, id: a}, action: x, resource: {type: y, id: z, properties: {cpu: 9}}}\n" +
		"cases: [{name: large, expect: {effect: ALLOW}}]\n"
	candidate := content(t, files{"platform/sizes.policy.yaml": sizes, "platform/sizes_cases.yaml": cases, "tenants/acme/veto_cases.yaml": veto})
	for _, row := range []struct {
		changed []string
		passes  bool
	}{
		{[]string{"platform/sizes.policy.yaml"}, true},
		{[]string{"tables/t.yaml", "tenants/globex/x.rego"}, true},
		{[]string{"platform/sizes.policy.yaml", "tenants/acme/veto_cases.yaml"}, false},
		{nil, false},
	} {
		if _, err := New().Gate(t.Context(), candidate, row.changed); (err == nil) != row.passes {
			t.Errorf("changed %v: %v, want it to pass: %v", row.changed, err, row.passes)
		}
	}
	broken := content(t, files{"platform/sizes.policy.yaml": sizes, "platform/sizes_cases.yaml": strings.Replace(cases, "[]", "[too_large]", 1)})
	if _, err := New().Gate(t.Context(), broken, []string{"tenants/acme/a.rego"}); err == nil {
		t.Error("a tenant's change passes beside a platform's case that does not hold")
	}
}

func TestShippedPoliciesPassTheGate(t *testing.T) {
	shipped, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Gate(t.Context(), shipped, nil); err != nil {
		t.Error(err)
	}
}

func TestARestrictionThatDoesNotCompileDenies(t *testing.T) {
	release, err := New().Compile(t.Context(), content(t, files{
		"platform/all.policy.yaml": "id: all\nname: All\nrules:\n  - {id: everybody, condition: 'true', effect: ALLOW, message: {en: Yes., zh: 可。}}\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)
	decide := func(tenant string, r *authz.Restriction) authz.Decision {
		t.Helper()
		dynamic := (&pdp.Dynamic{}).With(pdp.DynamicChange{Restrictions: []pdp.CompiledRestriction{{Restriction: r, Program: New().Restriction(r)}}}, now)
		p := pdp.New(pdp.Config{Now: func() time.Time { return now }, NewID: func() string { return "d" }})
		d, _, err := p.Evaluate(t.Context(), &pdp.Snapshot{Release: release, Dynamic: dynamic}, authz.Request{
			Tenant: tenant, Subject: authz.Entity{Type: "user", ID: "a"}, Action: authz.Action{Name: "x"}, Resource: authz.Entity{Type: "y", ID: "z"},
		}, false)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	restriction := func(condition string) *authz.Restriction {
		return &authz.Restriction{
			ID: "rst-1", Tenant: "acme", Rules: []authz.RestrictionRule{{Condition: condition, Effect: authz.Deny}},
			Validity: authz.Validity{Start: now.Add(-time.Hour), End: now.Add(time.Hour)},
		}
	}
	if d := decide("acme", restriction("action == 'other'")); d.Effect != authz.Allow {
		t.Errorf("one that does not apply: got %v", d.Reasons)
	}
	if d := decide("acme", restriction("action ==")); d.Effect != authz.Deny || d.Reasons[0].Rule != authz.RuleEvaluationError || d.Reasons[0].Policy != "dynamic/rst-1" {
		t.Errorf("one that does not compile: got %v", d.Reasons)
	}
	if d := decide("globex", restriction("action ==")); d.Effect != authz.Allow {
		t.Errorf("another tenant's: got %v", d.Reasons)
	}
	var field *authz.FieldError
	if err := New().CheckRestriction(*restriction("action ==")); !errors.As(err, &field) || !strings.HasPrefix(field.Path, "/rules/0/condition") {
		t.Errorf("check: got %v", err)
	}
	if err := New().CheckRestriction(*restriction("action == 'x'")); err != nil {
		t.Errorf("check: got %v", err)
	}
}

func TestReadFolderLeavesOutOnlyGoFilesAtTheTop(t *testing.T) {
	dir := t.TempDir()
	for name, text := range (files{"policies.go": "package policies", "platform/stray.go": "package stray", "platform/sizes.policy.yaml": sizes, ".git/config": ""}) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := ReadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range c.Files() {
		names = append(names, f.Path)
	}
	if got := strings.Join(names, " "); got != "platform/sizes.policy.yaml platform/stray.go" {
		t.Errorf("got %s", got)
	}
	for _, wrong := range []string{filepath.Join(dir, "nowhere"), filepath.Join(dir, "policies.go")} {
		if _, err := ReadFolder(wrong); err == nil || !strings.Contains(err.Error(), "folder") {
			t.Errorf("%s: got %v", wrong, err)
		}
	}
}

func TestFormatKnowsItsFiles(t *testing.T) {
	for name, in := range (files{"a.rego": "package  a\n", "a.cedar": "permit (principal, action, resource);  \n", "a.cedarschema": "entity role;  \n"}) {
		if out, err := Format(name, []byte(in)); err != nil || string(out) == in || !Formats(name) {
			t.Errorf("%s: got %q, %v", name, out, err)
		}
	}
	if out, err := Format("a.yaml", []byte("a:  1")); err != nil || string(out) != "a:  1" || Formats("a.yaml") {
		t.Errorf("got %q, %v", out, err)
	}
}

// Every shipped policy is compiled, and in every shipped case both engines
// give one answer, which is the compiled one and not topdown's in its place.
func TestShippedPoliciesAreCompiledAndBothEnginesAgreeOnTheirCases(t *testing.T) {
	shipped, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewWith(Options{RegoEngine: "both", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	release, err := e.Compile(t.Context(), shipped)
	if err != nil {
		t.Fatal(err)
	}
	if left := e.RegoFallbacks(release); len(left) > 0 {
		t.Errorf("not compiled: %+v", left)
	}
	if s := e.RegoStats(release); s.Topdown != 0 || s.Compiled < 10 {
		t.Errorf("%d policies are compiled, %d are not", s.Compiled, s.Topdown)
	}
	report := e.Test(t.Context(), release, policytest.Options{NoCoverage: true})
	if !report.OK() {
		t.Error(report.AsFaults())
	}
	s := e.RegoStats(release)
	if s.Differences > 0 || s.Panics > 0 || s.Compared < 500 {
		t.Errorf("compared %d answers: %d differ, %d panicked", s.Compared, s.Differences, s.Panics)
	}
	t.Logf("compared %d answers, settled by topdown: %v", s.Compared, s.Settled)
	for policy, n := range s.Settled {
		t.Errorf("%s: topdown answered %d times", policy, n)
	}
}

func TestAnEngineThatIsNoneIsRefused(t *testing.T) {
	if _, err := NewWith(Options{RegoEngine: "wasm"}); err == nil || !strings.Contains(err.Error(), "wasm") {
		t.Errorf("got %v", err)
	}
}
