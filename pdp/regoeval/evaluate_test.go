package regoeval_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestEverySetBecomesPartOfTheOutcome(t *testing.T) {
	p := compile(t, policy(declared("r")+`deny contains {"rule": "r", "path": "/resource/id", "args": {"n": 1.5, "s": {"b", "a"}, "x": null}}
`+declared("v")+`review contains {"rule": "v"}
`+declared("a")+`allow contains {"rule": "a"} if input.subject.id == "li.wei"
`+declared("o")+`obligations contains {"rule": "o", "id": "log", "must": false, "params": {"days": 30}}
obligations contains {"rule": "r", "id": "encrypt"}
`+declared("l")+`limits contains {"rule": "l", "key": "k", "rate": 0.5, "burst": 2, "window": "1m", "quota": {"max": 100, "reset": "day"}, "cost": 3}
`+declared("p")+`route contains {"rule": "p", "pool": "a", "standby": "b"}
`))
	o := ask(t, p, request)[0]
	if o.Err != nil || o.Policy != p.Policies()[0] {
		t.Fatalf("%+v", o)
	}
	if got := spoke([]pdp.Outcome{o}); got != "platform/p/r platform/p/v platform/p/a" {
		t.Errorf("spoke: %s", got)
	}
	if f := o.Findings[0]; f.Rule != p.Policies()[0].Rules[0] || f.Path != "/resource/id" || string(f.Args.AppendJSON(nil)) != `{"n":1.5,"s":["a","b"],"x":null}` {
		t.Errorf("finding %+v", f)
	}
	if len(o.Obligations) != 2 || fmt.Sprint(o.Obligations[1]) != fmt.Sprint(authz.Obligation{Policy: "platform/p", Rule: "o", ID: "log", Params: authz.MustValue(map[string]any{"days": 30})}) ||
		!o.Obligations[0].Must || o.Obligations[0].Params.Kind() != authz.KindObject {
		t.Errorf("obligations %+v", o.Obligations)
	}
	if len(o.Limits) != 1 || *o.Limits[0].Quota != (authz.Quota{Max: 100, Reset: "day"}) {
		t.Fatalf("limits %+v", o.Limits)
	}
	if o.Limits[0].Quota = nil; o.Limits[0] != (authz.Limit{Policy: "platform/p", Rule: "l", Key: "k", Rate: 0.5, Burst: 2, Window: "1m", Cost: 3}) {
		t.Errorf("limit %+v", o.Limits[0])
	}
	if len(o.Routes) != 1 || o.Routes[0] != (authz.Route{Policy: "platform/p", Rule: "p", Pool: "a", Standby: "b"}) {
		t.Errorf("routes %+v", o.Routes)
	}
}

func TestValuesAreComparedExactly(t *testing.T) {
	request := func(properties string) string {
		return `{"tenant":"acme","subject":{"type":"u","id":"u"},"action":"a","resource":{"type":"r","id":"r","properties":` + properties + `}}`
	}
	for name, c := range map[string]struct {
		properties, condition string
		want                  bool
	}{
		"2 is 2":                          {`{"n":2}`, `n == 2`, true},
		"2.0 is 2":                        {`{"n":2.0}`, `n == 2`, true},
		"2e0 is 2":                        {`{"n":2e0}`, `n == 2`, true},
		"2 is 2.0":                        {`{"n":2}`, `n == 2.0`, true},
		"2 is 2e0":                        {`{"n":2}`, `n == 2e0`, true},
		"2.0 in a set":                    {`{"n":2.0}`, `n in {2, 4}`, true},
		"2e0 as a key":                    {`{"n":2e0}`, `{2: true}[n]`, true},
		"2.0 in a pattern":                {`{"n":2.0}`, `[n, 1] == [2, 1]`, true},
		"20e-1 is an integer":             {`{"n":20e-1}`, `sprintf("%d", [n]) == "2"`, true},
		"-0 is 0":                         {`{"n":-0}`, `n == 0`, true},
		"0.1 is exact":                    {`{"n":0.1}`, `n == 0.1`, true},
		"0.1 and 0.2 stay decimal":        {`{"n":0.1,"m":0.2}`, `n + input.resource.properties.m == 0.3`, true},
		"the largest integer":             {`{"n":9007199254740991}`, `n == 9007199254740991`, true},
		"and its neighbour":               {`{"n":9007199254740991}`, `n == 9007199254740990`, false},
		"the smallest integer":            {`{"n":-9007199254740991}`, `n - 1 == -9007199254740992`, true},
		"a number is no string":           {`{"n":"2"}`, `n == 2`, false},
		"strings compare as bytes":        {`{"n":"\u00e9"}`, `n == "e\u0301"`, false},
		"and are not folded":              {`{"n":"A"}`, `n == "a"`, false},
		"null is not missing":             {`{"n":null}`, `n == null`, true},
		"missing is not null":             {`{}`, `object.get(input.resource, ["properties", "n"], 7) == null`, false},
		"missing has the default":         {`{}`, `object.get(input.resource, ["properties", "n"], 7) == 7`, true},
		"null has no default":             {`{"n":null}`, `object.get(input.resource, ["properties", "n"], 7) == null`, true},
		"null is a value":                 {`{"n":null}`, `_ = n`, true},
		"missing is none":                 {`{}`, `_ = n`, false},
		"false is a value":                {`{"n":false}`, `n == false`, true},
		"empty list":                      {`{"n":[]}`, `n == []`, true},
		"empty object":                    {`{"n":{}}`, `n == {}`, true},
		"lists keep their order":          {`{"n":[2,1]}`, `n == [2, 1]`, true},
		"objects have none":               {`{"n":{"b":1,"a":2}}`, `n == {"a": 2, "b": 1}`, true},
		"members that no policy mentions": {`{"n":{"zzz":{"yyy":"xxx"}}}`, `json.marshal(n) == concat("", ["{\"zz", "z\":{\"yy", "y\":\"xx", "x\"}}"])`, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := compile(t, deny(c.condition, "n := input.resource.properties.n"))
			want := ""
			if c.want {
				want = "platform/p/r"
			}
			if got := spoke(ask(t, p, request(c.properties))); got != want {
				t.Errorf("spoke: %q, want %q", got, want)
			}
		})
	}
}

func TestPoliciesSeeTheDecisionsClock(t *testing.T) {
	p := compile(t, deny(`time.now_ns() == time.parse_rfc3339_ns("2026-06-01T08:00:00Z")`, ""))
	if got := spoke(ask(t, p, request)); got != "platform/p/r" {
		t.Errorf("spoke: %s", got)
	}
	for _, now := range []time.Time{{}, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)} {
		in := input(t, request)
		in.Now = now
		if o := p.Evaluate(t.Context(), in, p.Policies(), nil); len(o) != 1 || o[0].Err == nil || !strings.Contains(o[0].Err.Message, "clock") {
			t.Errorf("at %v: %+v", now, o)
		}
	}
}

func TestOnePolicysErrorLeavesTheOthersStanding(t *testing.T) {
	p := compile(t, files{
		"platform/a.rego": "package xiezhi.platform.a\n" + declared("r") + `deny contains {"rule": "r"}`,
		"platform/b.rego": "package xiezhi.platform.b\n" + declared("ok") + "deny contains {\"rule\": \"ok\"}\n" + declared("bad") +
			"deny contains {\"rule\": \"bad\"} if {\n\tinput.resource.properties.cpu / 0 == 1\n}",
		"platform/c.rego": "package xiezhi.platform.c\n" + declared("r") + `allow contains {"rule": "r"}`,
	})
	outcomes := ask(t, p, request)
	if got := spoke(outcomes); got != "platform/a/r platform/b!policy_error platform/c/r" {
		t.Fatalf("spoke: %s", got)
	}
	if e := outcomes[1].Err; e.Rule != "bad" || e.File != "platform/b.rego" || e.Line != 8 || !strings.Contains(e.Message, "divide by zero") {
		t.Errorf("%+v", e)
	}
}

func TestErrorsNameThePlaceAndTheRule(t *testing.T) {
	for name, c := range map[string]struct {
		policy, rule, place, message string
		library                      string
	}{
		"in the body":              {policy: declared("r") + "deny contains {\"rule\": \"r\"} if {\n\tto_number(input.resource.id) == 1\n}", rule: "r", place: "platform/p.rego:5", message: "to_number"},
		"in the head":              {policy: declared("r") + "deny contains {\n\t\"rule\": \"r\",\n\t\"path\": to_number(input.resource.id),\n}", rule: "r", place: "platform/p.rego:6", message: "to_number"},
		"wrong type":               {policy: declared("r") + "deny contains {\"rule\": \"r\"} if count(input.resource.properties.cpu) == 1", rule: "r", place: "platform/p.rego:4", message: "count"},
		"under a not":              {policy: declared("r") + "deny contains {\"rule\": \"r\"} if not 1 / (input.resource.properties.cpu - 2) == 1", rule: "r", place: "platform/p.rego:4", message: "divide by zero"},
		"in an obligation":         {policy: declared("r") + "deny contains {\"rule\": \"r\"} if false\nobligations contains {\"rule\": \"r\", \"id\": \"x\"} if 1 / 0 == 1", rule: "r", place: "platform/p.rego:5", message: "divide by zero"},
		"in a helper":              {policy: declared("r") + "deny contains {\"rule\": \"r\"} if h(1)\nh(x) if x / 0 == 1", rule: "r", place: "platform/p.rego:5", message: "divide by zero"},
		"in a library":             {policy: declared("r") + "deny contains {\"rule\": \"r\"} if data.xiezhi.platform.lib.l.h(1)", library: "h(x) if x / 0 == 1", rule: "r", place: "platform/lib/l.rego:2", message: "divide by zero"},
		"in a rule of a library":   {policy: declared("r") + "deny contains {\"rule\": \"r\"} if data.xiezhi.platform.lib.l.v", library: "v := x if x := 1 / 0", rule: "r", place: "platform/lib/l.rego:2", message: "divide by zero"},
		"conflict":                 {policy: declared("r") + "deny contains {\"rule\": \"r\"} if h == 1\nh := 1 if input.tenant == \"acme\"\nh := 2 if input.resource.properties.cpu == 2", rule: "r", place: "platform/p.rego:6", message: "conflicting values"},
		"conflicting function":     {policy: declared("r") + "deny contains {\"rule\": \"r\"} if f(2) == 1\nf(x) := 1 if x > 0\nf(x) := 2 if x > 1", rule: "r", place: "platform/p.rego:6", message: "conflicting values"},
		"object keys":              {policy: declared("r") + "deny contains {\"rule\": \"r\"} if {k: v | some v in [1, 2]; k := \"x\"} == {}", rule: "r", place: "platform/p.rego:4", message: "unique"},
		"path that is none":        {policy: declared("r") + "deny contains {\"rule\": \"r\", \"path\": input.subject.id}", rule: "r", place: "platform/p.rego:4", message: "JSON pointer"},
		"path of a wrong type":     {policy: declared("r") + "deny contains {\"rule\": \"r\", \"path\": input.resource.properties.cpu}", rule: "r", place: "platform/p.rego:4", message: "want a string"},
		"args of a wrong type":     {policy: declared("r") + "deny contains {\"rule\": \"r\", \"args\": input.subject.id}", rule: "r", place: "platform/p.rego:4", message: "args: want an object"},
		"args with other names":    {policy: declared("r") + "deny contains {\"rule\": \"r\", \"args\": {x: 1}} if x := 1", rule: "r", place: "platform/p.rego:4", message: "must be a string"},
		"args with a huge number":  {policy: declared("r") + "deny contains {\"rule\": \"r\", \"args\": {\"x\": 1e300 * 10}}", rule: "r", place: "platform/p.rego:4", message: "too long"},
		"id of an obligation":      {policy: declared("r") + "obligations contains {\"rule\": \"r\", \"id\": input.resource.properties.cpu}", rule: "r", place: "platform/p.rego:4", message: "id: want a string"},
		"empty id":                 {policy: declared("r") + "obligations contains {\"rule\": \"r\", \"id\": trim(\"x\", \"x\")}", rule: "r", place: "platform/p.rego:4", message: "id: required"},
		"must":                     {policy: declared("r") + "obligations contains {\"rule\": \"r\", \"id\": \"x\", \"must\": input.subject.id}", rule: "r", place: "platform/p.rego:4", message: "true or false"},
		"limit of nothing":         {policy: declared("r") + "limits contains {\"rule\": \"r\", \"key\": \"k\"}", rule: "r", place: "platform/p.rego:4", message: "a limit states"},
		"rate below zero":          {policy: declared("r") + "limits contains {\"rule\": \"r\", \"key\": \"k\", \"rate\": 0 - 1}", rule: "r", place: "platform/p.rego:4", message: "rate: want"},
		"rate of another type":     {policy: declared("r") + "limits contains {\"rule\": \"r\", \"key\": \"k\", \"rate\": input.subject.id}", rule: "r", place: "platform/p.rego:4", message: "rate: want"},
		"burst that is no integer": {policy: declared("r") + "limits contains {\"rule\": \"r\", \"key\": \"k\", \"burst\": 1.5}", rule: "r", place: "platform/p.rego:4", message: "burst: want"},
		"window":                   {policy: declared("r") + "limits contains {\"rule\": \"r\", \"key\": \"k\", \"window\": \"soon\"}", rule: "r", place: "platform/p.rego:4", message: "window: want"},
		"quota member":             {policy: declared("r") + "limits contains {\"rule\": \"r\", \"key\": \"k\", \"quota\": {\"max\": 1, \"reset\": \"day\", \"x\": 1}}", rule: "r", place: "platform/p.rego:4", message: "quota: no member"},
		"quota without max":        {policy: declared("r") + "limits contains {\"rule\": \"r\", \"key\": \"k\", \"quota\": {\"reset\": \"day\"}}", rule: "r", place: "platform/p.rego:4", message: "quota: want max"},
		"quota period":             {policy: declared("r") + "limits contains {\"rule\": \"r\", \"key\": \"k\", \"quota\": {\"max\": 1, \"reset\": \"week\"}}", rule: "r", place: "platform/p.rego:4", message: "hour, day or month"},
		"empty pool":               {policy: declared("r") + "route contains {\"rule\": \"r\", \"pool\": \"\"}", rule: "r", place: "platform/p.rego:4", message: "pool: required"},
	} {
		t.Run(name, func(t *testing.T) {
			f := policy(c.policy)
			if c.library != "" {
				f = f.with("platform/lib/l.rego", "package xiezhi.platform.lib.l\n"+c.library)
			}
			o := ask(t, compile(t, f), request)[0]
			if o.Err == nil || len(o.Findings)+len(o.Obligations)+len(o.Limits)+len(o.Routes) != 0 {
				t.Fatalf("%+v", o)
			}
			place := fmt.Sprintf("%s:%d", o.Err.File, o.Err.Line)
			if o.Err.Cause != pdp.CausePolicyError || o.Err.Rule != c.rule || place != c.place || !strings.Contains(o.Err.Message, c.message) {
				t.Errorf("%s, rule %q: %s, %s\nwant %s, rule %q: … %s", place, o.Err.Rule, o.Err.Cause, o.Err.Message, c.place, c.rule, c.message)
			}
		})
	}
}

func TestValuesThatShareTheirPartsCannotExhaustTheServer(t *testing.T) {
	// 2^60 values when written out, 60 in memory; their types are small.
	shared := "x0 := 1\n"
	for i := 1; i <= 60; i++ {
		shared += fmt.Sprintf("x%d := [v | some n in [1, 2]; v := x%d]\n", i, i-1)
	}
	for name, entry := range map[string]string{
		"args": `{"rule": "r", "args": {"x": x20}}`, "deep args": `{"rule": "r", "args": {"x": x60}}`, "path": `{"rule": "r", "path": x60}`,
	} {
		t.Run(name, func(t *testing.T) {
			o := ask(t, compile(t, policy(declared("r")+"deny contains "+entry+"\n"+shared)), request)[0]
			if o.Err == nil || o.Err.Rule != "r" || len(o.Err.Message) > 300 {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestFractionsInAnEntryAreRoundedAndIntegersAreNot(t *testing.T) {
	p := compile(t, policy(declared("r")+`deny contains {"rule": "r", "args": {"x": 1 / input.resource.properties.cpu, "y": 1 / 3, "z": 9007199254740991}}
`+declared("s")+`review contains {"rule": "s", "args": {"x": 9007199254740992}} if input.tenant == "globex"`))
	if got := string(ask(t, p, request)[0].Findings[0].Args.AppendJSON(nil)); got != `{"x":0.5,"y":0.333333333333333,"z":9007199254740991}` {
		t.Errorf("args %s", got)
	}
	if o := ask(t, p, strings.Replace(request, "acme", "globex", 1))[0]; o.Err == nil || o.Err.Rule != "s" {
		t.Errorf("%+v", o)
	}
}

func TestEndOfTheContextSpendsTheBudget(t *testing.T) {
	p := compile(t, files{
		"platform/a.rego": "package xiezhi.platform.a\n" + declared("r") + `deny contains {"rule": "r"}`,
		"platform/b.rego": "package xiezhi.platform.b\n" + declared("r") + `deny contains {"rule": "r"} if {
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	some c in numbers.range(1, 100000)
	a + b + c == 0
}`,
	})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	running, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	for _, policy := range p.Policies() { // also one that needs no time at all
		if got := spoke(p.Evaluate(ended, input(t, request), []*pdp.Policy{policy}, nil)); got != policy.ID+"!budget_spent" {
			t.Errorf("spoke: %s", got)
		}
	}
	for name, ctx := range map[string]context.Context{"before": ended, "while it runs": running} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			outcomes := p.Evaluate(ctx, input(t, request), p.Policies(), nil)
			got := spoke(outcomes)
			if engine == regoeval.Compiled && ctx == running { // it asks one by one, and the first may be done
				got = strings.Replace(got, "platform/a/r", "platform/a!budget_spent", 1)
			}
			if got != "platform/a!budget_spent platform/b!budget_spent" {
				t.Errorf("spoke: %s", got)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("it took %v to stop", d)
			}
		})
	}
}

func TestOutcomesAreAppendedInTheOrderOfThePolicies(t *testing.T) {
	p := compile(t, files{
		"platform/a.rego": "package xiezhi.platform.a\n" + declared("r") + `deny contains {"rule": "r", "path": "/b"}` + "\n" + `deny contains {"rule": "r", "path": "/a"}`,
		"platform/b.rego": "package xiezhi.platform.b\n" + declared("r") + `deny contains {"rule": "r"}`,
	})
	all := p.Policies()
	earlier := pdp.Outcome{Policy: all[0]}
	outcomes := p.Evaluate(t.Context(), input(t, request), []*pdp.Policy{all[1], all[0]}, []pdp.Outcome{earlier})
	if len(outcomes) != 3 || outcomes[0].Findings != nil || outcomes[1].Policy != all[1] || outcomes[2].Policy != all[0] || outcomes[2].Findings[0].Path != "/a" {
		t.Errorf("%+v", outcomes)
	}
	if o := p.Evaluate(t.Context(), input(t, request), nil, nil); o != nil {
		t.Errorf("nothing asked, answered %+v", o)
	}
	if o := p.Evaluate(t.Context(), input(t, request), []*pdp.Policy{{ID: "platform/a"}}, nil); len(o) != 1 || o[0].Err == nil {
		t.Errorf("a policy of another program: %+v", o)
	}
}

func TestManyGoroutinesMayAskAtOnce(t *testing.T) {
	f := twoTenants.with("platform/p.rego", "package xiezhi.platform.p\n"+declared("r")+
		`deny contains {"rule": "r", "path": concat("/", ["", data.xiezhi.tenants[input.tenant].tables.secrets.of])} if { regex.match("^ecs", input.action.name); glob.match("ecs.*", [], "ecs.x") }`)
	f = f.with("tenants/globex/q.rego", "package xiezhi.tenants.globex.q\n"+declared("r")+`deny contains {"rule": "r"}`)
	p := compile(t, f)
	var group sync.WaitGroup
	for i := range 8 {
		tenant, want := "acme", "platform/p/r"
		if i%2 == 1 {
			tenant, want = "globex", "platform/p/r tenants/globex/q/r"
		}
		group.Go(func() {
			for range 50 {
				o := ask(t, p, strings.Replace(request, `"tenant":"acme"`, `"tenant":"`+tenant+`"`, 1))
				if got := spoke(o); got != want || o[0].Findings[0].Path != "/"+tenant {
					t.Errorf("%s: %s", tenant, got)
				}
			}
		})
	}
	group.Wait()
}

func TestGlobsOfOneTenantAreNotTakenForAnothers(t *testing.T) {
	// OPA keys its cache of globs by pattern, hyphen and delimiters run
	// together: these two have one key.
	p := compile(t, files{
		"platform/guard.rego": "package xiezhi.platform.guard\n" + declared("r") + `deny contains {"rule": "r"} if glob.match("prod-*", null, input.resource.id)`,
		"tenants/acme/a.rego": "package xiezhi.tenants.acme.a\n" + declared("r") + `allow contains {"rule": "r"} if glob.match("prod", ["*", "-"], "x")
allow contains {"rule": "r"} if glob.match("prod", ["-", "*", "-"], "x")
allow contains {"rule": "r"} if glob.match("prod", ["*", "-"], "prod")`,
	})
	attack := strings.Replace(request, "req-42/web", "prod-1", 1)
	in := input(t, attack)
	for _, order := range [][]int{{1, 0}, {0, 1}, {1, 0}} {
		for _, i := range order {
			o := p.Evaluate(t.Context(), in, p.Policies()[i:i+1], nil)
			if len(o) != 1 || len(o[0].Findings) != 1 {
				t.Errorf("%s: %+v", p.Policies()[i].ID, o)
			}
		}
	}
}
