package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrNewer is returned for a schema that a newer program has migrated.
var ErrNewer = errors.New("the database was written by a newer xiezhi")

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the first key of the advisory lock under which a schema is
// migrated; the second is the schema.
const migrationLock = 0x7869657a // "xiez"

// migrate brings the current schema up to date and returns its name.
func migrate(ctx context.Context, config *pgx.ConnConfig) (schema string, err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var current *string
	if err := conn.QueryRow(ctx, "SELECT current_schema()").Scan(&current); err != nil {
		return "", err
	}
	if current == nil {
		return "", errors.New("no schema of the search_path exists: create one, or name another in the connection string")
	}
	files, err := fs.ReadDir(migrations, "migrations")
	if err != nil {
		return "", err
	}
	version, err := schemaVersion(ctx, conn)
	if err != nil || version == len(files) {
		return *current, err
	}
	return *current, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		return applyAll(ctx, tx, files)
	})
}

// applyAll applies the migrations that the schema has not seen, one node at a
// time. There is no other bound on how long that takes than ctx.
func applyAll(ctx context.Context, tx pgx.Tx, files []fs.DirEntry) error {
	for _, statement := range []string{
		"SET LOCAL statement_timeout = 0",
		"SET LOCAL lock_timeout = 0",
		fmt.Sprintf("SELECT pg_advisory_xact_lock(%d, hashtext(current_schema()))", migrationLock),
		"CREATE TABLE IF NOT EXISTS schema_version (version INT PRIMARY KEY, name TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())",
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("prepare migration: %w", err)
		}
	}
	version, err := schemaVersion(ctx, tx) // another node may have been here
	if err != nil {
		return err
	}
	if version > len(files) {
		return fmt.Errorf("schema version %d, this program knows %d: %w; start that one, or restore a backup", version, len(files), ErrNewer)
	}
	for i, file := range files[version:] {
		if err := apply(ctx, tx, file.Name(), version+i+1); err != nil {
			return fmt.Errorf("migration %s: %w", file.Name(), err)
		}
	}
	return nil
}

// apply runs one migration, whose file name begins with its number.
func apply(ctx context.Context, tx pgx.Tx, name string, number int) error {
	prefix, _, _ := strings.Cut(name, "_")
	if n, err := strconv.Atoi(prefix); err != nil || n != number {
		return fmt.Errorf("number %d is expected here", number)
	}
	text, err := migrations.ReadFile("migrations/" + name)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, string(text)); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO schema_version (version, name) VALUES ($1, $2)", number, name)
	return err
}

// schemaVersion returns the number of the last migration applied, 0 if none.
func schemaVersion(ctx context.Context, db interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}) (int, error) {
	var exists bool
	if err := db.QueryRow(ctx, "SELECT to_regclass(quote_ident(current_schema()) || '.schema_version') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var version int
	err := db.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&version)
	return version, err
}
