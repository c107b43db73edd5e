package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
)

func scanCase(row scanner) (cheq.Case, error) { return scanJSON[cheq.Case](row) }

// scanJSON reads a row of one column, which holds JSON.
func scanJSON[T any](row scanner) (v T, err error) {
	var body []byte
	if err := row.Scan(&body); err != nil {
		return v, err
	}
	return v, json.Unmarshal(body, &v)
}

// Case implements [cheq.Rows].
func (t *transaction) Case(id string) (cheq.Case, error) {
	return t.oneCase("SELECT body FROM cases WHERE id = ?", id)
}

// Asked implements [cheq.Rows].
func (t *transaction) Asked(requester cheq.Person, tenant, digest string) (cheq.Case, error) {
	return t.oneCase("SELECT body FROM cases WHERE tenant = ? AND requester = ? AND digest = ? AND state = 'pending'", tenant, requester.String(), digest)
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
	if errors.Is(err, sql.ErrNoRows) {
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
	var due int64
	if !c.Due.IsZero() {
		due = c.Due.UnixMicro()
	}
	_, err = t.exec(`INSERT INTO cases (id, tenant, requester, state, digest, opened_at, due, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, due = excluded.due, body = excluded.body`,
		c.ID, c.Tenant, c.Requester.String(), string(c.State), c.Digests[0], c.OpenedAt.UnixMicro(), due, body)
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
		"SELECT body FROM cases WHERE tenant = ? AND requester = ? AND (state = 'pending' OR opened_at >= ?) ORDER BY id DESC LIMIT ?",
		tenant, requester.String(), since.UnixMicro())
	if err != nil {
		return nil, t.fail(err, "list the cases of %q", requester)
	}
	return list, nil
}

// Cases implements [cheq.Rows].
func (t *transaction) Cases(f cheq.Filter, before string, limit int) ([]cheq.Case, error) {
	query, args := "SELECT body FROM cases WHERE true", []any{}
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
			query, args = query+" AND "+column.condition+" ?", append(args, column.text)
		}
	}
	list, err := collect(t.ctx, t.sql, scanCase, limit, query+" ORDER BY id DESC LIMIT ?", args...)
	if err != nil {
		return nil, t.fail(err, "list cases")
	}
	return list, nil
}

// Due implements [cheq.Rows].
func (t *transaction) Due(now time.Time, limit int) ([]string, error) {
	list, err := collect(t.ctx, t.sql, func(row scanner) (id string, err error) { return id, row.Scan(&id) }, limit,
		"SELECT id FROM cases WHERE due > 0 AND due <= ? ORDER BY due, id LIMIT ?", now.UnixMicro())
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
	if _, err := t.exec("UPDATE cases SET due = opened_at WHERE id = ? AND state = 'approved'", id); err != nil {
		return t.fail(err, "wake case %q", id)
	}
	return nil
}

// CountedUses implements [pap.CaseGrants].
func (t *transaction) CountedUses(grant string) (counted int, err error) {
	if err := pap.CheckText(grant); err != nil {
		return 0, err
	}
	if err := t.row("SELECT count(*) FROM grant_uses WHERE grant_key = ?", grant).Scan(&counted); err != nil {
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
	_, err = t.exec("INSERT INTO case_events (case_id, number, body) SELECT ?, coalesce(max(number), 0) + 1, ? FROM case_events WHERE case_id = ?", c.ID, body, c.ID)
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
	list, err := collect(t.ctx, t.sql, scanJSON[cheq.Event], limit, "SELECT body FROM case_events WHERE case_id = ? ORDER BY number LIMIT ?", id)
	if err != nil {
		return nil, t.fail(err, "read the timeline of case %q", id)
	}
	return list, nil
}
