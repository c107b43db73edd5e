package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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

// manyFiles are the files of a large release, all of one content.
func manyFiles(t testing.TB, tx pap.Tx, n int) []pap.ReleaseFile {
	files := make([]pap.ReleaseFile, n)
	for i := range files {
		files[i] = blob(t, tx, fmt.Sprintf("tables/plugins/t%06d.json", i), fmt.Sprint(i%7))
	}
	return files
}

func testReleasePages(t *testing.T, d Driver) {
	location := d.New(t)
	store := d.handle(t, location)
	lists := func() int { return d.Count(t, location, "SELECT count(*) FROM page_files") }
	var files []pap.ReleaseFile
	update(t, store, func(tx pap.Tx) {
		files = manyFiles(t, tx, 5000)
		if err := tx.InsertRelease(pap.Release{Number: 1, CreatedAt: now, Files: files}); err != nil {
			t.Fatal(err)
		}
	})
	written := lists()
	same(t, "files listed", written, len(files))
	next := slices.Clone(files)
	for number, change := range []func(tx pap.Tx){
		func(tx pap.Tx) { next[2500] = blob(t, tx, next[2500].Path, "changed") },
		func(tx pap.Tx) { next = slices.Insert(next, 1000, blob(t, tx, next[999].Path+".md", "new")) },
		func(pap.Tx) { next = slices.Delete(next, 0, 1) },
		func(pap.Tx) { next = slices.Clone(files) }, // all of which is stored
	} {
		r := pap.Release{Number: uint64(number) + 2, CreatedAt: now}
		update(t, store, func(tx pap.Tx) {
			change(tx)
			r.Files = next
			if err := tx.InsertRelease(r); err != nil {
				t.Fatal(err)
			}
		})
		if more := lists() - written; more > 2000 || more == 0 && number != 3 {
			t.Errorf("release %d of %d files, one of which differs, lists %d anew", r.Number, len(next), more)
		}
		written = lists()
		for _, handle := range []Store{store, d.handle(t, location)} { // one that wrote, and one that has read nothing
			view(t, handle, func(tx pap.Tx) {
				same(t, "files", must[pap.Release](t)(tx.Release(r.Number)).Files, next)
				same(t, "files of the first release", must[pap.Release](t)(tx.Release(1)).Files, files)
			})
		}
	}
	d.Exec(t, location, "UPDATE page_files SET size = size + 1")
	err := d.handle(t, location).View(t.Context(), func(tx pap.Tx) error {
		_, err := tx.Release(1)
		return err
	})
	if err == nil {
		t.Error("a page that was altered is listed")
	}
}

// A page of an update that fails is not taken for one that is stored.
func testReleasePagesUndone(t *testing.T, d Driver) {
	store := d.open(t)
	var r pap.Release
	undone := errors.New("undone")
	for _, want := range []error{undone, nil} {
		err := store.Update(t.Context(), func(tx pap.Tx) error {
			r = pap.Release{Number: 1, CreatedAt: now, Files: manyFiles(t, tx, 600)}
			if err := tx.InsertRelease(r); err != nil {
				return err
			}
			return want
		})
		is(t, "insert", err, want)
	}
	view(t, store, func(tx pap.Tx) { same(t, "files", must[pap.Release](t)(tx.Release(1)).Files, r.Files) })
}

// What a program does that was written before there were pages.
func testReleasesOfBefore(t *testing.T, d Driver) {
	location := d.New(t)
	store := d.handle(t, location)
	var files []pap.ReleaseFile
	update(t, store, func(tx pap.Tx) {
		files = manyFiles(t, tx, 600)
		if err := tx.InsertRelease(pap.Release{Number: 1, CreatedAt: now, Files: files}); err != nil {
			t.Fatal(err)
		}
	})
	for _, statement := range []string{
		"INSERT INTO releases (number, digest, restores, unreviewed, author, note, created_at) SELECT 2, digest, restores, unreviewed, author, note, created_at FROM releases",
		"INSERT INTO release_files (release, path, digest, size) SELECT 2, path, digest, size FROM release_files WHERE release = 1",
		"UPDATE head SET release = 2",
	} {
		d.Exec(t, location, statement)
	}
	view(t, store, func(tx pap.Tx) { same(t, "its release", must[pap.Release](t)(tx.Release(2)).Files, files) })
	update(t, store, func(tx pap.Tx) {
		if err := tx.InsertRelease(pap.Release{Number: 3, CreatedAt: now, Files: files[1:]}); err != nil {
			t.Error(err)
		}
	})
	same(t, "what it reads of the next", d.Count(t, location, "SELECT count(*) FROM release_files WHERE release = 3"), len(files)-1)
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
		several := must[[][]byte](t)(tx.Blobs([]bundles.Digest{digestOf("a"), digestOf(""), digestOf("\x00\xff"), digestOf("a")}))
		same(t, "blobs", several, [][]byte{[]byte("a"), {}, []byte("\x00\xff"), []byte("a")})
		same(t, "no blobs", len(must[[][]byte](t)(tx.Blobs(nil))), 0)
		_, err = tx.Blobs([]bundles.Digest{digestOf("a"), digestOf("b")})
		is(t, "one that is refused among blobs", err, pap.ErrNotFound)
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
