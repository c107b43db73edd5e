package evaltest

import (
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// reads holds that what a policy reads of context and of attributes is in its
// reads: found by the compiler, or declared on pain of a fault.
func (l Language) reads(t *testing.T) {
	with := func(reads []string, rego, cedar, cel string) policy {
		return policy{reads: reads, rules: []rule{{id: "d", effect: "deny", rego: rego, cedar: cedar, cel: cel}}}
	}
	for _, test := range []struct {
		name, rego, cedar, cel string
		want                   []string
	}{
		{"a context member", `input.context.ticket == "x"`, `context has ticket && context.ticket == "x"`, `context.ticket == "x"`, []string{"context.ticket"}},
		{"a test for a context member", `input.context.ticket`, `context has ticket`, `has(context.ticket)`, []string{"context.ticket"}},
		{"an index", `input.context["ticket"]["id"] == 1`, `context["ticket"]["id"] == 1`, `context["ticket"]["id"] == 1`, []string{"context.ticket"}},
		{"an attribute", `"x" in input.subject.properties.roles`, `principal.roles.contains("x")`, `"x" in subject.properties.roles`, []string{"subject.roles"}},
		{"both, inside something else", `count([x | x := input.subject.properties.roles[_]; x == input.context.ticket]) == 1`,
			`if principal has roles then [context.ticket].contains("x") else false`, `subject.properties.roles.exists(r, r == context.ticket)`, []string{"context.ticket", "subject.roles"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			declared := l.compile(t, l.files(files{"attributes.yaml": attributes}, with(test.want, test.rego, test.cedar, test.cel)))
			if got := declared.Policies()[0].Reads; !slices.Equal(slices.Sorted(slices.Values(got)), test.want) {
				t.Errorf("reads %v, want %v", got, test.want)
			}
			silent := l.files(files{"attributes.yaml": attributes}, with(nil, test.rego, test.cedar, test.cel))
			release, err := l.load(t, silent)
			if err != nil {
				for _, f := range l.faultsOf(t, silent) {
					l.hasPlace(t, f)
				}
				return
			}
			if got := release.Policies()[0].Reads; !slices.Equal(slices.Sorted(slices.Values(got)), test.want) {
				t.Errorf("compiles undeclared with reads %v, want %v or a fault", got, test.want)
			}
		})
	}
	for _, test := range []struct{ name, rego, cedar, cel string }{
		{"context as a whole", `input.context == {}`, `context == {}`, `context == {}`},
		{"context in something", `[input.context] == []`, `[context].contains({})`, `[context] == []`},
		{"a computed context member", `input.context[input.action.name] == 1`, `(if true then context else {}) == {}`, `context[action] == 1`},
		{"a loop over context", `some k; input.context[k] == 1`, `{"c": context} == {}`, `context.exists(k, k == "a")`},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, f := range l.faultsOf(t, l.files(nil, with([]string{"context.ticket"}, test.rego, test.cedar, test.cel))) {
				l.hasPlace(t, f)
			}
		})
	}
}

func (l Language) hasPlace(t *testing.T, f pdp.Fault) {
	t.Helper()
	if file, _ := (policy{}).render(l.Name); f.File != file || f.Line < 1 || f.Message == "" || strings.Contains(f.Message, "\n\n") {
		t.Errorf("fault %+v does not say where, or what", f)
	}
}

// faults gives each compiler what it must refuse, in place.
func (l Language) faults(t *testing.T) {
	good := policy{rules: []rule{always("d", "deny")}}
	_, text := good.render(l.Name)
	replaced := func(old, by string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in\n%s", old, text)
		}
		return strings.Replace(text, old, by, 1)
	}
	type change struct{ old, by string }
	for _, test := range []struct {
		name string
		in   map[string]change
	}{
		{"a syntax error", map[string]change{Rego: {`input.tenant ==`, `input.tenant == ==`}, Cedar: {`context.tenant ==`, `context.tenant == ==`}, CEL: {`tenant ==`, `tenant == ==`}}},
		{"a text cut short", map[string]change{Rego: {"\n}\n", "\n"}, Cedar: {"\n};\n", "\n"}, CEL: {`"acme"`, `"acme`}}},
		{"an unknown name", map[string]change{Rego: {`input.tenant`, `nobody.tenant`}, Cedar: {`context.tenant`, `nobody.tenant`}, CEL: {`tenant ==`, `nobody ==`}}},
		{"an unknown member of a rule", map[string]change{Rego: {"#   id: d\n", "#   id: d\n#   colour: red\n"}, Cedar: {"@id(\"d\")\n", "@id(\"d\")\n@colour(\"red\")\n"}, CEL: {"  - id: d\n", "  - id: d\n    colour: red\n"}}},
		{"an unknown member of the policy", map[string]change{Rego: {"#   reads: []\n", "#   reads: []\n#   colour: red\n"}, Cedar: {`"reads":[]`, `"reads":[],"colour":"red"`}, CEL: {"reads: []\n", "reads: []\ncolour: red\n"}}},
		{"a read of nothing known", map[string]change{Rego: {"reads: []", "reads: [tenant]"}, Cedar: {`"reads":[]`, `"reads":["tenant"]`}, CEL: {"reads: []", "reads: [tenant]"}}},
		{"a pattern with two stars", map[string]change{Rego: {"#   reads: []\n", "#   scope: {actions: [\"a.*.*\"]}\n"}, Cedar: {`"reads":[]`, `"scope":{"actions":["a.*.*"]}`}, CEL: {"reads: []\n", "scope: {actions: [\"a.*.*\"]}\n"}}},
		{"a bound that is no time", map[string]change{Rego: {"#   reads: []\n", "#   stale_bound: soon\n"}, Cedar: {`"reads":[]`, `"stale_bound":"soon"`}, CEL: {"reads: []\n", "stale_bound: soon\n"}}},
		{"an audit nobody knows", map[string]change{Rego: {"#   reads: []\n", "#   audit: often\n"}, Cedar: {`"reads":[]`, `"audit":"often"`}, CEL: {"reads: []\n", "audit: often\n"}}},
		{"unbound and not read", map[string]change{Rego: {"#   reads: []\n", "#   unbound: [run_id]\n"}, Cedar: {`"reads":[]`, `"unbound":["run_id"]`}, CEL: {"reads: []\n", "unbound: [run_id]\n"}}},
		{"a severity nobody knows", map[string]change{Rego: {"#   id: d\n", "#   id: d\n#   severity: huge\n"}, Cedar: {"@id(\"d\")\n", "@id(\"d\")\n@severity(\"huge\")\n"}, CEL: {"  - id: d\n", "  - id: d\n    severity: huge\n"}}},
		{"a template that is not there", map[string]change{
			Rego:  {"#   id: d\n", "#   id: d\n#   waivable: true\n#   template: nobody\n"},
			Cedar: {"@id(\"d\")\n", "@id(\"d\")\n@waivable(\"true\")\n@template(\"nobody\")\n"},
			CEL:   {"  - id: d\n", "  - id: d\n    waivable: true\n    template: nobody\n"}}},
		{"an admitting deny", map[string]change{Rego: {"#   id: d\n", "#   id: d\n#   admits: true\n"}, Cedar: {"@id(\"d\")\n", "@id(\"d\")\n@admits(\"true\")\n"}, CEL: {"  - id: d\n", "  - id: d\n    admits: true\n"}}},
		{"a name of the core", map[string]change{Rego: {"#   id: d\n", "#   id: evaluation_error\n"}, Cedar: {`@id("d")`, `@id("evaluation_error")`}, CEL: {"id: d\n", "id: evaluation_error\n"}}},
		{"an id with a slash", map[string]change{Rego: {"#   id: d\n", "#   id: d/e\n"}, Cedar: {`@id("d")`, `@id("d/e")`}, CEL: {"id: d\n", "id: d/e\n"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file, _ := good.render(l.Name)
			c := test.in[l.Name]
			for _, f := range l.faultsOf(t, files{file: replaced(c.old, c.by)}) {
				l.hasPlace(t, f)
			}
		})
	}
	t.Run("two rules of one id", func(t *testing.T) {
		for _, f := range l.faultsOf(t, l.files(nil, policy{rules: []rule{always("d", "deny"), always("d", "deny")}})) {
			l.hasPlace(t, f)
		}
	})
	t.Run("every fault of every file", func(t *testing.T) {
		bad := hundred
		bad.rules = []rule{{id: "d", effect: "deny", rego: `nobody.n == 1`, cedar: `nobody.n == 1`, cel: `nobody.n == 1`}}
		found := map[string]bool{}
		for _, f := range l.faultsOf(t, l.files(nil, bad.as("platform/a"), bad.as("platform/b"), good)) {
			found[f.File] = true
		}
		if len(found) != 2 {
			t.Errorf("faults in %v, want in a and b", found)
		}
	})
}
