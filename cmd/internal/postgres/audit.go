package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Both tables, audit and decisions, have this form.
const auditColumns = "id, at, kind, tenant, actor, subject, action, resource, effect, revision, body"

func scanAudit(row pgx.Row) (authz.AuditRecord, error) {
	var r authz.AuditRecord
	var body string
	if err := row.Scan(&r.ID, timeColumn{&r.Time}, &r.Kind, &r.Tenant, &r.Actor, &r.Subject, &r.Action, &r.Resource, &r.Effect, &r.Revision, &body); err != nil {
		return r, err
	}
	var err error
	if r.Body, err = authz.ParseAuditBody([]byte(body)); err != nil {
		r.Body = authz.StringValue(body) // shown as it is: one odd record must not hide the others
	}
	return r, nil
}

// Audit implements [pap.Tx].
func (t *transaction) Audit(r authz.AuditRecord) error {
	if err := t.mayWrite(); err != nil {
		return err
	}
	r = pap.RepairAudit(r)
	stored, err := t.exec("INSERT INTO audit ("+auditColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING",
		r.ID, r.Time, r.Kind, r.Tenant, r.Actor, r.Subject, r.Action, r.Resource, r.Effect, r.Revision, string(r.AppendBody(nil)))
	if err != nil {
		return t.fail(err, "store audit record %q", r.ID)
	}
	if !stored {
		return pap.ErrConflict
	}
	return nil
}

// Audits implements [pap.Tx].
func (t *transaction) Audits(after string, limit int) ([]authz.AuditRecord, error) {
	if err := pap.CheckText(after); err != nil {
		return nil, err
	}
	list, err := collect(t.ctx, t.sql, scanAudit, limit, "SELECT "+auditColumns+" FROM audit WHERE id > $1 ORDER BY id LIMIT $2", after)
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
	handle, end, err := s.begin(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	defer end()
	list, err := collect(ctx, handle, scanAudit, limit, "SELECT "+auditColumns+" FROM decisions WHERE id > $1 ORDER BY id LIMIT $2", after)
	if err != nil {
		return nil, fmt.Errorf("list decision records: %w", err)
	}
	return list, nil
}

// DecisionsByID implements [pap.AuditStore].
func (s *Store) DecisionsByID(ctx context.Context, ids []string) ([]authz.AuditRecord, error) {
	if err := pap.CheckText(ids...); err != nil {
		return nil, err
	}
	handle, end, err := s.begin(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	defer end()
	list, err := collect(ctx, handle, scanAudit, math.MaxInt, "SELECT "+auditColumns+" FROM decisions WHERE id = ANY ($1) LIMIT $2", ids)
	if err != nil {
		return nil, fmt.Errorf("read %d decision records: %w", len(ids), err)
	}
	return list, nil
}

// InsertDecisions implements [pap.AuditStore], in one statement.
func (s *Store) InsertDecisions(ctx context.Context, records []authz.AuditRecord) error {
	var ids, kinds, tenants, actors, subjects, actions, resources, effects, revisions, bodies []string
	var times []time.Time
	for _, r := range records {
		r = pap.RepairAudit(r)
		ids, times, kinds = append(ids, r.ID), append(times, r.Time), append(kinds, string(r.Kind))
		tenants, actors, subjects = append(tenants, r.Tenant), append(actors, r.Actor), append(subjects, r.Subject)
		actions, resources, effects = append(actions, r.Action), append(resources, r.Resource), append(effects, r.Effect)
		revisions, bodies = append(revisions, r.Revision), append(bodies, string(r.AppendBody(nil)))
	}
	_, err := s.pool.Exec(ctx, "INSERT INTO decisions ("+auditColumns+`) SELECT * FROM unnest(
		$1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])
		ON CONFLICT (id) DO NOTHING`,
		ids, times, kinds, tenants, actors, subjects, actions, resources, effects, revisions, bodies)
	if err != nil {
		return fmt.Errorf("store %d decision records: %w", len(records), err)
	}
	return nil
}

// QueryAudit implements [pap.AuditStore].
func (s *Store) QueryAudit(ctx context.Context, filter pap.AuditFilter, limit int) ([]authz.AuditRecord, error) {
	where, err := auditConditions(filter)
	if err != nil {
		return nil, err
	}
	// Each table finds its own newest by index before the two are merged.
	part := "(SELECT " + auditColumns + " FROM %s WHERE true" + where.orderBy("id DESC") + ")"
	merged := query{fmt.Sprintf("SELECT * FROM ("+part+" UNION ALL "+part+") AS merged", "audit", "decisions"), where.args}
	handle, end, err := s.begin(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	defer end()
	list, err := collect(ctx, handle, scanAudit, limit, merged.orderBy("id DESC"), merged.args...)
	if err != nil {
		return nil, fmt.Errorf("query audit records: %w", err)
	}
	return list, nil
}

// auditConditions turns the filter's fields that are set into conditions.
func auditConditions(f pap.AuditFilter) (query, error) {
	var q query
	switch f.Tenant {
	case pap.AnyTenant:
		f.Tenant = ""
	case pap.Platform:
		f.Tenant = ""
		q.and("tenant =", "")
	}
	for _, column := range []struct{ condition, text string }{
		{"tenant =", f.Tenant}, {"subject =", f.Subject}, {"actor =", f.Actor}, {"action =", f.Action},
		{"effect =", f.Effect}, {"kind =", string(f.Kind)}, {"id <", f.Before},
	} {
		if err := pap.CheckText(column.text); err != nil {
			return query{}, err
		}
		if column.text != "" {
			q.and(column.condition, column.text)
		}
	}
	if !f.From.IsZero() {
		q.and("at >=", f.From)
	}
	if !f.To.IsZero() {
		q.and("at <", f.To)
	}
	return q, nil
}
