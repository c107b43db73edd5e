package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// decided are records of one bucket.
func decided(from, to int) (list []authz.AuditRecord) {
	for n := from; n < to; n++ {
		list = append(list, authz.AuditRecord{ID: decidedID(n), Time: time.UnixMicro(int64(n)).UTC(), Kind: authz.AuditDecision, Tenant: fmt.Sprint("t", n%10)})
	}
	return list
}

func decidedID(n int) string { return fmt.Sprintf("01KAUDT%019d", n) }

func insert(t *testing.T, store *Store, records []authz.AuditRecord) {
	t.Helper()
	if err := store.InsertDecisions(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

func TestManyDecisionsTakeFewRows(t *testing.T) {
	otherBucket := decided(0, 10)
	for i := range otherBucket {
		otherBucket[i].ID = "02" + otherBucket[i].ID[2:]
	}
	large := decided(0, 100)
	for i := range large {
		large[i].BodyJSON = fmt.Appendf(nil, `"%0*d"`, blockBytes/25, i)
	}
	for name, row := range map[string]struct {
		batches      [][]authz.AuditRecord
		blocks, rows int
	}{
		"few":                   {[][]authz.AuditRecord{decided(0, blockLeast-1)}, 0, blockLeast - 1},
		"enough":                {[][]authz.AuditRecord{decided(0, blockLeast)}, 1, 0},
		"one more than a block": {[][]authz.AuditRecord{decided(0, blockMost+1)}, 2, 0},
		"a full batch":          {[][]authz.AuditRecord{decided(0, 2000)}, 4, 0},
		"again":                 {[][]authz.AuditRecord{decided(0, 2000), decided(0, 2000), decided(5, 9)}, 4, 0},
		"most are stored":       {[][]authz.AuditRecord{decided(0, 100), decided(0, 110)}, 1, 10},
		"most have rows":        {[][]authz.AuditRecord{decided(0, 50), decided(0, 100)}, 0, 100},
		"two times":             {[][]authz.AuditRecord{append(decided(0, 100), otherBucket...)}, 1, 10},
		"large ones":            {[][]authz.AuditRecord{large}, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t, t.TempDir(), Options{})
			for _, batch := range row.batches {
				insert(t, store, batch)
			}
			var blocks, rows int
			err := store.decisions.read.QueryRow("SELECT (SELECT count(*) FROM blocks), (SELECT count(*) FROM audit)").Scan(&blocks, &rows)
			if err != nil || blocks != row.blocks || rows != row.rows {
				t.Errorf("%d blocks and %d rows, %v; want %d and %d", blocks, rows, err, row.blocks, row.rows)
			}
		})
	}
}

func TestQueryPassesOverBlocksThatCannotMatch(t *testing.T) {
	store := open(t, t.TempDir(), Options{})
	insert(t, store, decided(0, 100))
	if _, err := store.decisions.write.Exec("UPDATE blocks SET data = x''"); err != nil { // which no query can read
		t.Fatal(err)
	}
	for name, filter := range map[string]pap.AuditFilter{
		"tenant": {Tenant: "t10"}, "platform": {Tenant: pap.Platform}, "subject": {Subject: "user:a"}, "kind": {Kind: authz.AuditChange},
		"from": {From: time.UnixMicro(100)}, "to": {To: time.UnixMicro(0)}, "before": {Before: decidedID(0)},
	} {
		if _, err := store.QueryAudit(t.Context(), filter, 10); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := store.QueryAudit(t.Context(), pap.AuditFilter{Tenant: "t9"}, 10); !errors.Is(err, errDamaged) {
		t.Errorf("a tenant that it names: %v", err)
	}
	if _, err := store.Decisions(t.Context(), decidedID(99), 10); err != nil {
		t.Errorf("after: %v", err)
	}
	if _, err := store.DecisionsByID(t.Context(), []string{decidedID(100), decidedID(5) + "x", "a"}); err != nil {
		t.Errorf("by id: %v", err)
	}
}

func TestDamagedBlockIsNotPassedOver(t *testing.T) {
	for _, column := range []string{"data", "names", "ids"} {
		t.Run(column, func(t *testing.T) {
			store := open(t, t.TempDir(), Options{})
			insert(t, store, decided(0, 100))
			var blob []byte
			if err := store.decisions.write.QueryRow("SELECT " + column + " FROM blocks").Scan(&blob); err != nil {
				t.Fatal(err)
			}
			for at := range blob {
				damaged := bytes.Clone(blob)
				damaged[at] ^= 1
				if _, whole := unsealed(damaged); whole {
					t.Fatalf("byte %d may be damaged unseen", at)
				}
			}
			if _, err := store.decisions.write.Exec("UPDATE blocks SET "+column+" = ?", append([]byte{blob[0] ^ 1}, blob[1:]...)); err != nil {
				t.Fatal(err)
			}
			_, listing := store.Decisions(t.Context(), "", 10)
			_, querying := store.QueryAudit(t.Context(), pap.AuditFilter{Tenant: "t1"}, 10)
			found, finding := store.DecisionsByID(t.Context(), []string{decidedID(7)})
			want := map[string]bool{"data": true, "names": true}[column]
			if errors.Is(listing, errDamaged) != want || errors.Is(querying, errDamaged) != want || errors.Is(finding, errDamaged) != (column == "data") {
				t.Errorf("%v, %v, %v", listing, querying, finding)
			}
			if finding == nil && len(found) != 1 {
				t.Errorf("%d found by id", len(found))
			}
			insert(t, store, decided(0, 10)) // what comes must not wait for ever
			var rows int
			if err := store.decisions.read.QueryRow("SELECT count(*) FROM audit").Scan(&rows); err != nil || rows != map[string]int{"data": 10}[column] {
				t.Errorf("%d records are stored again, %v", rows, err)
			}
		})
	}
}

func FuzzBlock(f *testing.F) {
	var made room
	newBlock(made.firstOfEach(decided(0, 3)), 3, &made)
	f.Add(made.raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := block{data: sealed(s2.Encode(nil, raw))}
		records := 0
		err := b.each(func(r *rawRecord) bool {
			_ = r.record()
			records++
			return true
		})
		if err == nil && records > len(raw) {
			t.Errorf("%d records of %d bytes", records, len(raw))
		}
	})
}

// BenchmarkInsertDecisions stores what a server under load ships at once:
// records of about 1 KiB, nearly in order of their ids.
func BenchmarkInsertDecisions(b *testing.B) {
	const shipped = 4000
	store, err := Open(b.Context(), b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	batch := make([]authz.AuditRecord, shipped)
	for n := range batch {
		batch[n] = authz.AuditRecord{
			Kind: authz.AuditDecision, Tenant: fmt.Sprint("tenant-", n%20), Actor: fmt.Sprint("service:shop-", n%7), Subject: fmt.Sprint("user:employee-", n),
			Action: "ecs.instance.create", Resource: fmt.Sprint("ecs.instance:request-", n), Effect: "DENY", Revision: "r42.g1007",
		}
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += shipped {
		b.StopTimer()
		some := batch[:min(shipped, b.N-n)]
		for i := range some {
			r := &some[i]
			at := n + i ^ 1
			r.ID, r.Time = fmt.Sprintf("01K%07d%08x%08x", at/shipped/20, at, uint32(at)*2654435761), time.UnixMicro(int64(at)*50)
			r.BodyJSON = fmt.Appendf(r.BodyJSON[:0], `{"request":{"tenant":%q,"subject":{"type":"user","id":"employee-%d","properties":{"department":"logistics","level":%d}},`+
				`"action":{"name":"ecs.instance.create"},"resource":{"type":"ecs.instance","id":"request-%d","properties":{"cpu":%d,"memory_gib":16,"region":"cn-hangzhou",`+
				`"image":"ubuntu-24.04","ingress":[{"port":443,"cidrs":["203.0.113.0/24"]}],"tags":{"itsm:owner":"li.wei","itsm:cost_center":"%d"}}},"context":{"source_ip":"10.0.%d.1"}},`+
				`"decision":{"decision_id":%q,"effect":"DENY","revision":"r42.g1007","reasons":[{"policy":"platform/network","rule":"no-open-ingress","path":"/resource/properties/ingress/0",`+
				`"message":"Ingress from 203.0.113.0/24 is open to the internet.","message_zh":"入方向对公网开放。"}]}}`, r.Tenant, i, i%9, i, i%64, i, i%250, r.ID)
		}
		b.StartTimer()
		if err := store.InsertDecisions(b.Context(), some); err != nil {
			b.Fatal(err)
		}
	}
}
