package evaltest

// always holds in every language.
func always(id, effect string) rule {
	return rule{id: id, effect: effect, rego: `input.tenant == "acme"`, cedar: `context.tenant == "acme"`, cel: `tenant == "acme"`}
}

// n is a policy of one DENY, "big", with the given conditions.
func n(rego, cedar, cel string) []policy {
	return []policy{{rules: []rule{{id: "big", effect: "deny", rego: rego, cedar: cedar, cel: cel}}}}
}

var findingRows = []row{
	{
		name: "a rule allows, denies or asks for review",
		policies: []policy{{rules: []rule{
			{id: "a", effect: "allow", rego: `input.resource.properties.n == 1`, cedar: `resource.n == 1`, cel: `resource.properties.n == 1`},
			{id: "r", effect: "review", rego: `input.resource.properties.n == 2`, cedar: `resource.n == 2`, cel: `resource.properties.n == 2`},
			{id: "d", effect: "deny", rego: `input.resource.properties.n == 3`, cedar: `resource.n == 3`, cel: `resource.properties.n == 3`},
		}}},
		asks: []ask{
			{properties: `{"n":1}`, want: "allow a"},
			{properties: `{"n":2}`, want: "review r"},
			{properties: `{"n":3}`, want: "deny d"},
			{properties: `{"n":4}`, want: ""},
		},
	},
	{
		name:     "every finding is reported, also after a deny",
		policies: []policy{{rules: []rule{always("d1", "deny"), always("a", "allow"), always("r", "review"), always("d2", "deny")}}, {id: "platform/q", rules: []rule{always("d3", "deny")}}},
		asks:     []ask{{want: "p: allow a, p: deny d1, p: deny d2, p: review r, q: deny d3"}},
	},
	{
		name: "a finding names its path",
		policies: []policy{{rules: []rule{{id: "d", effect: "deny", path: "/resource/properties/n",
			rego: `input.resource.properties.n == 1`, cedar: `resource.n == 1`, cel: `resource.properties.n == 1`}}}},
		asks: []ask{{properties: `{"n":1}`, want: "deny d at /resource/properties/n"}},
	},
	{
		name: "subject, action, resource and context are the request's",
		policies: []policy{{reads: []string{"context.ticket"}, rules: []rule{
			{id: "subject", effect: "deny", rego: `input.subject.type == "user"; input.subject.id == "li.wei"; input.subject.properties.level == 3`,
				cedar: `principal == user::"li.wei" && principal.level == 3`, cel: `subject.type == "user" && subject.id == "li.wei" && subject.properties.level == 3`},
			{id: "action", effect: "deny", rego: `input.action.name == "ecs.instance.create"`, cedar: `action == Action::"ecs.instance.create"`, cel: `action == "ecs.instance.create"`},
			{id: "resource", effect: "deny", rego: `input.resource.type == "ecs.instance"; input.resource.id == "r-1"`, cedar: `resource == ecs::instance::"r-1"`, cel: `resource.type == "ecs.instance" && resource.id == "r-1"`},
			{id: "context", effect: "deny", rego: `input.context.ticket == "T-1"`, cedar: `context has ticket && context.ticket == "T-1"`, cel: `has(context.ticket) && context.ticket == "T-1"`},
		}}},
		asks: []ask{
			{subject: `{"level":3}`, action: "ecs.instance.create", context: `{"ticket":"T-1"}`, want: "deny action, deny context, deny resource, deny subject"},
			{subject: `{"level":4}`, action: "ecs.instance.delete", context: `{"ticket":"T-2"}`, resourceType: "ecs.disk", want: ""},
		},
	},
}

var numberRows = []row{
	{
		name:     "2, 2.0 and 2e0 are one integer",
		policies: n(`input.resource.properties.n == 2`, `resource.n == 2`, `resource.properties.n == 2`),
		asks: []ask{
			{properties: `{"n":2}`, want: "deny big"}, {properties: `{"n":2.0}`, want: "deny big"}, {properties: `{"n":2e0}`, want: "deny big"},
			{properties: `{"n":20e-1}`, want: "deny big"}, {properties: `{"n":0.2e1}`, want: "deny big"},
			{properties: `{"n":2.5}`, want: ""}, {properties: `{"n":-2}`, want: ""}, {properties: `{"n":"2"}`, want: ""},
		},
	},
	{
		name:     "an integer compares with integers",
		policies: n(`input.resource.properties.n > 2`, `resource.n > 2`, `resource.properties.n > 2`),
		asks: []ask{
			{properties: `{"n":2}`, want: ""}, {properties: `{"n":2.0}`, want: ""}, {properties: `{"n":3}`, want: "deny big"}, {properties: `{"n":3e0}`, want: "deny big"},
			{properties: `{"n":-0}`, want: ""}, {properties: `{"n":-0.0}`, want: ""},
		},
	},
	{
		name:     "minus zero is zero",
		policies: n(`input.resource.properties.n == 0`, `resource.n == 0`, `resource.properties.n == 0`),
		asks:     []ask{{properties: `{"n":-0}`, want: "deny big"}, {properties: `{"n":-0.0}`, want: "deny big"}, {properties: `{"n":0e9}`, want: "deny big"}},
	},
	{
		name:     "a fraction of at most four places is a decimal",
		policies: n(`input.resource.properties.n == 0.1234`, `resource.n == decimal("0.1234")`, `resource.properties.n == 0.1234`),
		asks: []ask{
			{properties: `{"n":0.1234}`, want: "deny big"}, {properties: `{"n":0.12340}`, want: "deny big"}, {properties: `{"n":1234e-4}`, want: "deny big"},
			{properties: `{"n":0.1235}`, want: ""}, {properties: `{"n":-0.1234}`, want: ""},
		},
	},
	{
		name:     "fractions compare",
		policies: n(`input.resource.properties.n < 1.5`, `resource.n.lessThan(decimal("1.5"))`, `resource.properties.n < 1.5`),
		asks:     []ask{{properties: `{"n":0.5}`, want: "deny big"}, {properties: `{"n":-3.25}`, want: "deny big"}, {properties: `{"n":1.5001}`, want: ""}},
	},
	{
		name:     "a longer fraction is seen, or denies in Cedar",
		policies: n(`input.resource.properties.n < 1`, `resource.n.lessThan(decimal("1.0"))`, `resource.properties.n < 1`),
		asks: []ask{
			{properties: `{"n":0.12345}`, want: "deny big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{properties: `{"n":0.00001}`, want: "deny big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{properties: `{"n":1e-7}`, want: "deny big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{properties: `{"n":1.00001}`, want: "", but: map[string]string{Cedar: "fails unsupported_value"}},
		},
	},
	{
		name: "the largest and smallest integers are exact",
		policies: n(`input.resource.properties.n in {9007199254740991, -9007199254740991}`,
			`[9007199254740991, -9007199254740991].contains(resource.n)`, `resource.properties.n in [9007199254740991, -9007199254740991]`),
		asks: []ask{
			{properties: `{"n":9007199254740991}`, want: "deny big"}, {properties: `{"n":-9007199254740991}`, want: "deny big"},
			{properties: `{"n":9007199254740991.0}`, want: "deny big"},
			{properties: `{"n":9007199254740990}`, want: ""}, {properties: `{"n":-9007199254740990}`, want: ""},
		},
	},
	{
		name: "numbers are one value inside lists and objects too",
		policies: n(`2 in input.resource.properties.list; input.resource.properties.o == {"cpu": 2, "load": 0.5}`,
			`resource.list.contains(2) && resource.o == {"cpu": 2, "load": decimal("0.5")}`, `2 in resource.properties.list && resource.properties.o == {"cpu": 2, "load": 0.5}`),
		asks: []ask{
			{properties: `{"list":[1,2.0],"o":{"load":0.50,"cpu":2e0}}`, want: "deny big"},
			{properties: `{"list":[1,3],"o":{"load":0.5,"cpu":2}}`, want: ""},
			{properties: `{"list":[2],"o":{"load":0.5,"cpu":3}}`, want: ""},
		},
	},
}

var valueRows = []row{
	{
		name: "strings compare as bytes: no folding, no normalisation",
		policies: n("input.resource.properties.s in {\"\u00e9\", \"ABC\"}", "[\"\u00e9\", \"ABC\"].contains(resource.s)",
			"resource.properties.s in [\"\u00e9\", \"ABC\"]"),
		asks: []ask{
			{name: "composed", properties: "{\"s\":\"\u00e9\"}", want: "deny big"},
			{name: "escaped", properties: `{"s":"\u00e9"}`, want: "deny big"},
			{name: "decomposed", properties: "{\"s\":\"e\u0301\"}", want: ""},
			{properties: `{"s":"ABC"}`, want: "deny big"}, {properties: `{"s":"abc"}`, want: ""}, {properties: `{"s":"ABC "}`, want: ""},
			{properties: `{"s":"ABC\u0000"}`, want: ""}, {name: "full width", properties: "{\"s\":\"\uff21BC\"}", want: ""},
		},
	},
	{
		name:     "a boolean is no number and no string",
		policies: n(`input.resource.properties.b == true`, `resource.b == true`, `resource.properties.b == true`),
		asks: []ask{
			{properties: `{"b":true}`, want: "deny big"}, {properties: `{"b":false}`, want: ""}, {properties: `{"b":1}`, want: ""}, {properties: `{"b":"true"}`, want: ""},
		},
	},
	{
		name:     "naming a missing member fails, or is undefined in Rego",
		policies: n(`input.resource.properties.n > 2`, `resource.n > 2`, `resource.properties.n > 2`),
		asks: []ask{
			{properties: `{}`, want: "fails policy_error big", but: map[string]string{Rego: ""}},
			{name: "no properties", properties: `-`, want: "fails policy_error big", but: map[string]string{Rego: ""}},
			{properties: `{"N":3}`, want: "fails policy_error big", but: map[string]string{Rego: ""}},
			{properties: `{"n":{}}`, want: "fails policy_error big", but: map[string]string{Rego: "deny big"}}, // Rego orders all types
		},
	},
	{
		name:     "a null is there, and not a missing member",
		policies: n(`object.get(input.resource.properties, "n", "absent") != "absent"`, `resource has n`, `has(resource.properties.n)`),
		asks: []ask{
			{properties: `{}`, want: ""},
			{properties: `{"n":0}`, want: "deny big"},
			{properties: `{"n":null}`, want: "deny big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{properties: `{"n":0.12345}`, want: "deny big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{name: "elsewhere", properties: `{"n":0,"m":null,"o":{"n":null},"l":[0.12345]}`, want: "deny big"},
		},
	},
	{
		name: "asking for what is missing tells absent from there",
		policies: n(`not input.resource.properties.tags.owner`, `!(resource has tags && resource.tags has owner)`,
			`!(has(resource.properties.tags) && has(resource.properties.tags.owner))`),
		asks: []ask{
			{properties: `{}`, want: "deny big"}, {properties: `{"tags":{}}`, want: "deny big"}, {properties: `{"tags":{"Owner":"x"}}`, want: "deny big"},
			{properties: `{"tags":{"owner":"x"}}`, want: ""},
			{properties: `{"tags":{"owner":"x","other":null}}`, want: ""},
			{properties: `{"tags":null}`, want: "deny big", but: map[string]string{Cedar: "fails unsupported_value", CEL: "fails policy_error big"}},
			{properties: `{"tags":{"owner":null}}`, want: "", but: map[string]string{Cedar: "fails unsupported_value"}},
		},
	},
	{
		name:     "a null inside a value that is used whole is seen, or denies in Cedar",
		policies: n(`"a" in input.resource.properties.list`, `resource.list.contains("a")`, `"a" in resource.properties.list`),
		asks: []ask{
			{properties: `{"list":["a"]}`, want: "deny big"}, {properties: `{"list":[]}`, want: ""}, {properties: `{"list":["b",["a"]]}`, want: ""},
			{properties: `{"list":["a",null]}`, want: "deny big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{properties: `{"list":["b",{"c":[0.00001]}]}`, want: "", but: map[string]string{Cedar: "fails unsupported_value"}},
		},
	},
	{
		name:     "types with dots map to types",
		policies: n(`input.resource.type == "ecs.instance"`, `resource is ecs::instance`, `resource.type == "ecs.instance"`),
		asks: []ask{
			{resourceType: "ecs.instance", want: "deny big"}, {resourceType: "ecs.disk", want: ""}, {resourceType: "ecs", want: ""}, {resourceType: "ECS.instance", want: ""},
		},
	},
	{
		name:     "a type that does not map denies in Cedar",
		policies: []policy{{rules: []rule{always("big", "allow")}}},
		asks: []ask{
			{name: "ecs.instance", resourceType: "ecs.instance", want: "allow big"},
			{name: "a hyphen", resourceType: "ecs-instance", want: "allow big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{name: "a slash", resourceType: "ecs/instance", want: "allow big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{name: "a colon", resourceType: "ecs:instance", want: "allow big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{name: "two colons", resourceType: "ecs::instance", want: "allow big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{name: "a digit first", resourceType: "ecs.2core", want: "allow big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{name: "an empty step", resourceType: "ecs..instance", want: "allow big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{name: "a reserved word", resourceType: "ecs.in", want: "allow big", but: map[string]string{Cedar: "fails unsupported_value"}},
			{name: "an action", resourceType: "Action", want: "allow big", but: map[string]string{Cedar: "fails unsupported_value"}},
		},
	},
	{
		name:     "the request's own tenant is the tenant, whatever its context says",
		policies: n(`input.tenant == "globex"`, `context.tenant == "globex"`, `tenant == "globex"`),
		asks: []ask{
			{tenant: "globex", want: "deny big"},
			{tenant: "acme", want: ""},
			{tenant: "acme", context: `{"tenant":"globex"}`, want: "", but: map[string]string{Cedar: "fails unsupported_value"}},
			{tenant: "globex", context: `{"tenant":"acme"}`, want: "deny big", but: map[string]string{Cedar: "fails unsupported_value"}},
		},
	},
	{
		name:     "the clock is the decision's",
		policies: n(`time.now_ns() >= 1780300800000000000`, `context.now >= datetime("2026-06-01T08:00:00Z")`, `now >= timestamp("2026-06-01T08:00:00Z")`),
		asks: []ask{
			{name: "at", now: "2026-06-01T08:00:00Z", want: "deny big"},
			{name: "before", now: "2026-06-01T07:59:59Z", want: ""},
			{name: "in another zone", now: "2026-06-01T16:00:00+08:00", want: "deny big"},
			{name: "a context that lies", now: "2026-06-01T07:59:59Z", context: `{"now":"2027-01-01T00:00:00Z"}`, want: "", but: map[string]string{Cedar: "fails unsupported_value"}},
		},
	},
}

// fails at n = 0 and holds at n = 1.
var division = rule{
	id: "share", effect: "deny",
	rego:  `1 / input.resource.properties.n > 0`,
	cedar: `(2 - 2 * resource.n) * 9223372036854775807 == 0`,
	cel:   `1 / resource.properties.n > 0`,
}

var errorRows = []row{
	{
		name:     "a rule that fails denies by name, and other policies' findings stand",
		policies: []policy{{rules: []rule{division}}, {id: "platform/q", rules: []rule{always("d", "deny"), always("a", "allow")}}},
		asks: []ask{
			{properties: `{"n":1}`, want: "p: deny share, q: allow a, q: deny d"},
			{properties: `{"n":0}`, want: "p: fails policy_error share, q: allow a, q: deny d"},
		},
	},
	{
		name:     "a rule that allows and fails denies too",
		policies: []policy{{rules: []rule{{id: "share", effect: "allow", rego: division.rego, cedar: division.cedar, cel: division.cel}}}},
		asks:     []ask{{properties: `{"n":1}`, want: "allow share"}, {properties: `{"n":0}`, want: "fails policy_error share"}},
	},
	{
		name:     "two policies that fail both say so",
		policies: []policy{{rules: []rule{division}}, {id: "platform/q", rules: []rule{division}}, {id: "platform/s", rules: []rule{always("a", "allow")}}},
		asks:     []ask{{properties: `{"n":0}`, want: "p: fails policy_error share, q: fails policy_error share, s: allow a"}},
	},
	{
		name:     "what a failing rule would contribute is not contributed",
		policies: []policy{{rules: []rule{{id: "share", effect: "deny", rego: division.rego, cedar: division.cedar, cel: division.cel, obligation: `{"id":"audit"}`}}}},
		asks: []ask{
			{properties: `{"n":1}`, want: "deny share, obligation audit must=true {}"},
			{properties: `{"n":0}`, want: "fails policy_error share"},
		},
	},
}

var contributionRows = []row{
	{
		name: "an obligation is contributed when its rule holds",
		policies: []policy{{rules: []rule{
			{id: "a", effect: "allow", rego: `input.resource.properties.n == 1`, cedar: `resource.n == 1`, cel: `resource.properties.n == 1`,
				obligation: `{"id":"retention","must":false,"params":{"days":30.0,"deep":[0.5,null,"x"]}}`},
			{id: "r", effect: "review", rego: `input.resource.properties.n < 3`, cedar: `resource.n < 3`, cel: `resource.properties.n < 3`, obligation: `{"id":"audit"}`},
		}}},
		asks: []ask{
			{properties: `{"n":1}`, want: `allow a, obligation audit must=true {}, obligation retention must=false {"days":30,"deep":[0.5,null,"x"]}, review r`},
			{properties: `{"n":2}`, want: "obligation audit must=true {}, review r"},
			{properties: `{"n":3}`, want: ""},
		},
	},
	{
		name:    "limits and a route are contributed when their rule holds",
		without: map[string]string{Cedar: "its annotations carry no limits and no route"},
		policies: []policy{{rules: []rule{{id: "a", effect: "allow", rego: `input.resource.properties.n == 1`, cel: `resource.properties.n == 1`,
			limit: `{"key":"plugin.calls","rate":0.5,"burst":10,"window":"1m","quota":{"max":100,"reset":"day"},"cost":2}`, route: `{"pool":"pool-a","standby":"pool-b"}`}}}},
		asks: []ask{
			{properties: `{"n":1}`, want: `allow a, limit plugin.calls rate=0.5 burst=10 window="1m" cost=2 quota=100/day, route pool-a standby="pool-b"`},
			{properties: `{"n":2}`, want: ""},
		},
	},
	{
		name:     "arguments of a message come with the finding",
		without:  map[string]string{Cedar: "its placeholders are paths into the request", CEL: "its placeholders are paths into the request"},
		policies: []policy{{rules: []rule{{id: "d", effect: "deny", rego: `some n in input.resource.properties.list; n > 1`, args: `{"n": n}`, message: "{n} is too much."}}}},
		asks:     []ask{{properties: `{"list":[1,2,3.0]}`, want: `deny d with {"n":2}, deny d with {"n":3}`}},
	},
}

const regions = "platform: {all: [eu]}\ntenants:\n  acme: {allowed: [cn-hangzhou]}\n  globex: {allowed: [cn-shanghai]}\n"

// Tables, tenants and attributes.
var surroundingRows = []row{
	{
		name:     "a policy sees the table of the request's tenant",
		without:  map[string]string{Cedar: "it sees no tables"},
		policies: n(`input.resource.properties.region in data.xiezhi.tenants[input.tenant].tables.regions.allowed`, "", `resource.properties.region in tables.regions.allowed`),
		beside:   files{"tables/regions.yaml": regions},
		asks: []ask{
			{tenant: "acme", properties: `{"region":"cn-hangzhou"}`, want: "deny big"},
			{tenant: "acme", properties: `{"region":"cn-shanghai"}`, want: ""},
			{tenant: "globex", properties: `{"region":"cn-shanghai"}`, want: "deny big"},
			{tenant: "initech", properties: `{"region":"cn-shanghai"}`, want: "fails policy_error big", but: map[string]string{Rego: ""}},
		},
	},
	{
		name:     "another tenant's table is not there, however it is asked for",
		without:  map[string]string{Cedar: "it sees no tables"},
		policies: n(`data.xiezhi.tenants[input.resource.properties.other].tables.regions.allowed`, "", `resource.properties.other in tables || tables.exists(t, has(tables[t].globex))`),
		beside:   files{"tables/regions.yaml": regions},
		asks: []ask{
			{tenant: "acme", properties: `{"other":"globex"}`, want: ""},
			{tenant: "initech", properties: `{"other":"globex"}`, want: ""},
		},
	},
	{
		name:     "a tenant's policy is a policy of that tenant",
		policies: []policy{{id: "tenants/acme/p", rules: []rule{always("d", "deny")}}},
		asks:     []ask{{want: "deny d"}},
	},
	{
		name: "an attribute that is declared is read like a property",
		policies: []policy{{reads: []string{"subject.roles"}, rules: []rule{{id: "d", effect: "deny",
			rego: `"engineer" in input.subject.properties.roles`, cedar: `principal.roles.contains("engineer")`, cel: `"engineer" in subject.properties.roles`}}}},
		beside: files{"attributes.yaml": attributes},
		asks: []ask{
			{subject: `{"roles":["auditor","engineer"]}`, want: "deny d"},
			{subject: `{"roles":["Engineer"]}`, want: ""},
		},
	},
}

const attributes = "attributes:\n  subject.roles: {trusted: true, source: directory}\n"
