package regoeval_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestExplanationNamesTheFirstConditionThatFailed(t *testing.T) {
	p := compile(t, policy(declared("no_port")+`deny contains {"rule": "no_port"} if {
	input.tenant == "acme"
	some rule in input.resource.properties.ingress
	rule.port == 80
	rule.cidrs[_] == "0.0.0.0/0"
}

deny contains {"rule": "no_port"} if input.tenant == "globex"

`+declared("matches")+`deny contains {"rule": "matches"} if false
deny contains {"rule": "matches"} if input.tenant == "acme"

`+declared("negated")+`review contains {"rule": "negated"} if {
	not big
	input.resource.properties.cpu > 100
}

review contains {"rule": "negated"} if not small

`+declared("missing_argument")+`allow contains {"rule": "missing_argument", "args": {"x": input.resource.properties.nowhere}}

`+declared("indexed")+`allow contains {"rule": "indexed"} if input.action.name == "rds.create"

`+declared("only_in_obligations")+`obligations contains {"rule": "only_in_obligations", "id": "x"} if {
	input.subject.id ==
		"somebody   else"
}

obligations contains {"rule": "indexed", "id": "y"}

big if input.resource.properties.cpu > 100
small if input.resource.properties.cpu < 100
`))
	in := input(t, request)
	in.Explain = true
	o := p.Evaluate(t.Context(), in, p.Policies(), nil)[0]
	var got []string
	for _, trace := range o.Traces {
		got = append(got, fmt.Sprintf("%s %v %s", trace.Rule, trace.Matched, trace.Why))
	}
	want := []string{
		`no_port false platform/p.rego:7: rule.port == 80`,
		`matches true platform/p.rego:16`,
		`negated false platform/p.rego:22: input.resource.properties.cpu > 100`,
		`missing_argument false platform/p.rego:29: input.resource.properties.nowhere`,
		`indexed false platform/p.rego:33: input.action.name == "rds.create"`,
		`only_in_obligations false platform/p.rego:38: input.subject.id == "somebody else"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExplanationOfWhatFailedSaysHowFarItCame(t *testing.T) {
	p := compile(t, policy(declared("a")+`deny contains {"rule": "a"} if 1 / 0 == 1
`+declared("b")+`deny contains {"rule": "b"} if input.tenant == "acme"`))
	in := input(t, request)
	in.Explain = true
	o := p.Evaluate(t.Context(), in, p.Policies(), nil)[0]
	if o.Err == nil || len(o.Findings) != 0 {
		t.Errorf("the explanation changed the answer: %+v", o)
	}
	if len(o.Traces) != 2 || o.Traces[0].Matched || !strings.Contains(o.Traces[0].Why, "platform/p.rego:4: 1 / 0") || !o.Traces[1].Matched {
		t.Errorf("%+v", o.Traces)
	}
}

func TestExplanationDoesNotChangeTheAnswer(t *testing.T) {
	// Without the index, the second body would be tried and fail.
	p := compile(t, policy(declared("a")+`deny contains {"rule": "a"} if {
	1 / (input.resource.properties.cpu - 2) == 1
	input.tenant == "globex"
}`))
	in := input(t, request)
	without := p.Evaluate(t.Context(), in, p.Policies(), nil)[0]
	in.Explain = true
	with := p.Evaluate(t.Context(), in, p.Policies(), nil)[0]
	if (without.Err == nil) != (with.Err == nil) || len(with.Traces) != 1 {
		t.Errorf("without: %+v\nwith: %+v", without, with)
	}
}
