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
	pages, err := pap.FilePagesOf(r.Files)
	if err != nil {
		return err
	}
	digests := digestColumns(pap.DigestsOf(pages))
	fresh, err := t.freshPages(pages, digests)
	if err != nil {
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
	for _, p := range fresh {
		paths, files, sizes := columns(p.Files)
		if _, err := t.exec(`WITH page AS (INSERT INTO pages (digest) VALUES ($1) RETURNING id)
			INSERT INTO page_files (page, path, digest, size) SELECT page.id, f.* FROM page, unnest($2::text[], $3::bytea[], $4::bigint[]) AS f`,
			p.Digest[:], paths, files, sizes); err != nil {
			return t.fail(err, "store files of release %d", r.Number)
		}
	}
	if _, err := t.exec("INSERT INTO release_pages (release, page) SELECT $1, id FROM pages WHERE digest = ANY ($2)", r.Number, digests); err != nil {
		return t.fail(err, "store files of release %d", r.Number)
	}
	t.pages.Keep(pages)
	return nil
}

func digestColumns(digests []bundles.Digest) [][]byte {
	column := make([][]byte, len(digests))
	for i := range digests {
		column[i] = digests[i][:]
	}
	return column
}

// columns turns files into arrays, so that one statement sends them all.
func columns(files []pap.ReleaseFile) (paths []string, digests [][]byte, sizes []int64) {
	for i := range files {
		f := &files[i]
		paths, digests, sizes = append(paths, f.Path), append(digests, f.Digest[:]), append(sizes, int64(f.Size))
	}
	return paths, digests, sizes
}

// freshPages returns the pages that are not stored, and refuses what would fail
// later and then end the transaction. The contents of stored ones are stored.
func (t *transaction) freshPages(pages []pap.FilePage, digests [][]byte) ([]pap.FilePage, error) {
	missing, err := collect(t.ctx, t.sql, scanInt, math.MaxInt, `SELECT n FROM unnest($1::bytea[]) WITH ORDINALITY AS p (digest, n)
		WHERE NOT EXISTS (SELECT FROM pages WHERE pages.digest = p.digest) ORDER BY n LIMIT $2`, digests)
	if err != nil {
		return nil, t.fail(err, "look for the pages of a release")
	}
	var fresh []pap.FilePage
	var paths []string
	var contents [][]byte
	for _, n := range missing {
		p := pages[n-1]
		fresh = append(fresh, p)
		some, of, _ := columns(p.Files)
		paths, contents = append(paths, some...), append(contents, of...)
	}
	var path string
	err = t.row("SELECT path FROM unnest($1::text[], $2::bytea[]) AS f (path, digest) WHERE NOT EXISTS (SELECT FROM blobs WHERE blobs.digest = f.digest) LIMIT 1",
		paths, contents).Scan(&path)
	if errors.Is(err, pgx.ErrNoRows) {
		return fresh, nil
	}
	if err != nil {
		return nil, t.fail(err, "look for the contents of a release")
	}
	return nil, fmt.Errorf("content of %q: %w", path, pap.ErrNotFound)
}

func scanInt(row pgx.Row) (n int, err error) {
	err = row.Scan(&n)
	return n, err
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
	if r.Files, err = t.releaseFiles(r.Number); err != nil {
		return pap.Release{}, t.fail(err, "read files of release %d", number)
	}
	return r, nil
}

// releaseFiles lists a release's files: by its pages, or by its own list, which
// one has that a program stored that did not know pages.
func (t *transaction) releaseFiles(number uint64) ([]pap.ReleaseFile, error) {
	pages, err := collect(t.ctx, t.sql, scanDigest, math.MaxInt, "SELECT digest FROM release_pages JOIN pages ON id = page WHERE release = $1 LIMIT $2", number)
	if err != nil {
		return nil, err
	}
	if len(pages) == 0 {
		return collect(t.ctx, t.sql, scanReleaseFile, math.MaxInt, "SELECT path, digest, size FROM release_lists WHERE release = $1 ORDER BY path LIMIT $2", number)
	}
	return t.pages.Files(pages, t.readPages)
}

func scanDigest(row pgx.Row) (d bundles.Digest, err error) {
	err = row.Scan(digestColumn{&d})
	return d, err
}

// pagedFile is a file and the page that it stands in.
type pagedFile struct {
	page bundles.Digest
	file pap.ReleaseFile
}

func scanPagedFile(row pgx.Row) (f pagedFile, err error) {
	err = row.Scan(digestColumn{&f.page}, &f.file.Path, digestColumn{&f.file.Digest}, &f.file.Size)
	return f, err
}

// readPages reads stored pages.
func (t *transaction) readPages(digests []bundles.Digest) (map[bundles.Digest][]pap.ReleaseFile, error) {
	files, err := collect(t.ctx, t.sql, scanPagedFile, math.MaxInt, "SELECT pages.digest, path, f.digest, size FROM pages JOIN page_files f ON page = id WHERE pages.digest = ANY ($1) ORDER BY path LIMIT $2", digestColumns(digests))
	if err != nil {
		return nil, err
	}
	pages := make(map[bundles.Digest][]pap.ReleaseFile, len(digests))
	for _, f := range files {
		pages[f.page] = append(pages[f.page], f.file)
	}
	return pages, nil
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

// Blobs implements [pap.Tx].
func (t *transaction) Blobs(digests []bundles.Digest) ([][]byte, error) {
	blobs, err := collect(t.ctx, t.sql, scanBytes, math.MaxInt, "SELECT data FROM unnest($1::bytea[]) WITH ORDINALITY AS d (digest, n) JOIN blobs USING (digest) ORDER BY n LIMIT $2", digestColumns(digests))
	if err != nil {
		return nil, t.fail(err, "read %d blobs", len(digests))
	}
	if len(blobs) != len(digests) {
		return nil, fmt.Errorf("%d of %d blobs: %w", len(digests)-len(blobs), len(digests), pap.ErrNotFound)
	}
	return blobs, nil
}

func scanBytes(row pgx.Row) (data []byte, err error) {
	err = row.Scan(&data)
	return data, err
}
