package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func auditRecord(id string, kind authz.AuditKind) authz.AuditRecord {
	return authz.AuditRecord{
		ID: id, Time: now, Kind: kind, Tenant: "acme", Actor: "service:web", Subject: "user:li.wei", Action: "ecs.instance.create",
		Resource: "ecs.instance:web", Effect: "ALLOW", Revision: "r1.g2",
		Body: authz.MustValue(map[string]any{"text": "李\u0000\"", "number": 0.1, "list": []any{1, nil, true}}),
	}
}

func ids(records []authz.AuditRecord) (list []string) {
	for _, r := range records {
		list = append(list, r.ID)
	}
	return list
}

func insert(t testing.TB, store Store, records ...authz.AuditRecord) {
	t.Helper()
	if err := store.InsertDecisions(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

func testAudit(t *testing.T, d Driver) {
	store := d.open(t)
	full, bare := auditRecord("02", authz.AuditChange), authz.AuditRecord{ID: "01", Time: now, Kind: authz.AuditAccess}
	update(t, store, func(tx pap.Tx) {
		for _, r := range []authz.AuditRecord{full, bare} {
			if err := tx.Audit(r); err != nil {
				t.Fatal(err)
			}
		}
		is(t, "known id", tx.Audit(full), pap.ErrConflict)
	})
	view(t, store, func(tx pap.Tx) {
		same(t, "all", must[[]authz.AuditRecord](t)(tx.Audits("", 10)), []authz.AuditRecord{bare, full})
		same(t, "first page", must[[]authz.AuditRecord](t)(tx.Audits("", 1)), []authz.AuditRecord{bare})
		same(t, "second page", must[[]authz.AuditRecord](t)(tx.Audits("01", 1)), []authz.AuditRecord{full})
		same(t, "no limit", must[[]authz.AuditRecord](t)(tx.Audits("", 0)), nil)
	})
	same(t, "queried", must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), pap.AuditFilter{}, 10)), []authz.AuditRecord{full, bare})
	same(t, "no decisions", must[[]authz.AuditRecord](t)(store.Decisions(t.Context(), "", 10)), nil)
}

func testDecisions(t *testing.T, d Driver) {
	store := d.open(t)
	a, b, c := auditRecord("01", authz.AuditDecision), auditRecord("02", authz.AuditDecision), auditRecord("03", authz.AuditReported)
	insert(t, store)
	insert(t, store, b, a, a) // twice in one batch
	changed := a
	changed.Effect = "DENY"
	insert(t, store, changed, c, b)
	same(t, "all", must[[]authz.AuditRecord](t)(store.Decisions(t.Context(), "", 10)), []authz.AuditRecord{a, b, c})
	same(t, "by id", ids(must[[]authz.AuditRecord](t)(store.DecisionsByID(t.Context(), []string{"03", "none", "03"}))), []string{"03"})
	same(t, "by no id", must[[]authz.AuditRecord](t)(store.DecisionsByID(t.Context(), nil)), nil)
	same(t, "first page", must[[]authz.AuditRecord](t)(store.Decisions(t.Context(), "", 2)), []authz.AuditRecord{a, b})
	same(t, "second page", must[[]authz.AuditRecord](t)(store.Decisions(t.Context(), "02", 2)), []authz.AuditRecord{c})
	same(t, "no limit", must[[]authz.AuditRecord](t)(store.Decisions(t.Context(), "", 0)), nil)
	view(t, store, func(tx pap.Tx) {
		same(t, "no changes", must[[]authz.AuditRecord](t)(tx.Audits("", 10)), nil)
	})
}

// mixed stores one record in each of eight ways, in turns as a decision and
// as a change, and returns their ids, the newest first.
func mixed(t testing.TB, store Store, edit func(i int, r *authz.AuditRecord)) (list []string) {
	t.Helper()
	for i := range 8 {
		r := auditRecord(fmt.Sprintf("%02d", i), authz.AuditDecision)
		if i%2 == 1 {
			r.Kind = authz.AuditChange
		}
		if edit != nil {
			edit(i, &r)
		}
		if i%2 == 1 {
			update(t, store, func(tx pap.Tx) {
				if err := tx.Audit(r); err != nil {
					t.Fatal(err)
				}
			})
		} else {
			insert(t, store, r)
		}
		list = append([]string{r.ID}, list...)
	}
	return list
}

func testAuditFilter(t *testing.T, d Driver) {
	store := d.open(t)
	mixed(t, store, func(i int, r *authz.AuditRecord) {
		r.Time = now.Add(time.Duration(i) * time.Second)
		switch i / 2 {
		case 0:
			r.Tenant, r.Effect = "globex", "DENY"
		case 1:
			r.Subject, r.Actor = "user:ann", "service:batch"
		case 2:
			r.Action = "rds.instance.create"
		case 3:
			r.Tenant = ""
		}
	})
	for _, row := range []struct {
		name   string
		filter pap.AuditFilter
		want   string
	}{
		{"everything", pap.AuditFilter{}, "07 06 05 04 03 02 01 00"},
		{"any tenant", pap.AuditFilter{Tenant: pap.AnyTenant}, "07 06 05 04 03 02 01 00"},
		{"tenant", pap.AuditFilter{Tenant: "acme"}, "05 04 03 02"},
		{"another tenant", pap.AuditFilter{Tenant: "globex"}, "01 00"},
		{"the platform's own", pap.AuditFilter{Tenant: pap.Platform}, "07 06"},
		{"subject", pap.AuditFilter{Subject: "user:ann"}, "03 02"},
		{"actor", pap.AuditFilter{Actor: "service:batch"}, "03 02"},
		{"action", pap.AuditFilter{Action: "rds.instance.create"}, "05 04"},
		{"effect", pap.AuditFilter{Effect: "DENY"}, "01 00"},
		{"kind", pap.AuditFilter{Kind: authz.AuditChange}, "07 05 03 01"},
		{"from, inclusive", pap.AuditFilter{From: now.Add(6 * time.Second)}, "07 06"},
		{"to, exclusive", pap.AuditFilter{To: now.Add(2 * time.Second)}, "01 00"},
		{"from and to", pap.AuditFilter{From: now.Add(2 * time.Second), To: now.Add(4 * time.Second)}, "03 02"},
		{"before", pap.AuditFilter{Before: "02"}, "01 00"},
		{"all at once", pap.AuditFilter{
			Tenant: "acme", Subject: "user:ann", Actor: "service:batch", Action: "ecs.instance.create", Effect: "ALLOW",
			Kind: authz.AuditDecision, From: now, To: now.Add(time.Minute), Before: "03",
		}, "02"},
		{"nothing matches", pap.AuditFilter{Tenant: "globex", Subject: "user:ann"}, ""},
		{"a quote is no quote", pap.AuditFilter{Subject: "' OR ''='"}, ""},
	} {
		got := must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), row.filter, 10))
		same(t, row.name, strings.Join(ids(got), " "), row.want)
	}
}

func testAuditPaging(t *testing.T, d Driver) {
	store := d.open(t)
	want := mixed(t, store, nil)
	for size := range 9 {
		var got []string
		filter := pap.AuditFilter{}
		for {
			page := must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), filter, size))
			if len(page) == 0 {
				break
			}
			got, filter.Before = append(got, ids(page)...), page[len(page)-1].ID
		}
		if size == 0 {
			same(t, "no limit", got, nil)
			continue
		}
		same(t, fmt.Sprint("pages of ", size), got, want)
	}
	same(t, "negative limit", must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), pap.AuditFilter{}, -1)), nil)
}

func testAuditText(t *testing.T, d Driver) {
	store := d.open(t)
	odd := func(id string) authz.AuditRecord {
		r := auditRecord(id, authz.AuditDecision)
		r.Subject, r.Action, r.Resource = "user:\x00", "a\xffb", strings.Repeat("r", 1<<20)
		return r
	}
	insert(t, store, auditRecord("01", authz.AuditDecision), odd("02"))
	update(t, store, func(tx pap.Tx) {
		if err := tx.Audit(odd("03")); err != nil {
			t.Error(err)
		}
	})
	got := must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), pap.AuditFilter{}, 10))
	same(t, "ids", ids(got), []string{"03", "02", "01"})
	for _, r := range got[:2] {
		same(t, "repaired text", []string{r.Subject, r.Action}, []string{"user:\uFFFD", "a\uFFFDb"})
		same(t, "body", r.Body, auditRecord("", "").Body)
	}
}

func testAuditDepth(t *testing.T, d Driver) {
	store := d.open(t)
	deep := must[authz.Value](t)(authz.Parse([]byte(strings.Repeat(`{"a":`, authz.MaxDepth) + "1" + strings.Repeat("}", authz.MaxDepth))))
	r := auditRecord("01", authz.AuditDecision)
	r.Body = authz.ListValue(authz.ListValue(deep))
	insert(t, store, r)
	same(t, "records", must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), pap.AuditFilter{}, 10)), []authz.AuditRecord{r})
}
