package storetest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// names sort differently by bytes, by UTF-16, by language and without case.
var names = []string{"B", "a", "A", "b", "é", "e\u0301", "z", "李", "\uFFFF", "😀", "ab", "a b", "a-b", "a_b", "ß", "ss", "10", "9", "\x01", "\x7f"}

func testByteOrder(t *testing.T, d Driver) {
	store := d.open(t)
	update(t, store, func(tx pap.Tx) {
		for _, name := range names {
			must[uint64](t)(tx.Put(record(pap.KindSubject, name, "acme")))
			must[bool](t)(tx.UseGrant(name, name, 1))
			if err := tx.PutDocument(document(name, 1)); err != nil {
				t.Fatal(err)
			}
			if err := tx.Audit(auditRecord(name, authz.AuditChange)); err != nil {
				t.Fatal(err)
			}
		}
	})
	sorted := slices.Sorted(slices.Values(names))
	view(t, store, func(tx pap.Tx) {
		same(t, "records", keys(must[[]pap.Record](t)(tx.Records(pap.KindSubject, pap.AnyTenant, "", 100))), sorted)
		same(t, "records of a tenant", keys(must[[]pap.Record](t)(tx.Records(pap.KindSubject, "acme", "", 100))), sorted)
		same(t, "records after", keys(must[[]pap.Record](t)(tx.Records(pap.KindSubject, "acme", "\uFFFF", 100))), []string{"😀"})
		var documents, uses []string
		for _, doc := range must[[]pap.Document](t)(tx.Documents(pap.DocumentFilter{}, "", 100)) {
			documents = append(documents, doc.Path)
		}
		for _, use := range must[[]pap.GrantUse](t)(tx.GrantUses(pap.GrantUse{}, 100)) {
			uses = append(uses, use.Grant)
		}
		same(t, "documents", documents, sorted)
		same(t, "uses", uses, sorted)
		same(t, "audit records", ids(must[[]authz.AuditRecord](t)(tx.Audits("", 100))), sorted)
		_, err := tx.Record(pap.KindSubject, "É")
		is(t, "another case", err, pap.ErrNotFound)
	})
}

func testText(t *testing.T, d Driver) {
	store := d.open(t)
	for _, bad := range []string{"a\x00b", "a\xff", "\xed\xa0\x80"} {
		update(t, store, func(tx pap.Tx) {
			for what, call := range map[string]func() error{
				"Put key":              func() error { _, err := tx.Put(record(pap.KindRole, bad, "")); return err },
				"Put tenant":           func() error { _, err := tx.Put(record(pap.KindRole, "k", bad)); return err },
				"Put kind":             func() error { _, err := tx.Put(record(pap.Kind(bad), "k", "")); return err },
				"Record":               func() error { _, err := tx.Record(pap.KindRole, bad); return err },
				"Records tenant":       func() error { _, err := tx.Records(pap.KindRole, bad, "", 1); return err },
				"Records after":        func() error { _, err := tx.Records(pap.KindRole, "", bad, 1); return err },
				"Document":             func() error { _, err := tx.Document(bad); return err },
				"PutDocument":          func() error { return tx.PutDocument(document(bad, 1)) },
				"Documents prefix":     func() error { _, err := tx.Documents(pap.DocumentFilter{Prefix: bad}, "", 1); return err },
				"Documents after":      func() error { _, err := tx.Documents(pap.DocumentFilter{}, bad, 1); return err },
				"DocumentVersions":     func() error { _, err := tx.DocumentVersions(bad, 1, 1); return err },
				"MarkPublished":        func() error { return tx.MarkPublished(bad, 1, 1) },
				"InsertRelease":        func() error { return tx.InsertRelease(pap.Release{Number: 1, Note: bad}) },
				"InsertRelease commit": func() error { return tx.InsertRelease(pap.Release{Number: 1, Commit: bad}) },
				"PutPEPs":              func() error { return store.PutPEPs(t.Context(), []pap.PEP{{Key: bad}}) },
				"PutPEPs label": func() error {
					return store.PutPEPs(t.Context(), []pap.PEP{{Key: "k", Labels: map[string]string{"l": bad}}})
				},
				"PEPs": func() error { _, err := store.PEPs(t.Context(), pap.PEPFilter{Serves: bad}, "", 1); return err },
				"PEPs select": func() error {
					_, err := store.CountPEPs(t.Context(), pap.PEPFilter{Select: pap.Selector{IDs: []string{bad}}})
					return err
				},
				"DecisionsByID": func() error { _, err := store.DecisionsByID(t.Context(), []string{bad}); return err },
				"PEPs label": func() error {
					_, err := store.PEPs(t.Context(), pap.PEPFilter{Labels: map[string]string{bad: ""}}, "", 1)
					return err
				},
				"PEPs after":         func() error { _, err := store.PEPs(t.Context(), pap.PEPFilter{}, bad, 1); return err },
				"KeepSeal":           func() error { _, err := store.KeepSeal(t.Context(), pap.Seal{KeyID: bad}); return err },
				"Seals":              func() error { _, err := store.Seals(t.Context(), 1, bad); return err },
				"InsertRelease path": func() error { return tx.InsertRelease(pap.Release{Number: 1, Files: []pap.ReleaseFile{{Path: bad}}}) },
				"UseGrant":           func() error { _, err := tx.UseGrant("g", bad, 1); return err },
				"GrantUses":          func() error { _, err := tx.GrantUses(pap.GrantUse{Grant: bad}, 1); return err },
				"Replay":             func() error { _, err := tx.Replay(bad, "k"); return err },
				"PutReplay":          func() error { return tx.PutReplay(pap.Replay{Caller: "c", Key: bad}) },
				"Audits":             func() error { _, err := tx.Audits(bad, 1); return err },
				"QueryAudit":         func() error { _, err := store.QueryAudit(t.Context(), pap.AuditFilter{Subject: bad}, 1); return err },
				"QueryAudit cursor":  func() error { _, err := store.QueryAudit(t.Context(), pap.AuditFilter{Before: bad}, 1); return err },
				"Decisions":          func() error { _, err := store.Decisions(t.Context(), bad, 1); return err },
			} {
				is(t, what, call(), pap.ErrText)
			}
			must[uint64](t)(tx.Put(record(pap.KindRole, "after the refusals", "")))
		})
	}
}

func testEmptyBytes(t *testing.T, d Driver) {
	store := d.open(t)
	update(t, store, func(tx pap.Tx) {
		must[uint64](t)(tx.Put(pap.Record{Kind: pap.KindRole, Key: "r"}))
		for what, err := range map[string]error{
			"PutDocument": tx.PutDocument(pap.Document{Path: "d", Version: 1}),
			"PutReplay":   tx.PutReplay(pap.Replay{Caller: "c", Key: "k"}),
			"PutBlob":     tx.PutBlob(digestOf(""), nil),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	view(t, store, func(tx pap.Tx) {
		for what, data := range map[string][]byte{
			"record":   must[pap.Record](t)(tx.Record(pap.KindRole, "r")).Body,
			"document": must[pap.Document](t)(tx.Document("d")).Content,
			"replay":   must[pap.Replay](t)(tx.Replay("c", "k")).Response,
			"blob":     must[[]byte](t)(tx.Blob(digestOf(""))),
		} {
			if data == nil || len(data) > 0 {
				t.Errorf("%s: %#v", what, data)
			}
		}
	})
}

func testLongKeys(t *testing.T, d Driver) {
	store := d.open(t)
	noise := make([]byte, pap.MaxKeyBytes) // text that no index can compress
	for i := range noise {
		noise[i] = '!' + byte(rand.IntN('~'-'!'))
	}
	long, half := string(noise), string(noise[:pap.MaxKeyBytes/2])
	key := long[len(pap.KindRole):]
	update(t, store, func(tx pap.Tx) {
		must[uint64](t)(tx.Put(record(pap.KindRole, key, "")))
		must[bool](t)(tx.UseGrant(half, half, 1))
		for what, err := range map[string]error{
			"PutDocument": tx.PutDocument(document(long, 1)),
			"PutReplay":   tx.PutReplay(pap.Replay{Caller: half, Key: half}),
			"Audit":       tx.Audit(authz.AuditRecord{ID: long, Tenant: long, Subject: long}),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, put := tx.Put(record(pap.KindRole, key, "t"))
		_, use := tx.UseGrant(half, half+"u", 1)
		for what, err := range map[string]error{
			"Put": put, "UseGrant": use,
			"PutDocument": tx.PutDocument(document(long+"d", 1)),
			"PutReplay":   tx.PutReplay(pap.Replay{Caller: half, Key: half + "k"}),
		} {
			is(t, what, err, pap.ErrText)
		}
	})
	view(t, store, func(tx pap.Tx) {
		same(t, "record", must[pap.Record](t)(tx.Record(pap.KindRole, key)).Key, key)
		_, err := tx.Record(pap.KindRole, long+long)
		is(t, "a key too long to be there", err, pap.ErrNotFound)
	})
	insert(t, store, authz.AuditRecord{ID: long, Tenant: long, Subject: long})
}

func testTimes(t *testing.T, d Driver) {
	store := d.open(t)
	clock := time.Now() // local, with a monotonic reading
	for key, row := range map[string]struct{ given, want time.Time }{
		"nanoseconds are cut off": {now.Add(999), now},
		"also before 1970":        {time.Date(1969, 12, 31, 23, 59, 59, 999, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)},
		"another zone":            {now.In(time.FixedZone("CST", 8*3600)), now},
		"the zero time":           {time.Time{}, time.Time{}},
		"the end of four digits":  {time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		"the clock":               {clock, time.UnixMicro(clock.UnixMicro()).UTC()},
	} {
		r := record(pap.KindRole, key, "")
		r.At = row.given
		update(t, store, func(tx pap.Tx) { must[uint64](t)(tx.Put(r)) })
		view(t, store, func(tx pap.Tx) {
			got := must[pap.Record](t)(tx.Record(pap.KindRole, key)).At
			if got != row.want { // not Equal: zone and monotonic reading count too
				t.Errorf("%s: got %v, want %v", key, got, row.want)
			}
		})
	}
}
