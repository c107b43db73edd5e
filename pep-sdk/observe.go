package pep

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const instrumentation = "github.com/xiezhi-project/xiezhi/pep-sdk"

// observer counts and traces. No attribute names a subject or a resource.
type observer struct {
	tracer     trace.Tracer
	span       []trace.SpanStartOption
	decisions  metric.Int64Counter
	rejects    metric.Int64Counter
	reconnects metric.Int64Counter
	reader     metric.Registration

	// Made once, so that a decision allocates none: [remote][effect], and a
	// last row for those without an answer.
	answered [2][3][]metric.AddOption
	failed   [2][]metric.AddOption
	refusals [2][]metric.AddOption
}

func newObserver(p *PEP) (*observer, error) {
	o := &observer{tracer: p.config.Tracer.Tracer(instrumentation), span: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}}
	m := p.config.Meter.Meter(instrumentation)
	errs := make([]error, 0, 16)
	counter := func(name, unit, text string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	gauge := func(name, unit, text string) metric.Float64ObservableGauge {
		g, err := m.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return g
	}
	total := func(name, unit, text string) metric.Int64ObservableCounter {
		c, err := m.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	o.decisions = counter("xiezhi.pep.decisions", "{decision}", "Decisions by effect, and where they were made")
	o.rejects = counter("xiezhi.pep.rejects", "{frame}", "What nodes sent and was not taken")
	o.reconnects = counter("xiezhi.pep.reconnects", "{connection}", "Ends of the stream's connection, and tries that failed")
	stale := gauge("xiezhi.pep.stale", "1", "1 while what decides is not vouched for by a recent heartbeat")
	connected := gauge("xiezhi.pep.connected", "1", "1 on the socket, 0.5 while polling, 0 while no node is heard")
	age := gauge("xiezhi.pep.heartbeat.age", "s", "Time since a node vouched for the policies; -1: never")
	skew := gauge("xiezhi.pep.clock.skew", "s", "How far the local clock is ahead of the signed time")
	release := gauge("xiezhi.pep.release", "1", "Number of the active release")
	waiting := gauge("xiezhi.pep.records.waiting", "By", "Decision records on disk that wait for the server")
	sent := total("xiezhi.pep.records.sent", "{record}", "Decision records that the server took")
	lost := total("xiezhi.pep.records.lost", "{record}", "Decision records that the disk did not keep")
	dropped := total("xiezhi.pep.records.dropped", "{record}", "Decision records that the server refused for good")
	guarded := total("xiezhi.pep.guarded", "{action}", "Actions that Guard was asked for, by what came of them")
	advice := total("xiezhi.pep.advice.unmet", "{obligation}", "Obligations that may be met, and were not")
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	o.attributes()
	var err error
	o.reader, err = m.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		s, v := p.Status(), p.view.Load()
		to.ObserveFloat64(stale, flag(s.Stale))
		to.ObserveFloat64(connected, flag(s.Connected)+flag(s.Polling)/2)
		to.ObserveFloat64(age, seconds(v.clock.policiesAge(p.instant())))
		to.ObserveFloat64(skew, s.ClockSkew.Seconds())
		to.ObserveFloat64(release, float64(s.Revision.Release))
		to.ObserveFloat64(waiting, float64(s.Records.Waiting))
		to.ObserveInt64(sent, int64(s.Records.Sent))
		to.ObserveInt64(lost, int64(s.Records.Lost))
		to.ObserveInt64(dropped, int64(s.Records.Dropped))
		for outcome, n := range s.Enforced.outcomes() {
			to.ObserveInt64(guarded, int64(n), metric.WithAttributes(attribute.String("outcome", outcome)))
		}
		to.ObserveInt64(advice, int64(s.Enforced.Advice))
		return nil
	}, stale, connected, age, skew, release, waiting, sent, lost, dropped, guarded, advice)
	return o, err
}

func (o *observer) attributes() {
	option := func(kv ...attribute.KeyValue) []metric.AddOption {
		return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(kv...))}
	}
	for i, where := range []string{"pep", "server"} {
		for _, effect := range []authz.Effect{authz.Deny, authz.Review, authz.Allow} {
			o.answered[i][effect] = option(attribute.String("effect", effect.String()), attribute.String("where", where))
		}
		o.failed[i] = option(attribute.String("effect", "none"), attribute.String("where", where))
	}
	for i, what := range []string{"stream", "release"} {
		o.refusals[i] = option(attribute.String("what", what))
	}
}

// outcomes are what can come of a guarded action, each with its count.
func (e *Enforced) outcomes() map[string]uint64 {
	return map[string]uint64{"allowed": e.Allowed, "denied": e.Denied, "unmet": e.Unmet, "unanswered": e.Unanswered}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func index(b bool) int { return int(flag(b)) }

func seconds(d time.Duration) float64 {
	if d == unknownAge {
		return -1
	}
	return d.Seconds()
}

// decided counts an answer, or that there was none, and says so in the span.
func (o *observer) decided(ctx context.Context, span trace.Span, a *Answer, err error) {
	options := o.answered[index(a.Remote)][a.Effect]
	if err != nil {
		options = o.failed[index(a.Remote)]
	}
	o.decisions.Add(ctx, 1, options...)
	if !span.IsRecording() {
		return
	}
	if err != nil {
		span.RecordError(err)
		return
	}
	span.SetAttributes(
		attribute.String("xiezhi.effect", a.Effect.String()), attribute.String("xiezhi.revision", a.Revision.String()),
		attribute.String("xiezhi.decision_id", a.ID), attribute.Bool("xiezhi.remote", a.Remote), attribute.Bool("xiezhi.stale", a.Stale),
	)
}

func (o *observer) rejected(release bool) {
	o.rejects.Add(context.Background(), 1, o.refusals[index(release)]...)
}

func (o *observer) reconnected() { o.reconnects.Add(context.Background(), 1) }

func (o *observer) close() error {
	if o.reader == nil {
		return nil
	}
	return o.reader.Unregister()
}
