package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/xiezhi-project/xiezhi/cmd/internal/wake"
	"github.com/xiezhi-project/xiezhi/pap"
)

// Options say how to use a database.
type Options struct {
	Log *slog.Logger // nil discards
	// PEPsPerTenant is how many PEPs of one tenant are kept; 0 is
	// [pap.PEPsPerTenant].
	PEPsPerTenant int
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	schema string
	log    *slog.Logger
	writer chan struct{} // holds one value: whoever has it may begin an Update

	hub       wake.Hub
	listening sync.Once
	listeners sync.WaitGroup
	closing   context.Context // ends the listener
	close     context.CancelFunc
	pages     pap.FilePageCache

	pepsPerTenant int
}

var (
	_ pap.Store      = (*Store)(nil)
	_ pap.AuditStore = (*Store)(nil)
	_ pap.PEPStore   = (*Store)(nil)
)

// sessionDefaults bound what a stuck statement, a stuck writer and a node that
// stopped inside a transaction can do to the others. The connection string
// overrides them.
var sessionDefaults = map[string]string{
	"application_name":                    "xiezhi",
	"statement_timeout":                   "30s",
	"lock_timeout":                        "10s",
	"idle_in_transaction_session_timeout": "60s",
}

// Open connects to a database (a URL or a keyword/value string as libpq reads
// them) and brings its schema up to date; several nodes may do so at once. A
// schema made by a newer program is refused with [ErrNewer].
func Open(ctx context.Context, dsn string, options Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err) // pgx leaves the password out
	}
	for name, value := range sessionDefaults {
		if _, set := config.ConnConfig.RuntimeParams[name]; !set {
			config.ConnConfig.RuntimeParams[name] = value
		}
	}
	s := &Store{log: options.Log, writer: make(chan struct{}, 1), pepsPerTenant: cmp.Or(options.PEPsPerTenant, pap.PEPsPerTenant)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.schema, err = migrate(ctx, config.ConnConfig); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.closing, s.close = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// Close ends all connections, after the transactions that are running.
func (s *Store) Close() error {
	s.close()
	s.listeners.Wait()
	s.pool.Close()
	return nil
}

// attempts bounds how often an Update begins anew.
const attempts = 4

// Update implements [pap.Store]. It begins anew when the database undid the
// transaction for no fault of fn: a deadlock, or a connection that broke before
// the commit was sent. A connection that breaks during the commit leaves the
// outcome open; that is an error and is not tried again.
func (s *Store) Update(ctx context.Context, fn func(pap.Tx) error) error {
	select {
	case s.writer <- struct{}{}:
		defer func() { <-s.writer }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the writer before: %w", ctx.Err())
	}
	for attempt := 1; ; attempt++ {
		undone, err := s.tryUpdate(ctx, fn)
		if err == nil {
			s.hub.Ring()
			return nil
		}
		if !undone || attempt == attempts || ctx.Err() != nil {
			return err
		}
		s.log.WarnContext(ctx, "the database undid an update; trying again", "attempt", attempt, "error", err)
	}
}

// tryUpdate reports whether a failed transaction was surely undone by the
// database and may be tried again.
func (s *Store) tryUpdate(ctx context.Context, fn func(pap.Tx) error) (undone bool, err error) {
	handle, end, err := s.begin(ctx, pgx.TxOptions{})
	if err != nil {
		return retryable(err), err
	}
	defer end()
	tx := &transaction{ctx: ctx, sql: handle, writable: true, pages: &s.pages}
	defer func() {
		if tx.broken != nil {
			undone = retryable(tx.broken) || handle.Conn().IsClosed()
		}
	}()
	if _, err := tx.exec("SELECT FROM head FOR UPDATE"); err != nil {
		return false, tx.fail(err, "lock the log's head")
	}
	if err := fn(tx); err != nil {
		return false, err
	}
	if tx.broken != nil {
		return false, tx.broken
	}
	if _, err := tx.exec("SELECT pg_notify('xiezhi', $1)", s.schema); err != nil {
		return false, tx.fail(err, "notify")
	}
	return s.commit(ctx, handle)
}

// commit is not interrupted by ctx: half a commit would leave nobody knowing.
func (s *Store) commit(ctx context.Context, handle pgx.Tx) (undone bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := handle.Commit(patient); err != nil {
		return retryable(err), fmt.Errorf("commit: %w", err)
	}
	return false, nil
}

// retryable reports whether the database says that it undid the transaction
// and that the next one may succeed, or was never reached.
func retryable(err error) bool {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "40001", "40P01", // serialization failure, deadlock
			"57P01", "57P02": // the connection was ended by an administrator, by a crash
			return true
		}
		return false
	}
	return pgconn.SafeToRetry(err)
}

// broken reports whether a connection that was made before failed, rather than
// that the database refused what was asked or cannot be reached.
func broken(err error) bool {
	var refused *pgconn.PgError
	var unreached *pgconn.ConnectError
	if errors.As(err, &refused) {
		return retryable(err)
	}
	return !errors.As(err, &unreached)
}

// View implements [pap.Store].
func (s *Store) View(ctx context.Context, fn func(pap.Tx) error) error {
	handle, end, err := s.begin(ctx, snapshot)
	if err != nil {
		return err
	}
	defer end()
	return fn(&transaction{ctx: ctx, sql: handle, pages: &s.pages})
}

// snapshot is how a transaction reads.
var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// begin starts a transaction; end undoes it unless it was committed, also
// when ctx has ended. Where a connection turns out to be broken, the idle ones
// of its age are given up and a new one is made: nothing was asked of it yet.
func (s *Store) begin(ctx context.Context, options pgx.TxOptions) (handle pgx.Tx, end func(), err error) {
	handle, err = s.pool.BeginTx(ctx, options)
	if err != nil && broken(err) && ctx.Err() == nil {
		s.log.WarnContext(ctx, "a connection to the database broke; making a new one", "error", err)
		s.pool.Reset()
		handle, err = s.pool.BeginTx(ctx, options)
	}
	if unreached := new(pgconn.ConnectError); err != nil && (errors.As(err, &unreached) || broken(err)) {
		return nil, nil, fmt.Errorf("begin transaction: %w: %w", pap.ErrStoreUnavailable, err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("begin transaction: %w", err)
	}
	return handle, func() {
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := handle.Rollback(patient); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			s.log.WarnContext(ctx, "roll back", "error", err) // the connection is dropped, which undoes it too
		}
	}, nil
}
