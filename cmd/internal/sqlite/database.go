package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrNewer is returned for a database that a newer program has migrated.
var ErrNewer = errors.New("the database was written by a newer xiezhi")

//go:embed migrations
var migrations embed.FS

// readers bounds how many snapshots one process reads at a time.
const readers = 8

// database is one file: one connection that writes, several that read.
type database struct {
	write *sql.DB
	read  *sql.DB
}

func openDatabase(ctx context.Context, dir, name, migrationsDir string) (_ *database, err error) {
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	if err := private(path); err != nil {
		return nil, err
	}
	db := &database{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", path, err), db.close())
		}
	}()
	if db.write, err = connect(path, 1, "immediate", "journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(67108864)"); err != nil {
		return nil, err
	}
	if err := firstConnection(ctx, db.write); err != nil {
		return nil, err
	}
	if err := migrate(ctx, db.write, migrationsDir); err != nil {
		return nil, err
	}
	db.read, err = connect(path, readers, "deferred", "query_only(1)")
	return db, err
}

// How long, and how often, to try the first connection.
const (
	firstWithin = 10 * time.Second
	firstAgain  = 20 * time.Millisecond
)

// firstConnection makes the connection that turns a new file to WAL. That turn
// does not wait for others who make it, whatever busy_timeout says, so several
// processes that open one new folder at once try again.
func firstConnection(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, firstWithin)
	defer cancel()
	ticker := time.NewTicker(firstAgain)
	defer ticker.Stop()
	for {
		err := db.PingContext(ctx)
		var busy *sqlite.Error
		if !errors.As(err, &busy) || busy.Code()&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

// private makes the file so that only its owner can read it; SQLite gives its
// side files the same mode. It never opens a file that is there: closing it
// would drop the locks this process holds on it.
func private(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.Chmod(path, 0o600)
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// connect opens a pool of connections to one file. lock is the kind of
// transaction they begin: an immediate one waits for the write lock first.
func connect(path string, connections int, lock string, pragmas ...string) (*sql.DB, error) {
	query := url.Values{
		"_txlock": {lock},
		"_pragma": append(pragmas, "busy_timeout(10000)", "foreign_keys(1)", "trusted_schema(0)"),
	}
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// close ends the readers first: the last connection folds the WAL into the
// file, which a reading one may not.
func (db *database) close() error {
	var errs []error
	for _, pool := range []*sql.DB{db.read, db.write} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// migrate applies the numbered files of dir that the database has not seen, all
// in one transaction. It takes the write lock only if there are any.
func migrate(ctx context.Context, db *sql.DB, dir string) error {
	files, err := fs.ReadDir(migrations, dir)
	if err != nil {
		return err
	}
	const table = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT"
	if _, err := db.ExecContext(ctx, table); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	if version == len(files) {
		return nil
	}
	return inTransaction(ctx, db, func(tx *sql.Tx) error {
		version, err := schemaVersion(ctx, tx) // another process may have been here
		if err != nil {
			return err
		}
		if version > len(files) {
			return fmt.Errorf("schema version %d, this program knows %d: %w; start that one, or restore a backup", version, len(files), ErrNewer)
		}
		for i, file := range files[version:] {
			if err := apply(ctx, tx, dir, file.Name(), version+i+1); err != nil {
				return fmt.Errorf("migration %s: %w", file.Name(), err)
			}
		}
		return nil
	})
}

// apply runs one migration, whose file name begins with its number.
func apply(ctx context.Context, tx *sql.Tx, dir, name string, number int) error {
	prefix, _, _ := strings.Cut(name, "_")
	if n, err := strconv.Atoi(prefix); err != nil || n != number {
		return fmt.Errorf("number %d is expected here", number)
	}
	text, err := migrations.ReadFile(dir + "/" + name)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, string(text)); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO schema_version (version, name) VALUES (?, ?)", number, name)
	return err
}

// schemaVersion returns the number of the last migration applied, 0 if none.
func schemaVersion(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (int, error) {
	var version sql.NullInt64
	err := db.QueryRowContext(ctx, "SELECT max(version) FROM schema_version").Scan(&version)
	return int(version.Int64), err
}
