package regoeval_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

func TestPolicyCarriesItsMetadata(t *testing.T) {
	release, err := load(t, files{
		"attributes.yaml":         "attributes: {subject.roles: {trusted: true, source: directory}}",
		"approvals/exposure.yaml": "title: Exposure",
		"tenants/north-sea/sizes.rego": `# METADATA
# title: Sizes
# description: not kept
# custom:
#   title_zh: 规格
#   scope: {actions: ["ecs.*", rds.create], resource_types: [ecs.instance], business_system: tianshu}
#   unbound: [run_id]
#   reads: [subject.roles, context.run_id]
#   masks: [/resource/properties/user_data]
#   audit: strict
#   stale_bound: 90m
package xiezhi.tenants["north-sea"].sizes

# METADATA
# title: Too large
# custom:
#   id: too_large
#   title_zh: 过大
#   message: {en: "{n} is too large", zh: "{n} 过大"}
#   severity: high
#   requirement: [L11, C3]
#   waivable: true
#   template: exposure
deny contains {"rule": "too_large"}

# METADATA
# custom: {id: ask, admits: true, template: exposure}
review contains {"rule": "ask"}
`})
	if err != nil {
		t.Fatal(err)
	}
	p := release.Policies()[0]
	if p.ID != "tenants/north-sea/sizes" || p.Layer != pdp.LayerTenant || p.Tenant != "north-sea" || p.Language != "rego" || p.File != "tenants/north-sea/sizes.rego" {
		t.Errorf("place %+v", p)
	}
	if p.Title != (pdp.Text{EN: "Sizes", ZH: "规格"}) || p.Audit != pdp.Strict || p.StaleBound != 90*time.Minute {
		t.Errorf("title, audit or bound of %+v", p)
	}
	if s := p.Scope; strings.Join(s.Actions, " ") != "ecs.* rds.create" || strings.Join(s.ResourceTypes, " ") != "ecs.instance" || s.BusinessSystem != "tianshu" {
		t.Errorf("scope %+v", s)
	}
	if strings.Join(p.Reads, " ") != "subject.roles context.run_id" || strings.Join(p.Unbound, " ") != "run_id" || strings.Join(p.Masks, " ") != "/resource/properties/user_data" {
		t.Errorf("reads %v unbound %v masks %v", p.Reads, p.Unbound, p.Masks)
	}
	r, _ := p.Rule("too_large")
	if r == nil || r.Kind != pdp.KindDeny || r.Title != (pdp.Text{EN: "Too large", ZH: "过大"}) || r.Message != (pdp.Text{EN: "{n} is too large", ZH: "{n} 过大"}) ||
		r.Severity != "high" || strings.Join(r.Requirement, " ") != "L11 C3" || !r.Waivable || r.Template != "exposure" || r.File != p.File || r.Line != 24 {
		t.Errorf("rule %+v", r)
	}
	if r, _ := p.Rule("ask"); r == nil || r.Kind != pdp.KindReview || !r.Admits {
		t.Errorf("rule %+v", r)
	}
}

func TestPlaceDecidesThePackage(t *testing.T) {
	body := declared("r") + `deny contains {"rule": "r"}`
	for _, c := range []struct{ path, pkg, place, text string }{
		{"platform/a.rego", "xiezhi.platform.b", "platform/a.rego:1", "the package xiezhi.platform.a"},
		{"tenants/acme/a.rego", "xiezhi.tenants.globex.a", "tenants/acme/a.rego:1", "xiezhi.tenants.acme.a"},
		{"tenants/north-sea/a.rego", "xiezhi.platform.a", "tenants/north-sea/a.rego:1", `xiezhi.tenants["north-sea"].a`},
		{"platform/a.rego", "xiezhi.self.a", "platform/a.rego:1", "xiezhi.platform.a"},
		{"self/a.rego", "xiezhi.self.a", "self/a.rego", "written in Cedar"},
		{"platform/net/a.rego", "xiezhi.platform.net.a", "platform/net/a.rego", "not in folders below"},
		{"platform/lib/net/a.rego", "xiezhi.platform.lib.net.a", "platform/lib/net/a.rego", "not in folders below"},
		{"tenants/acme/lib/a.rego", "xiezhi.tenants.acme.lib.a", "tenants/acme/lib/a.rego", "not in folders below"},
		{"tenants/Acme/a.rego", "xiezhi.tenants.Acme.a", "tenants/Acme/a.rego", "tenants/<tenant>/"},
		{"tenants/a.rego", "xiezhi.tenants.a", "tenants/a.rego", "tenants/<tenant>/"},
		{"platform/tables.rego", "xiezhi.platform.tables", "platform/tables.rego", "reserved"},
		{"tenants/acme/tables.rego", "xiezhi.tenants.acme.tables", "tenants/acme/tables.rego", "reserved"},
		{"platform/lib.rego", "xiezhi.platform.lib", "platform/lib.rego", "reserved"},
		{"platform/a.b.rego", `xiezhi.platform["a.b"]`, "platform/a.b.rego", "letters, digits"},
		{"platform/.rego", "xiezhi.platform", "", ""},
	} {
		if c.place == "" {
			continue // bundles refuses hidden files
		}
		t.Run(c.path, func(t *testing.T) { wantFault(t, files{c.path: "package " + c.pkg + "\n" + body}, c.place, c.text) })
	}
}

func TestWrongDocumentsAreFaultsAtTheirLine(t *testing.T) {
	metadata := func(lines string) files {
		return policy("# METADATA\n" + lines + "\ndeny contains {\"rule\": \"r\"}\n")
	}
	policyMetadata := func(lines string) files {
		return files{"platform/p.rego": "# METADATA\n" + lines + "\npackage xiezhi.platform.p\n" + declared("r") + `deny contains {"rule": "r"}`}
	}
	for name, c := range map[string]struct {
		files       files
		place, text string
	}{
		"does not parse":           {policy("deny contains {"), "platform/p.rego:2", "unexpected"},
		"no package":               {files{"platform/p.rego": ""}, "platform/p.rego", "empty module"},
		"used and not declared":    {policy(`deny contains {"rule": "r"}`), "platform/p.rego:2", "used and not declared"},
		"declared and not used":    {policy(declared("r") + `deny contains {"rule": "s"}` + "\n" + declared("s") + `deny contains {"rule": "s"} if false`), "platform/p.rego:2", "declared and not used"},
		"declared twice":           {policy(declared("r") + "deny contains {\"rule\": \"r\"}\n" + declared("r") + "deny contains {\"rule\": \"r\", \"path\": \"/a\"}\n"), "platform/p.rego:5", "declared twice, first in line 4"},
		"metadata without id":      {metadata("# title: x"), "platform/p.rego:2", "custom.id is missing"},
		"two kinds":                {policy(declared("r") + "deny contains {\"rule\": \"r\"}\nallow contains {\"rule\": \"r\"}"), "platform/p.rego:5", "declared in deny (line 4) and used in allow"},
		"finding of an obligation": {policy(declared("r") + "obligations contains {\"rule\": \"r\", \"id\": \"x\"}\ndeny contains {\"rule\": \"r\"}"), "platform/p.rego:5", "declared in obligations"},
		"reserved id":              {policy(declared("evaluation_error") + `deny contains {"rule": "evaluation_error"}`), "platform/p.rego:2", "choose another"},
		"strange id":               {policy("# METADATA\n# custom: {id: \"a/b\"}\n" + `deny contains {"rule": "a/b"}`), "platform/p.rego:2", "letters, digits"},
		"complete rule":            {policy(`deny := {"rule": "r"}`), "platform/p.rego:2", "deny is a set"},
		"map of findings":          {policy(`deny[x] := {"rule": "r"} if x := 1`), "platform/p.rego:2", "deny is a set"},
		"function":                 {policy(`deny(x) := x`), "platform/p.rego:2", "deny is a set"},
		"deeper set":               {policy(`deny.a contains {"rule": "r"}`), "platform/p.rego:2", "deny is a set"},
		"entry elsewhere":          {policy(`deny contains x if x := {"rule": "r"}`), "platform/p.rego:2", "in the head, as an object"},
		"computed rule":            {policy(`deny contains {"rule": x} if x := "r"`), "platform/p.rego:2", "want a string literal"},
		"no rule":                  {policy(`deny contains {"path": "/a"}`), "platform/p.rego:2", "needs rule"},
		"computed member":          {policy(declared("r") + `deny contains {"rule": "r", x: 1} if x := "path"`), "platform/p.rego:4", "string literals"},
		"unknown member":           {policy(declared("r") + `deny contains {"rule": "r", "pth": "/a"}`), "platform/p.rego:4", "has no member"},
		"wrong member":             {policy(declared("r") + `deny contains {"rule": "r", "path": 7}`), "platform/p.rego:4", "want a string"},
		"wrong args":               {policy(declared("r") + `deny contains {"rule": "r", "args": [1]}`), "platform/p.rego:4", "want an object"},
		"obligation without id":    {policy(declared("r") + `obligations contains {"rule": "r"}`), "platform/p.rego:4", "needs id"},
		"limit without key":        {policy(declared("r") + `limits contains {"rule": "r", "rate": 1}`), "platform/p.rego:4", "needs key"},
		"route without pool":       {policy(declared("r") + `route contains {"rule": "r"}`), "platform/p.rego:4", "needs pool"},
		"library that finds":       {files{"platform/lib/l.rego": "package xiezhi.platform.lib.l\ndeny contains {\"rule\": \"r\"}"}, "platform/lib/l.rego:2", "a library has no deny"},

		"unknown annotation":       {metadata("# titel: x\n# custom: {id: r}"), "platform/p.rego:3", `no member "titel"`},
		"unknown custom":           {metadata("# custom:\n#   id: r\n#   wavable: true"), "platform/p.rego:5", `no member "wavable"`},
		"custom twice":             {metadata("# custom:\n#   id: r\n#   severity: low\n#   severity: high"), "platform/p.rego:6", "already defined"},
		"message of a language":    {metadata("# custom:\n#   id: r\n#   message: {en: a, de: b}"), "platform/p.rego:5", `no member "de"`},
		"message as text":          {metadata("# custom:\n#   id: r\n#   message: a"), "platform/p.rego:5", "want an object"},
		"severity":                 {metadata("# custom:\n#   id: r\n#   severity: severe"), "platform/p.rego:5", "low, medium, high, critical"},
		"requirement":              {metadata("# custom:\n#   id: r\n#   requirement: L1"), "platform/p.rego:5", "want a list"},
		"waivable as text":         {metadata("# custom:\n#   id: r\n#   waivable: \"yes\""), "platform/p.rego:5", "true or false"},
		"admits on a deny":         {metadata("# custom:\n#   id: r\n#   admits: true"), "platform/p.rego:5", "admits has no meaning for deny"},
		"template of a plain deny": {files{"approvals/a.yaml": "", "platform/p.rego": metadata("# custom: {id: r, template: a}")["platform/p.rego"]}, "platform/p.rego:2", "what can be approved"},
		"absent template":          {metadata("# custom: {id: r, waivable: true, template: nowhere}"), "platform/p.rego:2", `no approval template "nowhere"`},
		"number as title":          {metadata("# custom: {id: r, title_zh: 443}"), "platform/p.rego:3", "want text"},
		"id of a helper":           {policy(declared("h") + "h := 1\n"), "platform/p.rego:3", `helper has no member "id"`},

		"scope member":             {policyMetadata("# custom:\n#   scope: {action: [a]}"), "platform/p.rego:3", `no member "action"`},
		"scope pattern":            {policyMetadata("# custom:\n#   scope: {actions: [\"a*b\"]}"), "platform/p.rego:3", "one * at the end"},
		"read of nothing":          {policyMetadata("# custom:\n#   reads: [roles]"), "platform/p.rego:3", "want context.<member>"},
		"read of no attribute":     {policyMetadata("# custom:\n#   reads: [subject.rolls]"), "platform/p.rego:3", "lists no such attribute"},
		"read twice":               {policyMetadata("# custom:\n#   reads: [context.a, context.a]"), "platform/p.rego:3", "given twice"},
		"unbound and not read":     {policyMetadata("# custom:\n#   unbound: [a]"), "platform/p.rego:3", "`reads` declares"},
		"mask":                     {policyMetadata("# custom:\n#   masks: [resource.properties.x]"), "platform/p.rego:3", "JSON pointer"},
		"mask with a tilde":        {policyMetadata("# custom:\n#   masks: [\"/a/~x\"]"), "platform/p.rego:3", "~0"},
		"audit":                    {policyMetadata("# custom:\n#   audit: sometimes"), "platform/p.rego:3", "buffered, strict"},
		"stale bound":              {policyMetadata("# custom:\n#   stale_bound: -1h"), "platform/p.rego:3", "want a duration"},
		"stale bound without unit": {policyMetadata("# custom:\n#   stale_bound: \"60\""), "platform/p.rego:3", "want a duration"},
		"metadata that is a list":  {policyMetadata("# - a"), "platform/p.rego:2", "cannot unmarshal"},

		"nested bodies":           {deny(strings.Repeat("[x | x := ", 6)+"1"+strings.Repeat("]", 6)+" == 1", ""), "platform/p.rego:4", "nested more than 5 deep"},
		"nested bodies in a head": {deny("h", "h.a[count("+strings.Repeat("[1 | ", 6)+"1"+strings.Repeat("]", 6)+")].b := 1"), "platform/p.rego:5", "nested more than 5 deep"},
		"nested bodies of kinds":  {deny(`x := {y | every z in [1] { {q: w | not f([v | v := $"{count([1 | u])}"]); w := q} == z}}; x == y`, ""), "platform/p.rego:4", "nested more than 5 deep"},
		"recursion":               {deny("a", "a if a"), "platform/p.rego:5", "recursive"},
		"unknown function":        {deny("nothing.here(1)", ""), "platform/p.rego:4", "undefined function"},
		"unsafe variable":         {deny("x > 1", ""), "platform/p.rego:4", "unsafe"},
		"rego v0":                 {policy("deny[msg] { msg := 1 }"), "platform/p.rego:2", "if"},
		"unknown request part":    {deny("input.subjet.id == 1", ""), "platform/p.rego:4", "no member subjet"},
		"unknown entity part":     {deny("input.resource.propertys.cpu == 1", ""), "platform/p.rego:4", "no member propertys"},
	} {
		t.Run(name, func(t *testing.T) { wantFault(t, c.files, c.place, c.text) })
	}
}

func TestEveryFaultIsReported(t *testing.T) {
	faults := faultsOf(t, files{
		"platform/a.rego":     "package xiezhi.platform.a\ndeny contains {\"rule\": \"r\"}\ndeny contains {\"rule\": \"s\", \"x\": 1}",
		"platform/b.rego":     "package xiezhi.platform.c",
		"tenants/acme/a.rego": "package xiezhi.tenants.acme.a\nallow := true\nx := ",
	})
	var places []string
	for _, f := range faults {
		places = append(places, f.String())
	}
	if len(faults) != 5 {
		t.Errorf("%d faults, want 5:\n%s", len(faults), strings.Join(places, "\n"))
	}
}

func TestSeveralBodiesShareOneDeclaration(t *testing.T) {
	p := compile(t, policy(declared("r")+`deny contains {"rule": "r", "path": "/a"}
deny contains {"rule": "r", "path": "/b"}
obligations contains {"rule": "r", "id": "log"}`))
	o := ask(t, p, request)[0]
	if len(o.Findings) != 2 || o.Findings[0].Path != "/a" || o.Findings[1].Path != "/b" || len(o.Obligations) != 1 || o.Obligations[0].Rule != "r" {
		t.Errorf("%+v", o)
	}
}

func TestPackageWithoutSetsIsALibrary(t *testing.T) {
	p := compile(t, files{
		"platform/helper.rego":    "# METADATA\n# title: Helps\n# custom: {title_zh: 助}\npackage xiezhi.platform.helper\nbig(x) if x > 1",
		"tenants/acme/lib.rego":   "package xiezhi.tenants.acme.lib\nlimit := 1",
		"tenants/acme/sizes.rego": "package xiezhi.tenants.acme.sizes\n" + declared("r") + `deny contains {"rule": "r"} if { data.xiezhi.platform.helper.big(input.resource.properties.cpu); data.xiezhi.tenants.acme.lib.limit == 1 }`,
	})
	if n := len(p.Policies()); n != 1 {
		t.Errorf("%d policies, want 1", n)
	}
	if got := spoke(ask(t, p, request)); got != "tenants/acme/sizes/r" {
		t.Errorf("spoke: %s", got)
	}
}

func TestEndOfTheContextEndsACompilation(t *testing.T) {
	// OPA's type checker takes twice as long for each of these lines, as far as
	// types may grow, and as much again for each comparison.
	text := declared("r") + strings.Repeat("deny contains {\"rule\": \"r\"} if x13[0] == x13\n", 100) + "x0 := input.tenant\n"
	for i := 1; i <= 13; i++ {
		text += fmt.Sprintf("x%d := [x%d, x%[2]d]\n", i, i-1)
	}
	content, err := bundles.NewContent([]bundles.File{{Path: "platform/p.rego", Data: []byte(policy(text)["platform/p.rego"])}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := pdp.Compile(ctx, 1, content, newCompiler(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
