package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

// Two nodes of one PostgreSQL whose notifications are lost: every change of one
// reaches the other by polling, in order and without a position left out, also
// where the writer that began first commits last.
func TestNodesOfOneDatabaseConvergeWithoutNotifications(t *testing.T) {
	location := storetest.PostgresSchema(t)
	open := func() (*Core, func() []pap.Record) {
		t.Helper()
		c := config.Defaults()
		c.Data, c.DatabaseURL = t.TempDir(), location
		log := slog.New(slog.DiscardHandler)
		store, err := OpenStore(t.Context(), c, true, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		core, err := OpenCore(t.Context(), c, deaf{store}, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var seen []pap.Record
		core.distribute.join(func(u feed.Update) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, u.Records...)
		})
		follow(t, core)
		return core, func() []pap.Record {
			mu.Lock()
			defer mu.Unlock()
			return append([]pap.Record(nil), seen...)
		}
	}
	a, seenByA := open()
	b, seenByB := open()
	ctx, operator := t.Context(), admin.LocalActor()
	nodes := []*Core{a, b}

	// The first writer is in the middle of its change when the second begins.
	begun, finish := make(chan struct{}), make(chan struct{})
	var once sync.Once
	first := make(chan error, 1)
	go func() {
		first <- a.Store.Update(ctx, func(tx pap.Tx) error {
			once.Do(func() { close(begun); <-finish })
			_, err := tx.Put(pap.Record{Kind: pap.KindTenant, Key: "first", Tenant: "first", At: time.Now(), Body: []byte(`{"id":"first"}`)})
			return err
		})
	}()
	<-begun
	second := make(chan error, 1)
	go func() {
		_, _, err := b.PAP.CreateTenant(ctx, operator, pap.Tenant{ID: "second"})
		second <- err
	}()
	close(finish)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Fatal(err)
	}

	const each = 40
	var writers sync.WaitGroup
	for i, node := range nodes {
		writers.Go(func() {
			for n := range each {
				if _, _, err := node.PAP.CreateTenant(ctx, operator, pap.Tenant{ID: fmt.Sprintf("t%d-%d", i, n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	var head authz.Revision
	if err := a.Store.View(ctx, func(tx pap.Tx) (err error) { head, err = tx.Head(); return err }); err != nil {
		t.Fatal(err)
	}
	for i, seen := range []func() []pap.Record{seenByA, seenByB} {
		until(t, fmt.Sprintf("node %d is at %s", i, head), func() bool {
			records := seen()
			return len(records) > 0 && records[len(records)-1].Position == head.Position
		})
		for at, record := range seen() {
			if record.Position != uint64(at)+1 {
				t.Fatalf("node %d was told of position %d after %d", i, record.Position, at)
			}
		}
	}
}

// deaf is a store whose notifications are lost.
type deaf struct{ Store }

func (deaf) Wake(context.Context) <-chan struct{} { return nil }
