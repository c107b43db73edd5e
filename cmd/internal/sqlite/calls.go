package sqlite

import (
	"database/sql"
	"errors"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

// UseGrant implements [pap.Tx].
func (t *transaction) UseGrant(grant, useKey string, max int) (bool, error) {
	if err := t.mayWrite(pap.CheckKeys(grant, useKey)); err != nil {
		return false, err
	}
	var known, used int
	if err := t.row("SELECT count(*) FILTER (WHERE use_key = ?), count(*) FROM grant_uses WHERE grant_key = ?", useKey, grant).Scan(&known, &used); err != nil {
		return false, t.fail(err, "count uses of grant %q", grant)
	}
	if known > 0 || used >= max {
		return known > 0, nil
	}
	if _, err := t.exec("INSERT INTO grant_uses (grant_key, use_key) VALUES (?, ?)", grant, useKey); err != nil {
		return false, t.fail(err, "use grant %q", grant)
	}
	return true, nil
}

// GrantUses implements [pap.Tx].
func (t *transaction) GrantUses(after pap.GrantUse, limit int) ([]pap.GrantUse, error) {
	if err := pap.CheckText(after.Grant, after.Key); err != nil {
		return nil, err
	}
	scan := func(row scanner) (use pap.GrantUse, err error) { return use, row.Scan(&use.Grant, &use.Key) }
	list, err := collect(t.ctx, t.sql, scan, limit,
		"SELECT grant_key, use_key FROM grant_uses WHERE (grant_key, use_key) > (?, ?) ORDER BY grant_key, use_key LIMIT ?", after.Grant, after.Key)
	if err != nil {
		return nil, t.fail(err, "list uses of grants")
	}
	return list, nil
}

// Replay implements [pap.Tx].
func (t *transaction) Replay(caller, key string) (pap.Replay, error) {
	if err := pap.CheckText(caller, key); err != nil {
		return pap.Replay{}, err
	}
	r := pap.Replay{Caller: caller, Key: key}
	err := t.row("SELECT body_digest, status, response, at FROM replays WHERE caller = ? AND key = ?", caller, key).
		Scan(digestColumn{&r.BodyDigest}, &r.Status, bytesColumn{&r.Response}, microsColumn{&r.At})
	if errors.Is(err, sql.ErrNoRows) {
		return pap.Replay{}, pap.ErrNotFound
	}
	if err != nil {
		return pap.Replay{}, t.fail(err, "read stored answer")
	}
	return r, nil
}

// PutReplay implements [pap.Tx].
func (t *transaction) PutReplay(r pap.Replay) error {
	if err := t.mayWrite(pap.CheckKeys(r.Caller, r.Key)); err != nil {
		return err
	}
	stored, err := t.exec("INSERT INTO replays (caller, key, body_digest, status, response, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (caller, key) DO NOTHING",
		r.Caller, r.Key, r.BodyDigest[:], r.Status, notNull(r.Response), r.At.UnixMicro())
	if err != nil {
		return t.fail(err, "store answer")
	}
	if !stored {
		return pap.ErrConflict
	}
	return nil
}

// ForgetReplays implements [pap.Tx].
func (t *transaction) ForgetReplays(before time.Time) error {
	if err := t.mayWrite(); err != nil {
		return err
	}
	if _, err := t.exec("DELETE FROM replays WHERE at < ?", before.UnixMicro()); err != nil {
		return t.fail(err, "forget stored answers")
	}
	return nil
}
