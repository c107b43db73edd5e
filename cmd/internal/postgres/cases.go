package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
)

func scanCase(row pgx.Row) (cheq.Case, error) { return scanJSON[cheq.Case](row) }

// scanJSON reads a row of one column, which holds JSON.
func scanJSON[T any](row pgx.Row) (v T, err error) {
	var body []byte
	if err := row.Scan(&body); err != nil {
		return v, err
	}
	return v, json.Unmarshal(body, &v)
}

// Case implements [cheq.Rows].
func (t *transaction) Case(id string) (cheq.Case, error) {
	return t.oneCase("SELECT body FROM cases WHERE id = $1", id)
}

// Asked implements [cheq.Rows].
func (t *transaction) Asked(requester cheq.Person, tenant, digest string) (cheq.Case, error) {
	return t.oneCase("SELECT body FROM cases WHERE tenant = $1 AND requester = $2 AND digest = $3 AND state = 'pending'", tenant, requester.String(), digest)
}

func (t *transaction) oneCase(query string, keys ...string) (cheq.Case, error) {
	if err := pap.CheckText(keys...); err != nil {
		return cheq.Case{}, err
	}
	args := make([]any, len(keys))
	for i := range keys {
		args[i] = keys[i]
	}
	c, err := scanCase(t.row(query, args...))
	if errors.Is(err, pgx.ErrNoRows) {
		return cheq.Case{}, cheq.ErrNotFound
	}
	if err != nil {
		return cheq.Case{}, t.fail(err, "read case %q", keys)
	}
	return c, nil
}

// PutCase implements [cheq.Rows].
func (t *transaction) PutCase(c cheq.Case) error {
	if len(c.Digests) == 0 {
		return fmt.Errorf("case %q is about no request", c.ID)
	}
	if err := t.mayWrite(pap.CheckKeys(c.ID, c.Tenant, c.Requester.String(), c.Digests[0])); err != nil {
		return err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode case %q: %w", c.ID, err)
	}
	var due *time.Time
	if !c.Due.IsZero() {
		due = &c.Due
	}
	_, err = t.exec(`INSERT INTO cases (id, tenant, requester, state, digest, opened_at, due, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, due = excluded.due, body = excluded.body`,
		c.ID, c.Tenant, c.Requester.String(), string(c.State), c.Digests[0], c.OpenedAt, due, body)
	if err != nil {
		return t.fail(err, "store case %q", c.ID)
	}
	return nil
}

// Recent implements [cheq.Rows].
func (t *transaction) Recent(requester cheq.Person, tenant string, since time.Time, limit int) ([]cheq.Case, error) {
	if err := pap.CheckText(tenant, requester.String()); err != nil {
		return nil, err
	}
	list, err := collect(t.ctx, t.sql, scanCase, limit,
		"SELECT body FROM cases WHERE tenant = $1 AND requester = $2 AND (state = 'pending' OR opened_at >= $3) ORDER BY id DESC LIMIT $4",
		tenant, requester.String(), since)
	if err != nil {
		return nil, t.fail(err, "list the cases of %q", requester)
	}
	return list, nil
}

// Cases implements [cheq.Rows].
func (t *transaction) Cases(f cheq.Filter, before string, limit int) ([]cheq.Case, error) {
	q := query{"SELECT body FROM cases WHERE true", nil}
	requester := ""
	if f.Requester != nil {
		requester = f.Requester.String()
	}
	for _, column := range []struct{ condition, text string }{
		{"tenant =", f.Tenant}, {"state =", string(f.State)}, {"requester =", requester}, {"id <", before},
	} {
		if err := pap.CheckText(column.text); err != nil {
			return nil, err
		}
		if column.text != "" {
			q.and(column.condition, column.text)
		}
	}
	list, err := collect(t.ctx, t.sql, scanCase, limit, q.orderBy("id DESC"), q.args...)
	if err != nil {
		return nil, t.fail(err, "list cases")
	}
	return list, nil
}

// Due implements [cheq.Rows].
func (t *transaction) Due(now time.Time, limit int) ([]string, error) {
	list, err := collect(t.ctx, t.sql, func(row pgx.Row) (id string, err error) { return id, row.Scan(&id) }, limit,
		"SELECT id FROM cases WHERE due <= $1 ORDER BY due, id LIMIT $2", now)
	if err != nil {
		return nil, t.fail(err, "list the cases that are due")
	}
	return list, nil
}

// WakeCase implements [pap.CaseGrants].
func (t *transaction) WakeCase(id string) error {
	if err := t.mayWrite(pap.CheckKeys(id)); err != nil {
		return err
	}
	if _, err := t.exec("UPDATE cases SET due = opened_at WHERE id = $1 AND state = 'approved'", id); err != nil {
		return t.fail(err, "wake case %q", id)
	}
	return nil
}

// CountedUses implements [pap.CaseGrants].
func (t *transaction) CountedUses(grant string) (counted int, err error) {
	if err := pap.CheckText(grant); err != nil {
		return 0, err
	}
	if err := t.row("SELECT count(*) FROM grant_uses WHERE grant_key = $1", grant).Scan(&counted); err != nil {
		return 0, t.fail(err, "count uses of grant %q", grant)
	}
	return counted, nil
}

// Note implements [cheq.Rows].
func (t *transaction) Note(c *cheq.Case, e cheq.Event) error {
	if err := t.mayWrite(pap.CheckKeys(c.ID)); err != nil {
		return err
	}
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode an event of case %q: %w", c.ID, err)
	}
	_, err = t.exec("INSERT INTO case_events (case_id, number, body) SELECT $1, coalesce(max(number), 0) + 1, $2 FROM case_events WHERE case_id = $1", c.ID, body)
	if err != nil {
		return t.fail(err, "store an event of case %q", c.ID)
	}
	return nil
}

// Timeline implements [cheq.Rows].
func (t *transaction) Timeline(id string, limit int) ([]cheq.Event, error) {
	if err := pap.CheckText(id); err != nil {
		return nil, err
	}
	list, err := collect(t.ctx, t.sql, scanJSON[cheq.Event], limit, "SELECT body FROM case_events WHERE case_id = $1 ORDER BY number LIMIT $2", id)
	if err != nil {
		return nil, t.fail(err, "read the timeline of case %q", id)
	}
	return list, nil
}
