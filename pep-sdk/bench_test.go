package pep

import (
	"context"
	"testing"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// BenchmarkDecide shows what the PEP adds to its engine's own time: freshness,
// the record, metrics and the span.
func BenchmarkDecide(b *testing.B) {
	n := startNode(b, "acme")
	n.publish("allow order.create")
	config := n.config(b.TempDir())
	config.SpoolMaxBytes = 1 << 40
	p := start(b, config)
	ready(b, p)
	ctx, req := context.Background(), request("order.create")
	b.Run("engine", func(b *testing.B) {
		b.ReportAllocs()
		f := authz.Freshness{Now: noon, StaleBound: stream.SilentAfter}
		for b.Loop() {
			out, err := config.Engine.Decide(ctx, req, f)
			if err == nil {
				_, _, err = out.Record("pep:shop-1")
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("pep", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if a, err := p.Decide(ctx, req); err != nil || !a.Allowed() {
				b.Fatal(a, err)
			}
		}
	})
}
