package httpd

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// RightMetrics is the right to read the metrics, a right at the platform.
const RightMetrics = "metrics.read"

// Measure is one number of another package, or one for each value of a label;
// it is read whenever the metrics are.
type Measure struct {
	Name, Help string
	Total      bool // it counts what happened since the start and never falls
	Read       func() float64
	// Label and ReadEach are for numbers by label; then there is no Read.
	Label    string
	ReadEach func() map[string]float64
}

func (m Measure) collector() prometheus.Collector {
	if m.ReadEach != nil {
		return labelled{m, prometheus.NewDesc(m.Name, m.Help, []string{m.Label}, nil)}
	}
	if m.Total {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Read)
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.Read)
}

// labelled collects a Measure by label.
type labelled struct {
	Measure
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (l labelled) Describe(to chan<- *prometheus.Desc) { to <- l.desc }

// Collect implements prometheus.Collector.
func (l labelled) Collect(to chan<- prometheus.Metric) {
	kind := prometheus.GaugeValue
	if l.Total {
		kind = prometheus.CounterValue
	}
	for value, n := range l.ReadEach() {
		to <- prometheus.MustNewConstMetric(l.desc, kind, n, value)
	}
}

// metrics are this server's own; Config.Measures add those of other packages.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec // by operation and status
	decisions [3]prometheus.Counter  // by authz.Effect
	failed    prometheus.Counter
	latency   prometheus.Histogram
	errors    *prometheus.CounterVec // by policy and cause
	panics    prometheus.Counter
}

func newMetrics(config Config) (*metrics, error) {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "xiezhi_decisions_total", Help: "Decisions of the decide doors, by effect."}, []string{"effect"})
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "xiezhi_http_requests_total", Help: "HTTP calls answered."}, []string{"operation", "status"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "xiezhi_decision_failures_total", Help: "Decisions that ended without an answer; their callers must deny."}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "xiezhi_decision_seconds", Help: "Time from the parsed request to the recorded decision.",
			Buckets: prometheus.ExponentialBuckets(20e-6, 2, 16)}), // 20 µs to 0.66 s
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "xiezhi_evaluation_errors_total", Help: "Policies that applied and could not be evaluated, by policy and cause."},
			[]string{"policy", "cause"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "xiezhi_panics_total", Help: "Panics that were caught while answering a call."}),
	}
	for effect := range m.decisions {
		m.decisions[effect] = decisions.WithLabelValues(authz.Effect(effect).String())
	}
	revision := func(name, help string, part func(authz.Revision) uint64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			return float64(part(config.Decider.Revision()))
		})
	}
	all := []prometheus.Collector{
		m.requests, decisions, m.failed, m.latency, m.errors, m.panics,
		revision("xiezhi_release", "Number of the active release; 0 before the first.", func(r authz.Revision) uint64 { return r.Release }),
		revision("xiezhi_log_position", "Log position that answers are based on.", func(r authz.Revision) uint64 { return r.Position }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	for _, measure := range config.Measures {
		all = append(all, measure.collector())
	}
	for _, c := range all {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// answered is the counter of calls of an operation with a status.
func (m *metrics) answered(operation string, status int) prometheus.Counter {
	return m.requests.WithLabelValues(operation, statusText(status))
}

// decided counts one decision.
func (m *metrics) decided(d *authz.Decision, took time.Duration) {
	m.decisions[d.Effect].Inc()
	m.latency.Observe(took.Seconds())
	for i := range d.Reasons {
		if r := &d.Reasons[i]; r.Rule == authz.RuleEvaluationError {
			m.errors.WithLabelValues(policyLabel(r.Policy), r.Cause).Inc()
		}
	}
}

// policyLabel keeps the number of series bounded: restrictions come and go.
func policyLabel(policy string) string {
	if strings.HasPrefix(policy, "dynamic/") {
		return "dynamic"
	}
	return policy
}

// prometheus answers GET /metrics.
func (c *call) prometheus() error {
	if err := c.allow(RightMetrics, ""); err != nil {
		return err
	}
	families, err := c.metrics.registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	var text bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			return fmt.Errorf("write metric %s: %w", family.GetName(), err)
		}
	}
	c.fiber.Response().SetStatusCode(http.StatusOK)
	c.fiber.Response().Header.SetContentType(string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	c.fiber.Response().SetBody(text.Bytes())
	return nil
}
