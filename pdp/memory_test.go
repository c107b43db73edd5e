package pdp_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// echo is a language whose one policy answers with parts of the request where
// they are, in the room that it is given.
type echo struct{ *constant }

func (e *echo) Compile(context.Context, *pdp.Source) (pdp.Program, error) { return e, nil }

func (e *echo) Evaluate(_ context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	for i, p := range policies {
		out = pdp.NextOutcome(out, p)
		last := &out[len(out)-1]
		last.Findings = append(last.Findings, e.findings[i])
		id := in.Request.Subject.ID
		for _, pointer := range []string{"", "/subject", "/subject/properties", "/resource/properties/list"} {
			if part, ok := in.Value.Lookup(pointer); ok && in.Request.Action.Name != "vm.stop" {
				params, _ := authz.ObjectValue(authz.Member{Name: "part", Value: part})
				last.Obligations = append(last.Obligations, authz.Obligation{Policy: p.ID, Rule: "always", ID: "echo" + pointer, Params: params})
			}
		}
		last.Limits = append(last.Limits, authz.Limit{Policy: p.ID, Rule: "always", Key: id, Quota: &authz.Quota{Max: int64(len(id))}})
		last.Routes = append(last.Routes, authz.Route{Policy: p.ID, Rule: "always", Pool: id})
	}
	return out
}

// All memory of a question but the decision is the next question's.
func TestADecisionOwnsItsMemory(t *testing.T) {
	language := &echo{ruleOf(pdp.KindReview, pdp.Text{EN: "{subject.id} has {subject.properties.roles}, asks for {resource.properties.list}.", ZH: "{subject.id}：{action.name}。"})}
	language.policies[0].Reads = []string{"subject.roles"}
	content, err := bundles.NewContent([]bundles.File{{Path: pdp.AttributesFile, Data: []byte("attributes: {subject.roles: {trusted: true, source: directory}}")}})
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, language)
	if err != nil {
		t.Fatal(err)
	}
	people := directory{}
	var requests []authz.Request
	for i := range 40 {
		req := request()
		req.Subject.ID = fmt.Sprintf("person %d", i)
		req.Action.Name = []string{"vm.create", "vm.stop"}[i%2]
		properties, list := map[string]any{}, []any{}
		for n := range i % 7 {
			properties[fmt.Sprintf("p%d", n)] = i
			list = append(list, i)
		}
		properties["list"] = list
		req.Subject.Properties, req.Resource.Properties = authz.MustValue(properties), authz.MustValue(properties)
		if i%3 == 0 {
			req, err = authz.RequestOf(req.Value())
			if err != nil {
				t.Fatal(err)
			}
		}
		people[req.Subject.ID] = []string{"role " + req.Subject.ID}
		requests = append(requests, req)
	}
	p := pdp.New(pdp.Config{Now: time.Now, NewID: func() string { return "same" }, Recorder: discard{}})
	p.Activate(&pdp.Snapshot{Release: release, Directory: people})
	var wanted []string // of questions whose memory nobody gets
	for _, req := range requests {
		d, _, err := p.Evaluate(t.Context(), p.Active(), req, false)
		if err != nil {
			t.Fatal(err)
		}
		wanted = append(wanted, string(d.AppendJSON(nil)))
	}
	var deciding sync.WaitGroup
	for worker := range 4 {
		deciding.Go(func() {
			held := make([]authz.Decision, 2000)
			for i := range held {
				d, err := p.Decide(t.Context(), requests[(worker*10+i)%len(requests)], pdp.Caller{})
				if err != nil {
					t.Error(err)
					return
				}
				held[i] = d
			}
			for i := range held {
				if got, want := string(held[i].AppendJSON(nil)), wanted[(worker*10+i)%len(requests)]; got != want {
					t.Errorf("after other decisions it reads\n%s\nwant\n%s", got, want)
					return
				}
			}
		})
	}
	deciding.Wait()
}

// late keeps what it waits for.
type late struct {
	*constant
	kept []context.Context
}

func (l *late) Compile(context.Context, *pdp.Source) (pdp.Program, error) { return l, nil }

func (l *late) Evaluate(ctx context.Context, in *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	for _, kept := range l.kept {
		if kept.Err() == nil {
			panic("the context of an earlier evaluation lives again")
		}
	}
	if ctx.Err() != nil {
		panic("the context of this evaluation has ended before it")
	}
	ctx.Done()
	l.kept = append(l.kept, ctx)
	return l.constant.Evaluate(ctx, in, policies, out)
}

func TestTheContextOfAnEvaluationStaysEnded(t *testing.T) {
	language := &late{constant: ruleOf(pdp.KindAllow, pdp.Text{EN: "Yes.", ZH: "可以。"})}
	content, err := bundles.NewContent(nil)
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, language)
	if err != nil {
		t.Fatal(err)
	}
	p := newPDP(&pdp.Snapshot{Release: release}, nil)
	for range 20 {
		if d, err := p.Decide(t.Context(), request(), pdp.Caller{}); err != nil || !d.Allowed() {
			t.Fatalf("%s %v, %v", d.Effect, d.Reasons, err)
		}
	}
}
