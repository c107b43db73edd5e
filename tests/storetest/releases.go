package storetest

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func digestOf(text string) bundles.Digest { return sha256.Sum256([]byte(text)) }

// blob stores text and returns the file that names it.
func blob(t testing.TB, tx pap.Tx, path, text string) pap.ReleaseFile {
	t.Helper()
	if err := tx.PutBlob(digestOf(text), []byte(text)); err != nil {
		t.Fatal(err)
	}
	return pap.ReleaseFile{Path: path, Digest: digestOf(text), Size: len(text)}
}

func testReleases(t *testing.T, d Driver) {
	store := d.open(t)
	var first, second pap.Release
	update(t, store, func(tx pap.Tx) {
		b, a := blob(t, tx, "b.rego", "b"), blob(t, tx, "a.rego", "same")
		first = pap.Release{
			Number: 1, Digest: digestOf("1"), Author: "user:li.wei", Note: "第一", Unreviewed: true, CreatedAt: now,
			Files: []pap.ReleaseFile{b, a},
		}
		second = pap.Release{Number: 2, Digest: digestOf("2"), Author: "x", Restores: 1, Source: "git+https://git.example/policies", Commit: "4f2a", CreatedAt: now}
		is(t, "a number ahead", tx.InsertRelease(second), pap.ErrConflict)
		is(t, "number zero", tx.InsertRelease(pap.Release{CreatedAt: now}), pap.ErrConflict)
		if err := tx.InsertRelease(first); err != nil {
			t.Fatal(err)
		}
		is(t, "the same number", tx.InsertRelease(first), pap.ErrConflict)
		first.Files = []pap.ReleaseFile{a, b} // they come back sorted
	})
	update(t, store, func(tx pap.Tx) {
		if err := tx.InsertRelease(second); err != nil {
			t.Fatal(err)
		}
		is(t, "an older number", tx.InsertRelease(first), pap.ErrConflict)
		is(t, "the largest number", tx.InsertRelease(pap.Release{Number: ^uint64(0)}), pap.ErrConflict)
		same(t, "head inside", must[authz.Revision](t)(tx.Head()), authz.Revision{Release: 2})
	})
	view(t, store, func(tx pap.Tx) {
		same(t, "first", must[pap.Release](t)(tx.Release(1)), first)
		same(t, "second", must[pap.Release](t)(tx.Release(2)), second)
		_, err := tx.Release(3)
		is(t, "third", err, pap.ErrNotFound)
		_, err = tx.Release(^uint64(0))
		is(t, "the largest", err, pap.ErrNotFound)
		bare := first
		bare.Files = nil
		same(t, "all", must[[]pap.Release](t)(tx.Releases(0, 10)), []pap.Release{second, bare})
		same(t, "first page", must[[]pap.Release](t)(tx.Releases(0, 1)), []pap.Release{second})
		same(t, "second page", must[[]pap.Release](t)(tx.Releases(2, 1)), []pap.Release{bare})
		same(t, "past the end", must[[]pap.Release](t)(tx.Releases(1, 1)), nil)
		same(t, "no limit", must[[]pap.Release](t)(tx.Releases(0, 0)), nil)
	})
}

func testReleaseNeedsBlobs(t *testing.T, d Driver) {
	store := d.open(t)
	update(t, store, func(tx pap.Tx) {
		stored := blob(t, tx, "a.rego", "a")
		missing := pap.ReleaseFile{Path: "b.rego", Digest: digestOf("b")}
		is(t, "missing blob", tx.InsertRelease(pap.Release{Number: 1, CreatedAt: now, Files: []pap.ReleaseFile{stored, missing}}), pap.ErrNotFound)
		is(t, "path twice", tx.InsertRelease(pap.Release{Number: 1, CreatedAt: now, Files: []pap.ReleaseFile{stored, stored}}), pap.ErrConflict)
		same(t, "head", must[authz.Revision](t)(tx.Head()), authz.Revision{})
		if err := tx.InsertRelease(pap.Release{Number: 1, CreatedAt: now, Files: []pap.ReleaseFile{stored}}); err != nil {
			t.Errorf("after the refusals: %v", err)
		}
	})
}

func testBlobs(t *testing.T, d Driver) {
	store := d.open(t)
	update(t, store, func(tx pap.Tx) {
		for _, text := range []string{"", "a", "a", "\x00\xff"} {
			if err := tx.PutBlob(digestOf(text), []byte(text)); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
		if err := tx.PutBlob(digestOf(""), nil); err != nil {
			t.Errorf("nil: %v", err)
		}
	})
	err := store.Update(t.Context(), func(tx pap.Tx) error { return tx.PutBlob(digestOf("b"), []byte("a")) })
	if err == nil {
		t.Error("data under a digest that is not its own was stored")
	}
	view(t, store, func(tx pap.Tx) {
		for _, text := range []string{"", "a", "\x00\xff"} {
			same(t, "blob", string(must[[]byte](t)(tx.Blob(digestOf(text)))), text)
		}
		_, err := tx.Blob(digestOf("b"))
		is(t, "refused blob", err, pap.ErrNotFound)
	})
}

func testLargeBlob(t *testing.T, d Driver) {
	store := d.open(t)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	digest := bundles.Digest(sha256.Sum256(data))
	update(t, store, func(tx pap.Tx) {
		if err := tx.PutBlob(digest, data); err != nil {
			t.Fatal(err)
		}
		large := record(pap.KindGrant, "large", "acme")
		large.Body = data
		must[uint64](t)(tx.Put(large))
		doc := document("platform/large.rego", 1)
		doc.Content = data
		if err := tx.PutDocument(doc); err != nil {
			t.Fatal(err)
		}
	})
	view(t, store, func(tx pap.Tx) {
		if !bytes.Equal(must[[]byte](t)(tx.Blob(digest)), data) {
			t.Error("the blob changed")
		}
		if !bytes.Equal(must[pap.Record](t)(tx.Record(pap.KindGrant, "large")).Body, data) {
			t.Error("the record's body changed")
		}
		if !bytes.Equal(must[pap.Document](t)(tx.Document("platform/large.rego")).Content, data) {
			t.Error("the document's content changed")
		}
	})
}
