package pdp

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Approvals asks people about what a REVIEW holds back (X9).
type Approvals interface {
	// Ask opens a case, or joins the one that is open for the same. It returns
	// nil where nobody can be asked, and [ErrTooManyCases] where the one who
	// asks has asked too much. Any other error leaves the REVIEW as it is,
	// without a case.
	Ask(ctx context.Context, o *Obstacles, caller Caller) (*authz.Approval, error)
}

// ErrTooManyCases means that who asks has as many cases as it may.
var ErrTooManyCases = errors.New("too many cases")

// Asks is what a caller says to those who will be asked.
type Asks struct {
	Reason   string
	GrantFor time.Duration // 0: as the approval templates say
	// Open are members of the request, as JSON pointers, that a yes is to leave
	// open within the values that the templates offer.
	Open []string
	// BreakGlass names the approval template of an emergency; "": there is none.
	BreakGlass string
}

// Obstacles is all that stands between a request and an ALLOW, as people may
// be shown it: what policies call sensitive is masked.
type Obstacles struct {
	// Snapshot is what the answer is based on, Asked the request as it was
	// asked, which nobody stores.
	Snapshot *Snapshot
	Asked    authz.Request

	Request authz.Request
	Digest  string
	// Context names the members of the context that Digest covers.
	Context []string
	Rules   []Obstacle // that a grant would open: reviews, and DENYs that are waivable
	Fixed   []authz.Reason
}

// Obstacle is one rule that a grant would open.
type Obstacle struct {
	Name   string // "platform/network/public_ingress_needs_review"
	Rule   *Rule
	Effect authz.Effect // REVIEW or DENY
	// Message is what the rule says of this request; of one that speaks several
	// times, the first.
	Message Text
}

// obstacles lists them; d is the question's combined answer.
func (q *question) obstacles(d *authz.Decision) (*Obstacles, error) {
	digest, err := q.requestDigest()
	if err != nil {
		return nil, err
	}
	request, told := q.recorded(d)
	o := &Obstacles{Snapshot: q.snapshot, Asked: q.original, Request: request, Digest: digest.String(), Context: boundContext(q.matched)}
	seen := map[string]bool{}
	for i := range told.Reasons {
		r := &told.Reasons[i]
		if r.Effect == authz.Allow || r.Grant != "" {
			continue
		}
		name := r.Policy + "/" + r.Rule
		rule, known := q.rule(name)
		switch {
		case !known || rule.Kind == KindDeny && !rule.Waivable:
			o.Fixed = append(o.Fixed, *r)
		case !seen[name]:
			seen[name] = true
			o.Rules = append(o.Rules, Obstacle{Name: name, Rule: rule, Effect: r.Effect, Message: Text{EN: r.Message, ZH: r.MessageZH}})
		}
	}
	return o, nil
}

// rule finds a rule that spoke; the decision core's own are none.
func (q *question) rule(name string) (*Rule, bool) {
	if strings.HasPrefix(name, "/") {
		return nil, false
	}
	if rule, ok := q.snapshot.Release.Rule(name); ok {
		return rule, true
	}
	rule, _, ok := q.snapshot.Dynamic.Rule(name, q.fresh.Now)
	return rule, ok
}

// Obstacles answers like [PDP.Evaluate], and says what people could be asked
// to open. It has no effect.
func (p *PDP) Obstacles(ctx context.Context, s *Snapshot, req authz.Request) (authz.Decision, *Obstacles, error) {
	q, d, err := p.tryOut(ctx, s, req, false)
	if err != nil {
		return authz.Decision{}, nil, err
	}
	o, err := q.obstacles(&d)
	return d, o, err
}

// ask opens the case of a REVIEW, or denies where there are too many.
func (p *PDP) ask(ctx context.Context, q *question, d combined, caller Caller) combined {
	if d.Effect != authz.Review {
		return d
	}
	if caller.Asks == nil || p.config.Approvals == nil {
		d.Approval = caller.Case
		return d
	}
	o, err := q.obstacles(&d.Decision)
	if err == nil {
		d.Approval, err = p.config.Approvals.Ask(ctx, o, caller)
	}
	if errors.Is(err, ErrTooManyCases) {
		reason := coreReason(authz.RuleTooManyCases,
			"People would be asked about this request, and too many cases are open for its subject already: wait for them, or cancel one.",
			"该请求需要审批，但其主体的待审批事项已达上限：请等待处理或先撤销一项。")
		q.closed = &reason
		return q.combine()
	}
	return d
}
