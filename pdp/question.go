package pdp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// question is one request on its way through the core.
type question struct {
	snapshot *Snapshot
	original authz.Request // as it was asked
	resolved authz.Request // with trusted attributes
	input    Input         // of resolved
	fresh    authz.Freshness
	matched  matched
	// sourceless says that a policy reads an attribute whose source is not here.
	sourceless bool
	// staleBound is the shortest of the applicable policies'.
	staleBound time.Duration
	// answering is matched without the policies whose attributes failed.
	answering matched
	outcomes  []Outcome
	spent     []string
	closed    *authz.Reason // that the core denies for beside the policies
	written   Record

	digestOnce sync.Once
	digest     bundles.Digest
	digestErr  error

	lent *workspace // what the question lies in for the most part; nil once it is given back
}

// workspace is memory that questions have one after the other. Nothing of it
// reaches a decision.
type workspace struct {
	question question // of who is done with it when it is released
	budget   *budget
	groups   matched
	policies [][]*Policy // of the release's programs
	outcomes []Outcome
	overlay  overlay
	messages filling
}

var workspaces = sync.Pool{New: func() any { return &workspace{} }}

// maxKept is how many outcomes, and how many members, a workspace keeps room
// for; maxTexts is how many bytes.
const (
	maxKept  = 1024
	maxTexts = 64 << 10
)

// newQuestion takes over a request.
func newQuestion(s *Snapshot, req authz.Request, f authz.Freshness) *question {
	q := &question{}
	q.begin(workspaces.Get().(*workspace), s, req, f)
	return q
}

// borrowQuestion is newQuestion for who keeps nothing of it beyond its release.
func borrowQuestion(s *Snapshot, req authz.Request, f authz.Freshness) *question {
	w := workspaces.Get().(*workspace)
	w.question.begin(w, s, req, f)
	return &w.question
}

// begin fills an empty question. Its groups are those of the release's
// programs, without policies yet.
func (q *question) begin(w *workspace, s *Snapshot, req authz.Request, f authz.Freshness) {
	q.snapshot, q.original, q.fresh, q.lent, q.matched, q.outcomes = s, req, f, w, w.groups, w.outcomes
	for i, program := range s.Release.programs {
		if i == len(w.policies) {
			w.policies = append(w.policies, nil)
		}
		q.matched = append(q.matched, group{program, w.policies[i]})
	}
}

// release gives the workspace back. Nothing may be asked of the question then.
func (q *question) release() {
	w := q.lent
	if q.lent = nil; cap(q.outcomes) > maxKept || cap(w.messages.texts) > maxTexts || cap(w.messages.json) > maxTexts {
		return
	}
	for i := range q.snapshot.Release.programs {
		clear(q.matched[i].policies)
		w.policies[i] = q.matched[i].policies[:0]
	}
	clear(q.matched)
	for i := range q.outcomes {
		q.outcomes[i].reset()
	}
	w.groups, w.outcomes = q.matched[:0], q.outcomes[:0]
	w.overlay.reset()
	if w.budget != nil && w.budget.waited() {
		w.budget = nil
	}
	w.question = question{}
	workspaces.Put(w)
}

// question returns the evaluated question of a request.
func (p *PDP) question(ctx context.Context, s *Snapshot, req authz.Request, f authz.Freshness, explain bool) (*question, error) {
	if err := s.takes(&req); err != nil {
		return nil, err
	}
	q := newQuestion(s, req, f)
	return q, p.answer(ctx, q, explain)
}

// takes refuses a request that no question can be made of.
func (s *Snapshot) takes(req *authz.Request) error {
	if s == nil {
		return ErrNotReady
	}
	if err := req.Validate(); err != nil {
		return err
	}
	return s.Release.refuseTrusted(req)
}

// answer matches, resolves and evaluates.
func (p *PDP) answer(ctx context.Context, q *question, explain bool) error {
	q.matched = q.snapshot.matchInto(q.matched, &q.original, q.fresh.Now)
	q.staleBound = q.matched.staleBound(cmp.Or(q.fresh.StaleBound, p.config.StaleBound))
	failed := p.resolve(ctx, q)
	q.input = Input{Request: &q.resolved, Value: q.lent.overlay.request(&q.resolved), Now: q.fresh.Now, Explain: explain}
	q.dropFailed(failed)
	return p.evaluate(ctx, q)
}

// evaluate lets the programs speak when it is the question's turn.
func (p *PDP) evaluate(ctx context.Context, q *question) error {
	if err := p.takeTurn(ctx); err != nil {
		return err
	}
	defer p.endTurn()
	if q.lent.budget == nil {
		q.lent.budget = &budget{}
	}
	b := q.lent.budget
	b.begin(ctx, p.config.Budget)
	defer b.end()
	q.evaluate(b)
	return nil
}

// takeTurn waits for a turn to evaluate, which must be ended.
func (p *PDP) takeTurn(ctx context.Context) error {
	select {
	case p.turns <- struct{}{}:
		return nil
	default:
		return p.queue(ctx)
	}
}

func (p *PDP) endTurn() { <-p.turns }

func (p *PDP) queue(ctx context.Context) error {
	timer := time.NewTimer(MaxQueue)
	defer timer.Stop()
	select {
	case p.turns <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrOverloaded
	case <-ctx.Done():
		return fmt.Errorf("wait for a turn to decide: %w", ctx.Err())
	}
}

// dropFailed turns policies that read an attribute whose source did not answer
// into evaluation errors.
func (q *question) dropFailed(failed map[string]error) {
	q.answering = q.matched
	if len(failed) == 0 {
		return
	}
	q.answering = slices.Clone(q.matched)
	for i, g := range q.answering {
		q.answering[i].policies = slices.DeleteFunc(slices.Clone(g.policies), func(p *Policy) bool {
			for _, read := range p.Reads {
				if err := failed[read]; err != nil {
					q.sourceless = q.sourceless || errors.Is(err, errNoSource)
					q.outcomes = append(q.outcomes, Outcome{Policy: p, Err: &EvaluationError{
						Cause: CauseAttributeUnavailable, File: p.File, Line: 1,
						Message: fmt.Sprintf("attribute %s could not be read: %v", read, err),
					}})
					return true
				}
			}
			return false
		})
	}
}

// evaluate lets every program speak.
func (q *question) evaluate(ctx context.Context) {
	for _, g := range q.answering {
		if len(g.policies) > 0 {
			q.outcomes = evaluateAll(ctx, g.program, &q.input, g.policies, q.outcomes)
		}
	}
}

// evaluateAll holds a program to its contract: one outcome per policy, and no
// panic. What breaks it denies.
func evaluateAll(ctx context.Context, program Program, in *Input, policies []*Policy, out []Outcome) (outcomes []Outcome) {
	before := len(out)
	defer func() {
		if r := recover(); r != nil {
			outcomes = out[:before]
			for _, p := range policies {
				outcomes = append(outcomes, Outcome{Policy: p, Err: &EvaluationError{
					Cause: CausePolicyError, File: p.File, Line: 1, Message: fmt.Sprintf("the evaluator panicked: %v", r)}})
			}
		}
	}()
	outcomes = program.Evaluate(ctx, in, policies, out)
	if len(outcomes)-before == len(policies) {
		return outcomes
	}
	for _, p := range policies {
		if !slices.ContainsFunc(outcomes[before:], func(o Outcome) bool { return o.Policy == p }) {
			outcomes = append(outcomes, Outcome{Policy: p, Err: &EvaluationError{
				Cause: CausePolicyError, File: p.File, Line: 1, Message: "the evaluator did not answer for this policy"}})
		}
	}
	return outcomes
}

func (q *question) combine() combined { return q.combineOn(&q.input) }

// combineOn combines with messages that are filled from in.
func (q *question) combineOn(in *Input) combined {
	c := combination{
		question: q, in: in, outcomes: q.outcomes, dynamic: q.snapshot.Dynamic,
		obligations: q.snapshot.Release.obligations, spent: q.spent,
		noGrants: !q.fresh.Grants || q.fresh.GrantsAge > q.staleBound, outlived: q.fresh.Age > q.staleBound,
		latest: q.fresh.Latest, messages: &q.lent.messages, closed: q.closed,
	}
	d := c.combine()
	for i := range d.Obligations {
		if q.lent.overlay.holds(d.Obligations[i].Params) {
			q.lent.overlay = overlay{} // it is the decision's now
		}
	}
	d.Revision, d.Stale = q.snapshot.Revision(), q.fresh.Stale
	return d
}

// record is the decision as it is written down.
func (q *question) record(d *authz.Decision, caller Caller) Record {
	request, told := q.recorded(d)
	r := Record{Time: q.input.Now, Caller: caller, Request: request, Decision: told}
	if q.matched.strict() {
		r.Durability = Strict
	}
	return r
}

func (q *question) requestDigest() (bundles.Digest, error) {
	q.digestOnce.Do(func() {
		q.digest, q.digestErr = requestDigest(&q.original, boundContext(q.matched))
	})
	return q.digest, q.digestErr
}

// RequestDigest returns what a grant for this request is bound to, under the
// snapshot's policies.
func (s *Snapshot) RequestDigest(req authz.Request, now time.Time) (bundles.Digest, error) {
	return requestDigest(&req, boundContext(s.match(&req, now)))
}
