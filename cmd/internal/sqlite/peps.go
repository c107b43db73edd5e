package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

// KeepSeal implements [pap.PEPStore].
func (s *Store) KeepSeal(ctx context.Context, seal pap.Seal) (pap.Seal, error) {
	if err := errors.Join(pap.CheckKeys(seal.KeyID), pap.CheckText(seal.Audience, seal.Signed)); err != nil {
		return pap.Seal{}, err
	}
	audience := sha256.Sum256([]byte(seal.Audience))
	err := inTransaction(ctx, s.peps.write, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO seals (release, audience, key_id, signed) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
			clamp(seal.Release), audience[:], seal.KeyID, seal.Signed); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT signed FROM seals WHERE release = ? AND audience = ? AND key_id = ?",
			clamp(seal.Release), audience[:], seal.KeyID).Scan(&seal.Signed)
	})
	if err != nil {
		return pap.Seal{}, fmt.Errorf("keep the seal of release %d: %w", seal.Release, err)
	}
	return seal, nil
}

// Seals implements [pap.PEPStore].
func (s *Store) Seals(ctx context.Context, release uint64, audience string) ([]pap.Seal, error) {
	if err := pap.CheckText(audience); err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(audience))
	scan := func(row scanner) (pap.Seal, error) {
		seal := pap.Seal{Release: release, Audience: audience}
		return seal, row.Scan(&seal.KeyID, &seal.Signed)
	}
	list, err := collect(ctx, s.peps.read, scan, math.MaxInt, "SELECT key_id, signed FROM seals WHERE release = ? AND audience = ? ORDER BY key_id LIMIT ?",
		clamp(release), digest[:])
	if err != nil {
		return nil, fmt.Errorf("list the seals of release %d: %w", release, err)
	}
	return list, nil
}

const putPEP = `INSERT INTO peps (key, id, tenant, tenants, labels, connected, kind, release, position, rejected, honours_until, seen_at, offered, body)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (key) DO UPDATE SET id = excluded.id, tenant = excluded.tenant, tenants = excluded.tenants, labels = excluded.labels,
		connected = excluded.connected, kind = excluded.kind, release = excluded.release, position = excluded.position,
		rejected = excluded.rejected, honours_until = excluded.honours_until, seen_at = excluded.seen_at,
		offered = max(peps.offered, excluded.offered), body = excluded.body
	WHERE peps.seen_at <= excluded.seen_at`

// PutPEPs implements [pap.PEPStore].
func (s *Store) PutPEPs(ctx context.Context, peps []pap.PEP) error {
	newest, err := pap.NewestPEPs(peps)
	if err != nil || len(newest) == 0 {
		return err
	}
	var refused []string
	err = inTransaction(ctx, s.peps.write, func(tx *sql.Tx) (err error) {
		added, err := putAll(ctx, tx, newest)
		if err == nil {
			refused, err = s.makeRoom(ctx, tx, newest, added)
		}
		return err
	})
	if err == nil && len(refused) > 0 {
		err = &pap.TooManyPEPsError{Most: s.pepsPerTenant, Keys: refused}
	}
	if err != nil {
		return fmt.Errorf("store the state of %d PEPs: %w", len(newest), err)
	}
	return nil
}

// putAll stores rows and returns the keys of those that are new, by tenant.
func putAll(ctx context.Context, tx *sql.Tx, peps []pap.PEP) (added map[string][]string, err error) {
	unwatched := context.WithoutCancel(ctx) // as in InsertDecisions
	put, err := tx.PrepareContext(unwatched, putPEP)
	if err != nil {
		return nil, err
	}
	defer put.Close()
	added, err = newKeys(unwatched, tx, peps)
	if err != nil {
		return nil, err
	}
	for _, p := range peps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tenants, labels, body, err := p.Columns()
		if err != nil {
			return nil, err
		}
		result, err := put.ExecContext(unwatched, p.Key, p.ID, p.Tenant, tenants, labels, p.Connected, p.Kind,
			clamp(p.Revision.Release), clamp(p.Revision.Position), clamp(p.RejectedRelease()), p.HonoursUntil.UnixMicro(), p.SeenAt.UnixMicro(),
			clamp(p.Offered), body)
		if err == nil {
			err = offerAnyway(unwatched, tx, result, &p)
		}
		if err != nil {
			return nil, fmt.Errorf("PEP %q: %w", p.Key, err)
		}
	}
	return added, nil
}

// newKeys are the keys of PEPs that are not stored yet, by tenant.
func newKeys(ctx context.Context, tx *sql.Tx, peps []pap.PEP) (map[string][]string, error) {
	keys := make([]string, len(peps))
	for i := range peps {
		keys[i] = peps[i].Key
	}
	list, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, "SELECT key FROM peps WHERE key IN (SELECT value FROM json_each(?))", string(list))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	known := make(map[string]bool, len(peps))
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		known[key] = true
	}
	added := map[string][]string{}
	for i := range peps {
		if !known[peps[i].Key] {
			added[peps[i].Tenant] = append(added[peps[i].Tenant], peps[i].Key)
		}
	}
	return added, rows.Err()
}

// offerAnyway keeps what a PEP was sent also of a state that was not stored.
func offerAnyway(ctx context.Context, tx *sql.Tx, stored sql.Result, p *pap.PEP) error {
	rows, err := stored.RowsAffected()
	if err != nil || rows > 0 || p.Offered == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE peps SET offered = max(offered, ?) WHERE key = ?", clamp(p.Offered), p.Key)
	return err
}

// makeRoom holds tenants to their bound and returns the keys that are refused.
func (s *Store) makeRoom(ctx context.Context, tx *sql.Tx, stored []pap.PEP, added map[string][]string) (refused []string, err error) {
	now := pap.NewestSeen(stored)
	for tenant, keys := range added {
		if tenant == "" {
			continue
		}
		count := 0
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM peps WHERE tenant = ?", tenant).Scan(&count); err != nil {
			return nil, err
		}
		over, err := pap.MakeRoom(count, s.pepsPerTenant, keys, func(excess int) (int, error) {
			result, err := tx.ExecContext(ctx, `DELETE FROM peps WHERE key IN (SELECT key FROM peps
				WHERE tenant = ? AND NOT (connected AND seen_at >= ?) AND honours_until <= ? ORDER BY seen_at LIMIT ?)`,
				tenant, now.Add(-pap.PEPSilence).UnixMicro(), now.UnixMicro(), excess)
			if err != nil {
				return 0, err
			}
			left, err := result.RowsAffected()
			return int(left), err
		})
		if err != nil {
			return nil, err
		}
		for _, key := range over {
			if _, err := tx.ExecContext(ctx, "DELETE FROM peps WHERE key = ?", key); err != nil {
				return nil, err
			}
		}
		refused = append(refused, over...)
	}
	return refused, nil
}

// PEPs implements [pap.PEPStore].
func (s *Store) PEPs(ctx context.Context, filter pap.PEPFilter, after string, limit int) ([]pap.PEP, error) {
	where, args, err := pepConditions(filter, after)
	if err != nil {
		return nil, err
	}
	scan := func(row scanner) (p pap.PEP, err error) {
		var body string
		var offered int64
		if err := row.Scan(&body, &offered); err != nil {
			return p, err
		}
		err = json.Unmarshal([]byte(body), &p)
		p.Offered = uint64(offered)
		return p, err
	}
	list, err := collect(ctx, s.peps.read, scan, limit, "SELECT body, offered FROM peps"+where+" ORDER BY key LIMIT ?", args...)
	if err != nil {
		return nil, fmt.Errorf("list PEPs: %w", err)
	}
	return list, nil
}

// CountPEPs implements [pap.PEPStore].
func (s *Store) CountPEPs(ctx context.Context, filter pap.PEPFilter) (count int, err error) {
	where, args, err := pepConditions(filter, "")
	if err != nil {
		return 0, err
	}
	if err := s.peps.read.QueryRowContext(ctx, "SELECT count(*) FROM peps"+where, args...).Scan(&count); err != nil {
		return 0, fmt.Errorf("count PEPs: %w", err)
	}
	return count, nil
}

// conditions are a WHERE clause that grows.
type conditions struct {
	text string
	args []any
}

func (c *conditions) and(condition string, values ...any) {
	c.text, c.args = c.text+" AND "+condition, append(c.args, values...)
}

func pepConditions(f pap.PEPFilter, after string) (where string, args []any, err error) {
	if err := f.Check(after); err != nil {
		return "", nil, err
	}
	c := conditions{" WHERE key > ?", []any{after}}
	if f.Key != "" {
		c.and("key = ?", f.Key)
	}
	switch f.Tenant {
	case "", pap.AnyTenant:
	case pap.Platform:
		c.and("tenant = ''")
	default:
		c.and("tenant = ?", f.Tenant)
	}
	if f.Owners != nil {
		owners, err := json.Marshal(f.Owners)
		if err != nil {
			return "", nil, err
		}
		c.and("tenant IN (SELECT value FROM json_each(?))", string(owners))
	}
	if f.Serves != "" {
		c.and("EXISTS (SELECT 1 FROM json_each(peps.tenants) WHERE value IN (?, ?))", f.Serves, pap.AnyTenant)
	}
	if err := c.chosen(f); err != nil {
		return "", nil, err
	}
	if f.Connected {
		c.and("connected")
	}
	if !f.SeenSince.IsZero() {
		c.and("seen_at >= ?", f.SeenSince.UnixMicro())
	}
	if !f.Below.IsZero() {
		c.and("(release < ? OR position < ?)", clamp(f.Below.Release), clamp(f.Below.Position))
	}
	if !f.Holds.IsZero() {
		c.and("release >= ? AND position >= ?", clamp(f.Holds.Release), clamp(f.Holds.Position))
	}
	if f.Rejected != 0 {
		c.and("rejected = ?", clamp(f.Rejected))
	}
	if f.Offered != 0 {
		c.and("offered >= ?", clamp(f.Offered))
	}
	if !f.Counting.IsZero() {
		c.and("(connected AND seen_at >= ? OR honours_until > ?)", f.Counting.Add(-pap.PEPSilence).UnixMicro(), f.Counting.UnixMicro())
	}
	if f.Without != "" {
		c.and("kind <> ?", f.Without)
	}
	return c.text, c.args, nil
}

// chosen adds the conditions about ids and labels.
func (c *conditions) chosen(f pap.PEPFilter) error {
	if len(f.Labels) > 0 {
		condition, values := bears(f.Labels)
		c.and(condition, values...)
	}
	ids, err := json.Marshal(f.IDs)
	if err != nil {
		return err
	}
	if len(f.IDs) > 0 {
		c.and(oneOf, string(ids))
	}
	chosen, err := json.Marshal(f.Select.IDs)
	if err != nil {
		return err
	}
	labels := "false"
	var values []any
	if len(f.Select.Labels) > 0 {
		labels, values = bears(f.Select.Labels)
	}
	if len(f.Select.IDs)+len(f.Select.Labels) > 0 {
		c.and("("+oneOf+" OR "+labels+")", append([]any{string(chosen)}, values...)...)
	}
	return nil
}

const oneOf = "id IN (SELECT value FROM json_each(?))"

// bears is the condition that a PEP has all the labels.
func bears(labels map[string]string) (condition string, values []any) {
	var each []string
	for name, value := range labels {
		each = append(each, "EXISTS (SELECT 1 FROM json_each(peps.labels) AS l WHERE l.key = ? AND l.value = ?)")
		values = append(values, name, value)
	}
	return "(" + strings.Join(each, " AND ") + ")", values
}

// ForgetPEPs implements [pap.PEPStore].
func (s *Store) ForgetPEPs(ctx context.Context, before time.Time) error {
	if _, err := s.peps.write.ExecContext(ctx, "DELETE FROM peps WHERE seen_at < ?", before.UnixMicro()); err != nil {
		return fmt.Errorf("forget PEPs: %w", err)
	}
	return nil
}
