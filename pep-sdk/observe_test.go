package pep

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// meters keeps what is observed, by name and the value of the first attribute.
type meters struct {
	noop.Meter
	noop.Observer
	callback metric.Callback
	seen     map[string]int64
}

type named struct {
	noop.Int64ObservableCounter
	name string
}

// metered provides them.
type metered struct {
	noop.MeterProvider
	*meters
}

func (m metered) Meter(string, ...metric.MeterOption) metric.Meter { return m.meters }

func (m *meters) Int64ObservableCounter(name string, _ ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	return named{name: name}, nil
}

func (m *meters) RegisterCallback(f metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	m.callback = f
	return noop.Registration{}, nil
}

func (m *meters) ObserveInt64(what metric.Int64Observable, value int64, options ...metric.ObserveOption) {
	name := what.(named).name
	set := metric.NewObserveConfig(options).Attributes()
	for _, kv := range set.ToSlice() {
		name += " " + kv.Value.AsString()
	}
	m.seen[name] = value
}

func TestWhatGuardDidIsAmongTheMetrics(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create\ndeny order.delete")
	config := n.config(t.TempDir())
	m := &meters{seen: map[string]int64{}}
	config.Meter = metered{meters: m}
	p := start(t, config)
	ready(t, p)
	do := func(context.Context) error { return nil }
	for _, action := range []string{"order.create", "order.create", "order.delete", ""} {
		_ = p.Guard(t.Context(), request(action), do) // what came of it is counted
	}
	if err := m.callback(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{
		"xiezhi.pep.guarded allowed": 2, "xiezhi.pep.guarded denied": 1, "xiezhi.pep.guarded unanswered": 1, "xiezhi.pep.guarded unmet": 0,
		"xiezhi.pep.advice.unmet": 0,
	} {
		if got, ok := m.seen[name]; !ok || got != want {
			t.Errorf("%s is %d (observed: %t), want %d", name, got, ok, want)
		}
	}
}

func TestGuardWaitsForTheRevisionOfItsContext(t *testing.T) {
	n := startNode(t, "acme")
	n.publish("allow order.create")
	config := n.config(t.TempDir())
	config.RemoteTimeout = 500 * time.Millisecond
	p := start(t, config)
	ready(t, p)
	ran := 0
	guard := func(r authz.Revision) error {
		return p.Guard(WithAtLeast(t.Context(), r), request("order.create"), func(context.Context) error { ran++; return nil })
	}
	if err := guard(authz.Revision{Release: 9}); !errors.Is(err, ErrRevisionUnavailable) || ran != 0 {
		t.Errorf("a revision that does not come: %v, run %d times", err, ran)
	}
	at := n.restrict("order.pay", time.Hour)
	if err := guard(authz.Revision{Release: 1, Position: at}); err != nil || ran != 1 {
		t.Errorf("a revision that comes: %v, run %d times", err, ran)
	}
}
