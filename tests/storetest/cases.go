package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// rows are a transaction's cases.
func rows(t testing.TB, tx pap.Tx) cheq.Rows {
	t.Helper()
	r, ok := tx.(cheq.Rows)
	if !ok {
		t.Fatalf("%T keeps no cases", tx)
	}
	return r
}

var me, you = cheq.Person{Tenant: "acme", Name: "user:me"}, cheq.Person{Name: "user:you"}

func sampleCase(n int) cheq.Case {
	return cheq.Case{
		ID: fmt.Sprintf("cheq-%03d", n), Tenant: "acme", State: cheq.Pending, Requester: me, Caller: cheq.Person{Tenant: "acme", Name: "service:shop"}, Reason: "为了发布",
		Request: authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "me"}, Action: authz.Action{Name: "open"}, Resource: authz.Entity{Type: "door", ID: "1"}},
		Digests: []string{fmt.Sprintf("sha256:%d", n), "sha256:step"}, Excluded: []cheq.Person{me}, GrantFor: time.Hour, Shown: "sha256:shown",
		Opens:    []cheq.Opening{{RuleRef: authz.RuleRef{Rule: "platform/p/r", Digest: "sha256:r"}, Effect: authz.Deny, Template: "t", TemplateDigest: "sha256:t"}},
		OpenedAt: now.Add(time.Duration(n) * time.Minute), DecideBy: now.Add(time.Hour), Due: now.Add(time.Duration(n) * time.Minute),
		Votes: []cheq.Vote{{Voter: cheq.Person{Tenant: "acme", Name: "user:a"}, Yes: true, Channel: "api", Shown: "sha256:shown", At: now}},
	}
}

func testCases(t *testing.T, d Driver) {
	store := d.open(t)
	first, second, other := sampleCase(1), sampleCase(2), sampleCase(3)
	other.Tenant, other.Requester = "globex", you
	update(t, store, func(tx pap.Tx) {
		_, err := rows(t, tx).Case(first.ID)
		is(t, "before it is there", err, cheq.ErrNotFound)
		for _, c := range []cheq.Case{first, second, other} {
			if err := rows(t, tx).PutCase(c); err != nil {
				t.Fatal(err)
			}
		}
	})
	view(t, store, func(tx pap.Tx) {
		r := rows(t, tx)
		same(t, "a case", must[cheq.Case](t)(r.Case(first.ID)), first)
		same(t, "asked", must[cheq.Case](t)(r.Asked(me, "acme", "sha256:2")), second)
		for name, key := range map[string]struct {
			who            cheq.Person
			tenant, digest string
		}{
			"another tenant": {me, "globex", "sha256:2"}, "another requester": {you, "acme", "sha256:2"}, "another digest": {me, "acme", "sha256:9"},
			"a namesake on the platform": {cheq.Person{Name: me.Name}, "acme", "sha256:2"},
		} {
			_, err := r.Asked(key.who, key.tenant, key.digest)
			is(t, name, err, cheq.ErrNotFound)
		}
		ids := func(cases []cheq.Case, err error) string {
			t.Helper()
			text := ""
			for _, c := range must[[]cheq.Case](t)(cases, err) {
				text += c.ID[len("cheq-"):] + " "
			}
			return text
		}
		same(t, "all, the newest first", ids(r.Cases(cheq.Filter{}, "", 10)), "003 002 001 ")
		same(t, "a page", ids(r.Cases(cheq.Filter{}, "", 2)), "003 002 ")
		same(t, "the next page", ids(r.Cases(cheq.Filter{}, second.ID, 2)), "001 ")
		same(t, "a tenant's", ids(r.Cases(cheq.Filter{Tenant: "acme"}, "", 10)), "002 001 ")
		same(t, "a requester's", ids(r.Cases(cheq.Filter{Requester: &you}, "", 10)), "003 ")
		same(t, "of no state", ids(r.Cases(cheq.Filter{State: cheq.Approved}, "", 10)), "")
		same(t, "none wanted", ids(r.Cases(cheq.Filter{}, "", 0)), "")
		same(t, "due", must[[]string](t)(r.Due(now.Add(2*time.Minute), 10)), []string{first.ID, second.ID})
		same(t, "due, the first", must[[]string](t)(r.Due(now.Add(2*time.Minute), 1)), []string{first.ID})
		same(t, "nothing is due", len(must[[]string](t)(r.Due(now, 10))), 0)
	})

	first.State, first.Due = cheq.Rejected, time.Time{}
	update(t, store, func(tx pap.Tx) {
		if err := rows(t, tx).PutCase(first); err != nil {
			t.Fatal(err)
		}
	})
	again := sampleCase(4) // asks what the rejected one asked
	again.Digests = first.Digests
	update(t, store, func(tx pap.Tx) {
		r := rows(t, tx)
		_, err := r.Asked(me, "acme", first.Digests[0])
		is(t, "a settled case", err, cheq.ErrNotFound)
		if err := r.PutCase(again); err != nil {
			t.Fatal(err)
		}
		same(t, "recent", len(must[[]cheq.Case](t)(r.Recent(me, "acme", first.OpenedAt, 10))), 3)
		same(t, "recent, without the settled one", len(must[[]cheq.Case](t)(r.Recent(me, "acme", first.OpenedAt.Add(time.Second), 10))), 2)
		same(t, "recent, at most", len(must[[]cheq.Case](t)(r.Recent(me, "acme", first.OpenedAt, 1))), 1)
		same(t, "due without the settled one", must[[]string](t)(r.Due(now.Add(3*time.Minute), 10)), []string{second.ID, other.ID})
	})
	testCaseGrants(t, store, second, other)
	twin := sampleCase(5)
	twin.Digests = second.Digests
	err := store.Update(t.Context(), func(tx pap.Tx) error { return rows(t, tx).PutCase(twin) })
	if err == nil {
		t.Error("two pending cases ask the same")
	}
	nothing := sampleCase(6)
	nothing.Digests = nil
	if err := store.Update(t.Context(), func(tx pap.Tx) error { return rows(t, tx).PutCase(nothing) }); err == nil {
		t.Error("a case about nothing is stored")
	}
}

func testTimelines(t *testing.T, d Driver) {
	store := d.open(t)
	c, e := sampleCase(1), cheq.Event{At: now, Actor: me, Action: "open", Detail: "为了发布"}
	later := cheq.Event{At: now.Add(time.Second), Action: "expired"}
	undone := errors.New("undone")
	update(t, store, func(tx pap.Tx) {
		if err := errors.Join(rows(t, tx).PutCase(c), rows(t, tx).Note(&c, e)); err != nil {
			t.Fatal(err)
		}
	})
	is(t, "an update that fails", store.Update(t.Context(), func(tx pap.Tx) error { return errors.Join(undone, rows(t, tx).Note(&c, later)) }), undone)
	update(t, store, func(tx pap.Tx) {
		if err := rows(t, tx).Note(&c, later); err != nil {
			t.Fatal(err)
		}
	})
	view(t, store, func(tx pap.Tx) {
		same(t, "the timeline", must[[]cheq.Event](t)(rows(t, tx).Timeline(c.ID, 10)), []cheq.Event{e, later})
		same(t, "its beginning", must[[]cheq.Event](t)(rows(t, tx).Timeline(c.ID, 1)), []cheq.Event{e})
		same(t, "another's", len(must[[]cheq.Event](t)(rows(t, tx).Timeline("cheq-002", 10))), 0)
		if err := rows(t, tx).Note(&c, e); err == nil {
			t.Error("a view writes")
		}
	})
}

// testCaseGrants wakes a case that is approved, and one that waits.
func testCaseGrants(t *testing.T, store pap.Store, approved, waits cheq.Case) {
	t.Helper()
	grants := func(tx pap.Tx) pap.CaseGrants {
		g, ok := tx.(pap.CaseGrants)
		if !ok {
			t.Fatalf("%T knows of no grants of cases", tx)
		}
		return g
	}
	update(t, store, func(tx pap.Tx) {
		before := approved
		approved.State, approved.Due = cheq.Approved, now.Add(time.Hour)
		if err := rows(t, tx).PutCase(approved); err != nil {
			t.Fatal(err)
		}
		soon := must[[]string](t)(rows(t, tx).Due(now.Add(2*time.Minute), 10))
		for _, id := range []string{approved.ID, waits.ID, "cheq-none"} {
			if err := grants(tx).WakeCase(id); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "due before it is woken", len(soon), 0)
		same(t, "due when it is woken", must[[]string](t)(rows(t, tx).Due(now.Add(2*time.Minute), 10)), []string{approved.ID})
		for _, key := range []string{"one", "two", "two"} {
			must[bool](t)(tx.UseGrant("grt-case", key, 5))
		}
		same(t, "counted", must[int](t)(grants(tx).CountedUses("grt-case")), 2)
		same(t, "none counted", must[int](t)(grants(tx).CountedUses("grt-other")), 0)
		if err := rows(t, tx).PutCase(before); err != nil {
			t.Fatal(err)
		}
	})
	view(t, store, func(tx pap.Tx) {
		if grants(tx).WakeCase(approved.ID) == nil {
			t.Error("a view wakes a case")
		}
	})
}
