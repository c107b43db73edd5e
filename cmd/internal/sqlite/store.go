package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/xiezhi-project/xiezhi/cmd/internal/wake"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool/dirlock"
)

// Options say how to open a folder.
type Options struct {
	// Exclusive makes this process the folder's server: a second one is
	// refused with [dirlock.ErrHeld]. Without it the folder is opened beside
	// whatever server is running.
	Exclusive bool
	// PEPsPerTenant is how many PEPs of one tenant are kept; 0 is
	// [pap.PEPsPerTenant].
	PEPsPerTenant int
}

// Store is an open folder. It is safe for concurrent use.
type Store struct {
	main      *database
	decisions *database
	peps      *database
	lock      *dirlock.Lock // nil unless exclusive
	hub       wake.Hub
	pages     pap.FilePageCache

	pepsPerTenant int
}

var (
	_ pap.Store      = (*Store)(nil)
	_ pap.AuditStore = (*Store)(nil)
	_ pap.PEPStore   = (*Store)(nil)
)

// Open opens the folder, makes it (mode 0700) if it is not there, and brings
// its databases to this program's schema. A database written by a newer
// program is refused with [ErrNewer].
func Open(ctx context.Context, dir string, options Options) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{pepsPerTenant: cmp.Or(options.PEPsPerTenant, pap.PEPsPerTenant)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open store: %w", err), s.Close())
		}
	}()
	if options.Exclusive {
		if s.lock, err = dirlock.Acquire(dir, "xiezhi.lock"); err != nil {
			return nil, err
		}
	}
	if s.main, err = openDatabase(ctx, dir, "xiezhi.db", "migrations/main"); err != nil {
		return nil, err
	}
	if s.decisions, err = openDatabase(ctx, dir, "decisions.db", "migrations/decisions"); err != nil {
		return nil, err
	}
	if s.peps, err = openDatabase(ctx, dir, "peps.db", "migrations/peps"); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends all connections. Transactions must have ended before.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*database{s.peps, s.decisions, s.main} {
		if db != nil {
			errs = append(errs, db.close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Release())
	}
	return errors.Join(errs...)
}

// Update implements [pap.Store].
func (s *Store) Update(ctx context.Context, fn func(pap.Tx) error) error {
	err := inTransaction(ctx, s.main.write, func(handle *sql.Tx) error {
		tx := &transaction{ctx: ctx, sql: handle, writable: true, pages: &s.pages}
		if err := fn(tx); err != nil {
			return err
		}
		return tx.broken
	})
	if err == nil {
		s.hub.Ring()
	}
	return err
}

// View implements [pap.Store].
func (s *Store) View(ctx context.Context, fn func(pap.Tx) error) error {
	return inTransaction(ctx, s.main.read, func(handle *sql.Tx) error {
		return fn(&transaction{ctx: ctx, sql: handle, pages: &s.pages})
	})
}

// Wake implements [pap.Store], within this process.
func (s *Store) Wake(ctx context.Context) <-chan struct{} { return s.hub.Listen(ctx) }

// inTransaction commits if fn returns nil and takes everything back if it
// returns an error or panics.
func inTransaction(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
