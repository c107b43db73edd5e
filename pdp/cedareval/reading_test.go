package cedareval

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// condition makes a policy of one forbid with a condition. It declares reads
// for whatever the tests' conditions use.
func oneForbid(condition string) files {
	return files{"platform/p.cedar": `// @policy({"reads":["subject.roles","context.a","context.b"]})
@id("rule") forbid (principal, action, resource) when { ` + condition + ` };`}
}

// properties makes a request about a resource with the given properties.
func properties(t testing.TB, object string) *pdp.Input {
	t.Helper()
	return request(t, `{"resource":{"type":"ecs.instance","id":"web","properties":`+object+`}}`)
}

func TestARequestIsMappedToCedar(t *testing.T) {
	in := request(t, `{"tenant":"acme",
		"subject":{"type":"user","id":"li.wei","properties":{"roles":["engineer","on-call"],"level":3}},
		"action":{"name":"ecs.instance.create","properties":{"dry":true}},
		"resource":{"type":"ecs.instance","id":"req-42/web","properties":{"cpu":2,"share":0.25,"whole":2.0,"negative":-1.5,"big":9007199254740991,
			"ports":[443,80,443],"tags":{"itsm:owner":"li.wei","nested":{"deep":true}},"empty":{},"none":[]}},
		"context":{"a":"198.51.100.7","b":{"c":1}}}`)
	for _, condition := range []string{
		`principal == user::"li.wei"`,
		`principal is user && principal.level == 3`,
		`principal in role::"engineer" && principal in role::"on-call" && !(principal in role::"admin")`,
		`principal.roles == ["on-call", "engineer"]`,
		`action == Action::"ecs.instance.create"`,
		`resource == ecs::instance::"req-42/web" && resource is ecs::instance`,
		`resource.cpu == 2 && resource.whole == 2 && resource.big == 9007199254740991`,
		`resource.share == decimal("0.25") && resource.negative.lessThan(decimal("-1.4"))`,
		`resource.ports == [80, 443]`,
		`resource.tags["itsm:owner"] == "li.wei" && resource.tags.nested.deep`,
		`resource.tags == {"itsm:owner": "li.wei", nested: {deep: true}}`,
		`resource.empty == {} && resource.none == [] && resource.none.isEmpty()`,
		`resource has tags.nested.deep && !(resource has tags.missing) && !(resource has missing)`,
		`ip(context.a).isInRange(ip("198.51.100.0/24")) && context.b.c == 1`,
		`context.tenant == "acme"`,
		`context.now == datetime("2026-06-01T08:00:00Z")`,
		`{a: principal}.a.level == 3 && (if true then principal else resource).level == 3`,
	} {
		t.Run(condition, func(t *testing.T) {
			expect(t, oneForbid(condition).compile(t).say(t, in), "deny rule")
		})
	}
}

func TestWhatDoesNotMapDenies(t *testing.T) {
	program := files{
		"platform/p.cedar": `@id("a") permit (principal, action, resource);`,
		"platform/q.cedar": `@id("b") forbid (principal == user::"x", action, resource);`,
	}.compile(t)
	rows := map[string]string{
		"a hyphen in the subject's type":  `{"subject":{"type":"service-account","id":"x"}}`,
		"a hyphen in the resource's type": `{"resource":{"type":"ecs.my-instance","id":"x"}}`,
		"a reserved word":                 `{"resource":{"type":"ecs.in","id":"x"}}`,
		"Cedar's own namespace":           `{"resource":{"type":"__cedar.ecs","id":"x"}}`,
		"a digit first":                   `{"resource":{"type":"ecs.2x","id":"x"}}`,
		"an empty part":                   `{"resource":{"type":"ecs..x","id":"x"}}`,
		"colons of its own":               `{"resource":{"type":"ecs::instance","id":"x"}}`,
		"a slash":                         `{"resource":{"type":"ecs/instance","id":"x"}}`,
		"an action as subject":            `{"subject":{"type":"Action","id":"ecs.instance.create"}}`,
		"an action as resource":           `{"resource":{"type":"x.Action","id":"x"}}`,
		"a role as subject":               `{"subject":{"type":"role","id":"admin"}}`,
		"the tenant in the context":       `{"context":{"tenant":"globex"}}`,
		"the clock in the context":        `{"context":{"now":"2020-01-01"}}`,
	}
	for name, text := range rows {
		t.Run(name, func(t *testing.T) {
			expect(t, program.say(t, request(t, text)),
				"unsupported_value  at platform/p.cedar:1", "unsupported_value  at platform/q.cedar:1")
		})
	}
}

// TestAForbidIsNotDodged is the attack: the forbid means to stop a public
// resource, and the request writes public, or what is around it, in a way that
// Cedar cannot hold.
func TestAForbidIsNotDodged(t *testing.T) {
	const unsupported, failed = "unsupported_value  at platform/p.cedar:1", "policy_error rule at platform/p.cedar:2"
	rows := []struct{ condition, properties, want string }{
		{`resource has public && resource.public`, `{"public":true}`, "deny rule"},
		{`resource has public && resource.public`, `{"public":null}`, unsupported},
		{`resource has public && resource.public`, `{"public":0.12345}`, unsupported},
		{`resource has public && resource.public`, `{"public":1e-7}`, unsupported},
		{`resource has public && resource.public`, `{"public":[null]}`, unsupported},
		{`resource has public && resource.public`, `{"public":{"x":null}}`, unsupported},
		{`resource has public && resource.public`, `{"public":"yes"}`, failed},
		{`resource.public`, `{}`, failed},
		{`resource.net.public`, `{"net":null}`, unsupported},
		{`resource.net.public`, `{"net":{"public":null}}`, unsupported},
		{`resource has net.public && resource.net.public`, `{"net":{"public":null}}`, unsupported},
		{`resource has net.public && resource.net.public`, `{"net":[{"public":true}]}`, failed},
		{`resource has net.public`, `{"net":{"public":true,"x":null}}`, "deny rule"},
		{`resource.tags == {public: true}`, `{"tags":{"public":true,"x":null}}`, unsupported},
		{`resource.ports.contains(22)`, `{"ports":[22,null]}`, unsupported},
		{`[22, 23].containsAny(resource.ports)`, `{"ports":[22,0.12345]}`, unsupported},
		{`resource.rules.contains({port: 22})`, `{"rules":[{"port":22,"note":null}]}`, unsupported},
		{`[resource.a].contains({b: 1})`, `{"a":{"b":1,"c":null}}`, unsupported},
		{`{x: resource.a}.x.b == 1`, `{"a":{"b":1,"c":null}}`, unsupported},
		{`(if true then resource.a else resource.b).c == 1`, `{"a":{"c":1},"b":{"c":null}}`, unsupported},
		{`(if true then resource.a else resource.b).c == 1`, `{"a":{"c":1,"d":null},"b":{"c":2}}`, "deny rule"},
		{`{a: resource}.a.public`, `{"public":null}`, unsupported},
		{`resource.public`, `{"public":true,"note":null,"share":0.123456}`, "deny rule"},
	}
	for _, row := range rows {
		t.Run(row.condition+" of "+row.properties, func(t *testing.T) {
			expect(t, oneForbid(row.condition).compile(t).say(t, properties(t, row.properties)), row.want)
		})
	}
}

func TestAGapFailsOnlyWhoLooksThere(t *testing.T) {
	program := files{
		"platform/a.cedar":     `@id("a") forbid (principal, action, resource) when { resource.tags.x == 1 };`,
		"platform/b.cedar":     `@id("b") forbid (principal, action, resource) when { resource.tags.y == 1 };`,
		"platform/c.cedar":     `@id("c") forbid (principal == user::"nobody", action, resource) when { resource.tags.x == 1 };`,
		"tenants/acme/d.cedar": `@id("d") permit (principal, action, resource);`,
	}.compile(t)
	expect(t, program.say(t, properties(t, `{"tags":{"x":null,"y":1}}`)),
		"unsupported_value  at platform/a.cedar:1", "deny b", "unsupported_value  at platform/c.cedar:1", "allow d")
}

func TestTheGapIsNamed(t *testing.T) {
	program := oneForbid(`resource.a["b/c"] == {}`).compile(t)
	o := program.Evaluate(t.Context(), properties(t, `{"a":{"b/c":{"d":[1,null]}}}`), program.Policies(), nil)
	if got := o[0].Err.Message; !strings.HasPrefix(got, "/resource/properties/a/b~1c/d/[] holds what Cedar cannot read") {
		t.Errorf("message %q", got)
	}
}

// TestAHostileListIsRefused: each of these makes every insertion into cedar-go's
// set probe past all others.
func TestAHostileListIsRefused(t *testing.T) {
	var mixed, sums strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&mixed, "%d,0.%04d,", i, i%9999+1)
		fmt.Fprintf(&sums, "[%d,%d],", i, 40_000-i)
	}
	program := files{
		"platform/a.cedar": `@id("a") forbid (principal, action, resource) when { resource.list.contains(1) };`,
		"platform/b.cedar": `@id("b") forbid (principal, action, resource) when { resource.many.x == 1 };`,
		"platform/c.cedar": `@id("c") forbid (principal, action, resource) when { resource.few.contains(511) };`,
	}.compile(t)
	for _, list := range []string{mixed.String(), sums.String()} {
		list = "[" + strings.TrimSuffix(list, ",") + "]"
		in := properties(t, `{"few":[`+strings.Repeat("1,", 500)+`511],"list":`+list+`,"many":{"x":1,"lists":[`+strings.Repeat("[1,2,3,4,5,6,7,8],", 9000)+`[]]}}`)
		expect(t, program.say(t, in), "unsupported_value  at platform/a.cedar:1", "unsupported_value  at platform/b.cedar:1", "deny c")
	}
}

// TestAnotherTenantsPoliciesWeighNothing: what globex looks at is neither read
// nor counted when acme asks.
func TestAnotherTenantsPoliciesWeighNothing(t *testing.T) {
	program := files{
		"tenants/acme/p.cedar":   `@id("a") forbid (principal, action, resource) when { resource.b.contains(1) };`,
		"tenants/globex/p.cedar": `@id("b") forbid (principal, action, resource) when { resource.a.contains(1) };`,
	}.compile(t)
	long := "[" + strings.Repeat("1,", 499) + "1]"
	out := program.Evaluate(t.Context(), properties(t, `{"a":`+long+`,"b":`+long+`}`), program.Policies()[:1], nil)
	expect(t, lines(out), "deny a")
}

func TestRolesThatAreNoListOfStringsDeny(t *testing.T) {
	program := files{
		"platform/a.cedar": `// @policy({"reads":["subject.roles"]})` + "\n" + `@id("a") permit (principal in role::"x", action, resource);`,
		"platform/b.cedar": `@id("b") permit (principal, action, resource);`,
	}.compile(t)
	for _, roles := range []string{`"x"`, `null`, `["x",1]`, `["x",null]`, `{"x":true}`, `[["x"]]`} {
		in := request(t, `{"subject":{"type":"user","id":"a","properties":{"roles":`+roles+`}}}`)
		expect(t, program.say(t, in), "unsupported_value  at platform/a.cedar:1", "allow b")
	}
	expect(t, program.say(t, request(t, `{"subject":{"type":"user","id":"a"}}`)), "allow b")
}

// TestSubjectAndResourceMayBeOneEntity: what the caller writes into the
// resource never becomes the subject's, and the other way round.
func TestSubjectAndResourceMayBeOneEntity(t *testing.T) {
	const reads = `// @policy({"reads":["subject.roles"]})` + "\n"
	program := files{
		"platform/a.cedar": reads + `@id("a") permit (principal in role::"admin", action, resource);`,
		"platform/b.cedar": reads + `@id("b") permit (principal, action, resource) when { principal.roles.contains("admin") };`,
		"platform/c.cedar": `@id("c") forbid (principal, action, resource) when { resource.level == 1 };`,
		"platform/d.cedar": `@id("d") forbid (principal, action, resource) when { principal.level == 2 };`,
		"platform/e.cedar": `@id("e") forbid (principal, action, resource) when { principal has level && resource has level };`,
		"platform/g.cedar": `@id("g") forbid (principal == user::"nobody", action, resource) when { principal has level && resource has level };`,
		"platform/f.cedar": `@id("f") permit (principal, action, resource) when { principal == resource && resource.same == principal.same };`,
	}.compile(t)
	in := request(t, `{"subject":{"type":"user","id":"a","properties":{"roles":["engineer"],"level":2,"same":1}},
		"resource":{"type":"user","id":"a","properties":{"roles":["admin"],"level":1,"same":1}}}`)
	want := []string{"deny c", "deny d", "unsupported_value  at platform/e.cedar:1", "allow f", "unsupported_value  at platform/g.cedar:1"}
	expect(t, program.say(t, in), want...)
	in.Explain = true
	expect(t, program.say(t, in), want...)

	in = request(t, `{"subject":{"type":"user","id":"a","properties":{"roles":["engineer"],"level":2,"same":1}},"resource":{"type":"user","id":"a"}}`)
	expect(t, program.say(t, in),
		"policy_error c at platform/c.cedar:1", "deny d", "unsupported_value  at platform/e.cedar:1", "unsupported_value  at platform/f.cedar:1", "unsupported_value  at platform/g.cedar:1")
}

func TestASubjectThatIsTheResourceHasItsRoles(t *testing.T) {
	program := files{"platform/a.cedar": `// @policy({"reads":["subject.roles"]})
@id("a") permit (principal, action, resource in role::"admin");
@id("b") permit (principal, action, resource) when { resource in role::"admin" };`}.compile(t)
	expect(t, program.say(t, request(t, `{"subject":{"type":"user","id":"a","properties":{"roles":["admin"]}},"resource":{"type":"user","id":"a"}}`)), "allow a", "allow b")
	expect(t, program.say(t, request(t, `{"subject":{"type":"user","id":"a","properties":{"roles":["admin"]}},"resource":{"type":"user","id":"b"}}`)))
}

const ecsSchema = `
entity role;
entity user in [role] = { level?: Long, roles?: Set<String> };
namespace ecs {
  type Rule = { port: Long, source: ipaddr };
  entity instance = {
    owner: user,
    blocked?: Set<user>,
    address?: ipaddr,
    ratio?: decimal,
    until?: datetime,
    grace?: duration,
    rules?: Set<Rule>,
    cpu: Long,
  };
}
action writes;
action "ecs.instance.create", "ecs.instance.delete" in [writes] appliesTo { principal: user, resource: ecs::instance, context: { a?: ipaddr } };
action "ecs.instance.show" appliesTo { principal: user, resource: ecs::instance };
`

// TestASchemaSaysWhatAValueIs has what cedar-go alone would read as records
// and strings, and then miss.
func TestASchemaSaysWhatAValueIs(t *testing.T) {
	rows := []struct{ condition, properties string }{
		{`resource.owner == principal`, `{"owner":{"type":"user","id":"li.wei"},"cpu":1}`},
		{`resource.owner == principal`, `{"owner":{"__entity":{"type":"user","id":"li.wei"}},"cpu":1}`},
		{`resource.owner has level && resource.owner.level == 7`, `{"owner":{"type":"user","id":"li.wei"},"cpu":1}`},
		{`resource.owner in role::"x"`, `{"owner":{"type":"user","id":"li.wei"},"cpu":1}`},
		{`resource has blocked && resource.blocked.contains(principal)`, `{"owner":{"type":"user","id":"x"},"cpu":1,"blocked":[{"type":"user","id":"li.wei"}]}`},
		{`resource has address && resource.address.isLoopback()`, `{"owner":{"type":"user","id":"x"},"cpu":1,"address":"127.0.0.1"}`},
		{`resource has address && resource.address.isLoopback()`, `{"owner":{"type":"user","id":"x"},"cpu":1,"address":{"__extn":{"fn":"ip","arg":"127.0.0.1"}}}`},
		{`resource has address && resource.address.isLoopback()`, `{"owner":{"type":"user","id":"x"},"cpu":1,"address":{"fn":"ip","arg":"127.0.0.1"}}`},
		{`resource has ratio && resource.ratio.greaterThan(decimal("1.5"))`, `{"owner":{"type":"user","id":"x"},"cpu":1,"ratio":2}`},
		{`resource has ratio && resource.ratio.greaterThan(decimal("1.5"))`, `{"owner":{"type":"user","id":"x"},"cpu":1,"ratio":1.75}`},
		{`resource has ratio && resource.ratio.greaterThan(decimal("1.5"))`, `{"owner":{"type":"user","id":"x"},"cpu":1,"ratio":"1.75"}`},
		{`resource has until && resource.until < context.now`, `{"owner":{"type":"user","id":"x"},"cpu":1,"until":"2026-01-01"}`},
		{`resource has grace && resource.grace > duration("1h")`, `{"owner":{"type":"user","id":"x"},"cpu":1,"grace":"2h"}`},
		{`resource has rules && resource.rules.contains({port: 22, source: ip("10.0.0.0/8")})`, `{"owner":{"type":"user","id":"x"},"cpu":1,"rules":[{"port":22,"source":"10.0.0.0/8"}]}`},
		{`context has a && context.a.isLoopback()`, `{"owner":{"type":"user","id":"x"},"cpu":1}`},
		{`action in Action::"writes"`, `{"owner":{"type":"user","id":"x"},"cpu":1}`},
	}
	for _, row := range rows {
		t.Run(row.condition+" of "+row.properties, func(t *testing.T) {
			f := oneForbid(row.condition)
			f[SchemaFile] = ecsSchema
			in := request(t, `{"subject":{"type":"user","id":"li.wei","properties":{"level":7,"roles":["x"]}},"context":{"a":"127.0.0.1"},
				"resource":{"type":"ecs.instance","id":"web","properties":`+row.properties+`}}`)
			expect(t, f.compile(t).say(t, in), "deny rule")
		})
	}
}

func TestAnActionGroupOfTheSchemaIsAScope(t *testing.T) {
	program := files{SchemaFile: ecsSchema, "platform/p.cedar": `
@id("writes") forbid (principal, action in Action::"writes", resource);
@id("one") forbid (principal, action == Action::"ecs.instance.create", resource);
@id("either") forbid (principal, action in [Action::"writes", Action::"ecs.instance.create"], resource);
@id("show") forbid (principal, action == Action::"ecs.instance.show", resource);`}.compile(t)
	expect(t, program.say(t, request(t, `{}`)), "deny writes", "deny one", "deny either")
}

// TestWhatTheSchemaRefusesDenies: a value that is not of its type would pass
// for absent, and switch a forbid off.
func TestWhatTheSchemaRefusesDenies(t *testing.T) {
	f := files{SchemaFile: ecsSchema, "platform/p.cedar": `
@id("rule") forbid (principal, action == Action::"ecs.instance.create", resource)
when { resource has blocked && resource.blocked.contains(principal) || resource has address };`}
	program := f.compile(t)
	for name, object := range map[string]string{
		"a string for a list":       `{"blocked":"li.wei"}`,
		"strings for references":    `{"blocked":["li.wei"]}`,
		"another entity type":       `{"blocked":[{"type":"role","id":"li.wei"}]}`,
		"a reference with more":     `{"blocked":[{"type":"user","id":"li.wei","x":1}]}`,
		"a reference with a number": `{"blocked":[{"type":"user","id":1}]}`,
		"a null":                    `{"blocked":null}`,
		"a call with more":          `{"blocked":[],"address":{"fn":"ip","arg":"127.0.0.1","x":1}}`,
		"a call of another type":    `{"blocked":[],"address":{"fn":"decimal","arg":"1.0"}}`,
		"a call of a number":        `{"blocked":[],"address":{"__extn":{"fn":"ip","arg":1}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, program.say(t, properties(t, object)), "unsupported_value  at platform/p.cedar:1")
		})
	}
	t.Run("a type that the schema does not know", func(t *testing.T) {
		in := request(t, `{"resource":{"type":"ecs.machine","id":"web","properties":{"blocked":[{"type":"user","id":"li.wei"}]}}}`)
		expect(t, program.say(t, in), "unsupported_value  at platform/p.cedar:1")
	})
	t.Run("a member that is required", func(t *testing.T) {
		f["platform/p.cedar"] = `@id("rule") forbid (principal, action == Action::"ecs.instance.create", resource) when { resource has cpu && resource.cpu > 2 };`
		expect(t, f.compile(t).say(t, properties(t, `{}`)), "unsupported_value  at platform/p.cedar:1")
	})
	t.Run("a member that an element requires", func(t *testing.T) {
		f["platform/p.cedar"] = `@id("rule") forbid (principal, action == Action::"ecs.instance.create", resource) when { resource has rules && resource.rules.contains({port: 22, source: ip("::/0")}) };`
		expect(t, f.compile(t).say(t, properties(t, `{"rules":[{"port":22}]}`)), "unsupported_value  at platform/p.cedar:1")
		expect(t, f.compile(t).say(t, properties(t, `{"rules":[{"port":22,"source":"::/0","note":"x"}]}`)), "unsupported_value  at platform/p.cedar:1")
		expect(t, f.compile(t).say(t, properties(t, `{"rules":[{"port":22,"source":"::/0"}]}`)), "deny rule")
	})
	t.Run("a member that is not declared", func(t *testing.T) {
		f["platform/p.cedar"] = `@id("rule") forbid (principal, action == Action::"ecs.instance.create", resource) when { resource has gpu };`
		expect(t, f.compile(t).say(t, properties(t, `{"gpu":1}`)), "unsupported_value  at platform/p.cedar:1")
		expect(t, f.compile(t).say(t, properties(t, `{"unread":1}`)))
	})
}

func TestAPolicyAgainstTheSchemaIsAFaultAtItsLine(t *testing.T) {
	faults := files{SchemaFile: ecsSchema, "platform/p.cedar": `
@id("scope") forbid (principal, action == Action::"ecs.instance.stop", resource);
@id("type") forbid (principal, action, resource is ecs::machine);
@id("when")
forbid (principal, action == Action::"ecs.instance.create", resource)
when { true }
unless {
  resource.cpu == "2" || resource.gpu > 1 };
@id("optional") forbid (principal, action == Action::"ecs.instance.create", resource) when { resource.ratio.lessThan(decimal("1.0")) };
@id("well") forbid (principal, action == Action::"ecs.instance.create", resource) when { context.tenant == "x" && context.now > datetime("2026-01-01") };
`}.faults(t)
	var at []string
	for _, f := range faults {
		at = append(at, fmt.Sprintf("%d %s", f.Line, f.Rule))
	}
	for _, want := range []string{"2 scope", "3 type", "7 when", "9 optional"} {
		if !slices.Contains(at, want) {
			t.Errorf("no fault at %s:\n%v", want, faults)
		}
	}
	if slices.ContainsFunc(at, func(s string) bool { return strings.HasSuffix(s, "well") }) {
		t.Errorf("a sound statement is a fault:\n%v", faults)
	}
}

func TestAWrongSchemaIsAFault(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("type t0 = Long;\n")
	for i := range 30 {
		fmt.Fprintf(&bomb, "type t%d = {a: t%d, b: t%d};\n", i+1, i, i)
	}
	bomb.WriteString("entity e = {x: t30};")
	for name, row := range map[string]struct{ schema, want string }{
		"a syntax error":         {"entity a;\nentity b = {", SchemaFile + ":2:"},
		"an unknown type":        {"entity a = {b: nothing};", `"nothing"`},
		"types without end":      {bomb.String(), "types once common types are written out"},
		"a cycle":                {"type a = {b: b}; type b = {a: a}; entity e = {x: a};", "cycle"},
		"nesting without end":    {"entity a = {b: " + strings.Repeat("Set<", 1000) + "Long" + strings.Repeat(">", 1000) + "};", "nested deeper"},
		"the tenant as a number": {"entity a; action x appliesTo {principal: a, resource: a, context: {tenant: Long}};", "context.tenant is reserved"},
		"the clock as a record":  {"entity a; action x appliesTo {principal: a, resource: a, context: {now: {x: Long}}};", "context.now is reserved"},
		"an optional clock":      {"entity a; action x appliesTo {principal: a, resource: a, context: {now?: datetime}};", "context.now is reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			if faults := (files{SchemaFile: row.schema}).faults(t); !strings.Contains(faults.Error(), row.want) {
				t.Errorf("got %v, want %s", faults, row.want)
			}
		})
	}
}

func TestSelfHasItsOwnSchema(t *testing.T) {
	f := files{
		SchemaFile:          ecsSchema,
		SelfSchemaFile:      `entity user = { owner: user }; action "token.create" appliesTo { principal: user, resource: user };`,
		"self/rights.cedar": `@id("own") permit (principal, action == Action::"token.create", resource) when { resource.owner == principal };`,
		"platform/p.cedar":  `@id("all") permit (principal, action == Action::"ecs.instance.create", resource);`,
	}
	program := f.compile(t)
	in := request(t, `{"action":"token.create","resource":{"type":"user","id":"bot","properties":{"owner":{"type":"user","id":"li.wei"}}}}`)
	expect(t, program.say(t, in), "allow own")
	f["platform/p.cedar"] = f["self/rights.cedar"]
	if faults := f.faults(t); !strings.Contains(faults.Error(), "platform/p.cedar:1") {
		t.Errorf("a platform policy was held to the self schema: %v", faults)
	}
}
