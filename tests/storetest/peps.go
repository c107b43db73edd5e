package storetest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func testSeals(t *testing.T, d Driver) {
	store := d.open(t)
	long := strings.Repeat("tenant,", 2000) // an audience of many
	first := pap.Seal{Release: 1, Audience: "acme", KeyID: "k1", Signed: "a.b.c"}
	again, other := first, first
	again.Signed, other.KeyID, other.Signed = "d.e.f", "k0", "g.h.i"
	wide := pap.Seal{Release: 1, Audience: long, KeyID: "k1", Signed: "j"}
	for _, row := range []struct {
		name       string
		seal, want pap.Seal
	}{{"the first", first, first}, {"the same again", again, first}, {"another key's", other, other}, {"a long audience's", wide, wide}} {
		same(t, row.name, must[pap.Seal](t)(store.KeepSeal(t.Context(), row.seal)), row.want)
	}
	for _, row := range []struct {
		release  uint64
		audience string
		want     []pap.Seal
	}{
		{1, "acme", []pap.Seal{other, first}}, {1, long, []pap.Seal{wide}}, {2, "acme", nil}, {1, "acme,globex", nil}, {^uint64(0), "acme", nil},
	} {
		same(t, fmt.Sprintf("release %d, %.20s", row.release, row.audience), must[[]pap.Seal](t)(store.Seals(t.Context(), row.release, row.audience)), row.want)
	}
}

func testConcurrentSeals(t *testing.T, d Driver) {
	location := d.New(t)
	kept := make([]pap.Seal, 8)
	var racing sync.WaitGroup
	for i := range kept {
		store := d.handle(t, location)
		racing.Go(func() {
			var err error
			kept[i], err = store.KeepSeal(t.Context(), pap.Seal{Release: 7, Audience: "*", KeyID: "k", Signed: fmt.Sprint("by ", i)})
			if err != nil {
				t.Error(err)
			}
		})
	}
	racing.Wait()
	for _, seal := range kept {
		same(t, "what a node serves", seal, kept[0])
	}
}

// pep is one that serves a tenant.
func pep(tenant, id string, labels map[string]string) pap.PEP {
	return pap.PEP{
		Key: tenant + "/service:shop/" + id, ID: id, Tenant: tenant, Subject: "service:shop", Tenants: []string{tenant}, Labels: labels,
		Address: "10.0.0.1:7000", Node: "n1", Kind: "stream", Connected: true, ConnectedAt: now, SeenAt: now,
		Revision: authz.Revision{Release: 3, Position: 9}, Digest: "sha256:00", AckedAt: now, HonoursUntil: now.Add(30 * time.Second),
	}
}

func put(t testing.TB, store Store, peps ...pap.PEP) {
	t.Helper()
	if err := store.PutPEPs(t.Context(), peps); err != nil {
		t.Fatal(err)
	}
}

func pepKeys(peps []pap.PEP) (list []string) {
	for _, p := range peps {
		list = append(list, p.Key)
	}
	return list
}

func testPutPEPs(t *testing.T, d Driver) {
	store := d.open(t)
	put(t, store)
	full := pep("acme", "a", map[string]string{"zone": "b", "地": "东"})
	full.Version, full.Stale, full.Rejects, full.Offered = "1.2", true, 2, 4
	full.Rejected = &pap.Rejection{Release: 4, Position: 10, Reason: "bad\x00signature", At: now}
	bare := pap.PEP{Key: "b", SeenAt: now, Tenants: []string{}, Labels: map[string]string{}}
	put(t, store, bare, full)
	list := func() []pap.PEP { return must[[]pap.PEP](t)(store.PEPs(t.Context(), pap.PEPFilter{}, "", 10)) }
	same(t, "stored", list(), []pap.PEP{full, bare})

	older, newer := full, full
	older.SeenAt, older.Node, older.Offered = now.Add(-time.Microsecond), "older", 3
	newer.SeenAt, newer.Node, newer.Labels = now.Add(time.Second+999), "newer", map[string]string{}
	put(t, store, older)
	same(t, "after an older state", list(), []pap.PEP{full, bare})
	same2 := full
	same2.Node = "same moment"
	put(t, store, same2)
	same(t, "after one of the same moment", list(), []pap.PEP{same2, bare})
	put(t, store, older, newer, older) // one key, several times in a batch
	newer.SeenAt = now.Add(time.Second)
	same(t, "after a newer state", list(), []pap.PEP{newer, bare})

	// Which node says what it was sent, and in which order, does not matter.
	elsewhere, after := newer, newer
	elsewhere.SeenAt, elsewhere.Offered = now, 7
	put(t, store, elsewhere)
	after.SeenAt, after.Offered = now.Add(2*time.Second), 0
	put(t, store, after)
	after.Offered = 7
	same(t, "after another node sent it more", list(), []pap.PEP{after, bare})
	newer = after
	view(t, store, func(tx pap.Tx) { same(t, "head", must[authz.Revision](t)(tx.Head()), authz.Revision{}) })
}

func testPEPFilter(t *testing.T, d Driver) {
	store := d.open(t)
	gateway := pep("", "g", map[string]string{"zone": "a", "kind": "gateway"})
	gateway.Tenants = []string{pap.AnyTenant}
	off := pep("acme", "off", nil)
	off.Connected = false
	both := pep("acme", "both", map[string]string{"zone": "a"})
	both.Tenants = []string{"acme", "globex"}
	off.SeenAt, off.Revision, off.HonoursUntil = now.Add(-time.Hour), authz.Revision{Release: 2, Position: 9}, now.Add(time.Minute)
	both.Revision, both.Kind, both.SeenAt = authz.Revision{Release: 4, Position: 7}, "opa", now.Add(-time.Minute)
	both.Offered, off.Offered = 5, 6
	both.Rejected, off.Rejected = &pap.Rejection{Release: 5}, &pap.Rejection{Position: 5}
	put(t, store, pep("acme", "a1", map[string]string{"zone": "a", "a\"b": "%"}), pep("acme", "a2", map[string]string{"zone": "b"}), pep("globex", "a1", nil), gateway, off, both)
	for _, row := range []struct {
		name   string
		filter pap.PEPFilter
		after  string
		limit  int
		want   string
	}{
		{"all", pap.PEPFilter{}, "", 10, "/g acme/a1 acme/a2 acme/both acme/off globex/a1"},
		{"of a key", pap.PEPFilter{Key: "acme/service:shop/a2"}, "", 10, "acme/a2"},
		{"any tenant", pap.PEPFilter{Tenant: pap.AnyTenant}, "", 10, "/g acme/a1 acme/a2 acme/both acme/off globex/a1"},
		{"of a tenant", pap.PEPFilter{Tenant: "acme"}, "", 10, "acme/a1 acme/a2 acme/both acme/off"},
		{"of the platform", pap.PEPFilter{Tenant: pap.Platform}, "", 10, "/g"},
		{"that serve a tenant", pap.PEPFilter{Serves: "globex"}, "", 10, "/g acme/both globex/a1"},
		{"that serve one nobody names", pap.PEPFilter{Serves: "hooli"}, "", 10, "/g"},
		{"with a label", pap.PEPFilter{Labels: map[string]string{"zone": "a"}}, "", 10, "/g acme/a1 acme/both"},
		{"with two labels", pap.PEPFilter{Labels: map[string]string{"zone": "a", "kind": "gateway"}}, "", 10, "/g"},
		{"with an odd label", pap.PEPFilter{Labels: map[string]string{"a\"b": "%"}}, "", 10, "acme/a1"},
		{"with a label nobody bears", pap.PEPFilter{Labels: map[string]string{"zone": ""}}, "", 10, ""},
		{"of ids", pap.PEPFilter{IDs: []string{"a1", "off", "x"}}, "", 10, "acme/a1 acme/off globex/a1"},
		{"connected", pap.PEPFilter{Tenant: "acme", Connected: true}, "", 10, "acme/a1 acme/a2 acme/both"},
		{"all conditions", pap.PEPFilter{Tenant: "acme", Serves: "acme", Labels: map[string]string{"zone": "a"}, IDs: []string{"a1"}, Connected: true}, "", 10, "acme/a1"},
		{"selected by id", pap.PEPFilter{Select: pap.Selector{IDs: []string{"a1"}}}, "", 10, "acme/a1 globex/a1"},
		{"selected by labels", pap.PEPFilter{Select: pap.Selector{Labels: map[string]string{"zone": "a", "kind": "gateway"}}}, "", 10, "/g"},
		{"selected by either", pap.PEPFilter{Select: pap.Selector{IDs: []string{"off"}, Labels: map[string]string{"zone": "b"}}}, "", 10, "acme/a2 acme/off"},
		{"seen lately", pap.PEPFilter{SeenSince: now}, "", 10, "/g acme/a1 acme/a2 globex/a1"},
		{"below a release", pap.PEPFilter{Below: authz.Revision{Release: 3}}, "", 10, "acme/off"},
		{"below a position", pap.PEPFilter{Below: authz.Revision{Position: 9}}, "", 10, "acme/both"},
		{"below either", pap.PEPFilter{Below: authz.Revision{Release: 3, Position: 9}}, "", 10, "acme/both acme/off"},
		{"below the largest", pap.PEPFilter{Tenant: "globex", Below: authz.Revision{Release: ^uint64(0)}}, "", 10, "globex/a1"},
		{"that hold both", pap.PEPFilter{Holds: authz.Revision{Release: 3, Position: 9}}, "", 10, "/g acme/a1 acme/a2 globex/a1"},
		{"that rejected", pap.PEPFilter{Rejected: 5}, "", 10, "acme/both"},
		{"that were sent a release", pap.PEPFilter{Offered: 6}, "", 10, "acme/off"},
		{"that were sent one or a newer", pap.PEPFilter{Offered: 5}, "", 10, "acme/both acme/off"},
		{"of owners", pap.PEPFilter{Owners: []string{"", "globex"}}, "", 10, "/g globex/a1"},
		{"of no owner", pap.PEPFilter{Owners: []string{}}, "", 10, ""},
		{"that count grants", pap.PEPFilter{Tenant: "acme", Counting: now}, "", 10, "acme/a1 acme/a2 acme/both acme/off"},
		{"that count grants later", pap.PEPFilter{Tenant: "acme", Counting: now.Add(30 * time.Second)}, "", 10, "acme/a1 acme/a2 acme/off"},
		{"that count grants no more", pap.PEPFilter{Counting: now.Add(time.Minute)}, "", 10, ""},
		{"without a kind", pap.PEPFilter{Tenant: "acme", Without: "opa"}, "", 10, "acme/a1 acme/a2 acme/off"},
		{"first page", pap.PEPFilter{}, "", 2, "/g acme/a1"},
		{"second page", pap.PEPFilter{}, "acme/service:shop/a1", 2, "acme/a2 acme/both"},
		{"no limit", pap.PEPFilter{}, "", 0, ""},
	} {
		got := strings.Join(pepKeys(must[[]pap.PEP](t)(store.PEPs(t.Context(), row.filter, row.after, row.limit))), " ")
		same(t, row.name, strings.ReplaceAll(got, "/service:shop", ""), row.want)
		if row.after == "" && row.limit == 10 {
			same(t, row.name+": their number", must[int](t)(store.CountPEPs(t.Context(), row.filter)), len(strings.Fields(row.want)))
		}
	}
}

func testForgetPEPs(t *testing.T, d Driver) {
	store := d.open(t)
	gone, lost, here := pep("acme", "gone", nil), pep("acme", "lost", nil), pep("acme", "here", nil)
	gone.Connected = false
	gone.SeenAt, lost.SeenAt = now.Add(-time.Hour), now.Add(-time.Hour)
	put(t, store, gone, lost, here)
	for _, row := range []struct {
		before time.Time
		want   []string
	}{{now.Add(-time.Hour), []string{gone.Key, here.Key, lost.Key}}, {now, []string{here.Key}}} {
		if err := store.ForgetPEPs(t.Context(), row.before); err != nil {
			t.Fatal(err)
		}
		same(t, "left", pepKeys(must[[]pap.PEP](t)(store.PEPs(t.Context(), pap.PEPFilter{}, "", 10))), row.want)
	}
}

func testManyPEPs(t *testing.T, d Driver) {
	location := d.New(t)
	store, other := d.handle(t, location), d.handle(t, location)
	many := make([]pap.PEP, 5000)
	for i := range many {
		many[i] = pep("acme", fmt.Sprintf("%04d", i), map[string]string{"n": fmt.Sprint(i % 7)})
	}
	var racing sync.WaitGroup // two nodes, in opposite order
	racing.Go(func() { put(t, store, many...) })
	backwards := make([]pap.PEP, len(many))
	for i := range many {
		backwards[len(many)-1-i] = many[i]
	}
	racing.Go(func() { put(t, other, backwards...) })
	racing.Wait()
	same(t, "stored", len(must[[]pap.PEP](t)(store.PEPs(t.Context(), pap.PEPFilter{}, "", 10_000))), len(many))
}

func testPEPsBesideUpdate(t *testing.T, d Driver) {
	store := d.open(t)
	update(t, store, func(tx pap.Tx) {
		must[uint64](t)(tx.Put(record(pap.KindGrant, "g", "acme")))
		put(t, store, pep("acme", "a", nil))
		must[pap.Seal](t)(store.KeepSeal(t.Context(), pap.Seal{Release: 1, Signed: "s"}))
		same(t, "stored meanwhile", len(must[[]pap.PEP](t)(store.PEPs(t.Context(), pap.PEPFilter{}, "", 1))), 1)
	})
}

func testPEPText(t *testing.T, d Driver) {
	store := d.open(t)
	odd := pep("acme", "a", nil)
	odd.Version, odd.Address, odd.Digest = "\x00", "\xff", "<李>"
	odd.Rejected = &pap.Rejection{Reason: strings.Repeat("long \x00", 1<<12)}
	put(t, store, odd)
	got := must[[]pap.PEP](t)(store.PEPs(t.Context(), pap.PEPFilter{}, "", 1))
	odd.Address = "\uFFFD"
	odd.Labels = map[string]string{}
	same(t, "stored", got, []pap.PEP{odd})
}
