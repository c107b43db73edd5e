package pdp_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// people answer what a REVIEW asks of them.
type people struct {
	asked  []*pdp.Obstacles
	answer *authz.Approval
	err    error
}

func (p *people) Ask(_ context.Context, o *pdp.Obstacles, _ pdp.Caller) (*authz.Approval, error) {
	p.asked = append(p.asked, o)
	return p.answer, p.err
}

const reviewed = `{"id":"all","name":"all","version":"1","masks":["/resource/properties/password"],"rules":[
	{"id":"yes","condition":"true","effect":"ALLOW"},
	{"id":"look","condition":"true","effect":"REVIEW","message":{"en":"{resource.properties.password} is weak","zh":"弱"}}]}`

func TestAReviewAsksPeopleOnceAndOnlyForWhoAsks(t *testing.T) {
	release := compile(t, 1, files{"platform/all.policy.json": reviewed})
	asked := &people{answer: &authz.Approval{ID: "cheq-1", Status: authz.ApprovalPending}}
	j := &journal{}
	p := newPDP(&pdp.Snapshot{Release: release}, func(c *pdp.Config) { c.Approvals, c.Recorder = asked, j })
	req := request()
	req.Resource.Properties = authz.MustValue(map[string]any{"password": "hunter2"})
	if d, err := p.Decide(t.Context(), req, pdp.Caller{}); err != nil || d.Effect != authz.Review || d.Approval != nil || len(asked.asked) > 0 {
		t.Fatalf("who does not ask: %s, %+v, %v; %d asked", d.Effect, d.Approval, err, len(asked.asked))
	}
	d, err := p.Decide(t.Context(), req, pdp.Caller{Asks: &pdp.Asks{Reason: "launch"}})
	if err != nil || d.Effect != authz.Review || d.Approval == nil || d.Approval.ID != "cheq-1" || len(asked.asked) != 1 {
		t.Fatalf("%s, %+v, %v; %d asked", d.Effect, d.Approval, err, len(asked.asked))
	}
	if o := asked.asked[0]; len(o.Rules) != 1 || o.Rules[0].Name != "platform/all/look" || o.Rules[0].Effect != authz.Review ||
		o.Rules[0].Message.EN != "*** is weak" || len(o.Fixed) != 0 || o.Digest == "" {
		t.Errorf("asked about %+v", o)
	}
	if last := j.records[1].Decision; last.Approval == nil || last.Approval.ID != "cheq-1" || last.ID != d.ID {
		t.Errorf("recorded %+v", last)
	}
}

func TestTooManyCasesDenyAndOtherFailuresLeaveTheReview(t *testing.T) {
	release := compile(t, 1, files{"platform/all.policy.json": reviewed})
	asked := &people{err: pdp.ErrTooManyCases}
	j := &journal{}
	p := newPDP(&pdp.Snapshot{Release: release}, func(c *pdp.Config) { c.Approvals, c.Recorder = asked, j })
	req := request()
	req.Resource.Properties = authz.MustValue(map[string]any{"password": "hunter2"}) // the masked record is combined again
	d, err := p.Decide(t.Context(), req, pdp.Caller{Asks: &pdp.Asks{}})
	if err != nil || d.Effect != authz.Deny || !slices.Contains(rules(d), authz.RuleTooManyCases) || d.Approval != nil {
		t.Fatalf("%s %v, %v", d.Effect, rules(d), err)
	}
	if last := j.records[0].Decision; last.Effect != authz.Deny || !slices.Contains(rules(*last), authz.RuleTooManyCases) {
		t.Errorf("recorded %s %v", last.Effect, rules(*last))
	}
	asked.err = errors.New("the database is away")
	if d, err := p.Decide(t.Context(), req, pdp.Caller{Asks: &pdp.Asks{}}); err != nil || d.Effect != authz.Review || d.Approval != nil {
		t.Fatalf("%s, %+v, %v", d.Effect, d.Approval, err)
	}
}

func TestAnAllowCitesTheCaseThatItRestsOn(t *testing.T) {
	release := compile(t, 1, files{"platform/all.policy.json": reviewed})
	p := newPDP(&pdp.Snapshot{Release: release}, nil)
	now := time.Now().UTC()
	_, o, err := p.Obstacles(t.Context(), p.Active(), request())
	if err != nil || len(o.Rules) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	rule := authz.RuleRef{Rule: o.Rules[0].Name, Digest: o.Rules[0].Rule.Digest.String()}
	grant := func(id, source string, last time.Duration) *authz.Grant {
		return &authz.Grant{ID: id, Tenant: "acme", Requests: []string{o.Digest}, Satisfies: []authz.RuleRef{rule}, Source: source,
			CreatedAt: now, Validity: authz.Validity{Start: now, End: now.Add(last)}}
	}
	for _, c := range []struct {
		grant *authz.Grant
		cites string
	}{{grant("grt-1", authz.SourceApproval+"cheq-7", time.Hour), "cheq-7"}, {grant("grt-2", "manual:user:root", time.Hour), ""}} {
		p.Activate(&pdp.Snapshot{Release: release, Dynamic: new(pdp.Dynamic).With(pdp.DynamicChange{Grants: []*authz.Grant{c.grant}}, now)})
		d, err := p.Decide(t.Context(), request(), pdp.Caller{})
		cites := ""
		if d.Approval != nil {
			cites = d.Approval.ID
		}
		if err != nil || d.Effect != authz.Allow || cites != c.cites {
			t.Errorf("%s: %s, cites %q, want %q, %v", c.grant.Source, d.Effect, cites, c.cites, err)
		}
	}
}

func TestObstaclesThatNoYesOpensAreNamed(t *testing.T) {
	release := compile(t, 1, files{"platform/all.policy.json": `{"id":"all","name":"all","version":"1","rules":[
		{"id":"yes","condition":"true","effect":"ALLOW"},
		{"id":"never","condition":"true","effect":"DENY"},
		{"id":"sometimes","condition":"true","effect":"DENY","waivable":true,"template":"exception"}]}`, "approvals/exception.yaml": ""})
	p := newPDP(&pdp.Snapshot{Release: release}, nil)
	d, o, err := p.Obstacles(t.Context(), p.Active(), request())
	if err != nil || d.Effect != authz.Deny || len(o.Rules) != 1 || o.Rules[0].Name != "platform/all/sometimes" || len(o.Fixed) != 1 || o.Fixed[0].Rule != "never" {
		t.Fatalf("%s, %+v, %v", d.Effect, o, err)
	}
}
