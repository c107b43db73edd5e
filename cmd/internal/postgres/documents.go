package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/xiezhi-project/xiezhi/pap"
)

const documentColumns = "path, version, content, deleted, draft, release, layer, tenant, updated_by, updated_at"

func scanDocument(row pgx.Row) (pap.Document, error) {
	var d pap.Document
	err := row.Scan(&d.Path, &d.Version, &d.Content, &d.Deleted, &d.Draft, &d.Release, &d.Layer, &d.Tenant, &d.UpdatedBy, timeColumn{&d.UpdatedAt})
	return d, err
}

// Document implements [pap.Tx].
func (t *transaction) Document(path string) (pap.Document, error) {
	if err := pap.CheckText(path); err != nil {
		return pap.Document{}, err
	}
	d, err := scanDocument(t.row("SELECT "+documentColumns+" FROM documents WHERE path = $1 ORDER BY version DESC LIMIT 1", path))
	if errors.Is(err, pgx.ErrNoRows) {
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
	stored, err := t.exec("INSERT INTO documents ("+documentColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (path, version) DO NOTHING",
		d.Path, d.Version, notNull(d.Content), d.Deleted, d.Draft, clamp(d.Release), d.Layer, d.Tenant, d.UpdatedBy, d.UpdatedAt)
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
	q := query{"SELECT " + documentColumns + " FROM documents AS d WHERE version = (SELECT max(version) FROM documents WHERE path = d.path)", nil}
	q.and("path >", after)
	q.and("path >=", filter.Prefix)
	q.and("path ^@", filter.Prefix) // begins with
	if filter.Layer != "" {
		q.and("layer =", filter.Layer)
	}
	if filter.Tenant != "" && filter.Tenant != pap.AnyTenant {
		q.and("tenant =", filter.Tenant)
	}
	if filter.OnlyDrafts {
		q.text += " AND draft"
	}
	if !filter.Deleted {
		q.text += " AND NOT deleted"
	}
	list, err := collect(t.ctx, t.sql, scanDocument, limit, q.orderBy("path"), q.args...)
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
		"SELECT "+documentColumns+" FROM documents WHERE (path, version) > ($1, $2) ORDER BY path, version LIMIT $3", path, version)
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
	found, err := t.exec("UPDATE documents SET draft = false, release = $1 WHERE path = $2 AND version = $3", clamp(release), path, version)
	if err != nil {
		return t.fail(err, "mark document %q version %d published", path, version)
	}
	if !found {
		return pap.ErrNotFound
	}
	return nil
}
