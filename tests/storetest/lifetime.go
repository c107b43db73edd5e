package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func testReopen(t *testing.T, d Driver) {
	location := d.New(t)
	store := must[Store](t)(d.Open(t.Context(), location))
	update(t, store, func(tx pap.Tx) { writeAll(t, tx) })
	insert(t, store, auditRecord("02", authz.AuditDecision))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = d.handle(t, location)
	view(t, store, func(tx pap.Tx) {
		same(t, "head", must[authz.Revision](t)(tx.Head()), authz.Revision{Release: 1, Position: 1})
		same(t, "log", keys(must[[]pap.Record](t)(tx.Log(0, 10))), []string{"g"})
	})
	same(t, "audit", ids(must[[]authz.AuditRecord](t)(store.QueryAudit(t.Context(), pap.AuditFilter{}, 10))), []string{"02", "01"})
	update(t, store, func(tx pap.Tx) { same(t, "next", must[uint64](t)(tx.Put(record(pap.KindGrant, "h", ""))), 2) })
}

func testNewer(t *testing.T, d Driver) {
	location := d.New(t)
	store := must[Store](t)(d.Open(t.Context(), location))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	d.Exec(t, location, "INSERT INTO schema_version (version, name) VALUES (9999, '9999_from_the_future.sql')")
	store, err := d.Open(t.Context(), location)
	if err == nil {
		store.Close()
	}
	is(t, "open", err, d.ErrNewer)
	d.Exec(t, location, "DELETE FROM schema_version WHERE version = 9999") // and nothing else was changed
	isEmpty(t, d.handle(t, location))
}

func testConcurrentOpen(t *testing.T, d Driver) {
	location := d.New(t)
	stores := make([]Store, 4)
	var opening sync.WaitGroup
	for i := range stores {
		opening.Go(func() {
			var err error
			if stores[i], err = d.Open(t.Context(), location); err != nil {
				t.Errorf("open: %v", err)
				stores[i] = nil // not a nil of the store's own type
			}
		})
	}
	opening.Wait()
	for i, store := range stores {
		if store == nil {
			continue
		}
		update(t, store, func(tx pap.Tx) { same(t, "position", must[uint64](t)(tx.Put(record(pap.KindGrant, "g", ""))), i+1) })
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// held names the database in which a child process holds an update open.
const held = "XIEZHI_STORETEST_HELD"

// Main runs a package's tests or, in a child that one of them started, the
// child's part.
func Main(m *testing.M, d Driver) {
	location, child := os.LookupEnv(held)
	if !child {
		os.Exit(m.Run())
	}
	if err := holdUpdate(d, location); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// holdUpdate commits one record, writes another, and waits inside the update.
func holdUpdate(d Driver, location string) error {
	ctx := context.Background()
	store, err := d.Open(ctx, location)
	if err != nil {
		return err
	}
	put := func(tx pap.Tx, key string) error {
		_, err := tx.Put(record(pap.KindGrant, key, "acme"))
		return err
	}
	if err := store.Update(ctx, func(tx pap.Tx) error { return put(tx, "committed") }); err != nil {
		return err
	}
	return store.Update(ctx, func(tx pap.Tx) error {
		if err := put(tx, "held"); err != nil {
			return err
		}
		fmt.Println("holding")
		select {} // until killed
	})
}

func testKilledWriter(t *testing.T, d Driver) {
	location := d.New(t)
	child := exec.CommandContext(t.Context(), must[string](t)(os.Executable()))
	child.Env = append(os.Environ(), held+"="+location)
	child.Stderr = os.Stderr
	out := must[io.ReadCloser](t)(child.StdoutPipe())
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "holding\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait() // says "killed"

	store := d.handle(t, location)
	update(t, store, func(tx pap.Tx) { must[uint64](t)(tx.Put(record(pap.KindGrant, "next", "acme"))) })
	view(t, store, func(tx pap.Tx) {
		same(t, "head", must[authz.Revision](t)(tx.Head()), authz.Revision{Position: 2})
		same(t, "log", keys(must[[]pap.Record](t)(tx.Log(0, 10))), []string{"committed", "next"})
		same(t, "records", keys(must[[]pap.Record](t)(tx.Records(pap.KindGrant, "acme", "", 10))), []string{"committed", "next"})
	})
}
