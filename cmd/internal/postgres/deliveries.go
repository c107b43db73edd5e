package postgres

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
)

const deliveryColumns = "case_id, channel, address, message, wanted, shown, attempts, error, due"

func scanDelivery(row pgx.Row) (d cheq.Delivery, err error) {
	var due *time.Time
	if err := row.Scan(&d.Case, &d.Channel, &d.To, &d.Message, &d.Wanted, &d.Shown, &d.Attempts, &d.Error, &due); err != nil {
		return d, err
	}
	if due != nil {
		d.Due = due.UTC()
	}
	return d, nil
}

// PutDelivery implements [cheq.Outbox].
func (t *transaction) PutDelivery(d cheq.Delivery) error {
	if err := t.mayWrite(pap.CheckKeys(d.Case, d.Channel, d.To), pap.CheckText(d.Message, d.Error)); err != nil {
		return err
	}
	var due *time.Time
	if !d.Due.IsZero() {
		due = &d.Due
	}
	_, err := t.exec("INSERT INTO case_deliveries ("+deliveryColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (case_id, channel, address) DO UPDATE SET message = excluded.message, wanted = excluded.wanted, shown = excluded.shown,
		attempts = excluded.attempts, error = excluded.error, due = excluded.due`,
		d.Case, d.Channel, d.To, d.Message, d.Wanted, d.Shown, d.Attempts, d.Error, due)
	if err != nil {
		return t.fail(err, "store delivery %q", d.Key())
	}
	return nil
}

// Deliveries implements [cheq.Outbox].
func (t *transaction) Deliveries(id string) ([]cheq.Delivery, error) {
	if err := pap.CheckText(id); err != nil {
		return nil, err
	}
	list, err := collect(t.ctx, t.sql, scanDelivery, maxDeliveries,
		"SELECT "+deliveryColumns+" FROM case_deliveries WHERE case_id = $1 ORDER BY channel, address LIMIT $2", id)
	if err != nil {
		return nil, t.fail(err, "list deliveries of case %q", id)
	}
	return list, nil
}

// maxDeliveries is more than a case has: a template names 16 places at most.
const maxDeliveries = 10_000

// DueDeliveries implements [cheq.Outbox].
func (t *transaction) DueDeliveries(channel string, now time.Time, limit int) ([]cheq.Delivery, error) {
	if err := pap.CheckText(channel); err != nil {
		return nil, err
	}
	list, err := collect(t.ctx, t.sql, scanDelivery, limit,
		"SELECT "+deliveryColumns+" FROM case_deliveries WHERE channel = $1 AND due <= $2 ORDER BY due, case_id, address LIMIT $3", channel, now)
	if err != nil {
		return nil, t.fail(err, "list deliveries of %q that are due", channel)
	}
	return list, nil
}

// Seen implements [cheq.Outbox].
func (t *transaction) Seen(channel, event string, at, old time.Time) (bool, error) {
	if err := t.mayWrite(pap.CheckKeys(channel, event)); err != nil {
		return false, err
	}
	if _, err := t.exec("DELETE FROM case_answers WHERE channel = $1 AND at < $2", channel, old); err != nil {
		return false, t.fail(err, "forget answers of %q", channel)
	}
	noted, err := t.exec("INSERT INTO case_answers (channel, event, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", channel, event, at)
	if err != nil {
		return false, t.fail(err, "note an answer of %q", channel)
	}
	return !noted, nil
}

// Answered implements [cheq.Outbox].
func (t *transaction) Answered(after cheq.Answered, limit int) ([]cheq.Answered, error) {
	if err := pap.CheckText(after.Channel, after.Event); err != nil {
		return nil, err
	}
	scan := func(row pgx.Row) (a cheq.Answered, err error) {
		return a, row.Scan(&a.Channel, &a.Event, timeColumn{&a.At})
	}
	list, err := collect(t.ctx, t.sql, scan, limit,
		"SELECT channel, event, at FROM case_answers WHERE (channel, event) > ($1, $2) ORDER BY channel, event LIMIT $3", after.Channel, after.Event)
	if err != nil {
		return nil, t.fail(err, "list answers")
	}
	return list, nil
}

// PutIdentityCode implements [pap.IdentityCodes].
func (t *transaction) PutIdentityCode(c pap.IdentityCode, now time.Time) (int, error) {
	if err := t.mayWrite(pap.CheckKeys(c.Tenant, c.Subject)); err != nil {
		return 0, err
	}
	if _, err := t.exec("DELETE FROM identity_codes WHERE expires_at <= $1", now); err != nil {
		return 0, t.fail(err, "forget identity codes")
	}
	stored, err := t.exec("INSERT INTO identity_codes (hash, tenant, subject, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		c.Hash[:], c.Tenant, c.Subject, c.ExpiresAt)
	if err != nil {
		return 0, t.fail(err, "store an identity code")
	}
	if !stored {
		return 0, pap.ErrConflict
	}
	var live int
	if err := t.row("SELECT count(*) FROM identity_codes WHERE tenant = $1 AND subject = $2", c.Tenant, c.Subject).Scan(&live); err != nil {
		return 0, t.fail(err, "count identity codes")
	}
	return live, nil
}

// TakeIdentityCode implements [pap.IdentityCodes].
func (t *transaction) TakeIdentityCode(hash bundles.Digest) (pap.IdentityCode, error) {
	if err := t.mayWrite(); err != nil {
		return pap.IdentityCode{}, err
	}
	c := pap.IdentityCode{Hash: hash}
	err := t.row("DELETE FROM identity_codes WHERE hash = $1 RETURNING tenant, subject, expires_at", hash[:]).Scan(&c.Tenant, &c.Subject, timeColumn{&c.ExpiresAt})
	if errors.Is(err, pgx.ErrNoRows) {
		return pap.IdentityCode{}, pap.ErrNotFound
	}
	if err != nil {
		return pap.IdentityCode{}, t.fail(err, "take an identity code")
	}
	return c, nil
}
