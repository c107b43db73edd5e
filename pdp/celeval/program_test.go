package celeval_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
)

func TestAFailingRuleLeavesTheOthersStanding(t *testing.T) {
	p := compile(t, files{"platform/a.policy.yaml": `id: a
rules:
  - {effect: DENY, condition: "tenant == 'acme'", obligations: [{id: audit}]}
  - {id: disk, effect: DENY, condition: "resource.properties.disk > 1", obligations: [{id: never}]}
  - {id: share, effect: DENY, condition: "resource.properties.share > 1"}
  - {effect: ALLOW, condition: "action == 'agent.register'"}
`})
	o := evaluate(t, p, input(t, request))[0]
	if got := found(o); !slices.Equal(got, []string{"deny rule_1", "allow rule_4"}) || len(o.Obligations) != 1 {
		t.Errorf("findings %v, obligations %v", got, o.Obligations)
	}
	want := pdp.EvaluationError{Cause: pdp.CausePolicyError, Rule: "disk", File: "platform/a.policy.yaml", Line: 4, Message: "condition: no such key: disk"}
	if o.Err == nil || *o.Err != want {
		t.Errorf("error %+v, want %+v", o.Err, want)
	}
}

func TestExplainTracesEveryRule(t *testing.T) {
	p := compile(t, files{"platform/a.policy.yaml": `id: a
rules:
  - {effect: DENY, condition: "tenant == 'acme'"}
  - effect: DENY
    condition: |
      tenant == 'globex'
  - {effect: DENY, condition: "resource.properties.disk > 1"}
`})
	in := input(t, request)
	if o := evaluate(t, p, in)[0]; o.Traces != nil {
		t.Errorf("traces %v without Explain", o.Traces)
	}
	in.Explain = true
	want := []pdp.RuleTrace{
		{Rule: "rule_1", Matched: true, Why: "platform/a.policy.yaml:3: tenant == 'acme'"},
		{Rule: "rule_2", Why: "platform/a.policy.yaml:6: does not hold: tenant == 'globex'"},
		{Rule: "rule_3", Why: "platform/a.policy.yaml:7: failed: no such key: disk"},
	}
	if got := evaluate(t, p, in)[0].Traces; !slices.Equal(got, want) {
		t.Errorf("traces %+v\nwant %+v", got, want)
	}
}

func TestCoverCountsBothOutcomes(t *testing.T) {
	p := compile(t, files{
		"platform/a.policy.json": `{"id":"a","rules":[{"effect":"DENY","condition":"tenant == 'acme'"}]}`,
		"platform/b.policy.json": `{"id":"b","rules":[{"effect":"DENY","condition":"resource.properties.disk > 1"},{"effect":"DENY","condition":"tenant == 'globex'"}]}`,
	})
	hits := make([]int, len(p.Branches()))
	for range 2 {
		if out := p.Cover(context.Background(), input(t, request), p.Policies(), hits); len(out) != 2 {
			t.Fatalf("%d outcomes", len(out))
		}
	}
	if !slices.Equal(hits, []int{2, 0, 0, 0, 0, 2}) { // a failure is neither
		t.Errorf("hits %v", hits)
	}
	if b := p.Branches()[5]; b.Policy != "platform/b" || b.Rule != "rule_2" || b.File != "platform/b.policy.json" || b.Line != 1 || b.What != "condition false" {
		t.Errorf("branch %+v", b)
	}
}

func TestTablesAreTheRequestsTenants(t *testing.T) {
	f := when("tables.regions.allowed == ['cn-hangzhou'] && tables.all(name, name == 'regions')")
	f["tables/regions.yaml"] = "platform: {all: [x]}\ntenants:\n  acme: {allowed: [cn-hangzhou]}\n  globex: {allowed: [cn-shanghai]}\n"
	p := compile(t, f)
	if o := evaluate(t, p, input(t, request))[0]; o.Err != nil || len(o.Findings) != 1 {
		t.Errorf("findings %v, error %v", o.Findings, o.Err)
	}
	if o := evaluate(t, p, input(t, strings.Replace(request, `"acme"`, `"globex"`, 1)))[0]; o.Err != nil || len(o.Findings) != 0 {
		t.Errorf("findings %v, error %v", o.Findings, o.Err)
	}
	if o := evaluate(t, p, input(t, strings.Replace(request, `"acme"`, `"initech"`, 1)))[0]; o.Err == nil {
		t.Error("a tenant without tables got an answer from one")
	}
}

func TestAnotherProgramsPolicyIsAnError(t *testing.T) {
	p, other := compile(t, when("true")), compile(t, when("true"))
	out := p.Evaluate(context.Background(), input(t, request), []*pdp.Policy{other.Policies()[0], p.Policies()[0]}, nil)
	if len(out) != 2 || out[0].Err == nil || out[1].Err != nil {
		t.Errorf("outcomes %+v", out)
	}
}

func TestAnAnswerDoesNotShareWhatAProgramHolds(t *testing.T) {
	p := compile(t, rules(`{"condition":"true","limits":[{"key":"k","quota":{"max":5,"reset":"day"}}],"obligations":[{"id":"a"}]}`))
	first := evaluate(t, p, input(t, request))[0]
	first.Limits[0].Quota.Max, first.Limits[0].Key, first.Obligations[0].ID = 9, "x", "y"
	if o := evaluate(t, p, input(t, request))[0]; o.Limits[0].Quota.Max != 5 || o.Limits[0].Key != "k" || o.Obligations[0].ID != "a" {
		t.Errorf("limits %+v, obligations %+v", o.Limits, o.Obligations)
	}
}

func TestParallelEvaluationsAgree(t *testing.T) {
	p := compile(t, when("resource.properties.ingress.exists(i, i.port == 22) && subject.id.matches('^li') && subject.properties.roles.map(r, r + tenant).size() == 2"))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			in := input(t, request)
			for range 200 {
				if o := evaluate(t, p, in)[0]; o.Err != nil || len(o.Findings) != 1 {
					t.Errorf("findings %v, error %v", o.Findings, o.Err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// unwaited is a context that nobody may wait for.
type unwaited struct{ context.Context }

func (unwaited) Done() <-chan struct{} { panic("somebody waits") }

func TestOnlyLoopsWaitForTheEndOfTheBudget(t *testing.T) {
	for condition, waits := range map[string]bool{
		"action == 'agent.register' && subject.id.matches('^li') && has(resource.properties.region)": false,
		"['a', 'b'].exists(a, a == tenant)":                      true,
		"resource.properties.ingress.map(i, i.port).size() == 1": true,
	} {
		p := compile(t, when(condition))
		if o := p.Evaluate(unwaited{t.Context()}, input(t, request), p.Policies(), nil)[0]; (o.Err != nil) != waits {
			t.Errorf("%s: error %v, want one where somebody waits: %v", condition, o.Err, waits)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	for name, condition := range map[string]string{
		"action": "action == 'agent.register'",
		"loop":   "resource.properties.ingress.exists(i, i.port != 443 && i.cidrs.exists(c, c == '0.0.0.0/0'))",
	} {
		b.Run(name, func(b *testing.B) {
			p, in := compile(b, when(condition)), input(b, request)
			var out []pdp.Outcome
			b.ReportAllocs()
			for b.Loop() {
				out = p.Evaluate(context.Background(), in, p.Policies(), out[:0])
			}
		})
	}
}
