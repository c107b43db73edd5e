package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

var errReadOnly = errors.New("a view cannot write")

// transaction implements [pap.Tx].
type transaction struct {
	ctx      context.Context
	sql      *sql.Tx
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
	result, err := t.sql.ExecContext(t.ctx, query, args...)
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	return rows > 0, err
}

func (t *transaction) row(query string, args ...any) *sql.Row {
	return t.sql.QueryRowContext(t.ctx, query, args...)
}

// querier is a transaction or a pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect reads all rows of a query, none for a limit below one. The limit is
// the query's last parameter.
func collect[T any](ctx context.Context, db querier, scan func(scanner) (T, error), limit int, query string, args ...any) ([]T, error) {
	if limit < 1 {
		return nil, nil
	}
	rows, err := db.QueryContext(ctx, query, append(args, limit)...)
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

// scanner is one row.
type scanner interface{ Scan(dest ...any) error }

// microsColumn reads a time column.
type microsColumn struct{ time *time.Time }

func (m microsColumn) Scan(value any) error {
	n, ok := value.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", value)
	}
	*m.time = timeOf(n)
	return nil
}

func timeOf(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// bytesColumn reads bytes; none are an empty slice, which the driver calls nil.
type bytesColumn struct{ data *[]byte }

func (c bytesColumn) Scan(value any) error {
	data, ok := value.([]byte)
	if !ok && value != nil {
		return fmt.Errorf("bytes column holds %T", value)
	}
	*c.data = append([]byte{}, data...)
	return nil
}

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
