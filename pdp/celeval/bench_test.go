package celeval_test

import (
	"context"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// BenchmarkConditions is five conditions of a document, of which none loops, or
// one does.
func BenchmarkConditions(b *testing.B) {
	const plain = `{"id":"a","effect":"DENY","condition":"action == 'vm.stop'"},{"id":"b","effect":"DENY","condition":"resource.properties.cpu > 8"},
{"id":"c","effect":"DENY","condition":"!(resource.properties.region in ['cn-hangzhou', 'cn-shanghai'])"},{"id":"d","effect":"ALLOW","condition":"subject.type == 'user' && 'engineer' in subject.properties.roles"}`
	for name, text := range map[string]string{
		"plain": plain + `,{"id":"e","effect":"DENY","condition":"now < timestamp('2020-01-01T00:00:00Z')"}`,
		"loop":  plain + `,{"id":"e","effect":"DENY","condition":"resource.properties.ports.exists(p, p == 22)"}`,
	} {
		b.Run(name, func(b *testing.B) {
			program := compile(b, rules(text))
			req := &authz.Request{
				Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei", Properties: authz.MustValue(map[string]any{"roles": []string{"engineer"}})},
				Action: authz.Action{Name: "vm.create"},
				Resource: authz.Entity{Type: "vm", ID: "web", Properties: authz.MustValue(map[string]any{
					"cpu": 4, "region": "cn-hangzhou", "ports": []any{443, 8080}})},
			}
			in := &pdp.Input{Request: req, Value: req.Value(), Now: time.Unix(1_800_000_000, 0)}
			ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
			defer cancel()
			var out []pdp.Outcome
			b.ReportAllocs()
			for b.Loop() {
				out = program.Evaluate(ctx, in, program.Policies(), out[:0])
			}
			if len(out) != 1 || out[0].Err != nil || len(out[0].Findings) != 1 {
				b.Fatalf("%+v", out)
			}
		})
	}
}
