package cedareval

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// endsAfter is a context that ends when it has been asked n times.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

func TestASpentBudgetFailsWhatIsUnanswered(t *testing.T) {
	program := files{
		"platform/a.cedar": `@id("a") forbid (principal, action, resource);`,
		"platform/b.cedar": `@id("b") forbid (principal, action, resource); @id("c") permit (principal, action, resource);`,
		"platform/c.cedar": `@id("d") permit (principal, action, resource);`,
		"platform/d.cedar": `@id("e") permit (principal == user::"nobody", action, resource);`,
	}.compile(t)
	program.leaveToCedarGo()
	ask := func(n int) []string {
		return lines(program.Evaluate(&endsAfter{t.Context(), n}, request(t, `{}`), program.Policies(), nil))
	}
	expect(t, ask(0), "budget_spent  at platform/a.cedar:1", "budget_spent  at platform/b.cedar:1", "budget_spent  at platform/c.cedar:1", "budget_spent  at platform/d.cedar:1")
	expect(t, ask(3), "deny a", "deny b", "budget_spent c at platform/b.cedar:1", "budget_spent d at platform/c.cedar:1")
	expect(t, ask(9), "deny a", "deny b", "allow c", "allow d")
}

func TestASpentBudgetIsNoticedAmongSimpleStatements(t *testing.T) {
	var text strings.Builder
	for i := range 3 * simpleLook {
		fmt.Fprintf(&text, "@id(\"s%d\") forbid (principal, action, resource);\n", i)
	}
	program := files{"platform/a.cedar": text.String()}.compile(t)
	out := program.Evaluate(&endsAfter{t.Context(), 2}, request(t, `{}`), program.Policies(), nil)
	if n := len(out[0].Findings); n != 2*simpleLook-1 || out[0].Err == nil || out[0].Err.Cause != pdp.CauseBudgetSpent {
		t.Errorf("%d findings before %v, want %d before the budget is spent", n, out[0].Err, 2*simpleLook-1)
	}
}

// TestWhatOnePolicyReadsIsNotTheNextOnes asks two policies of one entity that is
// subject and resource: each has an environment of its own in one memory.
func TestWhatOnePolicyReadsIsNotTheNextOnes(t *testing.T) {
	text := `// @policy({"reads":["context.level"]})
@id("%s") forbid (principal, action, resource) when { principal has level || context.level > 9 };`
	program := files{"platform/p.cedar": fmt.Sprintf(text, "a"), "platform/q.cedar": fmt.Sprintf(text, "b")}.compile(t)
	one := `"subject":{"type":"user","id":"a"%s},"resource":{"type":"user","id":"a"%s},"context":{"level":%d}}`
	for range 3 { // memory is lent from request to request
		expect(t, program.say(t, request(t, fmt.Sprintf("{"+one, "", "", 1))))
		level := `,"properties":{"level":1}`
		expect(t, program.say(t, request(t, fmt.Sprintf("{"+one, level, level, 1))), "deny a", "deny b")
	}
}

func TestAPanicIsAnErrorOfItsStatement(t *testing.T) {
	program := files{"platform/p.cedar": `@id("a") forbid (principal, action, resource); @id("b") permit (principal, action, resource);
@id("c") forbid (principal, action, resource);`, "platform/q.cedar": `@id("d") forbid (principal, action, resource);`}.compile(t)
	program.leaveToCedarGo()
	program.statements[1].compiled = nil // as close to a bug of cedar-go as a test can come
	expect(t, program.say(t, request(t, `{}`)), "deny a", "deny c", "policy_error b at platform/p.cedar:1", "deny d")
	expect(t, lines(program.Evaluate(t.Context(), &pdp.Input{}, program.Policies(), nil)),
		"policy_error  at platform/p.cedar:1", "policy_error  at platform/q.cedar:1")
}

func TestAPanicOutsideTheStatementsFailsAllOfThem(t *testing.T) {
	program := files{"platform/p.cedar": `@id("a") permit (principal, action, resource);`, "self/q.cedar": `@id("b") permit (principal, action, resource);`}.compile(t)
	program.policies[1].statements[0].policy = nil
	expect(t, program.say(t, request(t, `{}`)), "policy_error  at platform/p.cedar:1", "policy_error  at self/q.cedar:1")
}

func TestOutcomesAreAppendedOnePerPolicyInOrder(t *testing.T) {
	program := files{
		"platform/a.cedar":       `@id("a") forbid (principal, action, resource);`,
		"platform/b.cedar":       `@id("b") forbid (principal == user::"nobody", action, resource);`,
		"tenants/acme/c.cedar":   `@id("c") forbid (principal, action, resource);`,
		"tenants/globex/d.cedar": `@id("d") forbid (principal, action, resource);`,
	}.compile(t)
	all := program.Policies()
	foreign := &pdp.Policy{ID: "other", File: "other.rego"}
	foreign.SetSlot(99)
	before := []pdp.Outcome{{Policy: foreign}}
	out := program.Evaluate(t.Context(), request(t, `{}`), []*pdp.Policy{all[2], foreign, all[0], all[1]}, before)
	var got []string
	for _, o := range out {
		got = append(got, fmt.Sprintf("%s %d %v", o.Policy.ID, len(o.Findings), o.Err != nil))
	}
	expect(t, got, "other 0 false", "tenants/acme/c 1 false", "other 0 true", "platform/a 1 false", "platform/b 0 false")
	expect(t, program.say(t, request(t, `{}`)), "deny a", "deny c", "deny d")
	for range 10 { // who was asked before does not answer again
		expect(t, lines(program.Evaluate(t.Context(), request(t, `{}`), all[1:2], nil)))
		expect(t, program.say(t, request(t, `{}`)), "deny a", "deny c", "deny d")
	}
}

func TestExplainSaysWhy(t *testing.T) {
	program := files{"platform/p.cedar": `// @policy({"reads":["subject.roles"]})
@id("principal") permit (principal in role::"x",
  action, resource);
@id("action") permit (principal, action in [Action::"a", Action::"b"], resource);
@id("resource") permit (principal, action, resource is rds::instance);
@id("both") permit (principal is user in team::"x", action, resource is rds::instance in team::"x");
@id("when") permit (principal, action, resource)
when { true }
when {
  resource.cpu   <  2 };
@id("unless") permit (principal, action, resource) unless { resource.cpu == 2 };
@id("error") permit (principal, action, resource) when { resource.none };
@id("matched") permit (principal, action, resource) when { resource.cpu == 2 };
`}.compile(t)
	in := properties(t, `{"cpu":2}`)
	in.Explain = true
	traces := program.Evaluate(t.Context(), in, program.Policies(), nil)[0].Traces
	var got []string
	for _, trace := range traces {
		got = append(got, fmt.Sprintf("%s %v %s", trace.Rule, trace.Matched, trace.Why))
	}
	expect(t, got,
		`principal false platform/p.cedar:2: principal in role::"x" does not hold`,
		`action false platform/p.cedar:4: action in [Action::"a", Action::"b"] does not hold`,
		`resource false platform/p.cedar:5: resource is rds::instance does not hold`,
		`both false platform/p.cedar:6: principal is user in team::"x" does not hold`,
		`when false platform/p.cedar:9: when resource.cpu < 2: it is false`,
		`unless false platform/p.cedar:11: unless resource.cpu == 2: it is true`,
		"error false platform/p.cedar:12: `ecs::instance::\"web\"` does not have the attribute `none`, in: resource.none",
		`matched true platform/p.cedar:13`)

	in = request(t, `{"subject":{"type":"team","id":"x"}}`)
	in.Explain = true
	if why := program.Evaluate(t.Context(), in, program.Policies(), nil)[0].Traces[3].Why; !strings.Contains(why, "principal is user") {
		t.Errorf("a team is no user: %s", why)
	}

	in = properties(t, `{"cpu":null}`)
	in.Explain = true
	trace := program.Evaluate(t.Context(), in, program.Policies(), nil)[0].Traces[0]
	if trace.Matched || !strings.HasPrefix(trace.Why, "platform/p.cedar:1: /resource/properties/cpu holds") {
		t.Errorf("a policy that was not evaluated explains itself by %+v", trace)
	}
	in.Explain = false
	if o := program.Evaluate(t.Context(), in, program.Policies(), nil)[0]; o.Traces != nil {
		t.Error("traces that nobody asked for")
	}
}

func TestCoverageCountsTheOutcomesOfConditions(t *testing.T) {
	program := files{"platform/p.cedar": `
@id("plain") permit (principal == user::"li.wei", action, resource);
@id("two") permit (principal, action, resource)
when { resource.cpu > 1 }
unless { resource.cpu > 2 };
`, "platform/q.cedar": `@id("other") permit (principal, action == Action::"x", resource) when { true };`}.compile(t)
	hits := make([]int, len(program.Branches()))
	cover := func(cpu int) []string {
		return lines(program.Cover(t.Context(), properties(t, fmt.Sprintf(`{"cpu":%d}`, cpu)), program.Policies(), hits))
	}
	expect(t, cover(1), "allow plain")
	expect(t, cover(2), "allow plain", "allow two")
	expect(t, cover(3), "allow plain")
	program.Cover(t.Context(), properties(t, `{}`), program.Policies(), hits)
	program.Cover(t.Context(), properties(t, `{"cpu":null}`), program.Policies(), hits)
	var got []string
	for i, b := range program.Branches() {
		got = append(got, fmt.Sprintf("%s %s:%d %s %d", b.Rule, b.File, b.Line, b.What, hits[i]))
	}
	expect(t, got,
		"plain platform/p.cedar:2 body 4",
		"two platform/p.cedar:4 condition true 2", "two platform/p.cedar:4 condition false 1",
		"two platform/p.cedar:5 condition true 1", "two platform/p.cedar:5 condition false 1",
		"other platform/q.cedar:1 condition true 0", "other platform/q.cedar:1 condition false 0")
}

// TestEvaluationsDoNotShareMemory asks from many goroutines at once; under
// -race it also shows that the program is not written to.
func TestEvaluationsDoNotShareMemory(t *testing.T) {
	program := files{"platform/p.cedar": `@id("low") @message("{resource.properties.cpu}") permit (principal, action, resource) when { resource.cpu < 50 };
@id("high") @message("{resource.properties.cpu}") forbid (principal, action, resource) when { resource.cpu >= 50 };`}.compile(t)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 100 {
				cpu := (worker*25 + i) % 100
				in := properties(t, fmt.Sprintf(`{"cpu":%d}`, cpu))
				in.Explain = i%10 == 0
				f := program.Evaluate(t.Context(), in, program.Policies(), nil)[0].Findings
				if len(f) != 1 || (f[0].Rule.ID == "low") != (cpu < 50) {
					t.Errorf("cpu %d: %v", cpu, f)
				}
				if got := string(f[0].Args.AppendJSON(nil)); got != fmt.Sprintf(`{"resource.properties.cpu":%d}`, cpu) {
					t.Errorf("cpu %d: args %s", cpu, got)
				}
			}
		})
	}
	group.Wait()
}
