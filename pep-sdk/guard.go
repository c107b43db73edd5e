package pep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// LimitHandler takes the cost of all limits of a decision, or of none: all of
// them hold together. An error denies; it wraps [ErrLimited] where there is
// nothing wrong but that a limit is spent. A service whose action enforces the
// limits itself, by [DecisionFrom], returns nil.
type LimitHandler func(ctx context.Context, req authz.Request, limits []authz.Limit) error

// RouteHandler makes sure that the pool of the route serves the request. An
// error denies. A service whose action goes by the route itself, by
// [DecisionFrom], returns nil.
type RouteHandler func(ctx context.Context, req authz.Request, route authz.Route) error

// Why a decision that allows is not enforced.
var (
	// ErrUnknownObligation means that no handler is registered for it.
	ErrUnknownObligation = errors.New("this service does not know the obligation")
	// ErrLimitsUnenforced means that the decision carries limits and
	// [Config.Limits] is nil.
	ErrLimitsUnenforced = errors.New("the decision carries limits and nothing in this service enforces them")
	// ErrRoutesUnenforced means that it carries a route and [Config.Routes] is nil.
	ErrRoutesUnenforced = errors.New("the decision carries a route and nothing in this service enforces it")
	// ErrLimited means that a limit is spent: the same may be allowed later.
	ErrLimited = errors.New("a limit is spent")
)

// Guard decides on the request and runs do only where the decision is ALLOW and
// everything it asks for was met: its obligations by [Config.Obligations], in
// the order of the answer, then its route, then its limits. Do, and every
// handler, find the decision in their context: [DecisionFrom].
//
// Where the action is not run because of what was decided, the error is a
// [*DeniedError]; any other error before do ran means that there is no
// decision, which is a refusal too. An error of do is returned as it is, and a
// panic of do is the caller's. [RefusalOf] says what to tell whoever asked.
//
// After an obligation that must be met and was not, the others are still met
// where they can be (AuthZEN's obligations profile): nobody else would notify
// or log. Obligations that may be met and were not are logged and counted. Of
// a DENY or REVIEW only [Config.Refusals] are run: the other obligations speak
// of an action that does not happen.
//
// [WithAtLeast] makes the decision rest on a revision, also behind a middleware.
func (p *PEP) Guard(ctx context.Context, req authz.Request, do func(ctx context.Context) error) error {
	return p.enforce.guard(ctx, req, func(ctx context.Context, req authz.Request) (Answer, error) {
		if atLeast, ok := ctx.Value(atLeastKey{}).(authz.Revision); ok {
			return p.Decide(ctx, req, AtLeast(atLeast))
		}
		return p.Decide(ctx, req)
	}, do)
}

type atLeastKey struct{}

// WithAtLeast makes every [PEP.Guard] under the context decide by this revision
// or a newer one, as [AtLeast] does: what a write returned, so that whoever
// wrote is not judged by what was before. Middlewares guard under the context
// of the call that they were given, so what stands before them may set it.
// [PEP.Decide] takes the option itself.
func WithAtLeast(ctx context.Context, r authz.Revision) context.Context {
	return context.WithValue(ctx, atLeastKey{}, r)
}

// Enforced counts what [PEP.Guard] did since New.
type Enforced struct {
	Allowed    uint64 `json:"allowed"`    // actions that were run
	Denied     uint64 `json:"denied"`     // DENY and REVIEW, by decision
	Unmet      uint64 `json:"unmet"`      // ALLOW that was not enforced: an obligation, limit or route was not met
	Unanswered uint64 `json:"unanswered"` // without a decision
	Advice     uint64 `json:"advice"`     // obligations that may be met, and were not
}

// enforcement is what Guard works with: the service's handlers, and counters.
type enforcement struct {
	obligations map[string]ObligationHandler
	refusals    map[string]ObligationHandler
	limits      LimitHandler
	routes      RouteHandler
	log         *slog.Logger

	allowed, denied, unmet, unanswered, advice atomic.Uint64
}

func newEnforcement(c Config) *enforcement {
	e := &enforcement{
		obligations: c.Obligations, refusals: c.Refusals, limits: c.Limits, routes: c.Routes, log: c.Log,
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	return e
}

// counts reads the counters; each by itself is exact.
func (e *enforcement) counts() Enforced {
	return Enforced{
		Allowed: e.allowed.Load(), Denied: e.denied.Load(), Unmet: e.unmet.Load(),
		Unanswered: e.unanswered.Load(), Advice: e.advice.Load(),
	}
}

// guard decides by decide, and runs do only where everything that the decision
// asks for was met.
func (e *enforcement) guard(
	ctx context.Context, req authz.Request, decide func(context.Context, authz.Request) (Answer, error), do func(context.Context) error,
) error {
	answer, err := decide(ctx, req)
	if err != nil {
		e.unanswered.Add(1)
		return fmt.Errorf("no decision on %s: %w", req.Action.Name, err)
	}
	ctx = context.WithValue(ctx, decisionKey{}, answer)
	if !answer.Allowed() {
		e.denied.Add(1)
		e.refuse(ctx, req, answer.Obligations)
		return &DeniedError{Answer: answer}
	}
	if denied := e.meet(ctx, req, answer); denied != nil {
		e.unmet.Add(1)
		e.log.WarnContext(ctx, "an allowed action is not run", "action", req.Action.Name, "tenant", req.Tenant,
			"decision_id", answer.ID, "obligation", denied.Obligation, "error", denied.Err)
		return denied
	}
	if err := ctx.Err(); err != nil {
		e.unanswered.Add(1)
		return fmt.Errorf("%s was allowed, and its time was over before it began: %w", req.Action.Name, err)
	}
	e.allowed.Add(1)
	return do(ctx)
}

// meet meets obligations, then checks the route, then takes the limits: last,
// so that what is not run spends none. After an obligation that is not met the
// others are still met as far as they can be: nobody else will notify or log.
func (e *enforcement) meet(ctx context.Context, req authz.Request, answer Answer) *DeniedError {
	var denied *DeniedError
	for _, o := range answer.Obligations {
		err := e.obligation(ctx, req, o)
		switch {
		case err == nil:
		case !o.Must:
			e.adviceUnmet(ctx, o, err)
		case denied == nil:
			denied = &DeniedError{Answer: answer, Obligation: o.ID, Err: err}
		default:
			e.log.WarnContext(ctx, "another obligation was not met", "decision_id", answer.ID, "obligation", o.ID, "error", err)
		}
	}
	if denied != nil {
		return denied
	}
	if answer.Route != nil {
		if err := e.route(ctx, req, *answer.Route); err != nil {
			return &DeniedError{Answer: answer, Err: err}
		}
	}
	if len(answer.Limits) > 0 {
		if err := e.limit(ctx, req, answer.Limits); err != nil {
			return &DeniedError{Answer: answer, Err: err}
		}
	}
	return nil
}

func (e *enforcement) obligation(ctx context.Context, req authz.Request, o authz.Obligation) error {
	handler := e.obligations[o.ID]
	if handler == nil {
		return ErrUnknownObligation
	}
	return e.run(ctx, func() error { return handler(ctx, req, o) })
}

func (e *enforcement) route(ctx context.Context, req authz.Request, route authz.Route) error {
	if e.routes == nil {
		return ErrRoutesUnenforced
	}
	return e.run(ctx, func() error { return e.routes(ctx, req, route) })
}

func (e *enforcement) limit(ctx context.Context, req authz.Request, limits []authz.Limit) error {
	if e.limits == nil {
		return ErrLimitsUnenforced
	}
	return e.run(ctx, func() error { return e.limits(ctx, req, limits) })
}

// refuse does what the service does about obligations of a refusal. Nothing
// opens whatever comes of it.
func (e *enforcement) refuse(ctx context.Context, req authz.Request, obligations []authz.Obligation) {
	for _, o := range obligations {
		handler := e.refusals[o.ID]
		if handler == nil {
			continue // it speaks of an action that is not run
		}
		if err := e.run(ctx, func() error { return handler(ctx, req, o) }); err != nil {
			e.adviceUnmet(ctx, o, err)
		}
	}
}

func (e *enforcement) adviceUnmet(ctx context.Context, o authz.Obligation, err error) {
	e.advice.Add(1)
	e.log.WarnContext(ctx, "advice was not met", "obligation", o.ID, "policy", o.Policy, "rule", o.Rule, "error", err)
}

// run runs a handler of the service. A panic is an error: what panicked has
// not met anything.
func (e *enforcement) run(ctx context.Context, handler func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e.log.ErrorContext(ctx, "a handler of the service panicked", "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("the handler panicked: %v", r)
		}
	}()
	return handler()
}

type decisionKey struct{}

// DecisionFrom returns the decision under which a guarded action runs: its
// limits, its route, its revision. Handlers of obligations have it too. False
// outside of [PEP.Guard].
func DecisionFrom(ctx context.Context) (Answer, bool) {
	a, ok := ctx.Value(decisionKey{}).(Answer)
	return a, ok
}
