package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

var errReadOnly = errors.New("a view cannot write")

// transaction implements [pap.Tx].
type transaction struct {
	ctx      context.Context
	sql      pgx.Tx
	writable bool
	pages    *pap.FilePageCache
	// broken is the first failure of the database itself. Update does not
	// commit after one, even if its function went on.
	broken error
}

// fail marks the transaction broken and says what was attempted.
func (t *transaction) fail(err error, format string, args ...any) error {
	err = fmt.Errorf(format+": %w", append(args, err)...)
	if t.broken == nil {
		t.broken = err
	}
	return err
}

// mayWrite returns the first of the checks that failed; a view fails all.
func (t *transaction) mayWrite(checks ...error) error {
	if !t.writable {
		return errReadOnly
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) exec(query string, args ...any) (changed bool, err error) {
	tag, err := t.sql.Exec(t.ctx, query, args...)
	return tag.RowsAffected() > 0, err
}

func (t *transaction) row(query string, args ...any) pgx.Row {
	return t.sql.QueryRow(t.ctx, query, args...)
}

// querier is a transaction or the pool.
type querier interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// collect reads all rows of a query, none for a limit below one. The limit is
// the query's last parameter.
func collect[T any](ctx context.Context, db querier, scan func(pgx.Row) (T, error), limit int, query string, args ...any) ([]T, error) {
	if limit < 1 {
		return nil, nil
	}
	rows, err := db.Query(ctx, query, append(args, limit)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, rows.Err()
}

// query is a SELECT that grows condition by condition.
type query struct {
	text string
	args []any
}

// and adds a condition that ends in an operator whose right side is value.
func (q *query) and(condition string, value any) {
	q.text += " AND " + condition + " " + q.arg(value)
}

// arg adds a value and returns how it is written.
func (q *query) arg(value any) string {
	q.args = append(q.args, value)
	return fmt.Sprintf("$%d", len(q.args))
}

// orderBy ends the query with its order and the limit that [collect] adds.
func (q *query) orderBy(order string) string {
	return fmt.Sprintf("%s ORDER BY %s LIMIT $%d", q.text, order, len(q.args)+1)
}

// timeColumn reads a timestamp as UTC, whatever the session's zone.
type timeColumn struct{ time *time.Time }

// ScanTimestamptz implements [pgtype.TimestamptzScanner].
func (c timeColumn) ScanTimestamptz(v pgtype.Timestamptz) error {
	if !v.Valid || v.InfinityModifier != pgtype.Finite {
		return errors.New("time column holds no time")
	}
	*c.time = v.Time.UTC()
	return nil
}

// digestColumn reads a SHA-256.
type digestColumn struct{ digest *bundles.Digest }

// ScanBytes implements [pgtype.BytesScanner].
func (c digestColumn) ScanBytes(v []byte) error {
	if len(v) != len(c.digest) {
		return errors.New("digest column does not hold a SHA-256")
	}
	copy(c.digest[:], v)
	return nil
}

// clamp turns a counter into what a BIGINT holds; no counter gets so far.
func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// notNull keeps an empty value from being stored as NULL.
func notNull(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// Head implements [pap.Tx].
func (t *transaction) Head() (authz.Revision, error) {
	var head authz.Revision
	if err := t.row("SELECT release, position FROM head").Scan(&head.Release, &head.Position); err != nil {
		return authz.Revision{}, t.fail(err, "read head")
	}
	return head, nil
}
