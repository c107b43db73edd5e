package sqlite

import (
	"database/sql"
	"errors"

	"github.com/xiezhi-project/xiezhi/pap"
)

const logColumns = "log.position, log.kind, log.key, log.tenant, log.at, log.body"

func scanRecord(row scanner) (pap.Record, error) {
	var r pap.Record
	err := row.Scan(&r.Position, &r.Kind, &r.Key, &r.Tenant, microsColumn{&r.At}, bytesColumn{&r.Body})
	return r, err
}

// Put implements [pap.Tx].
func (t *transaction) Put(r pap.Record) (uint64, error) {
	if err := t.mayWrite(pap.CheckKeys(string(r.Kind), r.Key, r.Tenant)); err != nil {
		return 0, err
	}
	var position uint64
	if err := t.row("UPDATE head SET position = position + 1 RETURNING position").Scan(&position); err != nil {
		return 0, t.fail(err, "put %s %q", r.Kind, r.Key)
	}
	if _, err := t.exec("INSERT INTO log (position, kind, key, tenant, at, body) VALUES (?, ?, ?, ?, ?, ?)",
		position, r.Kind, r.Key, r.Tenant, r.At.UnixMicro(), notNull(r.Body)); err != nil {
		return 0, t.fail(err, "put %s %q", r.Kind, r.Key)
	}
	if _, err := t.exec(`INSERT INTO records (kind, key, tenant, position) VALUES (?, ?, ?, ?)
		ON CONFLICT (kind, key) DO UPDATE SET tenant = excluded.tenant, position = excluded.position`,
		r.Kind, r.Key, r.Tenant, position); err != nil {
		return 0, t.fail(err, "put %s %q", r.Kind, r.Key)
	}
	return position, nil
}

// Record implements [pap.Tx].
func (t *transaction) Record(kind pap.Kind, key string) (pap.Record, error) {
	if err := pap.CheckText(string(kind), key); err != nil {
		return pap.Record{}, err
	}
	r, err := scanRecord(t.row("SELECT "+logColumns+" FROM records JOIN log USING (position) WHERE records.kind = ? AND records.key = ?", kind, key))
	if errors.Is(err, sql.ErrNoRows) {
		return pap.Record{}, pap.ErrNotFound
	}
	if err != nil {
		return pap.Record{}, t.fail(err, "read %s %q", kind, key)
	}
	return r, nil
}

// Records implements [pap.Tx].
func (t *transaction) Records(kind pap.Kind, tenant, after string, limit int) ([]pap.Record, error) {
	if err := pap.CheckText(string(kind), tenant, after); err != nil {
		return nil, err
	}
	query, args := "SELECT "+logColumns+" FROM records JOIN log USING (position) WHERE records.kind = ? AND records.key > ?", []any{kind, after}
	if tenant != pap.AnyTenant {
		query, args = query+" AND records.tenant = ?", append(args, tenant)
	}
	list, err := collect(t.ctx, t.sql, scanRecord, limit, query+" ORDER BY records.key LIMIT ?", args...)
	if err != nil {
		return nil, t.fail(err, "list %s records", kind)
	}
	return list, nil
}

// Log implements [pap.Tx].
func (t *transaction) Log(after uint64, limit int) ([]pap.Record, error) {
	list, err := collect(t.ctx, t.sql, scanRecord, limit, "SELECT "+logColumns+" FROM log WHERE position > ? ORDER BY position LIMIT ?", clamp(after))
	if err != nil {
		return nil, t.fail(err, "read log after %d", after)
	}
	return list, nil
}
