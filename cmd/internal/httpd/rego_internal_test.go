package httpd

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRegoIsMeasuredByEngineAndPolicy(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	stats := RegoStats{Compiled: 4, Topdown: 1, Settled: map[string]uint64{"platform/a": 2, "tenants/acme/b": 3}, Compared: 9, Differences: 7, Panics: 5}
	for _, m := range RegoMeasures(func() RegoStats { return stats }) {
		if err := registry.Register(m.collector()); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"xiezhi_rego_policies engine=compiled": 4, "xiezhi_rego_policies engine=topdown": 1,
		"xiezhi_rego_settled_by_topdown_total policy=platform/a": 2, "xiezhi_rego_settled_by_topdown_total policy=tenants/acme/b": 3,
		"xiezhi_rego_engine_comparisons_total": 9, "xiezhi_rego_engine_differences_total": 7, "xiezhi_rego_engine_panics_total": 5,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("more than that: %v", got)
	}
}
