package sqlite

import (
	"database/sql"
	"errors"

	"github.com/xiezhi-project/xiezhi/pap"
)

const documentColumns = "path, version, content, deleted, draft, release, layer, tenant, updated_by, updated_at"

func scanDocument(row scanner) (pap.Document, error) {
	var d pap.Document
	err := row.Scan(&d.Path, &d.Version, bytesColumn{&d.Content}, &d.Deleted, &d.Draft, &d.Release, &d.Layer, &d.Tenant, &d.UpdatedBy, microsColumn{&d.UpdatedAt})
	return d, err
}

// Document implements [pap.Tx].
func (t *transaction) Document(path string) (pap.Document, error) {
	if err := pap.CheckText(path); err != nil {
		return pap.Document{}, err
	}
	d, err := scanDocument(t.row("SELECT "+documentColumns+" FROM documents WHERE path = ? ORDER BY version DESC LIMIT 1", path))
	if errors.Is(err, sql.ErrNoRows) {
		return pap.Document{}, pap.ErrNotFound
	}
	if err != nil {
		return pap.Document{}, t.fail(err, "read document %q", path)
	}
	return d, nil
}

// PutDocument implements [pap.Tx].
func (t *transaction) PutDocument(d pap.Document) error {
	if err := t.mayWrite(pap.CheckKeys(d.Path), pap.CheckText(d.Layer, d.Tenant, d.UpdatedBy)); err != nil {
		return err
	}
	stored, err := t.exec("INSERT INTO documents ("+documentColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path, version) DO NOTHING",
		d.Path, d.Version, notNull(d.Content), d.Deleted, d.Draft, clamp(d.Release), d.Layer, d.Tenant, d.UpdatedBy, d.UpdatedAt.UnixMicro())
	if err != nil {
		return t.fail(err, "store document %q version %d", d.Path, d.Version)
	}
	if !stored {
		return pap.ErrConflict
	}
	return nil
}

// Documents implements [pap.Tx].
func (t *transaction) Documents(filter pap.DocumentFilter, after string, limit int) ([]pap.Document, error) {
	if err := pap.CheckText(filter.Prefix, filter.Layer, filter.Tenant, after); err != nil {
		return nil, err
	}
	query := "SELECT " + documentColumns + ` FROM documents AS d
		WHERE path > ? AND path >= ? AND substr(path, 1, length(?)) = ?
		AND version = (SELECT max(version) FROM documents WHERE path = d.path)`
	args := []any{after, filter.Prefix, filter.Prefix, filter.Prefix}
	if filter.Layer != "" {
		query, args = query+" AND layer = ?", append(args, filter.Layer)
	}
	if filter.Tenant != "" && filter.Tenant != pap.AnyTenant {
		query, args = query+" AND tenant = ?", append(args, filter.Tenant)
	}
	if filter.OnlyDrafts {
		query += " AND draft"
	}
	if !filter.Deleted {
		query += " AND NOT deleted"
	}
	list, err := collect(t.ctx, t.sql, scanDocument, limit, query+" ORDER BY path LIMIT ?", args...)
	if err != nil {
		return nil, t.fail(err, "list documents")
	}
	return list, nil
}

// DocumentVersions implements [pap.Tx].
func (t *transaction) DocumentVersions(path string, version int64, limit int) ([]pap.Document, error) {
	if err := pap.CheckText(path); err != nil {
		return nil, err
	}
	list, err := collect(t.ctx, t.sql, scanDocument, limit,
		"SELECT "+documentColumns+" FROM documents WHERE (path, version) > (?, ?) ORDER BY path, version LIMIT ?", path, version)
	if err != nil {
		return nil, t.fail(err, "list document versions")
	}
	return list, nil
}

// MarkPublished implements [pap.Tx].
func (t *transaction) MarkPublished(path string, version int64, release uint64) error {
	if err := t.mayWrite(pap.CheckText(path)); err != nil {
		return err
	}
	found, err := t.exec("UPDATE documents SET draft = 0, release = ? WHERE path = ? AND version = ?", clamp(release), path, version)
	if err != nil {
		return t.fail(err, "mark document %q version %d published", path, version)
	}
	if !found {
		return pap.ErrNotFound
	}
	return nil
}
