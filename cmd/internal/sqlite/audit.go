package sqlite

import (
	"context"
	"fmt"

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
	r.Body = bodyOf(body)
	return r, nil
}

// bodyOf reads a stored body.
func bodyOf(data []byte) authz.Value {
	body, err := authz.ParseAuditBody(data)
	if err != nil {
		return authz.StringValue(string(data)) // shown as it is: one odd record must not hide the others
	}
	return body
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

// QueryAudit implements [pap.AuditStore].
func (s *Store) QueryAudit(ctx context.Context, filter pap.AuditFilter, limit int) ([]authz.AuditRecord, error) {
	found, err := selectionOf(filter, limit)
	if err != nil {
		return nil, err
	}
	query, args := found.ofRows()
	changes, err := collect(ctx, s.main.read, scanAudit, limit, query, args...)
	if err == nil {
		found.add(changes...)
		err = s.selectDecisions(ctx, found)
	}
	if err != nil {
		return nil, fmt.Errorf("query audit records: %w", err)
	}
	return found.collection, nil
}
