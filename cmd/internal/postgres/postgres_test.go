package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

var driver = storetest.Driver{
	New: func(t testing.TB) string { return storetest.PostgresSchema(t) },
	Open: func(ctx context.Context, location string) (storetest.Store, error) {
		return Open(ctx, location, Options{})
	},
	Exec:        storetest.PostgresExec,
	Count:       func(t testing.TB, location, query string) int { return ask[int](t, location, query) },
	ErrNewer:    ErrNewer,
	WakesAcross: true,
}

func TestMain(m *testing.M) { storetest.Main(m, driver) }

func TestConformance(t *testing.T) { storetest.Run(t, driver) }

func open(t *testing.T, location string) *Store {
	t.Helper()
	store, err := Open(t.Context(), location, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// ask runs a query that returns one value.
func ask[T any](t testing.TB, location, query string, args ...any) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var value T
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func put(key string) func(pap.Tx) error {
	return func(tx pap.Tx) error {
		_, err := tx.Put(pap.Record{Kind: pap.KindGrant, Key: key})
		return err
	}
}

// woken waits for a hint.
func woken(t *testing.T, hint <-chan struct{}) {
	t.Helper()
	select {
	case <-hint:
	case <-time.After(time.Minute):
		t.Fatal("nobody was woken")
	}
}

// kill ends the connections of the test's schema that run, or last ran, what
// the pattern describes, and returns how many there were.
func kill(t *testing.T, location, pattern string) int {
	t.Helper()
	return ask[int](t, location, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE application_name = $1 AND query LIKE $2 AND pid <> pg_backend_pid()`, applicationName(t, location), pattern)
}

// named makes the connections of one test known by the application's name.
func named(t *testing.T) string {
	return storetest.PostgresSchema(t) + "&application_name=" + strings.ToLower(rand.Text())
}

func applicationName(t *testing.T, location string) string {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("application_name")
}

func TestListenerComesBackAfterItsConnectionWasCut(t *testing.T) {
	location := named(t)
	store, other := open(t, location), open(t, location)
	hint := store.Wake(t.Context())
	woken(t, hint) // it stands
	if n := kill(t, location, "LISTEN%"); n != 1 {
		t.Fatalf("%d listeners were cut", n)
	}
	woken(t, hint) // it stands again
	if err := other.Update(t.Context(), put("g")); err != nil {
		t.Fatal(err)
	}
	woken(t, hint)
}

func TestNotificationOfAnotherSchemaWakesNobody(t *testing.T) {
	location := storetest.PostgresSchema(t)
	store, stranger, other := open(t, location), open(t, storetest.PostgresSchema(t)), open(t, location)
	hint := store.Wake(t.Context())
	woken(t, hint) // it stands
	for range 20 { // by the last of them the first has long arrived
		if err := stranger.Update(t.Context(), put("g")); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-hint:
		t.Error("woken by a stranger")
	default:
	}
	if err := other.Update(t.Context(), put("g")); err != nil {
		t.Fatal(err)
	}
	woken(t, hint)
}

func TestReadsAndWritesOutliveConnectionsThatWereCutWhileIdle(t *testing.T) {
	location := named(t)
	store := open(t, location)
	for name, use := range map[string]func() error{
		"view": func() error {
			return store.View(t.Context(), func(tx pap.Tx) error { _, err := tx.Head(); return err })
		},
		"update":         func() error { return store.Update(t.Context(), put("g")) },
		"query audit":    func() error { _, err := store.QueryAudit(t.Context(), pap.AuditFilter{}, 1); return err },
		"read decisions": func() error { _, err := store.Decisions(t.Context(), "", 1); return err },
	} {
		var busy sync.WaitGroup
		for range 4 {
			busy.Go(func() { // so that several connections are idle
				if err := use(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		busy.Wait()
		if n := kill(t, location, "%"); n == 0 {
			t.Fatalf("%s: no connection was cut", name)
		}
		if err := use(); err != nil {
			t.Errorf("%s, after the connections were cut: %v", name, err)
		}
	}
}

func TestUpdateBeginsAnewWhenItsConnectionIsCutBeforeTheCommit(t *testing.T) {
	location := named(t)
	store := open(t, location)
	runs := 0
	err := store.Update(t.Context(), func(tx pap.Tx) error {
		if runs++; runs == 1 {
			if n := kill(t, location, "%head FOR UPDATE%"); n != 1 {
				t.Errorf("%d connections were cut", n)
			}
		}
		return put("g")(tx)
	})
	if err != nil || runs != 2 {
		t.Fatalf("%d runs, %v", runs, err)
	}
	if n := ask[int](t, location, "SELECT count(*) FROM log"); n != 1 {
		t.Errorf("%d log entries", n)
	}
}

func TestUpdateGivesUpOnADatabaseThatKeepsCutting(t *testing.T) {
	location := named(t)
	store := open(t, location)
	runs := 0
	err := store.Update(t.Context(), func(tx pap.Tx) error {
		runs++
		kill(t, location, "%head FOR UPDATE%")
		return put("g")(tx)
	})
	if err == nil || runs != attempts {
		t.Errorf("%d runs, %v", runs, err)
	}
}

func TestUpdateOfAFailingFunctionRunsOnce(t *testing.T) {
	store := open(t, storetest.PostgresSchema(t))
	runs, refused := 0, errors.New("refused")
	err := store.Update(t.Context(), func(pap.Tx) error { runs++; return refused })
	if runs != 1 || !errors.Is(err, refused) {
		t.Errorf("%d runs, %v", runs, err)
	}
}

func TestWaitingWritersLeaveConnectionsToReaders(t *testing.T) {
	location := storetest.PostgresSchema(t) + "&pool_max_conns=2"
	store := open(t, location)
	held, release := make(chan struct{}), make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		store.Update(t.Context(), func(tx pap.Tx) error { close(held); <-release; return nil })
	})
	<-held
	for range 8 {
		writing.Go(func() { store.Update(t.Context(), put("g")) })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // a writer waits for longer
	defer cancel()
	for range 200 { // by the last of them the writers have long tried
		if err := store.View(ctx, func(tx pap.Tx) error { _, err := tx.Head(); return err }); err != nil {
			t.Errorf("a reader found no connection: %v", err)
			break
		}
	}
	close(release)
	writing.Wait()
}

func TestMissingSchemaIsNamed(t *testing.T) {
	location := storetest.PostgresSchema(t) + "_missing"
	store, err := Open(t.Context(), location, Options{})
	if err == nil {
		store.Close()
		t.Fatal("opened")
	}
	if !strings.Contains(err.Error(), "search_path") {
		t.Error(err)
	}
}

func TestEveryTextColumnComparesAsBytes(t *testing.T) {
	location := storetest.PostgresSchema(t)
	open(t, location)
	const question = `SELECT coalesce(string_agg(table_name || '.' || column_name, ', '), '') FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name <> 'schema_version' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'`
	if columns := ask[string](t, location, question); columns != "" {
		t.Errorf("not by bytes: %s", columns)
	}
	if n := ask[int](t, location, "SELECT count(*) FROM information_schema.columns WHERE table_schema = current_schema() AND collation_name = 'C'"); n < 30 {
		t.Errorf("only %d text columns were looked at", n)
	}
}

func TestConnectionStringOverridesTheSessionDefaults(t *testing.T) {
	location := storetest.PostgresSchema(t)
	for name, row := range map[string]struct{ add, want string }{
		"default":  {"", "30s"},
		"override": {"&statement_timeout=7s", "7s"},
	} {
		store := open(t, location+row.add)
		var got string
		if err := store.pool.QueryRow(t.Context(), "SHOW statement_timeout").Scan(&got); err != nil || got != row.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestCloseEndsEveryConnection(t *testing.T) {
	location := named(t)
	store := open(t, location)
	woken(t, store.Wake(t.Context()))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	// The server notices a closed socket a moment later: ask until it has.
	const question = `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()`
	deadline := time.Now().Add(time.Minute)
	for ask[int](t, location, question, applicationName(t, location)) != 0 {
		if time.Now().After(deadline) {
			t.Fatal("connections are left")
		}
	}
}

func TestPEPsOfATenantAreBounded(t *testing.T) {
	store, err := Open(t.Context(), storetest.PostgresSchema(t), Options{PEPsPerTenant: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	storetest.BoundedPEPs(t, store)
}
