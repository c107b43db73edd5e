package regoeval_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
)

func onEngine(t *testing.T, e regoeval.Engine, f files) (*regoeval.Program, *regoeval.Compiler) {
	t.Helper()
	c := regoeval.NewWith(regoeval.Options{Engine: e})
	release, err := loadWith(t, c, f)
	if err != nil {
		t.Fatal(err)
	}
	return release.Programs()[0].(*regoeval.Program), c
}

// unplanned is Rego that OPA's planner does not take: rules that differ behind
// a variable are one function for it, and this one asks itself.
const unplanned = `h[x].a := 1 if some x in ["u", "v"]
h[x].b := 2 if {
	some x in ["w"]
	h.u.a == 1
}
`

func TestPoliciesThatCannotBeCompiledAreNamedAndAnsweredByTopdown(t *testing.T) {
	f := files{
		"platform/lib/l.rego":   "package xiezhi.platform.lib.l\n" + unplanned,
		"platform/a.rego":       "package xiezhi.platform.a\n" + declared("r") + `deny contains {"rule": "r", "path": "/a"}`,
		"platform/b.rego":       "package xiezhi.platform.b\n" + declared("r") + `deny contains {"rule": "r", "path": "/b"} if data.xiezhi.platform.lib.l.h.w.b == 2`,
		"platform/c.rego":       "package xiezhi.platform.c\n" + declared("r") + `deny contains {"rule": "r", "path": "/c"} if input.tenant == "acme"`,
		"tenants/acme/own.rego": "package xiezhi.tenants.acme.own\n" + declared("r") + `deny contains {"rule": "r", "path": "/own"} if data.xiezhi.platform.lib.l.h.w.b == 2`,
	}
	p, c := onEngine(t, regoeval.Compiled, f)
	left := p.Fallbacks()
	if len(left) != 2 || left[0].Policy != "platform/b" || left[1].Policy != "tenants/acme/own" {
		t.Fatalf("%+v", left)
	}
	for _, l := range left {
		if l.File != "platform/lib/l.rego" || l.Line != 5 || !strings.Contains(l.Why, "not supported") {
			t.Errorf("%+v", l)
		}
	}
	if compiled, topdown := p.Engines(); compiled != 2 || topdown != 2 {
		t.Errorf("%d compiled, %d not", compiled, topdown)
	}
	outcomes := ask(t, p, request)
	var paths []string
	for _, o := range outcomes {
		paths = append(paths, o.Policy.ID, o.Findings[0].Path)
	}
	if got := strings.Join(paths, " "); got != "platform/a /a platform/b /b platform/c /c tenants/acme/own /own" {
		t.Errorf("answered %s", got)
	}
	if s := c.Stats(); len(s.Settled) != 2 || s.Settled["platform/b"] != 1 || s.Settled["tenants/acme/own"] != 1 {
		t.Errorf("%+v", s)
	}
	p, c = onEngine(t, regoeval.Topdown, f)
	ask(t, p, request)
	if compiled, topdown := p.Engines(); compiled != 0 || topdown != 4 || len(p.Fallbacks()) != 0 || len(c.Stats().Settled) != 0 {
		t.Errorf("topdown alone: %d compiled, %+v", compiled, c.Stats())
	}
}

func TestFailuresAreSettledByTopdownAndCounted(t *testing.T) {
	p, c := onEngine(t, regoeval.Compiled, files{
		"platform/a.rego": "package xiezhi.platform.a\n" + declared("r") + `deny contains {"rule": "r"}`,
		"platform/b.rego": "package xiezhi.platform.b\n" + declared("r") + "deny contains {\"rule\": \"r\"} if {\n\tinput.resource.properties.cpu / 0 == 1\n}",
		// Topdown's index skips the body that fails.
		"platform/c.rego": "package xiezhi.platform.c\n" + declared("r") + "deny contains {\"rule\": \"r\"} if h == 1\nh := 1 if input.tenant == \"acme\"\n" +
			"h := 2 if {\n\tinput.resource.properties.cpu / 0 == 1\n\tinput.tenant == \"globex\"\n}",
	})
	outcomes := ask(t, p, request)
	if got := spoke(outcomes); got != "platform/a/r platform/b!policy_error platform/c/r" {
		t.Errorf("spoke: %s", got)
	}
	if e := outcomes[1].Err; e == nil || e.Rule != "r" || e.Line != 5 {
		t.Errorf("%+v", e)
	}
	if s := c.Stats(); len(s.Settled) != 2 || s.Settled["platform/b"] != 1 || s.Settled["platform/c"] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestEachPolicyHasTheStepsOfOneEvaluation(t *testing.T) {
	if engine != regoeval.Compiled {
		t.Skip("the test names its engine, and is slow")
	}
	// Two of these are within the bound together, three are not.
	const busy = `deny contains {"rule": "r"} if {
	xs := numbers.range(1, 1400)
	some a in xs
	some b in xs
	a == b
	a == 0
}`
	f := files{"platform/z.rego": "package xiezhi.platform.z\n" + declared("r") + `deny contains {"rule": "r"}`}
	for _, name := range []string{"a", "b", "c", "d"} {
		f = f.with("platform/"+name+".rego", "package xiezhi.platform."+name+"\n"+declared("r")+busy)
	}
	endless := strings.ReplaceAll(busy, "1400", "100000")
	f = f.with("platform/e.rego", "package xiezhi.platform.e\n"+declared("r")+endless)
	p, c := onEngine(t, regoeval.Compiled, f)
	outcomes := ask(t, p, request)
	if got := spoke(outcomes); got != "platform/e!budget_spent platform/z/r" {
		t.Errorf("spoke: %s", got)
	}
	if e := outcomes[4].Err; e == nil || e.File != "platform/e.rego" || !strings.Contains(e.Message, "more steps than it may") {
		t.Errorf("%+v", e)
	}
	if s := c.Stats(); len(s.Settled) != 0 {
		t.Errorf("topdown was asked again: %+v", s)
	}
}

func TestOutcomesOutliveTheEvaluation(t *testing.T) {
	p, _ := onEngine(t, regoeval.Compiled, policy(declared("r")+
		`deny contains {"rule": "r", "path": concat("", ["/", input.resource.id]), "args": {concat("", ["k", input.tenant]): [concat("-", [input.resource.id, "x"])], "n": 1.5}}
`+declared("o")+`obligations contains {"rule": "o", "id": concat("", ["id", input.resource.id]), "params": {"p": upper(input.resource.id)}}
`+declared("l")+`limits contains {"rule": "l", "key": concat("", ["key", input.resource.id]), "rate": 1, "window": concat("", ["1", "m"])}
`+declared("p")+`route contains {"rule": "p", "pool": concat("", ["pool", input.resource.id]), "standby": upper(input.resource.id)}`))
	say := func(o pdp.Outcome) string {
		f := o.Findings[0]
		return strings.Join([]string{f.Path, string(f.Args.AppendJSON(nil)), o.Obligations[0].ID, string(o.Obligations[0].Params.AppendJSON(nil)),
			o.Limits[0].Key, o.Limits[0].Window, o.Routes[0].Pool, o.Routes[0].Standby}, " ")
	}
	first := ask(t, p, strings.Replace(request, "req-42/web", "first", 1))[0]
	before := say(first)
	if before != `/first {"kacme":["first-x"],"n":1.5} idfirst {"p":"FIRST"} keyfirst 1m poolfirst FIRST` {
		t.Errorf("said %s", before)
	}
	for range 200 {
		ask(t, p, strings.Replace(request, "req-42/web", "other", 1))
	}
	if after := say(first); after != before {
		t.Errorf("said %s, and later %s", before, after)
	}
}

func TestWhatAPolicySpellsOutIsConvertedOnce(t *testing.T) {
	p, _ := onEngine(t, regoeval.Compiled, policy(declared("r")+`deny contains {"rule": "r", "path": concat("", ["/", input.resource.id]), "args": {"a": [1, {"b": null}]}}
`+declared("o")+`obligations contains {"rule": "o", "id": "x", "params": {"days": 30}}`))
	first, second := ask(t, p, request)[0], ask(t, p, request)[0]
	if got := string(second.Findings[0].Args.AppendJSON(nil)) + string(second.Obligations[0].Params.AppendJSON(nil)); got != `{"a":[1,{"b":null}]}{"days":30}` {
		t.Errorf("got %s", got)
	}
	if &first.Findings[0].Args.Members()[0] != &second.Findings[0].Args.Members()[0] || &first.Obligations[0].Params.Members()[0] != &second.Obligations[0].Params.Members()[0] {
		t.Error("args and params that are the same in every answer are made for each")
	}
}

func TestEngineNamesAreRead(t *testing.T) {
	for _, e := range []regoeval.Engine{regoeval.Compiled, regoeval.Topdown, regoeval.Both} {
		if got, err := regoeval.ParseEngine(e.String()); err != nil || got != e {
			t.Errorf("%v: %v, %v", e, got, err)
		}
	}
	if _, err := regoeval.ParseEngine("wasm"); err == nil || !strings.Contains(err.Error(), "compiled, topdown or both") {
		t.Errorf("%v", err)
	}
}

func TestOrderOfPoliciesDoesNotMatter(t *testing.T) {
	p, _ := onEngine(t, regoeval.Compiled, guardrails.with("tenants/acme/own.rego", "package xiezhi.tenants.acme.own\n"+declared("r")+`deny contains {"rule": "r"}`))
	in := input(t, guardrailRequest)
	all := p.Policies()
	want := spoke(p.Evaluate(t.Context(), in, all, nil))
	if !strings.HasSuffix(want, "tenants/acme/own/r") {
		t.Fatalf("spoke: %s", want)
	}
	backwards := slices.Clone(all)
	slices.Reverse(backwards)
	outcomes := p.Evaluate(t.Context(), in, backwards, nil)
	slices.Reverse(outcomes)
	if got := spoke(outcomes); got != want {
		t.Errorf("spoke: %s, want %s", got, want)
	}
}
