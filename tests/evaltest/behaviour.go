package evaltest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// hundred is a policy whose DENY holds above 100.
var hundred = policy{rules: []rule{{id: "big", effect: "deny", rego: `input.resource.properties.n > 100`, cedar: `resource.n > 100`, cel: `resource.properties.n > 100`}}}

func (p policy) as(id string) policy {
	p.id = id
	return p
}

func (l Language) answersWhatIsAsked(t *testing.T) {
	p := l.program(t, nil, hundred.as("platform/a"), hundred.as("platform/b"), hundred.as("tenants/acme/c"), hundred.as("tenants/acme/d"), hundred.as("tenants/globex/c"))
	in := ask{properties: `{"n":101}`}.input(t)
	policies := slices.DeleteFunc(slices.Clone(p.Policies()), func(p *pdp.Policy) bool { return p.Tenant == "globex" })
	slices.SortFunc(policies, func(a, b *pdp.Policy) int { return strings.Compare(a.ID, b.ID) })
	earlier := pdp.Outcome{Policy: &pdp.Policy{ID: "earlier"}}
	for _, asked := range [][]*pdp.Policy{nil, policies[1:2], {policies[2], policies[0]}, policies} {
		out := p.Evaluate(context.Background(), in, asked, []pdp.Outcome{earlier})
		if len(out) != 1+len(asked) || out[0].Policy != earlier.Policy {
			t.Fatalf("%d outcomes for %d policies, appended to one", len(out), len(asked))
		}
		for _, policy := range asked {
			i := slices.IndexFunc(out[1:], func(o pdp.Outcome) bool { return o.Policy == policy })
			if i < 0 || out[1+i].Err != nil || len(out[1+i].Findings) != 1 {
				t.Errorf("%s: %+v", policy.ID, out)
			}
		}
	}
}

func (l Language) cancelled(t *testing.T) {
	p := l.program(t, nil, hundred.as("platform/a"), hundred.as("platform/b"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out := p.Evaluate(ctx, ask{properties: `{"n":101}`}.input(t), p.Policies(), nil)
	if len(out) != 2 {
		t.Fatalf("%d outcomes, want 2", len(out))
	}
	for _, o := range out {
		if o.Err == nil || o.Err.Cause != pdp.CauseBudgetSpent || len(o.Findings) != 0 || o.Err.File != o.Policy.File {
			t.Errorf("%s: findings %v, error %+v", o.Policy.ID, o.Findings, o.Err)
		}
	}
}

// interrupted asks what no machine answers in time.
func (l Language) interrupted(t *testing.T) {
	if l.Name == Cedar {
		t.Log("not in cedar: it has no loops")
		return
	}
	slow := policy{rules: []rule{{id: "slow", effect: "deny",
		rego: "some a in input.resource.properties.list\nsome b in input.resource.properties.list\nsome c in input.resource.properties.list\na + b + c < 0",
		cel:  "resource.properties.list.exists(a, resource.properties.list.exists(b, resource.properties.list.exists(c, a + b + c < 0)))"}}}
	p := l.program(t, nil, slow)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	out := p.Evaluate(ctx, ask{properties: `{"list":[` + strings.Repeat("1,", 5000) + `1]}`}.input(t), p.Policies(), nil)
	if len(out) != 1 || out[0].Err == nil || out[0].Err.Cause != pdp.CauseBudgetSpent || out[0].Err.File != out[0].Policy.File {
		t.Errorf("outcomes %+v", out)
	}
}

func (l Language) explains(t *testing.T) {
	p := l.program(t, nil, policy{rules: []rule{always("yes", "allow"), hundred.rules[0], always("also", "deny")}})
	in := ask{properties: `{"n":1}`}.input(t)
	if out := evaluate(t, p, in); len(out[0].Traces) != 0 {
		t.Errorf("traces %+v, and none were asked for", out[0].Traces)
	}
	in.Explain = true
	out := evaluate(t, p, in)
	if got := say(out); got != "allow yes, deny also" {
		t.Errorf("explaining changes the answer: %q", got)
	}
	matched := map[string]bool{}
	for _, trace := range out[0].Traces {
		if _, twice := matched[trace.Rule]; twice {
			t.Errorf("%s is traced twice", trace.Rule)
		}
		matched[trace.Rule] = trace.Matched
		if !strings.Contains(trace.Why, out[0].Policy.File+":") {
			t.Errorf("%s: %q does not say where", trace.Rule, trace.Why)
		}
	}
	if fmt.Sprint(matched) != "map[also:true big:false yes:true]" {
		t.Errorf("traces %+v", out[0].Traces)
	}

	p = l.program(t, nil, policy{rules: []rule{division, always("yes", "allow")}})
	in = ask{properties: `{"n":0}`}.input(t)
	in.Explain = true
	if out = evaluate(t, p, in); out[0].Err == nil || len(out[0].Traces) != 2 {
		t.Errorf("a failing policy has error %v, traces %+v", out[0].Err, out[0].Traces)
	}
}

func (l Language) covers(t *testing.T) {
	p, ok := l.program(t, nil, hundred, always1("platform/q")).(pdp.Coverable)
	if !ok {
		t.Fatal("the program cannot tell what an evaluation reached")
	}
	branches := p.Branches()
	hits := make([]int, len(branches))
	of := func(policy string) (reached, all int) {
		for i, b := range branches {
			if b.Policy != policy {
				continue
			}
			if b.Rule == "" || b.File == "" || b.Line < 1 || b.What == "" || b.Hits != 0 {
				t.Errorf("branch %+v lacks its place", b)
			}
			if all++; hits[i] > 0 {
				reached++
			}
		}
		return reached, all
	}
	no, yes := ask{properties: `{"n":1}`}.input(t), ask{properties: `{"n":101}`}.input(t)
	for _, policy := range p.Policies() {
		if policy.ID != "platform/p" {
			continue
		}
		if out := p.Cover(context.Background(), no, []*pdp.Policy{policy}, hits); say(out) != "" {
			t.Errorf("says %q, want nothing", say(out))
		}
		if reached, all := of("platform/p"); all == 0 || reached == all {
			t.Errorf("%d of %d branches are reached by a request that does not match", reached, all)
		}
		if out := p.Cover(context.Background(), yes, []*pdp.Policy{policy}, hits); say(out) != "deny big" {
			t.Errorf("says %q, want deny big", say(out))
		}
	}
	if reached, all := of("platform/p"); reached != all {
		t.Errorf("%d of %d branches are reached: %+v %v", reached, all, branches, hits)
	}
	if reached, all := of("platform/q"); reached != 0 || all == 0 {
		t.Errorf("%d of %d branches of a policy that nobody asked for are reached", reached, all)
	}
}

func always1(id string) policy { return policy{id: id, rules: []rule{always("d", "deny")}} }

func (l Language) parallel(t *testing.T) {
	p := l.program(t, nil, hundred, policy{id: "platform/q", rules: []rule{division}}, policy{id: "platform/s", rules: []rule{always("a", "allow")}})
	questions := []ask{{properties: `{"n":0}`}, {properties: `{"n":1}`}, {properties: `{"n":101}`}, {properties: `{}`}, {tenant: "globex", properties: `{"n":5e1}`}}
	inputs := make([]*pdp.Input, len(questions))
	want := make([]string, len(questions))
	for i, q := range questions {
		inputs[i] = q.input(t)
		want[i] = say(evaluate(t, p, inputs[i]))
	}
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i := range 100 {
				at := (worker + i) % len(inputs)
				if got := say(p.Evaluate(context.Background(), inputs[at], p.Policies(), nil)); got != want[at] {
					t.Errorf("says %q, and alone %q", got, want[at])
					return
				}
			}
		})
	}
	wait.Wait()
}

func (l Language) digests(t *testing.T) {
	review := policy{rules: []rule{always("ask", "review"), always("other", "deny")}}
	review.rules[0].template = "owner"
	changed := policy{rules: []rule{always("ask", "review"), hundred.rules[0]}}
	changed.rules[0].template, changed.rules[1].id = "owner", "other"
	owner := files{"approvals/owner.yaml": "who: owner\n", "tables/regions.yaml": regions}
	table := files{"approvals/owner.yaml": "who: owner\n", "tables/regions.yaml": strings.Replace(regions, "cn-hangzhou", "cn-beijing", 1)}
	template := files{"approvals/owner.yaml": "who: somebody\n", "tables/regions.yaml": regions}

	digest := func(beside files, policies ...policy) map[string]string {
		found := map[string]string{}
		for _, p := range l.compile(t, l.files(beside, policies...)).Policies() {
			for _, r := range p.Rules {
				found[r.ID] += r.Digest.String()
			}
		}
		return found
	}
	base := digest(owner, review)
	if base["ask"] == "" || base["ask"] == base["other"] {
		t.Errorf("digests %v do not tell the rules apart", base)
	}
	for _, test := range []struct {
		name       string
		got        map[string]string
		ask, other bool // whether the digest stays
	}{
		{"the same text", digest(owner, review), true, true},
		{"another table", digest(table, review), true, true},
		{"another template", digest(template, review), false, true},
		{"another rule of the policy", digest(owner, changed), false, false},
		{"another policy beside it", digest(owner, review, policy{id: "platform/q", rules: []rule{always("more", "deny")}}), true, true},
	} {
		if (test.got["ask"] == base["ask"]) != test.ask || (test.got["other"] == base["other"]) != test.other {
			t.Errorf("%s: digests %v, before %v", test.name, test.got, base)
		}
	}
}

// oddRequests are valid requests that nobody expects. What they get does not
// matter here; that they get it does.
func (l Language) oddRequests(t *testing.T) {
	deep := strings.Repeat(`{"n":`, 55) + "1" + strings.Repeat("}", 55)
	p := l.program(t, nil, hundred, policy{id: "platform/q", rules: []rule{division, always("a", "allow")}})
	for _, a := range []ask{
		{properties: `-`}, {properties: `{"n":` + deep + `}`}, {properties: `{"n":[` + strings.Repeat("[],", 5000) + `[]]}`},
		{properties: `{"":1,"n":"","a.b":1,"a::b":1,"__proto__":{},"type":1,"id":2,"uid":3,"parents":[],"tenant":"x","now":1,"if":1,"\u0000":1,"💩":[null]}`},
		{properties: `{"n":true}`}, {properties: `{"n":[]}`}, {properties: `{"n":{"n":null}}`}, {properties: `{"n":"` + strings.Repeat("é", 50_000) + `"}`},
		{properties: `{"n":1e15}`}, {properties: `{"n":123456789012.345}`}, {properties: `{"n":1e-300}`}, {properties: `{"n":-1e-9}`}, {properties: `{"n":12345678901.2345}`},
		{subject: `{"roles":null}`}, {subject: `{"roles":"engineer"}`}, {subject: `{"roles":[1,null,{}]}`}, {subject: `{"roles":["\"::\""]}`},
		{action: "a/b:c-d._"}, {resourceType: ":::"}, {resourceType: "Action"}, {context: `{"tenant":null,"now":null,"":{}}`}, {context: `{}`},
		{now: "1970-01-01T00:00:00Z"}, {now: "2200-12-31T23:59:59Z"},
	} {
		in := a.input(t)
		for _, explain := range []bool{false, true} {
			in.Explain = explain
			for _, o := range evaluate(t, p, in) {
				placed(t, o)
			}
		}
	}
}

func (l Language) messages(t *testing.T) {
	r := hundred.rules[0]
	r.message = "{resource.properties.n} of {subject.id} in {tenant} by {action.name}."
	p := pdp.New(pdp.Config{Now: func() time.Time { return time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC) }, NewID: func() string { return "1" }})
	p.Activate(&pdp.Snapshot{Release: l.compile(t, l.files(nil, policy{rules: []rule{r}}))})
	in := ask{properties: `{"n":101.0}`}.input(t)
	d, err := p.Decide(context.Background(), *in.Request, pdp.Caller{})
	if err != nil {
		t.Fatal(err)
	}
	const want = "101 of li.wei in acme by a.do."
	if !slices.ContainsFunc(d.Reasons, func(r authz.Reason) bool { return r.Rule == "big" && r.Message == want }) {
		t.Errorf("reasons %+v", d.Reasons)
	}
}
