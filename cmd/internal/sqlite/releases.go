package sqlite

import (
	"crypto/sha256"
	"database/sql"
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
	if err := t.checkFiles(r.Files); err != nil {
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
	for _, f := range r.Files {
		if _, err := t.exec("INSERT INTO release_files (release, path, digest, size) VALUES (?, ?, ?, ?)", r.Number, f.Path, f.Digest[:], f.Size); err != nil {
			return t.fail(err, "store release %d, file %q", r.Number, f.Path)
		}
	}
	return nil
}

// checkFiles refuses what would fail later and then end the transaction.
func (t *transaction) checkFiles(files []pap.ReleaseFile) error {
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		if err := pap.CheckKeys(f.Path); err != nil {
			return err
		}
		if seen[f.Path] {
			return fmt.Errorf("file %q of the release: %w", f.Path, pap.ErrConflict)
		}
		seen[f.Path] = true
	}
	for _, f := range files {
		var stored bool
		if err := t.row("SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?)", f.Digest[:]).Scan(&stored); err != nil {
			return t.fail(err, "look for the content of %q", f.Path)
		}
		if !stored {
			return fmt.Errorf("content %s of %q: %w", f.Digest, f.Path, pap.ErrNotFound)
		}
	}
	return nil
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
	r.Files, err = collect(t.ctx, t.sql, scanReleaseFile, math.MaxInt, "SELECT path, digest, size FROM release_files WHERE release = ? ORDER BY path LIMIT ?", r.Number)
	if err != nil {
		return pap.Release{}, t.fail(err, "read files of release %d", number)
	}
	return r, nil
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
