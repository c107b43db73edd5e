package storetest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresSchema makes an empty schema in the PostgreSQL that
// XIEZHI_TEST_POSTGRES names (a URL; by default the database "test" on the
// standard local port) and returns a URL whose search_path is that schema. The
// schema goes with the test. Without a PostgreSQL the test fails: what was not
// run was not tested.
func PostgresSchema(t testing.TB) string {
	t.Helper()
	base := postgresURL(t)
	schema := "xiezhi_test_" + strings.ToLower(rand.Text())
	PostgresExec(t, base, "CREATE SCHEMA "+schema)
	t.Cleanup(func() { PostgresExec(t, base, "DROP SCHEMA "+schema+" CASCADE") })

	location, err := url.Parse(base)
	if err != nil {
		t.Fatalf("XIEZHI_TEST_POSTGRES: %v", err)
	}
	query := location.Query()
	query.Set("search_path", schema)
	location.RawQuery = query.Encode()
	return location.String()
}

// PostgresExec runs one statement.
func PostgresExec(t testing.TB, location, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also while the test cleans up
	defer cancel()
	conn, err := pgx.Connect(ctx, location)
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func postgresURL(t testing.TB) string {
	t.Helper()
	if location := os.Getenv("XIEZHI_TEST_POSTGRES"); location != "" {
		return location
	}
	var failures []string
	for _, user := range []string{"root", "postgres"} {
		location := "postgres://" + user + "@127.0.0.1:5432/test?sslmode=disable"
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		conn, err := pgx.Connect(ctx, location)
		if err == nil {
			conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return location
		}
		failures = append(failures, err.Error())
	}
	t.Fatalf("no PostgreSQL to test with; run `make test`, which starts one, or set XIEZHI_TEST_POSTGRES=postgres://user:password@host:5432/database\n%s", strings.Join(failures, "\n"))
	return ""
}
