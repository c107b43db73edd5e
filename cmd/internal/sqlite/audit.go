package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Both files have a table of this form.
const (
	auditColumns = "id, at, kind, tenant, actor, subject, action, resource, effect, revision, body"
	insertAudit  = "INSERT INTO audit (" + auditColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)

func auditValues(r authz.AuditRecord) []any {
	r = pap.RepairAudit(r)
	return []any{r.ID, r.Time.UnixMicro(), string(r.Kind), r.Tenant, r.Actor, r.Subject, r.Action, r.Resource, r.Effect, r.Revision, string(r.AppendBody(nil))}
}

func scanAudit(row scanner) (authz.AuditRecord, error) {
	var r authz.AuditRecord
	var body []byte
	if err := row.Scan(&r.ID, microsColumn{&r.Time}, &r.Kind, &r.Tenant, &r.Actor, &r.Subject, &r.Action, &r.Resource, &r.Effect, &r.Revision, &body); err != nil {
		return r, err
	}
	var err error
	if r.Body, err = authz.ParseAuditBody(body); err != nil {
		r.Body = authz.StringValue(string(body)) // shown as it is: one odd record must not hide the others
	}
	return r, nil
}

// Audit implements [pap.Tx].
func (t *transaction) Audit(r authz.AuditRecord) error {
	if err := t.mayWrite(); err != nil {
		return err
	}
	stored, err := t.exec(insertAudit, auditValues(r)...)
	if err != nil {
		return t.fail(err, "store audit record %q", r.ID)
	}
	if !stored {
		return pap.ErrConflict
	}
	return nil
}

const auditsAfter = "SELECT " + auditColumns + " FROM audit WHERE id > ? ORDER BY id LIMIT ?"

// Audits implements [pap.Tx].
func (t *transaction) Audits(after string, limit int) ([]authz.AuditRecord, error) {
	if err := pap.CheckText(after); err != nil {
		return nil, err
	}
	list, err := collect(t.ctx, t.sql, scanAudit, limit, auditsAfter, after)
	if err != nil {
		return nil, t.fail(err, "list audit records")
	}
	return list, nil
}

// Decisions implements [pap.AuditStore].
func (s *Store) Decisions(ctx context.Context, after string, limit int) ([]authz.AuditRecord, error) {
	if err := pap.CheckText(after); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.decisions.read, scanAudit, limit, auditsAfter, after)
	if err != nil {
		return nil, fmt.Errorf("list decision records: %w", err)
	}
	return list, nil
}

// InsertDecisions implements [pap.AuditStore].
func (s *Store) InsertDecisions(ctx context.Context, records []authz.AuditRecord) error {
	err := inTransaction(ctx, s.decisions.write, func(tx *sql.Tx) error {
		// Watching the context costs a goroutine per statement: look at it here
		// instead, once a row.
		unwatched := context.WithoutCancel(ctx)
		insert, err := tx.PrepareContext(unwatched, insertAudit)
		if err != nil {
			return err
		}
		defer insert.Close()
		for _, r := range records {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := insert.ExecContext(unwatched, auditValues(r)...); err != nil {
				return fmt.Errorf("record %q: %w", r.ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store %d decision records: %w", len(records), err)
	}
	return nil
}

// DecisionsByID implements [pap.AuditStore].
func (s *Store) DecisionsByID(ctx context.Context, ids []string) ([]authz.AuditRecord, error) {
	if err := pap.CheckText(ids...); err != nil {
		return nil, err
	}
	text, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.decisions.read, scanAudit, math.MaxInt, "SELECT "+auditColumns+" FROM audit WHERE id IN (SELECT value FROM json_each(?)) LIMIT ?", string(text))
	if err != nil {
		return nil, fmt.Errorf("read %d decision records: %w", len(ids), err)
	}
	return list, nil
}

// QueryAudit implements [pap.AuditStore].
func (s *Store) QueryAudit(ctx context.Context, filter pap.AuditFilter, limit int) ([]authz.AuditRecord, error) {
	query, args, err := auditQuery(filter)
	if err != nil {
		return nil, err
	}
	var list []authz.AuditRecord
	for _, db := range []*database{s.main, s.decisions} {
		part, err := collect(ctx, db.read, scanAudit, limit, query, args...)
		if err != nil {
			return nil, fmt.Errorf("query audit records: %w", err)
		}
		list = append(list, part...)
	}
	slices.SortStableFunc(list, func(a, b authz.AuditRecord) int { return cmp.Compare(b.ID, a.ID) })
	return list[:min(len(list), max(limit, 0))], nil
}

// auditQuery asks one file for the newest records that match.
func auditQuery(f pap.AuditFilter) (query string, args []any, err error) {
	query = "SELECT " + auditColumns + " FROM audit WHERE true"
	switch f.Tenant {
	case pap.AnyTenant:
		f.Tenant = ""
	case pap.Platform:
		f.Tenant, query = "", query+" AND tenant = ''"
	}
	for _, column := range []struct{ condition, text string }{
		{"tenant =", f.Tenant}, {"subject =", f.Subject}, {"actor =", f.Actor}, {"action =", f.Action},
		{"effect =", f.Effect}, {"kind =", string(f.Kind)}, {"id <", f.Before},
	} {
		if err := pap.CheckText(column.text); err != nil {
			return "", nil, err
		}
		if column.text != "" {
			query, args = query+" AND "+column.condition+" ?", append(args, column.text)
		}
	}
	if !f.From.IsZero() {
		query, args = query+" AND at >= ?", append(args, f.From.UnixMicro())
	}
	if !f.To.IsZero() {
		query, args = query+" AND at < ?", append(args, f.To.UnixMicro())
	}
	return query + " ORDER BY id DESC LIMIT ?", args, nil
}
