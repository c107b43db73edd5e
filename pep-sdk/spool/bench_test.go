package spool

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// decision is a record of the usual size, about 1 KiB.
func decision(id string) *authz.AuditRecord {
	body := authz.MustValue(map[string]any{
		"request": map[string]any{
			"tenant": "acme", "subject": map[string]any{"type": "user", "id": "li.wei"}, "action": map[string]any{"name": "ecs.instance.create"},
			"resource": map[string]any{"type": "ecs.instance", "id": "req-42/web", "properties": map[string]any{
				"cpu": 2, "memory_gib": 4, "region": "cn-hangzhou", "ingress": []any{map[string]any{"port": 443, "cidrs": []any{"203.0.113.0/24"}}},
				"tags": map[string]any{"itsm:owner": "li.wei", "itsm:cost_center": "42"},
			}},
		},
		"decision": map[string]any{"effect": "REVIEW", "reasons": []any{map[string]any{"policy": "platform/network", "rule": "r", "message": strings.Repeat("m", 300)}}},
	})
	return &authz.AuditRecord{
		ID: id, Time: time.Now(), Kind: authz.AuditDecision, Tenant: "acme", Actor: "service:web", Subject: "user:li.wei",
		Action: "ecs.instance.create", Resource: "ecs.instance:req-42/web", Effect: "REVIEW", Revision: "r42.g7", Body: body,
	}
}

// BenchmarkAppend measures the caller's side, with the records going to a real
// disk and a sink that takes them at once.
func BenchmarkAppend(b *testing.B) {
	for name, strict := range map[string]bool{"strict": true, "buffered": false} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(b.TempDir(), Options{BufferBytes: 1 << 30, MaxBytes: 1 << 40}, func(context.Context, []authz.AuditRecord) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
			var next atomic.Int64
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := *decision("")
				for pb.Next() {
					r.ID = fmt.Sprintf("01K%023d", next.Add(1))
					if err := s.Append(b.Context(), &r, strict); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.StopTimer()
			if err := s.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
