package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"pgregory.net/rapid"
)

// bulk is decision records as a busy spool ships them: with ids of one time and
// the numbers from one to another, each step. What they say differs by number,
// and by the batch that says it.
func bulk(second rune, from, to, step int, batch string) (list []authz.AuditRecord) {
	for n := from; n < to; n += step {
		r := auditRecord(bulkID(second, n), authz.AuditDecision)
		r.Time = now.Add(time.Duration(n*7%50) * time.Second)
		r.Tenant = []string{"acme", "globex", ""}[n%3]
		r.Subject = fmt.Sprint("user:", n%40)
		r.Actor = []string{"service:web", "service:batch"}[n%2]
		r.Action = []string{"ecs.instance.create", "rds.instance.create"}[n/2%2]
		r.Effect = []string{"ALLOW", "DENY", "REVIEW"}[n/3%3]
		r.Body = authz.MustValue(map[string]any{"number": n, "batch": batch})
		list = append(list, r)
	}
	return list
}

// bulkID is like a ULID.
func bulkID(second rune, n int) string { return fmt.Sprintf("01KAUD%c%019d", second, n) }

// agrees compares all decisions, and pages of them in both directions, with the
// model.
func agrees(t testing.TB, store Store, m *model, size int) {
	t.Helper()
	var got []authz.AuditRecord
	for after := ""; ; after = got[len(got)-1].ID {
		page := must[[]authz.AuditRecord](t)(store.Decisions(t.Context(), after, size))
		got = append(got, page...)
		if len(page) < size {
			break
		}
	}
	want := m.listDecisions("", len(m.decisions)+1)
	same(t, "decisions, the oldest first", got, want)

	got = nil
	for f := (pap.AuditFilter{}); ; f.Before = got[len(got)-1].ID {
		page := must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), f, size))
		got = append(got, page...)
		if len(page) < size {
			break
		}
	}
	slices.Reverse(want)
	same(t, "audit, the newest first", got, want)
}

func testBulk(t *testing.T, d Driver) {
	store, m := d.open(t), newModel()
	all := bulk('A', 0, 3000, 1, "first")
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i := range 20 {
		again := all[i]
		again.Effect = "again"
		all = append(all, again)
	}
	for _, batch := range [][]authz.AuditRecord{all[:2000], all[2000:]} {
		insert(t, store, batch...)
		m.insertDecisions(batch)
	}
	agrees(t, store, m, 457)
	wanted := []string{bulkID('A', 0), bulkID('A', 2999), bulkID('A', 3000), "none", bulkID('A', 1234), bulkID('A', 0)}
	found := ids(must[[]authz.AuditRecord](t)(store.DecisionsByID(t.Context(), wanted)))
	slices.Sort(found)
	same(t, "by id", found, []string{bulkID('A', 0), bulkID('A', 1234), bulkID('A', 2999)})
}

func testBulkAgain(t *testing.T, d Driver) {
	store, m := d.open(t), newModel()
	for _, batch := range [][]authz.AuditRecord{
		bulk('A', 0, 500, 1, "first"),
		bulk('A', 0, 500, 1, "whole again"),
		bulk('A', 200, 400, 1, "part again"),
		bulk('A', 300, 305, 1, "few of it again"),
		bulk('A', 490, 900, 1, "begins again"),
		bulk('A', 1000, 1010, 1, "few"),
		bulk('A', 950, 1200, 1, "few of them again"),
		bulk('A', 0, 1300, 7, "some of all again"),
		bulk('A', 1290, 1350, 1, "few, some again"),
	} {
		insert(t, store, batch...)
		m.insertDecisions(batch)
	}
	agrees(t, store, m, 333)
}

func testBulkOverlaps(t *testing.T, d Driver) {
	store, m := d.open(t), newModel()
	for _, batch := range [][]authz.AuditRecord{
		bulk('B', 0, 900, 3, "every third"),
		bulk('B', 1, 900, 3, "those behind them"),
		bulk('B', 2, 900, 90, "few between"),
		bulk('B', 5, 900, 9, "more between"),
		bulk('A', 0, 200, 1, "before all, and late"),
		append(bulk('A', 150, 300, 1, "of two times"), bulk('C', 0, 150, 1, "of two times")...),
		bulk('D', 0, 3, 1, "few"),
	} {
		insert(t, store, batch...)
		m.insertDecisions(batch)
	}
	changes := bulk('B', 3, 800, 200, "changes")
	for i := range changes {
		changes[i].ID += "c"
		changes[i].Kind = authz.AuditChange
	}
	update(t, store, func(tx pap.Tx) {
		for _, r := range changes {
			if err := tx.Audit(r); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, r := range changes {
		m.audits[r.ID] = r
	}
	for _, f := range []pap.AuditFilter{{}, {Tenant: "acme"}, {Effect: "DENY", Actor: "service:web"}, {Before: bulkID('B', 500)}, {From: now.Add(10 * time.Second), To: now.Add(30 * time.Second)}} {
		for _, limit := range []int{1, 10, 400} {
			got := must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), f, limit))
			same(t, fmt.Sprintf("%d of %+v", limit, f), got, m.queryAudit(f, limit))
		}
	}
}

func testBulkLarge(t *testing.T, d Driver) {
	store, m := d.open(t), newModel()
	batch := bulk('A', 0, 150, 1, "first")
	random := rand.New(rand.NewPCG(1, 2))
	for i := range batch {
		size := 10
		if i%10 == 0 {
			size = 100 << 10
		}
		noise := make([]byte, size)
		for i := range noise {
			noise[i] = 'a' + byte(random.IntN(26))
		}
		batch[i].Body = authz.MustValue(map[string]any{"noise": string(noise)})
	}
	batch[70].Body = authz.MustValue(map[string]any{"noise": strings.Repeat("x", 2<<20)})
	batch[71].Subject, batch[71].Action = "user:\x00", "a\xffb"
	batch[72].Body = authz.Value{}
	insert(t, store, batch...)
	batch[71] = pap.RepairAudit(batch[71])
	m.insertDecisions(batch)
	agrees(t, store, m, 40)
}

// testConcurrentBulk has two processes ship the same decisions.
func testConcurrentBulk(t *testing.T, d Driver) {
	location := d.New(t)
	handles := []Store{d.handle(t, location), d.handle(t, location)}
	var writing sync.WaitGroup
	for i, store := range handles {
		writing.Go(func() {
			for from := 0; from < 1000; from += 200 {
				if err := store.InsertDecisions(t.Context(), bulk('A', from, from+300, 1, fmt.Sprint("of ", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	got := ids(must[[]authz.AuditRecord](t)(handles[0].Decisions(t.Context(), "", 10_000)))
	same(t, "ids", got, ids(bulk('A', 0, 1100, 1, "")))
}

// testBulkModel draws batches that become blocks, rows or both, and compares
// what queries find with the plain model.
func testBulkModel(t *testing.T, d Driver) {
	rapid.Check(t, func(rt *rapid.T) {
		store, err := d.Open(t.Context(), d.New(t))
		if err != nil {
			rt.Fatal(err)
		}
		defer store.Close()
		m, g := newModel(), draw{rt}
		for i := range rapid.IntRange(1, 5).Draw(rt, "batches") {
			batch := g.bulk(fmt.Sprint(i))
			if err := store.InsertDecisions(t.Context(), batch); err != nil {
				rt.Fatal(err)
			}
			m.insertDecisions(batch)
		}
		for range rapid.IntRange(1, 6).Draw(rt, "queries") {
			limit := rapid.SampledFrom([]int{0, 1, 2, 50, 1000}).Draw(rt, "limit")
			f := g.bulkFilter()
			if g, w := observe(store.QueryAudit(t.Context(), f, limit)), observe(m.queryAudit(f, limit), nil); g != w {
				rt.Fatalf("%d of %+v:\nstore %.2000s\nmodel %.2000s", limit, f, g, w)
			}
			after := g.bulkID()
			if g, w := observe(store.Decisions(t.Context(), after, limit)), observe(m.listDecisions(after, limit), nil); g != w {
				rt.Fatalf("%d after %q:\nstore %.2000s\nmodel %.2000s", limit, after, g, w)
			}
			wanted := []string{g.bulkID(), g.bulkID(), g.bulkID()}
			found, err := store.DecisionsByID(t.Context(), wanted)
			if g, w := observe(byID(found), err), observe(m.decisionsByID(wanted), nil); g != w {
				rt.Fatalf("%q:\nstore %s\nmodel %s", wanted, g, w)
			}
		}
	})
}

func byID(records []authz.AuditRecord) []authz.AuditRecord {
	slices.SortFunc(records, compareAudits)
	return records
}

func (m *model) decisionsByID(ids []string) (found []authz.AuditRecord) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if r, known := m.decisions[id]; known {
			found = append(found, r)
		}
	}
	return found
}

func (d draw) second() rune { return rapid.SampledFrom([]rune("AB")).Draw(d.T, "second") }
func (d draw) bulkNumber() int {
	return rapid.IntRange(0, 300).Draw(d.T, "bulk number")
}
func (d draw) bulkID() string { return bulkID(d.second(), d.bulkNumber()) }

// bulk draws a batch, in some order, with or without repeats.
func (d draw) bulk(name string) []authz.AuditRecord {
	from, count, step := d.bulkNumber(), rapid.SampledFrom([]int{0, 1, 63, 64, 65, 200}).Draw(d.T, "count"), rapid.IntRange(1, 3).Draw(d.T, "step")
	batch := bulk(d.second(), from, from+count*step, step, name)
	if d.yes() {
		batch = append(batch, bulk(d.second(), 0, d.bulkNumber(), 1, name+" more")...)
	}
	if d.yes() {
		slices.Reverse(batch)
	}
	return batch
}

// bulkFilter draws a filter of which each field is set now and then.
func (d draw) bulkFilter() (f pap.AuditFilter) {
	one := func(name string, texts ...string) string {
		return rapid.SampledFrom(append(make([]string, 4), texts...)).Draw(d.T, name)
	}
	f.Tenant = one("tenant", "acme", "globex", pap.AnyTenant, pap.Platform, "none")
	f.Subject = one("subject", "user:7", "user:39", "none")
	f.Actor = one("actor", "service:web", "none")
	f.Action = one("action", "ecs.instance.create", "none")
	f.Effect = one("effect", "ALLOW", "none")
	f.Kind = authz.AuditKind(one("kind", string(authz.AuditDecision), string(authz.AuditChange)))
	if d.yes() {
		f.Before = d.bulkID()
	}
	if d.yes() {
		f.From = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(d.T, "from")) * time.Second)
	}
	if d.yes() {
		f.To = now.Add(time.Duration(rapid.IntRange(-1, 60).Draw(d.T, "to")) * time.Second)
	}
	return f
}
