package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/xiezhi-project/xiezhi/pap"
)

// KeepSeal implements [pap.PEPStore].
func (s *Store) KeepSeal(ctx context.Context, seal pap.Seal) (pap.Seal, error) {
	if err := errors.Join(pap.CheckKeys(seal.KeyID), pap.CheckText(seal.Audience, seal.Signed)); err != nil {
		return pap.Seal{}, err
	}
	audience := sha256.Sum256([]byte(seal.Audience))
	// The update that changes nothing makes the row that is there come back,
	// also when another node has just stored it.
	err := s.pool.QueryRow(ctx, `INSERT INTO seals (release, audience, key_id, signed) VALUES ($1, $2, $3, $4)
		ON CONFLICT (release, audience, key_id) DO UPDATE SET signed = seals.signed RETURNING signed`,
		clamp(seal.Release), audience[:], seal.KeyID, seal.Signed).Scan(&seal.Signed)
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
	handle, end, err := s.begin(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	defer end()
	scan := func(row pgx.Row) (pap.Seal, error) {
		seal := pap.Seal{Release: release, Audience: audience}
		return seal, row.Scan(&seal.KeyID, &seal.Signed)
	}
	list, err := collect(ctx, handle, scan, math.MaxInt, "SELECT key_id, signed FROM seals WHERE release = $1 AND audience = $2 ORDER BY key_id LIMIT $3",
		clamp(release), digest[:])
	if err != nil {
		return nil, fmt.Errorf("list the seals of release %d: %w", release, err)
	}
	return list, nil
}

const putPEPs = `INSERT INTO peps (key, id, tenant, tenants, labels, connected, kind, release, position, rejected, honours_until, seen_at, offered, body)
	SELECT key, id, tenant, tenants::jsonb, labels::jsonb, connected, kind, release, position, rejected, honours_until, seen_at, offered, body
	FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[],
		$11::timestamptz[], $12::timestamptz[], $13::bigint[], $14::text[])
		AS p (key, id, tenant, tenants, labels, connected, kind, release, position, rejected, honours_until, seen_at, offered, body)
	ON CONFLICT (key) DO UPDATE SET id = excluded.id, tenant = excluded.tenant, tenants = excluded.tenants, labels = excluded.labels,
		connected = excluded.connected, kind = excluded.kind, release = excluded.release, position = excluded.position,
		rejected = excluded.rejected, honours_until = excluded.honours_until, seen_at = excluded.seen_at,
		offered = greatest(peps.offered, excluded.offered), body = excluded.body
	WHERE peps.seen_at <= excluded.seen_at
	RETURNING key, tenant, xmax = 0` // no transaction has locked a row before that is new

// offerPEPs keeps what PEPs were sent also of states that were not stored.
const offerPEPs = `UPDATE peps SET offered = p.offered FROM unnest($1::text[], $2::bigint[]) AS p (key, offered)
	WHERE peps.key = p.key AND peps.offered < p.offered`

// PutPEPs implements [pap.PEPStore]. The first statement locks all rows, in
// order of their keys, so that nodes do not wait for each other in a circle.
func (s *Store) PutPEPs(ctx context.Context, peps []pap.PEP) error {
	newest, err := pap.NewestPEPs(peps)
	if err != nil || len(newest) == 0 {
		return err
	}
	var keys, ids, owners, tenants, labels, kinds, bodies []string
	var connected []bool
	var releases, positions, rejected, offered []int64
	var honours, seen []time.Time
	for _, p := range newest {
		served, bears, body, err := p.Columns()
		if err != nil {
			return err
		}
		keys, ids, owners = append(keys, p.Key), append(ids, p.ID), append(owners, p.Tenant)
		tenants, labels, bodies = append(tenants, served), append(labels, bears), append(bodies, body)
		connected, kinds, rejected = append(connected, p.Connected), append(kinds, p.Kind), append(rejected, clamp(p.RejectedRelease()))
		releases, positions = append(releases, clamp(p.Revision.Release)), append(positions, clamp(p.Revision.Position))
		honours, seen, offered = append(honours, p.HonoursUntil), append(seen, p.SeenAt), append(offered, clamp(p.Offered))
	}
	var refused []string
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, putPEPs, keys, ids, owners, tenants, labels, connected, kinds, releases, positions, rejected, honours, seen, offered, bodies)
		if err != nil {
			return err
		}
		added := map[string][]string{}
		var key, tenant string
		var isNew bool
		stored, err := pgx.ForEachRow(rows, []any{&key, &tenant, &isNew}, func() error {
			if isNew {
				added[tenant] = append(added[tenant], key)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if stored.RowsAffected() < int64(len(newest)) {
			if _, err := tx.Exec(ctx, offerPEPs, keys, offered); err != nil {
				return err
			}
		}
		refused, err = s.makeRoom(ctx, tx, pap.NewestSeen(newest), added)
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

// makeRoom holds tenants to their bound and returns the keys that are refused.
// Rows that another node is writing stay. Two nodes that add some at one time
// may together exceed the bound by what one of them adds.
func (s *Store) makeRoom(ctx context.Context, tx pgx.Tx, now time.Time, added map[string][]string) (refused []string, err error) {
	for tenant, keys := range added {
		if tenant == "" {
			continue
		}
		count := 0
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM peps WHERE tenant = $1", tenant).Scan(&count); err != nil {
			return nil, err
		}
		over, err := pap.MakeRoom(count, s.pepsPerTenant, keys, func(excess int) (int, error) {
			result, err := tx.Exec(ctx, `DELETE FROM peps WHERE key IN (SELECT key FROM peps
				WHERE tenant = $1 AND NOT (connected AND seen_at >= $2) AND honours_until <= $3 ORDER BY seen_at LIMIT $4 FOR UPDATE SKIP LOCKED)`,
				tenant, now.Add(-pap.PEPSilence), now, excess)
			return int(result.RowsAffected()), err
		})
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM peps WHERE key = ANY ($1)", over); err != nil {
			return nil, err
		}
		refused = append(refused, over...)
	}
	return refused, nil
}

// PEPs implements [pap.PEPStore].
func (s *Store) PEPs(ctx context.Context, filter pap.PEPFilter, after string, limit int) ([]pap.PEP, error) {
	q, err := pepQuery("body, offered", filter, after)
	if err != nil {
		return nil, err
	}
	handle, end, err := s.begin(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	defer end()
	scan := func(row pgx.Row) (p pap.PEP, err error) {
		var body string
		var offered int64
		if err := row.Scan(&body, &offered); err != nil {
			return p, err
		}
		err = json.Unmarshal([]byte(body), &p)
		p.Offered = uint64(offered)
		return p, err
	}
	list, err := collect(ctx, handle, scan, limit, q.orderBy("key"), q.args...)
	if err != nil {
		return nil, fmt.Errorf("list PEPs: %w", err)
	}
	return list, nil
}

// CountPEPs implements [pap.PEPStore].
func (s *Store) CountPEPs(ctx context.Context, filter pap.PEPFilter) (count int, err error) {
	q, err := pepQuery("count(*)", filter, "")
	if err != nil {
		return 0, err
	}
	handle, end, err := s.begin(ctx, snapshot)
	if err != nil {
		return 0, err
	}
	defer end()
	if err := handle.QueryRow(ctx, q.text, q.args...).Scan(&count); err != nil {
		return 0, fmt.Errorf("count PEPs: %w", err)
	}
	return count, nil
}

func pepQuery(what string, f pap.PEPFilter, after string) (query, error) {
	if err := f.Check(after); err != nil {
		return query{}, err
	}
	q := query{"SELECT " + what + " FROM peps WHERE true", nil}
	q.and("key >", after)
	if f.Key != "" {
		q.and("key =", f.Key)
	}
	switch f.Tenant {
	case "", pap.AnyTenant:
	case pap.Platform:
		q.and("tenant =", "")
	default:
		q.and("tenant =", f.Tenant)
	}
	if f.Owners != nil {
		q.text += " AND tenant = ANY (" + q.arg(f.Owners) + ")"
	}
	if f.Serves != "" {
		q.and("tenants ?|", []string{f.Serves, pap.AnyTenant})
	}
	if err := q.choosePEPs(f); err != nil {
		return query{}, err
	}
	if f.Connected {
		q.text += " AND connected"
	}
	if !f.SeenSince.IsZero() {
		q.and("seen_at >=", f.SeenSince)
	}
	if !f.Below.IsZero() {
		q.text += fmt.Sprintf(" AND (release < %s OR position < %s)", q.arg(clamp(f.Below.Release)), q.arg(clamp(f.Below.Position)))
	}
	if !f.Holds.IsZero() {
		q.and("release >=", clamp(f.Holds.Release))
		q.and("position >=", clamp(f.Holds.Position))
	}
	if f.Rejected != 0 {
		q.and("rejected =", clamp(f.Rejected))
	}
	if f.Offered != 0 {
		q.and("offered >=", clamp(f.Offered))
	}
	if !f.Counting.IsZero() {
		q.text += fmt.Sprintf(" AND (connected AND seen_at >= %s OR honours_until > %s)", q.arg(f.Counting.Add(-pap.PEPSilence)), q.arg(f.Counting))
	}
	if f.Without != "" {
		q.and("kind <>", f.Without)
	}
	return q, nil
}

// choosePEPs adds the conditions about ids and labels.
func (q *query) choosePEPs(f pap.PEPFilter) error {
	bears := func(labels map[string]string) (string, error) {
		text, err := json.Marshal(labels)
		return "labels @> " + q.arg(string(text)) + "::jsonb", err
	}
	if len(f.Labels) > 0 {
		condition, err := bears(f.Labels)
		if err != nil {
			return err
		}
		q.text += " AND " + condition
	}
	if len(f.IDs) > 0 {
		q.text += " AND id = ANY (" + q.arg(f.IDs) + ")"
	}
	if len(f.Select.IDs)+len(f.Select.Labels) == 0 {
		return nil
	}
	chosen := "false"
	if len(f.Select.Labels) > 0 {
		var err error
		if chosen, err = bears(f.Select.Labels); err != nil {
			return err
		}
	}
	q.text += " AND (id = ANY (" + q.arg(f.Select.IDs) + "::text[]) OR " + chosen + ")"
	return nil
}

// ForgetPEPs implements [pap.PEPStore].
func (s *Store) ForgetPEPs(ctx context.Context, before time.Time) error {
	if _, err := s.pool.Exec(ctx, "DELETE FROM peps WHERE seen_at < $1", before); err != nil {
		return fmt.Errorf("forget PEPs: %w", err)
	}
	return nil
}
