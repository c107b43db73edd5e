package pep

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Decide answers one request: in-process where it can, by the server where
// there is no engine or the answer needs what only the server has. An error
// means that there is no answer: treat it as DENY.
func (p *PEP) Decide(ctx context.Context, req authz.Request, opts ...Option) (Answer, error) {
	ctx, span := p.observe.tracer.Start(ctx, "xiezhi.decide", p.observe.span...)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("xiezhi.tenant", req.Tenant), attribute.String("xiezhi.action", req.Action.Name))
	}
	defer span.End()
	var atLeast authz.Revision
	if len(opts) > 0 {
		atLeast = asked(opts)
	}
	answer, err := p.decide(ctx, &req, atLeast)
	p.observe.decided(ctx, span, &answer, err)
	if err != nil {
		return Answer{Remote: answer.Remote, Why: answer.Why}, err
	}
	return answer, nil
}

// asked is what options ask for.
func asked(opts []Option) authz.Revision {
	var q question
	for _, o := range opts {
		o(&q)
	}
	return q.atLeast
}

func (p *PEP) decide(ctx context.Context, req *authz.Request, atLeast authz.Revision) (Answer, error) {
	select {
	case <-p.closed:
		return Answer{}, ErrClosed
	default:
	}
	if err := req.Validate(); err != nil {
		return Answer{}, err
	}
	if !p.serves(req.Tenant) {
		return Answer{}, fmt.Errorf("%w: %s", ErrTenantNotServed, req.Tenant)
	}
	if p.config.Engine == nil {
		d, err := p.remote.ask(ctx, req, atLeast)
		return Answer{Decision: d, Remote: true, Why: "no_engine"}, err
	}
	v, err := p.await(ctx, atLeast)
	if err != nil {
		return Answer{}, err
	}
	if v.denied != "" {
		return Answer{}, fmt.Errorf("%w: %s", ErrNoState, v.denied)
	}
	f := v.clock.freshness(p.instant(), !v.connected)
	f.StaleBound = p.config.StaleBound
	out, err := p.config.Engine.Decide(ctx, *req, f)
	if err != nil {
		return Answer{}, err
	}
	if out.Needs != "" {
		d, err := p.remote.ask(ctx, req, atLeast)
		if err == nil {
			return Answer{Decision: d, Remote: true, Why: out.Needs}, nil
		}
		// What was decided here stands: it is never more open.
		p.config.Log.DebugContext(ctx, "the server did not decide", "needs", out.Needs, "error", err)
	}
	if err := p.records.keep(ctx, &out); err != nil {
		return Answer{}, err
	}
	return Answer{Decision: out.Decision, Why: out.Needs}, nil
}

// await returns a view of at least a revision.
func (p *PEP) await(ctx context.Context, atLeast authz.Revision) (*view, error) {
	v := p.view.Load()
	if v.revision.Includes(atLeast) {
		return v, nil
	}
	timer := time.NewTimer(p.config.RemoteTimeout)
	defer timer.Stop()
	for {
		if !v.connected {
			return nil, fmt.Errorf("%w: %s is here, and no node is heard", ErrRevisionUnavailable, v.revision)
		}
		select {
		case <-v.changed:
		case <-timer.C:
			return nil, fmt.Errorf("%w: %s is here after %s", ErrRevisionUnavailable, v.revision, p.config.RemoteTimeout)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s is here: %w", ErrRevisionUnavailable, v.revision, ctx.Err())
		case <-p.closed:
			return nil, ErrClosed
		}
		if v = p.view.Load(); v.revision.Includes(atLeast) {
			return v, nil
		}
	}
}
