package pdp_test

import (
	"context"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// constant is a language whose every policy finds the same: what remains is
// what the core costs.
type constant struct {
	policies []*pdp.Policy
	findings []pdp.Finding
}

func (c *constant) Compile(context.Context, *pdp.Source) (pdp.Program, error) { return c, nil }

func (c *constant) Policies() []*pdp.Policy { return c.policies }

func (c *constant) Evaluate(_ context.Context, _ *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	for i, p := range policies {
		out = append(out, pdp.Outcome{Policy: p, Findings: c.findings[i : i+1]})
	}
	return out
}

// ruleOf returns a language with one policy whose one rule always finds.
func ruleOf(kind pdp.RuleKind, message pdp.Text) *constant {
	rule := &pdp.Rule{ID: "always", Kind: kind, Message: message}
	p := &pdp.Policy{ID: "platform/constant", Layer: pdp.LayerPlatform, Rules: []*pdp.Rule{rule}}
	return &constant{[]*pdp.Policy{p}, []pdp.Finding{{Rule: rule}}}
}

// discard records by forgetting.
type discard struct{}

func (discard) Record(context.Context, *pdp.Record) error { return nil }

func coreOf(tb testing.TB, language *constant) *pdp.PDP {
	tb.Helper()
	content, err := bundles.NewContent(nil)
	if err != nil {
		tb.Fatal(err)
	}
	release, err := pdp.Compile(context.Background(), 1, content, language)
	if err != nil {
		tb.Fatal(err)
	}
	p := pdp.New(pdp.Config{Now: time.Now, NewID: func() string { return "dec-1" }, Recorder: discard{}})
	p.Activate(&pdp.Snapshot{Release: release})
	return p
}

func fullRequest() authz.Request {
	r := request()
	r.Resource.Properties = authz.MustValue(map[string]any{"region": "cn-hangzhou", "size": 4, "tags": []any{"a", "b"}})
	r.Context = authz.MustValue(map[string]any{"source_ip": "10.0.0.1"})
	return r
}

// BenchmarkCore is what the core adds to evaluation.
func BenchmarkCore(b *testing.B) {
	for name, language := range map[string]*constant{
		"allow": ruleOf(pdp.KindAllow, pdp.Text{EN: "Yes.", ZH: "可以。"}),
		"deny":  ruleOf(pdp.KindDeny, pdp.Text{EN: "No size {resource.properties.size}.", ZH: "不允许。"}),
	} {
		b.Run(name, func(b *testing.B) {
			p, req := coreOf(b, language), fullRequest()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Decide(b.Context(), req, pdp.Caller{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRecord is what writing a decision down costs until it is the bytes
// that go to disk.
func BenchmarkRecord(b *testing.B) {
	p, req := coreOf(b, ruleOf(pdp.KindAllow, pdp.Text{EN: "Yes.", ZH: "可以。"})), fullRequest()
	answer, err := p.Ask(b.Context(), req, authz.Freshness{Now: time.Now()})
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		record := answer.Record(pdp.Caller{Name: "service:shop"})
		audit, err := record.Audit()
		if err != nil {
			b.Fatal(err)
		}
		buf = audit.AppendJSON(buf[:0])
	}
}
