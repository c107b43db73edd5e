package cedareval

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

const networkPolicy = `
// @policy({"title":{"en":"Network","zh":"网络"},"scope":{"actions":["ecs.*"],"resource_types":["ecs.instance"],"business_system":"tianshu"},"reads":["subject.roles","context.run_id"],"unbound":["run_id"],"masks":["/resource/properties/user_data"],"audit":"strict","stale_bound":"1h"})

@id("public_ip")
@title("Public address")
@title_zh("公网地址")
@message("{subject.id} asks for one")
@message_zh("{subject.id} 申请")
@severity("high")
@requirement("L2, L11")
@effect("review")
@admits("true")
@template("network")
forbid (principal in role::"engineer", action, resource) when { context.run_id == "x" };

/* a deny */ @id("never") @waivable("true")
forbid (principal, action, resource);
`

func TestAPolicyIsWhatItsFileSays(t *testing.T) {
	program := files{
		"platform/network.cedar":           networkPolicy,
		"tenants/acme/team/sizes.cedar":    `@id("x") permit (principal, action, resource);`,
		"self/rights.cedar":                `@id("x") permit (principal, action, resource);`,
		"approvals/network.yaml":           "a: template",
		"platform/network_without.rego.md": "not Cedar's",
	}.compile(t)
	policies := program.Policies()
	for i, want := range []string{"platform/network platform ", "self/rights self ", "tenants/acme/team/sizes tenant acme"} {
		if got := fmt.Sprintf("%s %s %s", policies[i].ID, policies[i].Layer, policies[i].Tenant); got != want {
			t.Errorf("policy %d is %s, want %s", i, got, want)
		}
	}
	got := *policies[0]
	rules := got.Rules
	got.Rules = nil
	want := pdp.Policy{
		ID: "platform/network", Layer: pdp.LayerPlatform, Language: "cedar", File: "platform/network.cedar",
		Title: pdp.Text{EN: "Network", ZH: "网络"},
		Scope: pdp.Scope{Actions: []string{"ecs.*"}, ResourceTypes: []string{"ecs.instance"}, BusinessSystem: "tianshu"},
		Reads: []string{"subject.roles", "context.run_id"}, Unbound: []string{"run_id"}, Masks: []string{"/resource/properties/user_data"},
		Audit: pdp.Strict, StaleBound: time.Hour,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("policy\n%+v, want\n%+v", got, want)
	}
	wantRules := []pdp.Rule{{
		ID: "public_ip", Kind: pdp.KindReview, Title: pdp.Text{EN: "Public address", ZH: "公网地址"},
		Message:  pdp.Text{EN: "{subject.id} asks for one", ZH: "{subject.id} 申请"},
		Severity: "high", Requirement: []string{"L2", "L11"}, Admits: true, Template: "network", File: "platform/network.cedar", Line: 4,
	}, {ID: "never", Kind: pdp.KindDeny, Waivable: true, File: "platform/network.cedar", Line: 16}}
	for i, rule := range rules {
		bare := *rule
		bare.Digest = bundles.Digest{}
		if !reflect.DeepEqual(bare, wantRules[i]) {
			t.Errorf("rule\n%+v, want\n%+v", bare, wantRules[i])
		}
	}
}

// TestAWrongFileIsAFaultAtItsLine has one wrong file a row. want is
// "line: part of the message".
func TestAWrongFileIsAFaultAtItsLine(t *testing.T) {
	const always = ` forbid (principal, action, resource);`
	rows := map[string]struct{ text, want string }{
		"no id":                     {"\n" + `@title("t")` + always, "2: no @id"},
		"an id twice":               {`@id("a")` + always + "\n" + `@id("a")` + always, "2: taken by the statement on line 1"},
		"an annotation twice":       {`@id("a") @id("b")` + always, "1: duplicate annotation"},
		"an empty id":               {`@id("")` + always, "1: @id"},
		"an id without value":       {`@id` + always, "1: @id"},
		"an id with a space":        {`@id("a b")` + always, "1: @id"},
		"the core's own id":         {`@id("no_allow")` + always, "1: decision core's own"},
		"an unknown annotation":     {`@id("a")` + "\n" + `@severty("low")` + always, "2: @severty: unknown annotation"},
		"effect on a permit":        {`@id("a") @effect("review") permit (principal, action, resource);`, "1: @effect"},
		"an unknown effect":         {`@id("a") @effect("deny")` + always, "1: @effect"},
		"waivable on a permit":      {`@id("a") @waivable("true") permit (principal, action, resource);`, "1: @waivable"},
		"waivable on a review":      {`@id("a") @effect("review") @waivable("true")` + always, "1: @waivable"},
		"waivable maybe":            {`@id("a") @waivable("yes")` + always, "1: @waivable"},
		"waivable without value":    {`@id("a") @waivable` + always, "1: @waivable"},
		"admits on a deny":          {`@id("a") @admits("true")` + always, "1: @admits"},
		"template on a permit":      {`@id("a") @template("network") permit (principal, action, resource);`, "1: @template"},
		"template on a plain deny":  {`@id("a") @template("network")` + always, "1: @template"},
		"a template that is not":    {`@id("a") @effect("review")` + "\n" + `@template("none")` + always, `2: no approval template "none"`},
		"an unknown severity":       {`@id("a") @severity("HIGH")` + always, "1: @severity"},
		"an empty requirement":      {`@id("a") @requirement("L1,")` + always, "1: @requirement"},
		"a path elsewhere":          {`@id("a") @path("resource/x")` + always, "1: @path"},
		"an obligation, bad JSON":   {`@id("a") @obligation("{id:1}")` + always, "1: @obligation"},
		"an obligation without id":  {`@id("a") @obligation("{}")` + always, "1: @obligation: id"},
		"an obligation with more":   {`@id("a") @obligation("{\"id\":\"x\",\"mst\":true}")` + always, `1: @obligation: unknown member "mst"`},
		"an obligation's params":    {`@id("a") @obligation("{\"id\":\"x\",\"params\":[]}")` + always, "1: @obligation: params"},
		"a strange placeholder":     {`@id("a") @message("{port}")` + always, "1: placeholder {port}"},
		"an empty placeholder":      {`@id("a") @message("{}")` + always, "1: placeholder {}"},
		"a placeholder's context":   {`@id("a") @message("{context.run_id}")` + always, "1: shows context.run_id"},
		"a placeholder's roles":     {`@id("a") @message("{subject.properties.roles}")` + always, "1: shows subject.roles"},
		"no statement":              {`// nothing`, "1: no permit or forbid"},
		"a syntax error":            {`@id("a")` + always + "\n" + `@id("b") forbid (principal, action,` + "\n" + `resource) when { 1 + };`, "3: parse error"},
		"an unknown function":       {`@id("a") forbid (principal, action, resource)` + "\n when {\n foo(1) };", "3: not a function"},
		"an open string":            {"\n" + `@id("a` + always, "2: string does not end"},
		"an open comment":           {"\n/* a", "2: comment does not end"},
		"a stray bracket":           {"\n}", "2: closes a bracket"},
		"no semicolon":              {`@id("a") forbid (principal, action, resource)`, "1: parse error"},
		"a template slot":           {`@id("a") forbid (principal == ?principal, action, resource);`, "1: parse error"},
		"a dead action":             {`@id("a") forbid (principal, action ==` + "\n" + `action::"x", resource);`, `1: a request's action is Action`},
		"a tag":                     {`@id("a") forbid (principal, action, resource) when { resource.hasTag("x") };`, "1: no Cedar tags"},
		"an action's attribute":     {`@id("a") forbid (principal, action, resource) when { action has x };`, "1: action has no attributes"},
		"the whole context":         {`@id("a") forbid (principal, action, resource)` + "\n" + `when { context == {} };`, "2: context is used as a whole"},
		"the context in a record":   {`@id("a") forbid (principal, action, resource) when { {a: context}.a.b };`, "1: context is used as a whole"},
		"an undeclared member":      {`@id("a") forbid (principal, action, resource)` + "\n" + `unless { context has run_id };`, "2: context.run_id is used and not declared"},
		"undeclared roles":          {`@id("a") forbid (principal, action, resource) when { principal.roles.contains("x") };`, "1: subject.roles is used and not declared"},
		"an undeclared source":      {`@id("a") forbid (principal, action, resource) when { resource has landing_zone };`, "1: resource.landing_zone is used"},
		"a role in the scope":       {`@id("a") forbid (principal in role::"x", action, resource);`, "1: subject.roles is used"},
		"a typed role in the scope": {`@id("a") forbid (principal is user in role::"x", action, resource);`, "1: subject.roles is used"},
		"a role in a condition":     {`@id("a") forbid (principal, action, resource) when { principal in [team::"a", role::"x"] };`, "1: subject.roles is used"},
		"a role by another way":     {`@id("a") forbid (principal, action, resource) when { {a: principal}.a in role::"x" };`, "1: subject.roles is used"},
		"a role that is computed":   {`@id("a") forbid (principal, action, resource) when { principal in resource };`, "1: subject.roles is used"},
		"roles through a record":    {`@id("a") forbid (principal, action, resource) when { {a: {b: principal}}.a.b.roles.isEmpty() };`, "1: subject.roles is used"},
		"roles through a literal":   {`@id("a") forbid (principal, action, resource) when { user::"x" has roles };`, "1: subject.roles is used"},
		"roles through an if":       {`@id("a") forbid (principal, action, resource) when { (if true then resource else principal) has roles };`, "1: subject.roles is used"},
		"metadata, bad JSON":        {"\n" + `// @policy({reads:[]})` + "\n" + `@id("a")` + always, "2: policy metadata"},
		"metadata, unknown member":  {`// @policy({"read":[]})` + "\n" + `@id("a")` + always, `1: unknown member "read"`},
		"metadata, a member twice":  {`// @policy({"reads":[],"reads":[]})` + "\n" + `@id("a")` + always, "1: twice"},
		"metadata, not an object":   {`// @policy([])` + "\n" + `@id("a")` + always, "1: want an object"},
		"metadata, not closed":      {`// @policy({}` + "\n" + `@id("a")` + always, "1: ends with )"},
		"metadata twice":            {`// @policy({})` + "\n" + `// @policy({})` + "\n" + `@id("a")` + always, "2: second policy metadata"},
		"metadata, misspelt start":  {`//@Policy({"audit":"strict"})` + "\n" + `@id("a")` + always, "1: begins exactly with"},
		"metadata, bad audit":       {`// @policy({"audit":"Strict"})` + "\n" + `@id("a")` + always, "1: audit"},
		"metadata, bad bound":       {`// @policy({"stale_bound":"1"})` + "\n" + `@id("a")` + always, "1: stale_bound"},
		"metadata, bad mask":        {`// @policy({"masks":["/subject/id"]})` + "\n" + `@id("a")` + always, "1: masks"},
		"metadata, bad read":        {`// @policy({"reads":["roles"]})` + "\n" + `@id("a")` + always, "1: reads"},
		"metadata, bad pattern":     {`// @policy({"scope":{"actions":["*.create"]}})` + "\n" + `@id("a")` + always, "1: scope: actions"},
		"metadata, unbound unread":  {`// @policy({"unbound":["run_id"]})` + "\n" + `@id("a")` + always, "1: unbound"},
		"not UTF-8":                 {"\xff", "0: UTF-8"},
		"nested too deep":           {`@id("a") forbid (principal, action, resource) when { ` + strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200) + " };", "1: nested deeper"},
		"too long":                  {`@id("a") forbid (principal, action, resource) when { ` + strings.Repeat("!", 30_000) + "true };", "1: tokens"},
		"a path without end":        {`@id("a") forbid (principal, action, resource) when { resource` + strings.Repeat(".a", 100) + " };", "1: steps"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			faults := files{"platform/p.cedar": row.text, "approvals/network.yaml": "a: b"}.faults(t)
			for _, f := range faults {
				var line int
				var message string
				if _, err := fmt.Sscanf(row.want, "%d:", &line); err != nil {
					t.Fatal(err)
				}
				message = row.want[strings.Index(row.want, ":")+2:]
				if f.File == "platform/p.cedar" && f.Line == line && strings.Contains(f.Message, message) {
					return
				}
			}
			t.Errorf("got\n%v\nwant line and message %s", faults, row.want)
		})
	}
}

func TestEveryFaultIsReported(t *testing.T) {
	faults := files{
		"platform/a.cedar": `@id("a") @severity("x") @admits("true") forbid (principal, action, resource);
@id("b") forbid (principal, action, resource) when { };
@id("c") forbid (principal, action, resource) when { context.x };`,
		"tenants/acme/b.cedar":        `@id("a") forbid ();`,
		"rules.cedar":                 `@id("a") forbid (principal, action, resource);`,
		"platform/schema.cedarschema": `entity a;`,
		"schema.cedarschema":          "entity a;\nentity b in [nobody;",
	}.faults(t)
	for _, want := range []string{
		"platform/a.cedar:1: rule a: @severity", "platform/a.cedar:1: rule a: @admits", "platform/a.cedar:2:", "platform/a.cedar:3: rule c: context.x",
		"tenants/acme/b.cedar:1:", "rules.cedar: \"rules\": want platform/", "platform/schema.cedarschema: nothing reads", "schema.cedarschema:2:",
	} {
		if !strings.Contains(faults.Error(), want) {
			t.Errorf("no fault %q in\n%v", want, faults)
		}
	}
}

func TestDeclaredReadsCompile(t *testing.T) {
	files{"platform/a.cedar": `
// @policy({"reads":["subject.roles","resource.landing_zone","context.run_id"]})
@id("a") @message("{context.run_id} {subject.properties.roles} {tenant} {action.name}")
forbid (principal in role::"x", action, resource)
when { principal.roles.contains("y") && resource.landing_zone == "z" && context has run_id && context.run_id like "r*" }
when { context.tenant == "acme" && context.now > datetime("2026-01-01") && principal in role::"z" && resource.other == 1 };
@id("b") forbid (principal in team::"x", action, resource) when { principal in [team::"a", team::"b"] && resource in team::"c" };`}.compile(t)
}

func TestRolesAreDeclaredWhereverTheyAreAskedFor(t *testing.T) {
	// No attributes.yaml says that roles are trusted; they are all the same.
	compile := func(statement string) error {
		content, err := bundles.NewContent([]bundles.File{
			{Path: "platform/a.cedar", Data: []byte(`@id("a") permit (principal, action == Action::"ecs.instance.create", resource) when { ` + statement + ` };`)},
			{Path: SchemaFile, Data: []byte(ecsSchema + "entity team;")},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = New().Compile(t.Context(), &pdp.Source{Content: content, Attributes: &pdp.AttributeSchema{}})
		return err
	}
	for statement, needs := range map[string]bool{
		`principal in role::"x"`:                   true,
		`resource.owner in role::"x"`:              true,
		`user::"li.wei" in [role::"x", role::"y"]`: true,
		`resource.owner has roles`:                 true,
		`principal in user::"x"`:                   false,
		`principal in [user::"x", user::"y"]`:      false,
		`action in [Action::"writes"]`:             false,
		`resource.owner == user::"x"`:              false,
	} {
		err := compile(statement)
		if got := err != nil && strings.Contains(err.Error(), "subject.roles is used"); got != needs {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestCompileStopsWhenTheContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New().Compile(ctx, &pdp.Source{Content: files{"platform/a.cedar": `@id("a") permit (principal, action, resource);`}.content()})
	if err != context.Canceled { //nolint:errorlint // exactly this
		t.Errorf("got %v", err)
	}
}

// TestAFileThatNamesItsActionsIsScopedToThem keeps the matcher from asking
// thousands of policies that cannot apply.
func TestAFileThatNamesItsActionsIsScopedToThem(t *testing.T) {
	const schema = `entity user, ecs; action group; action read, write in [group] appliesTo {principal: user, resource: ecs};`
	rows := map[string]struct{ text, want string }{
		"named":           {`@id("a") permit (principal, action == Action::"read", resource); @id("b") permit (principal, action in [Action::"write", Action::"read"], resource);`, "[read write]"},
		"a group":         {`@id("a") permit (principal, action in Action::"group", resource);`, "[group read write]"},
		"one for all":     {`@id("a") permit (principal, action == Action::"read", resource); @id("b") permit (principal, action, resource);`, "[]"},
		"metadata speaks": {`// @policy({"scope":{"actions":["*"]}})` + "\n" + `@id("a") permit (principal, action == Action::"read", resource);`, "[*]"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			p := files{"platform/a.cedar": row.text, SchemaFile: schema}.compile(t)
			if got := fmt.Sprint(p.Policies()[0].Scope.Actions); got != row.want {
				t.Errorf("scoped to %s, want %s", got, row.want)
			}
		})
	}
}

// TestTheDigestCoversAllThatDecides changes one thing a row.
func TestTheDigestCoversAllThatDecides(t *testing.T) {
	base := func() files {
		return files{
			"platform/a.cedar":       `@id("a") @effect("review") @template("t") forbid (principal, action, resource); @id("b") permit (principal, action, resource);`,
			"approvals/t.yaml":       "quorum: 1",
			"approvals/unnamed.yaml": "quorum: 1",
			SchemaFile:               "entity user, ecs; action read appliesTo {principal: user, resource: ecs};",
			SelfSchemaFile:           "entity user;",
			"tables/sizes.yaml":      "platform: {a: 1}",
		}
	}
	digests := func(f files) string {
		var all []string
		for _, rule := range f.compile(t).Policies()[0].Rules {
			all = append(all, rule.Digest.String())
		}
		return strings.Join(all, " ")
	}
	before := strings.Fields(digests(base()))
	if before[0] == before[1] {
		t.Error("two rules have one digest")
	}
	rows := map[string]struct {
		change func(files)
		moved  string // which of a and b
	}{
		"nothing":              {func(files) {}, ""},
		"a comment":            {func(f files) { f["platform/a.cedar"] += "// x" }, "ab"},
		"the schema":           {func(f files) { f[SchemaFile] += " " }, "ab"},
		"its template":         {func(f files) { f["approvals/t.yaml"] = "quorum: 2" }, "a"},
		"another template":     {func(f files) { f["approvals/unnamed.yaml"] = "quorum: 2" }, ""},
		"the self schema":      {func(f files) { f[SelfSchemaFile] += " " }, ""},
		"a table":              {func(f files) { f["tables/sizes.yaml"] = "platform: {a: 2}" }, ""},
		"a policy beside it":   {func(f files) { f["platform/b.cedar"] = `@id("a") permit (principal, action, resource);` }, ""},
		"no schema any more":   {func(f files) { delete(f, SchemaFile) }, "ab"},
		"metadata that is new": {func(f files) { f["platform/a.cedar"] = "// @policy({})\n" + f["platform/a.cedar"] }, "ab"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			changed := base()
			row.change(changed)
			moved := ""
			for i, digest := range strings.Fields(digests(changed)) {
				if digest != before[i] {
					moved += string(rune('a' + i))
				}
			}
			if moved != row.moved {
				t.Errorf("digests of %q moved, want %q", moved, row.moved)
			}
		})
	}
}
