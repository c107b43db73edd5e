package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// writeAll writes something of every sort.
func writeAll(t testing.TB, tx pap.Tx) {
	t.Helper()
	must[uint64](t)(tx.Put(record(pap.KindGrant, "g", "acme")))
	must[bool](t)(tx.UseGrant("g", "u", 1))
	file := blob(t, tx, "a.rego", "content")
	for what, err := range map[string]error{
		"PutDocument":   tx.PutDocument(document("a.rego", 1)),
		"MarkPublished": tx.MarkPublished("a.rego", 1, 1),
		"InsertRelease": tx.InsertRelease(pap.Release{Number: 1, CreatedAt: now, Files: []pap.ReleaseFile{file}}),
		"PutReplay":     tx.PutReplay(pap.Replay{Caller: "c", Key: "k", At: now}),
		"Audit":         tx.Audit(auditRecord("01", authz.AuditChange)),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// isEmpty fails the test if anything of writeAll is there.
func isEmpty(t testing.TB, store Store) {
	t.Helper()
	view(t, store, func(tx pap.Tx) {
		same(t, "head", must[authz.Revision](t)(tx.Head()), authz.Revision{})
		same(t, "records", must[[]pap.Record](t)(tx.Records(pap.KindGrant, pap.AnyTenant, "", 10)), nil)
		same(t, "log", must[[]pap.Record](t)(tx.Log(0, 10)), nil)
		same(t, "versions", must[[]pap.Document](t)(tx.DocumentVersions("", 0, 10)), nil)
		same(t, "releases", must[[]pap.Release](t)(tx.Releases(0, 10)), nil)
		same(t, "uses", must[[]pap.GrantUse](t)(tx.GrantUses(pap.GrantUse{}, 10)), nil)
		same(t, "audits", must[[]authz.AuditRecord](t)(tx.Audits("", 10)), nil)
		_, err := tx.Blob(digestOf("content"))
		is(t, "blob", err, pap.ErrNotFound)
		_, err = tx.Replay("c", "k")
		is(t, "replay", err, pap.ErrNotFound)
	})
}

func testFailingUpdate(t *testing.T, d Driver) {
	store := d.open(t)
	refused := errors.New("refused")
	err := store.Update(t.Context(), func(tx pap.Tx) error {
		writeAll(t, tx)
		return refused
	})
	is(t, "update", err, refused)
	isEmpty(t, store)
	update(t, store, func(tx pap.Tx) { writeAll(t, tx) }) // the number and the position were not used up
}

func testPanickingUpdate(t *testing.T, d Driver) {
	store := d.open(t)
	func() {
		defer func() { same(t, "panic", recover(), "oh") }()
		store.Update(t.Context(), func(tx pap.Tx) error {
			writeAll(t, tx)
			panic("oh")
		})
	}()
	isEmpty(t, store)
	update(t, store, func(tx pap.Tx) { writeAll(t, tx) }) // the writer was let go
}

func testBrokenUpdate(t *testing.T, d Driver) {
	location := d.New(t)
	store := d.handle(t, location)
	d.Exec(t, location, "DROP TABLE replays")
	err := store.Update(t.Context(), func(tx pap.Tx) error {
		must[uint64](t)(tx.Put(record(pap.KindGrant, "g", "acme")))
		if err := tx.PutReplay(pap.Replay{Caller: "c", Key: "k", At: now}); err == nil {
			t.Error("a missing table was not noticed")
		}
		return nil // as if nothing had happened
	})
	if err == nil {
		t.Error("committed past a failed statement")
	}
	view(t, store, func(tx pap.Tx) {
		same(t, "head", must[authz.Revision](t)(tx.Head()), authz.Revision{})
	})
}

func testEndedTransaction(t *testing.T, d Driver) {
	store := d.open(t)
	var kept pap.Tx
	update(t, store, func(tx pap.Tx) { kept = tx })
	if _, err := kept.Put(record(pap.KindGrant, "g", "acme")); err == nil {
		t.Error("wrote after the end of the update")
	}
	if _, err := kept.Head(); err == nil {
		t.Error("read after the end of the update")
	}
	isEmpty(t, store)
}

func testViewCannotWrite(t *testing.T, d Driver) {
	store := d.open(t)
	view(t, store, func(tx pap.Tx) {
		_, put := tx.Put(record(pap.KindGrant, "g", "acme"))
		_, use := tx.UseGrant("g", "u", 1)
		for what, err := range map[string]error{
			"Put": put, "UseGrant": use,
			"PutDocument":   tx.PutDocument(document("a.rego", 1)),
			"MarkPublished": tx.MarkPublished("a.rego", 1, 1),
			"InsertRelease": tx.InsertRelease(pap.Release{Number: 1}),
			"PutBlob":       tx.PutBlob(digestOf("content"), []byte("content")),
			"PutReplay":     tx.PutReplay(pap.Replay{Caller: "c", Key: "k"}),
			"ForgetReplays": tx.ForgetReplays(now),
			"Audit":         tx.Audit(auditRecord("01", authz.AuditChange)),
		} {
			if err == nil {
				t.Errorf("%s wrote in a view", what)
			}
		}
	})
	isEmpty(t, store)
}

func testViewIsSnapshot(t *testing.T, d Driver) {
	location := d.New(t)
	store, other := d.handle(t, location), d.handle(t, location)
	read := func(tx pap.Tx) string {
		return show([]any{
			must[authz.Revision](t)(tx.Head()),
			must[[]pap.Record](t)(tx.Log(0, 10)),
			must[[]pap.Record](t)(tx.Records(pap.KindGrant, pap.AnyTenant, "", 10)),
			must[[]pap.Document](t)(tx.Documents(pap.DocumentFilter{}, "", 10)),
			must[[]pap.Release](t)(tx.Releases(0, 10)),
			must[[]authz.AuditRecord](t)(tx.Audits("", 10)),
		})
	}
	var before string
	view(t, store, func(tx pap.Tx) {
		before = read(tx)
		update(t, other, func(tx pap.Tx) { writeAll(t, tx) })
		same(t, "after a commit of another", read(tx), before)
	})
	view(t, store, func(tx pap.Tx) {
		if read(tx) == before {
			t.Error("a later view does not see the commit")
		}
	})
}

func testCancel(t *testing.T, d Driver) {
	store := d.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := store.Update(ctx, func(tx pap.Tx) error {
		writeAll(t, tx)
		cancel()
		_, err := tx.Head()
		return err
	})
	is(t, "update", err, context.Canceled)
	is(t, "update after", store.Update(ctx, func(pap.Tx) error { return nil }), context.Canceled)
	is(t, "view after", store.View(ctx, func(pap.Tx) error { return nil }), context.Canceled)
	is(t, "insert after", store.InsertDecisions(ctx, []authz.AuditRecord{auditRecord("01", authz.AuditDecision)}), context.Canceled)
	_, err = store.QueryAudit(ctx, pap.AuditFilter{}, 1)
	is(t, "query after", err, context.Canceled)
	isEmpty(t, store)

	// One who waits for the writer does not wait for ever.
	waiting, stop := context.WithCancel(t.Context())
	update(t, store, func(pap.Tx) {
		stop()
		is(t, "waiting update", store.Update(waiting, func(pap.Tx) error { return nil }), context.Canceled)
	})
}
