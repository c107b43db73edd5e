package sqlite

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
)

// clamp turns a counter into what SQLite's integers hold; no counter gets so far.
func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// digestColumn reads a digest column.
type digestColumn struct{ digest *bundles.Digest }

func (d digestColumn) Scan(value any) error {
	data, ok := value.([]byte)
	if !ok || len(data) != len(d.digest) {
		return errors.New("digest column does not hold a SHA-256")
	}
	copy(d.digest[:], data)
	return nil
}

const releaseColumns = "number, digest, restores, unreviewed, author, note, source, commit_id, created_at"

func scanRelease(row scanner) (pap.Release, error) {
	var r pap.Release
	err := row.Scan(&r.Number, digestColumn{&r.Digest}, &r.Restores, &r.Unreviewed, &r.Author, &r.Note, &r.Source, &r.Commit, microsColumn{&r.CreatedAt})
	return r, err
}

func scanReleaseFile(row scanner) (pap.ReleaseFile, error) {
	var f pap.ReleaseFile
	err := row.Scan(&f.Path, digestColumn{&f.Digest}, &f.Size)
	return f, err
}

// InsertRelease implements [pap.Tx].
func (t *transaction) InsertRelease(r pap.Release) error {
	if err := t.mayWrite(pap.CheckText(r.Author, r.Note, r.Source, r.Commit)); err != nil {
		return err
	}
	pages, err := pap.FilePagesOf(r.Files)
	if err != nil {
		return err
	}
	fresh, err := t.freshPages(pages)
	if err != nil {
		return err
	}
	next, err := t.exec("UPDATE head SET release = ? WHERE release = ?", clamp(r.Number), clamp(r.Number)-1)
	if err != nil {
		return t.fail(err, "store release %d", r.Number)
	}
	if !next {
		return pap.ErrConflict
	}
	if _, err := t.exec("INSERT INTO releases ("+releaseColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		r.Number, r.Digest[:], clamp(r.Restores), r.Unreviewed, r.Author, r.Note, r.Source, r.Commit, r.CreatedAt.UnixMicro()); err != nil {
		return t.fail(err, "store release %d", r.Number)
	}
	for _, p := range fresh {
		if _, err := t.exec("INSERT INTO pages (digest) VALUES (?)", p.Digest[:]); err != nil {
			return t.fail(err, "store files of release %d", r.Number)
		}
		if _, err := t.exec("INSERT INTO page_files (page, path, digest, size) SELECT last_insert_rowid(), value ->> 0, unhex(value ->> 1), value ->> 2 FROM json_each(?)", listOf(p.Files)); err != nil {
			return t.fail(err, "store files of release %d", r.Number)
		}
	}
	if _, err := t.exec("INSERT INTO release_pages (release, page) SELECT ?, id FROM pages WHERE digest IN (SELECT unhex(value) FROM json_each(?))",
		r.Number, listOfDigests(pap.DigestsOf(pages))); err != nil {
		return t.fail(err, "store files of release %d", r.Number)
	}
	t.pages.Keep(pages)
	return nil
}

// listOf is how one statement is given many files.
func listOf(files []pap.ReleaseFile) string {
	list := make([][3]any, len(files))
	for i, f := range files {
		list[i] = [3]any{f.Path, hex.EncodeToString(f.Digest[:]), f.Size}
	}
	return jsonText(list)
}

func listOfDigests(digests []bundles.Digest) string {
	list := make([]string, len(digests))
	for i, d := range digests {
		list[i] = hex.EncodeToString(d[:])
	}
	return jsonText(list)
}

func jsonText(list any) string {
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // texts and numbers can always be written
	}
	return string(text)
}

// freshPages returns the pages that are not stored, and refuses what would fail
// later and then end the transaction. The contents of stored ones are stored.
func (t *transaction) freshPages(pages []pap.FilePage) ([]pap.FilePage, error) {
	missing, err := collect(t.ctx, t.sql, scanInt, math.MaxInt, "SELECT key FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM pages WHERE digest = unhex(value)) ORDER BY key LIMIT ?",
		listOfDigests(pap.DigestsOf(pages)))
	if err != nil {
		return nil, t.fail(err, "look for the pages of a release")
	}
	fresh := make([]pap.FilePage, len(missing))
	for i, at := range missing {
		fresh[i] = pages[at]
		var path string
		err := t.row("SELECT value ->> 0 FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE digest = unhex(value ->> 1)) LIMIT 1", listOf(fresh[i].Files)).Scan(&path)
		if err == nil {
			return nil, fmt.Errorf("content of %q: %w", path, pap.ErrNotFound)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return nil, t.fail(err, "look for the contents of a release")
		}
	}
	return fresh, nil
}

func scanInt(row scanner) (n int, err error) {
	err = row.Scan(&n)
	return n, err
}

// Release implements [pap.Tx].
func (t *transaction) Release(number uint64) (pap.Release, error) {
	r, err := scanRelease(t.row("SELECT "+releaseColumns+" FROM releases WHERE number = ?", clamp(number)))
	if errors.Is(err, sql.ErrNoRows) {
		return pap.Release{}, pap.ErrNotFound
	}
	if err != nil {
		return pap.Release{}, t.fail(err, "read release %d", number)
	}
	if r.Files, err = t.releaseFiles(r.Number); err != nil {
		return pap.Release{}, t.fail(err, "read files of release %d", number)
	}
	return r, nil
}

// releaseFiles lists a release's files: by its pages, or by its own list, which
// one has that a program stored that did not know pages.
func (t *transaction) releaseFiles(number uint64) ([]pap.ReleaseFile, error) {
	pages, err := collect(t.ctx, t.sql, scanDigest, math.MaxInt, "SELECT digest FROM release_pages JOIN pages ON id = page WHERE release = ? LIMIT ?", number)
	if err != nil {
		return nil, err
	}
	if len(pages) == 0 {
		return collect(t.ctx, t.sql, scanReleaseFile, math.MaxInt, "SELECT path, digest, size FROM release_lists WHERE release = ? ORDER BY path LIMIT ?", number)
	}
	return t.pages.Files(pages, t.readPages)
}

func scanDigest(row scanner) (d bundles.Digest, err error) {
	err = row.Scan(digestColumn{&d})
	return d, err
}

// readPages reads stored pages.
func (t *transaction) readPages(digests []bundles.Digest) (map[bundles.Digest][]pap.ReleaseFile, error) {
	pages := make(map[bundles.Digest][]pap.ReleaseFile, len(digests))
	for _, d := range digests {
		files, err := collect(t.ctx, t.sql, scanReleaseFile, math.MaxInt, "SELECT path, digest, size FROM page_files WHERE page = (SELECT id FROM pages WHERE digest = ?) ORDER BY path LIMIT ?", d[:])
		if err != nil {
			return nil, err
		}
		pages[d] = files
	}
	return pages, nil
}

// Releases implements [pap.Tx].
func (t *transaction) Releases(before uint64, limit int) ([]pap.Release, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	list, err := collect(t.ctx, t.sql, scanRelease, limit, "SELECT "+releaseColumns+" FROM releases WHERE number < ? ORDER BY number DESC LIMIT ?", clamp(before))
	if err != nil {
		return nil, t.fail(err, "list releases")
	}
	return list, nil
}

// PutBlob implements [pap.Tx].
func (t *transaction) PutBlob(digest bundles.Digest, data []byte) error {
	if err := t.mayWrite(); err != nil {
		return err
	}
	if bundles.Digest(sha256.Sum256(data)) != digest {
		return t.fail(errors.New("the data has another digest"), "store blob %s", digest)
	}
	if _, err := t.exec("INSERT INTO blobs (digest, data) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", digest[:], notNull(data)); err != nil {
		return t.fail(err, "store blob %s", digest)
	}
	return nil
}

// Blob implements [pap.Tx].
func (t *transaction) Blob(digest bundles.Digest) ([]byte, error) {
	var data []byte
	err := t.row("SELECT data FROM blobs WHERE digest = ?", digest[:]).Scan(bytesColumn{&data})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, pap.ErrNotFound
	}
	if err != nil {
		return nil, t.fail(err, "read blob %s", digest)
	}
	return data, nil
}

// Blobs implements [pap.Tx].
func (t *transaction) Blobs(digests []bundles.Digest) ([][]byte, error) {
	blobs, err := collect(t.ctx, t.sql, scanBytes, math.MaxInt, "SELECT data FROM json_each(?) JOIN blobs ON digest = unhex(value) ORDER BY key LIMIT ?", listOfDigests(digests))
	if err != nil {
		return nil, t.fail(err, "read %d blobs", len(digests))
	}
	if len(blobs) != len(digests) {
		return nil, fmt.Errorf("%d of %d blobs: %w", len(digests)-len(blobs), len(digests), pap.ErrNotFound)
	}
	return blobs, nil
}

func scanBytes(row scanner) (data []byte, err error) {
	err = row.Scan(bytesColumn{&data})
	return data, err
}
