package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool/dirlock"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

var driver = storetest.Driver{
	New: func(t testing.TB) string { return t.TempDir() },
	Open: func(ctx context.Context, location string) (storetest.Store, error) {
		return Open(ctx, location, Options{})
	},
	Exec: func(t testing.TB, location, statement string) {
		db, err := sql.Open("sqlite", filepath.Join(location, "xiezhi.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	},
	Count: func(t testing.TB, location, query string) (n int) {
		db, err := sql.Open("sqlite", filepath.Join(location, "xiezhi.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	},
	ErrNewer: ErrNewer,
}

func TestMain(m *testing.M) { storetest.Main(m, driver) }

func TestConformance(t *testing.T) { storetest.Run(t, driver) }

func open(t *testing.T, dir string, options Options) *Store {
	t.Helper()
	store, err := Open(t.Context(), dir, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func TestSecondServerIsRefusedAndAnAdministratorIsNot(t *testing.T) {
	dir := t.TempDir()
	server := open(t, dir, Options{Exclusive: true})
	if _, err := Open(t.Context(), dir, Options{Exclusive: true}); !errors.Is(err, dirlock.ErrHeld) {
		t.Errorf("second server: %v", err)
	}
	admin := open(t, dir, Options{})
	err := admin.Update(t.Context(), func(tx pap.Tx) error {
		_, err := tx.Put(pap.Record{Kind: pap.KindSubject, Key: "admin"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = server.View(t.Context(), func(tx pap.Tx) error {
		_, err := tx.Record(pap.KindSubject, "admin")
		return err
	})
	if err != nil {
		t.Errorf("the server does not see what the administrator wrote: %v", err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{Exclusive: true})
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a?b#c%20 d", "data") // a path that a URI must escape
	store := open(t, dir, Options{Exclusive: true})
	if err := store.Update(t.Context(), func(tx pap.Tx) error { _, err := tx.Put(pap.Record{}); return err }); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", entry.Name(), info.Mode(), err)
		}
		found[entry.Name()] = true
	}
	for _, name := range []string{"xiezhi.db", "xiezhi.db-wal", "decisions.db", "peps.db", "xiezhi.lock"} {
		if !found[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestOpenTightensTheModeOfFilesThatWereThere(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "xiezhi.db")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestEveryCommitIsSynced(t *testing.T) {
	store := open(t, t.TempDir(), Options{})
	for _, db := range []*database{store.main, store.decisions, store.peps} {
		var synchronous int
		var journal string
		if err := db.write.QueryRow("PRAGMA synchronous").Scan(&synchronous); err != nil {
			t.Fatal(err)
		}
		if err := db.write.QueryRow("PRAGMA journal_mode").Scan(&journal); err != nil {
			t.Fatal(err)
		}
		if synchronous != 2 || journal != "wal" {
			t.Errorf("synchronous=%d, journal_mode=%s", synchronous, journal)
		}
	}
}

func TestReadingConnectionsCannotWrite(t *testing.T) {
	store := open(t, t.TempDir(), Options{})
	for _, db := range []*database{store.main, store.decisions} {
		if _, err := db.read.Exec("DELETE FROM audit"); err == nil {
			t.Error("a reading connection wrote")
		}
	}
}

func TestForeignFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "xiezhi.db"), []byte("this is no database, however long the text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if store, err := Open(t.Context(), dir, Options{}); err == nil {
		store.Close()
		t.Error("opened a text file")
	}
}

func TestPEPsOfATenantAreBounded(t *testing.T) {
	store, err := Open(t.Context(), t.TempDir(), Options{PEPsPerTenant: 3})
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
