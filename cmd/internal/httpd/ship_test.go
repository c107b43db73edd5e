package httpd

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func decided(tenant, id string, at time.Time) authz.AuditRecord {
	return authz.AuditRecord{
		ID: id, Time: at, Kind: authz.AuditDecision, Tenant: tenant, Actor: "user:somebody.else", Subject: "user:li", Action: "ecs.instance.create",
		Resource: "ecs.instance:web", Effect: "ALLOW", Revision: "r1.g2", Body: authz.MustValue(map[string]any{"request": map[string]any{"tenant": tenant}}),
	}
}

func (s *site) ship(actor pap.Actor, records ...authz.AuditRecord) pap.Shipped {
	s.t.Helper()
	shipped, err := s.nodes[0].ShipDecisions(s.t.Context(), actor, records)
	s.must(err)
	return shipped
}

func (s *site) decisions() map[string]authz.AuditRecord {
	s.t.Helper()
	list, err := s.store.Decisions(s.t.Context(), "", 1000)
	s.must(err)
	byID := map[string]authz.AuditRecord{}
	for _, r := range list {
		byID[r.ID] = r
	}
	return byID
}

func TestShippedDecisionsAreTheCallersAndStoredOnce(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		shop := tenantActor("acme", "service:shop")
		a, b := decided("acme", newTestID(), s.now()), decided("acme", newTestID(), s.now())
		for i, want := range []pap.Shipped{{Accepted: 2, Duplicates: 1}, {Duplicates: 3}, {Accepted: 1, Duplicates: 1}} {
			batch := []authz.AuditRecord{a, b, a}
			if i == 2 {
				batch = []authz.AuditRecord{b, decided("acme", newTestID(), s.now())}
			}
			if got := s.ship(shop, batch...); got.Accepted != want.Accepted || got.Duplicates != want.Duplicates || len(got.Refused) > 0 {
				t.Errorf("batch %d: %+v, want %+v", i, got, want)
			}
		}
		stored := s.decisions()
		if len(stored) != 3 {
			t.Errorf("%d records", len(stored))
		}
		by, _ := stored[a.ID].Body.Get("shipped")
		if got := string(by.AppendJSON(nil)); stored[a.ID].Actor != "service:shop" || got != `{"by":"service:shop","tenant":"acme"}` {
			t.Errorf("actor %s, shipped %s", stored[a.ID].Actor, got)
		}
	})
}

func TestNobodyLearnsOrTakesAnothersRecordByItsID(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		shop, thief := tenantActor("acme", "service:shop"), tenantActor("globex", "service:shop") // of the same name
		theirs := decided("acme", newTestID(), s.now())
		s.ship(shop, theirs)
		server := decided("acme", newTestID(), s.now()) // one that the server made itself
		server.Actor = "service:shop"
		s.must(s.store.InsertDecisions(t.Context(), []authz.AuditRecord{server}))
		before := s.decisions()

		own := decided("globex", theirs.ID, s.now())
		fresh := decided("globex", newTestID(), s.now())
		for i, want := range []pap.Shipped{{Accepted: 2}, {Duplicates: 2}} {
			if got := s.ship(thief, own, fresh); got.Accepted != want.Accepted || got.Duplicates != want.Duplicates {
				t.Errorf("%d: the answers differ by whether the id was taken: %+v", i, got)
			}
		}
		if got := s.ship(shop, decided("acme", server.ID, s.now())); got.Accepted != 1 {
			t.Errorf("an id of the server's: %+v", got)
		}
		after := s.decisions()
		for id, r := range before {
			if kept := after[id]; kept.Actor != r.Actor || kept.Tenant != r.Tenant || !kept.Body.Equal(r.Body) {
				t.Errorf("%s was overwritten", id)
			}
		}
		if len(after) != len(before)+3 {
			t.Errorf("%d records more, want 3: nobody's decision may get lost", len(after)-len(before))
		}
		found := false
		for id, r := range after {
			if was, moved := r.Body.Get("id"); moved && was.Equal(authz.StringValue(own.ID)) {
				found = found || r.Tenant == "globex" && id[:10] == own.ID[:10]
				if _, err := ulid.ParseStrict(id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
		}
		if !found {
			t.Error("the second record of one id is not stored")
		}
	})
}

func TestNobodyIsFirstWithAnIDThatAnotherRecordWillHave(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		shop, thief := tenantActor("acme", "service:shop"), tenantActor("globex", "service:shop")
		// The server has answered with this id, and has not stored its record yet.
		server := decided("acme", pap.ReserveID(newTestID()), s.now())
		for i, want := range []pap.Shipped{{Accepted: 1}, {Duplicates: 1}} {
			forged := decided("acme", server.ID, s.now())
			forged.Effect = "DENY"
			if got := s.ship(shop, forged); got.Accepted != want.Accepted || got.Duplicates != want.Duplicates || len(got.Refused) > 0 {
				t.Errorf("%d: %+v, want %+v", i, got, want)
			}
		}
		s.must(s.store.InsertDecisions(t.Context(), []authz.AuditRecord{server}))
		if kept := s.decisions()[server.ID]; kept.Actor != server.Actor || kept.Effect != "ALLOW" {
			t.Errorf("instead of the server's record: %+v", kept)
		}
		// What the shop's record is moved to is reserved too.
		theirs := decided("acme", newTestID(), s.now())
		s.ship(thief, decided("globex", theirs.ID, s.now()))
		s.ship(shop, theirs)
		for id, r := range s.decisions() {
			if _, moved := r.Body.Get("id"); moved && !pap.IsReservedID(id) {
				t.Errorf("%s is stored where another could have been first", id)
			}
		}
	})
}

func TestRecordsThatCannotBeTakenAreRefusedAlone(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		shop := tenantActor("acme", "service:shop")
		change := func(edit func(r *authz.AuditRecord)) authz.AuditRecord {
			r := decided("acme", newTestID(), s.now())
			edit(&r)
			return r
		}
		future := s.now().Add(time.Hour)
		for name, bad := range map[string]authz.AuditRecord{
			"not a ULID":       change(func(r *authz.AuditRecord) { r.ID = "1" }),
			"in small letters": change(func(r *authz.AuditRecord) { r.ID = strings.ToLower(r.ID) }),
			"a ULID too large": change(func(r *authz.AuditRecord) { r.ID = "8" + r.ID[1:] }),
			"an id of tomorrow": change(func(r *authz.AuditRecord) {
				r.ID = ulid.MustNew(ulid.Timestamp(future), ulid.DefaultEntropy()).String()
			}),
			"a time of tomorrow": change(func(r *authz.AuditRecord) { r.Time = future }),
			"no time":            change(func(r *authz.AuditRecord) { r.Time = time.Time{} }),
			"a change":           change(func(r *authz.AuditRecord) { r.Kind = authz.AuditChange }),
			"no effect":          change(func(r *authz.AuditRecord) { r.Effect = "" }),
			"no body":            change(func(r *authz.AuditRecord) { r.Body = authz.Value{} }),
			"another's tenant":   change(func(r *authz.AuditRecord) { r.Tenant = "globex" }),
			"the platform":       change(func(r *authz.AuditRecord) { r.Tenant = "" }),
			"no tenant's name":   change(func(r *authz.AuditRecord) { r.Tenant = "a/b" }),
		} {
			got := s.ship(shop, decided("acme", newTestID(), s.now()), bad)
			if got.Accepted != 1 || len(got.Refused) != 1 || got.Refused[0].ID != bad.ID || got.Refused[0].Reason == "" {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if _, err := s.nodes[0].ShipDecisions(t.Context(), shop, []authz.AuditRecord{decided("globex", newTestID(), s.now())}); !errors.Is(err, pap.ErrForbidden) {
			t.Errorf("a caller without any right: %v", err)
		}
	})
}

func TestShippingOverHTTP(t *testing.T) {
	r := newRig(t, testPolicies())
	record := func(tenant string) string {
		d := decided(tenant, newTestID(), time.Now())
		return string(d.AppendJSON(nil))
	}
	const path = "/api/v1/audit/decisions"
	good := `{"records":[` + record("acme") + `,{"id":"01KAAAAAAAAAAAAAAAAAAAAAAA","time":"yesterday"},` + record("acme") + `,` + record("globex") + `]}`
	for _, accepted := range []float64{2, 0} {
		g := r.do(ask{as: "pep", path: path, body: good})
		if g.status != 200 || g.at("/accepted") != accepted || g.at("/duplicates") != 2-accepted || g.at("/refused/1/id") != "01KAAAAAAAAAAAAAAAAAAAAAAA" {
			t.Errorf("%d %s", g.status, g.text)
		}
	}
	if g := r.do(ask{as: "auditor", path: "/api/v1/audit?tenant=acme&kind=decision&actor=service:gateway"}); len(g.json["items"].([]any)) != 2 {
		t.Errorf("what auditors read: %s", g.text)
	}
	large := strings.Repeat(" ", 5<<20) + `{"records":[` + record("acme") + `]}`
	for _, row := range []struct {
		name, as, body string
		status         int
	}{
		{"who may not", "author", `{"records":[` + record("acme") + `]}`, 403},
		{"who may not, with nothing that can be read", "author", `{"records":[{}]}`, 403},
		{"no records", "pep", `{"records":[]}`, 400}, {"too many", "pep", `{"records":[` + strings.Repeat(`{},`, 2000) + `{}]}`, 400},
		{"another member", "pep", `{"records":[{}],"all":true}`, 400}, {"no list", "pep", `{"records":{}}`, 400}, {"half", "pep", `{"records":[`, 400},
		{"a member twice", "pep", `{"records":[{}],"records":[{}]}`, 400},
		{"a large batch", "pep", large, 200},
	} {
		if g := r.do(ask{as: row.as, path: path, body: row.body}); g.status != row.status {
			t.Errorf("%s: %d %.300s", row.name, g.status, g.text)
		}
	}
}
