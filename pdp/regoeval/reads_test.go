package regoeval_test

import (
	"testing"
)

// schema has two attributes that a source supplies, and one of the caller.
const schema = `attributes:
  subject.roles: {trusted: true, source: directory}
  resource.landing_zone: {source: cmdb}
  resource.tenant: {}
`

// reading is a policy that declares these reads.
func reading(reads, condition, helpers string) files {
	return files{"attributes.yaml": schema, "platform/p.rego": "# METADATA\n# custom: {reads: [" + reads + "]}\npackage xiezhi.platform.p\n" +
		declared("r") + `deny contains {"rule": "r"} if { ` + condition + " }\n" + helpers}
}

func TestUndeclaredReadsAreFaults(t *testing.T) {
	const line = "platform/p.rego:6" // of the condition; helpers begin in the next
	for name, c := range map[string]struct{ condition, helpers, place, want string }{
		"context member":            {`input.context.run_id == "x"`, "", line, "add context.run_id"},
		"in brackets":               {`input["context"]["run_id"] == "x"`, "", line, "add context.run_id"},
		"below a member":            {`input.context.run.id == "x"`, "", line, "add context.run "},
		"existence":                 {`input.context.run_id`, "", line, "add context.run_id"},
		"negation":                  {`not input.context.run_id`, "", line, "add context.run_id"},
		"bound and not used":        {`x := input.context.run_id`, "", line, "add context.run_id"},
		"attribute that is bound":   {`x := input.subject.properties.roles`, "", line, "subject.roles is read"},
		"two bindings":              {`x = input.subject.properties; x = input.action.properties; x.roles == 1`, "", line, "subject.roles among them"},
		"two bodies, one name":      {`[1 | x = input.action.properties; x.a] == [1 | x = input.subject.properties; x.roles]`, "", line, "subject.roles among them"},
		"in an else nobody asks":    {`true`, "h if false else if input.context.run_id == 1", "platform/p.rego:7", "add context.run_id"},
		"default path":              {`object.get(input, ["context", "run_id"], 1) == 1`, "", line, "add context.run_id"},
		"whole input behind a name": {`x := input; x.context.run_id == 1`, "", line, "add context.run_id"},
		"alias of an alias":         {`x := input; y := x.subject; z := y.properties; z.roles == 1`, "", line, "subject.roles is read"},
		"context by name":           {`x := input.context; x.run_id == 1`, "", line, "context is taken as a whole"},
		"context in object.get":     {`object.get(input.context, "run_id", 1) == 1`, "", line, "context is taken as a whole"},
		"context by variable":       {`input.context[input.resource.id]`, "", line, "context is taken as a whole"},
		"context by iteration":      {`some k, v in input.context; k == v`, "", line, "context is taken as a whole"},
		"context as argument":       {`count(input.context) == 1`, "", line, "context is taken as a whole"},
		"input as argument":         {`count(input) == 1`, "", line, "input is taken as a whole"},
		"input by variable":         {`input[input.resource.id]`, "", line, "input is taken as a whole"},
		"input walked":              {`walk(input, [p, v]); v == 1`, "", line, "input is taken as a whole"},
		"input compared":            {`x := {"a": 1}; x = input`, "", line, "input is taken as a whole"},
		"input in an object":        {`x := {"all": input}; x.all == 1`, "", line, "input is taken as a whole"},
		"trusted attribute":         {`"admin" in input.subject.properties.roles`, "", line, "subject.roles is read"},
		"sourced attribute":         {`input.resource.properties.landing_zone == 1`, "", line, "resource.landing_zone is read"},
		"attribute by alias":        {`p := input.subject.properties; p.roles == 1`, "", line, "subject.roles is read"},
		"attribute by default":      {`object.get(input.subject.properties, "roles", []) == []`, "", line, "subject.roles is read"},
		"attribute by default path": {`object.get(input.subject, ["properties", "roles"], []) == []`, "", line, "subject.roles is read"},
		"attribute by variable":     {`x := "roles"; input.subject.properties[x]`, "", line, "subject.roles among them"},
		"all properties":            {`count(input.subject.properties) == 1`, "", line, "subject.roles among them"},
		"the whole subject":         {`f(input.subject)`, "f(x) if x.properties.roles", line, "subject.roles among them"},
		"an alias that leaks":       {`p := input.subject.properties; p.dept == 1; f(p)`, "f(x) if x.roles", line, "subject.roles among them"},
		"an alias that is bound":    {`some p in [{"dept": 1}]; p = input.subject.properties; p.dept == 1`, "", line, "subject.roles among them"},
		"computed default":          {`x := "roles"; object.get(input.subject.properties, x, 1) == 1`, "", line, "subject.roles among them"},
		"in a helper":               {`h`, `h if input.context.run_id == 1`, "platform/p.rego:7", "add context.run_id"},
		"in an else":                {`h`, "h if false else if input.context.run_id == 1", "platform/p.rego:7", "add context.run_id"},
		"in a head":                 {`h[1]`, "h contains input.context.run_id", "platform/p.rego:7", "add context.run_id"},
		"in a key of a head":        {`h[1]`, "h[input.context.run_id] := 1", "platform/p.rego:7", "add context.run_id"},
		"as a key of a head":        {`h[_]`, "h[p] := 1 if p := input.subject.properties", "platform/p.rego:7", "subject.roles among them"},
		"as a deeper key":           {`h[_]`, "h.a[p].b := 1 if p := input.subject.properties", "platform/p.rego:7", "subject.roles among them"},
		"as a value of a head":      {`h == 1`, "h := p if p := input.subject.properties", "platform/p.rego:7", "subject.roles among them"},
		"in a default argument":     {`h`, "h := f(input.context.run_id)\nf(x) := x", "platform/p.rego:7", "add context.run_id"},
		"in a comprehension":        {`[1 | input.context.run_id] == [1]`, "", line, "add context.run_id"},
		"in an every":               {`every x in [1] { x == input.context.run_id }`, "", line, "add context.run_id"},
		"in a template":             {`$"{input.context.run_id}" == "x"`, "", line, "add context.run_id"},
		"in a replacement":          {`h with input.resource as input.context.run_id`, "h if true", line, "add context.run_id"},
		"as an index":               {`input.resource.properties.ingress[input.context.run_id]`, "", line, "add context.run_id"},
		"as an index of a table":    {`data.xiezhi.platform.tables[input.context.run_id]`, "", line, "add context.run_id"},
	} {
		t.Run(name, func(t *testing.T) { wantFault(t, reading("", c.condition, c.helpers), c.place, c.want) })
	}
}

func TestDeclaredReadsAndOrdinaryOnesCompile(t *testing.T) {
	for name, c := range map[string]struct{ reads, condition string }{
		"context member":      {"context.run_id", `input.context.run_id == "x"`},
		"with a default":      {"context.run_id", `object.get(input, ["context", "run_id"], "") == "x"`},
		"attribute":           {"subject.roles", `"admin" in input.subject.properties.roles`},
		"all, all declared":   {"subject.roles", `count(input.subject.properties) == 1`},
		"other properties":    {"", `input.subject.properties.dept == 1; input.resource.properties.tenant == "acme"`},
		"by aliases":          {"", `s := input.subject; p := s.properties; p.dept == 1; object.get(p, "level", 1) == 1; not p.guest`},
		"by a variable below": {"", `some i; input.resource.properties.ingress[i].port == 443`},
		"with a default path": {"", `object.get(input.resource, ["properties", "cpu"], null) == null`},
		"types and ids":       {"", `input.subject.type == input.resource.type; input.action.name == input.tenant; count(input.action.properties) == 1`},
		"replaced":            {"", `h with input.context as {"run_id": 1}`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := load(t, reading(c.reads, c.condition, "h if true")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReadsAreFollowedThroughLibraries(t *testing.T) {
	f := files{
		"platform/lib/run.rego":  "package xiezhi.platform.lib.run\nid := input.context.run_id\nknown if data.xiezhi.platform.lib.deep.known\nother := 1",
		"platform/lib/deep.rego": "package xiezhi.platform.lib.deep\nknown if object.get(input, [\"context\", \"deep\"], 1) == 2",
	}
	wantFault(t, f.with("platform/p.rego", deny("data.xiezhi.platform.lib.run.id == 1", "")["platform/p.rego"]), "platform/lib/run.rego:2", "add context.run_id")
	wantFault(t, f.with("platform/p.rego", deny("data.xiezhi.platform.lib.run.known", "")["platform/p.rego"]), "platform/lib/deep.rego:2", "add context.deep")
	// A computed reference may lead to both.
	if faults := faultsOf(t, f.with("platform/p.rego", deny("data.xiezhi.platform.lib.run[input.resource.id]", "")["platform/p.rego"])); len(faults) != 2 {
		t.Errorf("%v", faults)
	}
	// A key deep in a head is a reference like any other.
	wantFault(t, f.with("platform/p.rego", deny("h.a", "h.a[data.xiezhi.platform.lib.run.id].b := 1")["platform/p.rego"]), "platform/lib/run.rego:2", "add context.run_id")
	// What the policy does not use of a library is not held against it.
	if _, err := load(t, f.with("platform/p.rego", deny("data.xiezhi.platform.lib.run.other == 1", "")["platform/p.rego"])); err != nil {
		t.Error(err)
	}
}
