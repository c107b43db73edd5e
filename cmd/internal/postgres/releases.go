package postgres

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
)

const releaseColumns = "number, digest, restores, unreviewed, author, note, source, commit_id, created_at"

func scanRelease(row pgx.Row) (pap.Release, error) {
	var r pap.Release
	err := row.Scan(&r.Number, digestColumn{&r.Digest}, &r.Restores, &r.Unreviewed, &r.Author, &r.Note, &r.Source, &r.Commit, timeColumn{&r.CreatedAt})
	return r, err
}

func scanReleaseFile(row pgx.Row) (pap.ReleaseFile, error) {
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
	next, err := t.exec("UPDATE head SET release = $1 WHERE release = $2", clamp(r.Number), clamp(r.Number)-1)
	if err != nil {
		return t.fail(err, "store release %d", r.Number)
	}
	if !next {
		return pap.ErrConflict
	}
	if _, err := t.exec("INSERT INTO releases ("+releaseColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		r.Number, r.Digest[:], clamp(r.Restores), r.Unreviewed, r.Author, r.Note, r.Source, r.Commit, r.CreatedAt); err != nil {
		return t.fail(err, "store release %d", r.Number)
	}
	paths, digests, sizes := columns(r.Files)
	if _, err := t.exec("INSERT INTO release_files (release, path, digest, size) SELECT $1, * FROM unnest($2::text[], $3::bytea[], $4::bigint[])",
		r.Number, paths, digests, sizes); err != nil {
		return t.fail(err, "store files of release %d", r.Number)
	}
	return nil
}

// columns turns files into arrays, so that one statement sends them all.
func columns(files []pap.ReleaseFile) (paths []string, digests [][]byte, sizes []int64) {
	for _, f := range files {
		paths, digests, sizes = append(paths, f.Path), append(digests, f.Digest[:]), append(sizes, int64(f.Size))
	}
	return paths, digests, sizes
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
	paths, digests, _ := columns(files)
	var missing string
	err := t.row("SELECT path FROM unnest($1::text[], $2::bytea[]) AS f (path, digest) WHERE NOT EXISTS (SELECT FROM blobs WHERE blobs.digest = f.digest) LIMIT 1",
		paths, digests).Scan(&missing)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return t.fail(err, "look for the contents of a release")
	}
	return fmt.Errorf("content of %q: %w", missing, pap.ErrNotFound)
}

// Release implements [pap.Tx].
func (t *transaction) Release(number uint64) (pap.Release, error) {
	r, err := scanRelease(t.row("SELECT "+releaseColumns+" FROM releases WHERE number = $1", clamp(number)))
	if errors.Is(err, pgx.ErrNoRows) {
		return pap.Release{}, pap.ErrNotFound
	}
	if err != nil {
		return pap.Release{}, t.fail(err, "read release %d", number)
	}
	r.Files, err = collect(t.ctx, t.sql, scanReleaseFile, math.MaxInt, "SELECT path, digest, size FROM release_files WHERE release = $1 ORDER BY path LIMIT $2", r.Number)
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
	list, err := collect(t.ctx, t.sql, scanRelease, limit, "SELECT "+releaseColumns+" FROM releases WHERE number < $1 ORDER BY number DESC LIMIT $2", clamp(before))
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
	if _, err := t.exec("INSERT INTO blobs (digest, data) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING", digest[:], notNull(data)); err != nil {
		return t.fail(err, "store blob %s", digest)
	}
	return nil
}

// Blob implements [pap.Tx].
func (t *transaction) Blob(digest bundles.Digest) ([]byte, error) {
	var data []byte
	err := t.row("SELECT data FROM blobs WHERE digest = $1", digest[:]).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, pap.ErrNotFound
	}
	if err != nil {
		return nil, t.fail(err, "read blob %s", digest)
	}
	return data, nil
}
