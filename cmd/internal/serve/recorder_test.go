package serve

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool"
)

// decided is a decision of the usual size: its record has about 1 KiB.
func decided(b testing.TB, i int) *pdp.Record {
	value := func(text string, args ...any) authz.Value {
		v, err := authz.Parse(fmt.Appendf(nil, text, args...))
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
	return &pdp.Record{
		Caller: pdp.Caller{Name: fmt.Sprint("service:shop-", i%7)},
		Request: authz.Request{
			Tenant:  fmt.Sprint("tenant-", i%20),
			Subject: authz.Entity{Type: "user", ID: fmt.Sprint("employee-", i), Properties: value(`{"department":"logistics","level":%d}`, i%9)},
			Action:  authz.Action{Name: "ecs.instance.create"},
			Resource: authz.Entity{Type: "ecs.instance", ID: fmt.Sprintf("request-%d/web", i), Properties: value(
				`{"cpu":%d,"memory_gib":16,"region":"cn-hangzhou","image":"ubuntu-24.04","ingress":[{"port":443,"cidrs":["203.0.113.0/24"]}],"tags":{"itsm:owner":"li.wei","itsm:cost_center":"%d"}}`, i%64, i)},
			Context: value(`{"source_ip":"10.0.%d.1"}`, i%250),
		},
		Decision: &authz.Decision{
			Effect: authz.Deny, Revision: authz.Revision{Release: 42, Position: 1007},
			Reasons: []authz.Reason{{
				Effect: authz.Deny, Policy: "platform/network", Rule: "no-open-ingress", Path: "/resource/properties/ingress/0",
				Message: "Ingress from 203.0.113.0/24 is open to the internet.", MessageZH: "入方向对公网开放。",
			}},
		},
	}
}

func TestDecisionsRecordedAtOnceKeepTheirBodies(t *testing.T) {
	var kept []authz.AuditRecord
	records, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Options{}, func(_ context.Context, some []authz.AuditRecord) error {
		for _, r := range some {
			r.BodyJSON = bytes.Clone(r.BodyJSON)
			kept = append(kept, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var recording sync.WaitGroup
	for g := range 4 {
		recording.Go(func() {
			for i := g; i < 400; i += 4 {
				d := decided(t, i)
				d.Decision.ID = fmt.Sprint("decision-", i)
				if err := (recorder{records}).Record(t.Context(), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	recording.Wait()
	if err := records.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range kept {
		body, err := authz.ParseAuditBody(r.BodyJSON)
		if err != nil {
			t.Fatal(err)
		}
		if id, _ := body.Lookup("/decision/decision_id"); id.Text() != r.ID {
			t.Errorf("%s has the body of %s", r.ID, id.Text())
		}
	}
	if len(kept) != 400 {
		t.Errorf("%d records", len(kept))
	}
}

// At most so many decisions a second are recorded: a server under load, and not
// a spool that runs full.
const (
	paceRecords = 250
	pace        = 20 * time.Millisecond
)

// BenchmarkRecorded is what a decision costs from its record to the database,
// in time of all processors.
func BenchmarkRecorded(b *testing.B) {
	store, err := sqlite.Open(b.Context(), b.TempDir(), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	records, err := spool.Open(filepath.Join(b.TempDir(), "spool"), spool.Options{}, store.InsertDecisions)
	if err != nil {
		b.Fatal(err)
	}
	r := recorder{records}
	some := make([]*pdp.Record, 1000)
	for i := range some {
		some[i] = decided(b, i)
	}
	id := newID()
	ticks := time.NewTicker(pace)
	defer ticks.Stop()
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	for i := range b.N {
		if i%paceRecords == 0 {
			<-ticks.C
		}
		d := some[i%len(some)]
		d.Time, d.Decision.ID = time.Now(), fmt.Sprintf("%s%016d", id[:10], i)
		if err := r.Record(b.Context(), d); err != nil {
			b.Fatal(err)
		}
	}
	if err := records.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	if lost := records.Stats().Lost; lost > 0 {
		b.Errorf("%d records are lost", lost)
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/record")
	if err := records.Close(context.WithoutCancel(b.Context())); err != nil {
		b.Fatal(err)
	}
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
