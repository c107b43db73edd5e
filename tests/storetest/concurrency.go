package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// testConcurrentUpdates has writers on two handles and a reader that follows
// the log. If a position could commit after a higher one, or be skipped, the
// reader would see a gap.
func testConcurrentUpdates(t *testing.T, d Driver) {
	const writers, updates = 8, 12
	location := d.New(t)
	handles := []Store{d.handle(t, location), d.handle(t, location)}
	refused := errors.New("refused")
	var committed atomic.Uint64
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for u := range updates {
				var put uint64
				err := handles[w%2].Update(t.Context(), func(tx pap.Tx) error {
					put = 0
					for range 1 + (w+u)%3 {
						if _, err := tx.Put(record(pap.KindGrant, fmt.Sprint(w), "acme")); err != nil {
							return err
						}
						put++
					}
					if u%5 == 4 {
						return refused // must leave no gap
					}
					return nil
				})
				switch {
				case errors.Is(err, refused):
				case err != nil:
					t.Errorf("writer %d: %v", w, err)
					return
				default:
					committed.Add(put)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()

	var seen uint64
	follow := func() {
		view(t, handles[0], func(tx pap.Tx) {
			head := must[authz.Revision](t)(tx.Head())
			for _, r := range must[[]pap.Record](t)(tx.Log(seen, 1000)) {
				if seen++; r.Position != seen {
					t.Fatalf("position %d follows %d", r.Position, seen-1)
				}
			}
			same(t, "head and log", head.Position, seen)
		})
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		follow()
	}
	same(t, "entries", seen, committed.Load())
}

// testSerialWriters has a second writer try to begin while the first is in the
// middle. The first reads until a writer that was not held back would long
// have begun.
func testSerialWriters(t *testing.T, d Driver) {
	location := d.New(t)
	first, second := d.handle(t, location), d.handle(t, location)
	var began atomic.Bool
	var trying sync.WaitGroup
	defer trying.Wait()
	update(t, first, func(tx pap.Tx) {
		starting := make(chan struct{})
		trying.Go(func() {
			close(starting)
			err := second.Update(t.Context(), func(tx pap.Tx) error {
				began.Store(true)
				counted, err := tx.UseGrant("g", "second", 1)
				if counted {
					t.Error("the only use was counted twice")
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-starting
		for range 500 {
			must[authz.Revision](t)(tx.Head())
		}
		if began.Load() {
			t.Error("a second writer began before the first had ended")
		}
		same(t, "counted", must[bool](t)(tx.UseGrant("g", "first", 1)), true)
	})
}

func testConcurrentUses(t *testing.T, d Driver) {
	const callers, max = 12, 5
	location := d.New(t)
	handles := []Store{d.handle(t, location), d.handle(t, location)}
	var counted sync.Map
	var calling sync.WaitGroup
	for c := range 2 * callers { // each key is tried on both handles at once
		calling.Go(func() {
			key := fmt.Sprint("run-", c/2)
			err := handles[c%2].Update(t.Context(), func(tx pap.Tx) error {
				ok, err := tx.UseGrant("g", key, max)
				if ok {
					counted.Store(key, true)
				} else {
					counted.LoadOrStore(key, false)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	calling.Wait()
	yes, all := 0, 0
	counted.Range(func(_, ok any) bool {
		all++
		if ok.(bool) {
			yes++
		}
		return true
	})
	same(t, "counted, tried", []int{yes, all}, []int{max, callers})
	view(t, handles[0], func(tx pap.Tx) {
		same(t, "stored", len(must[[]pap.GrantUse](t)(tx.GrantUses(pap.GrantUse{}, 100))), max)
	})
}

// woken waits for a hint.
func woken(t testing.TB, hint <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case <-hint:
	case <-ctx.Done():
		t.Fatal("nobody was woken")
	}
}

func testWake(t *testing.T, d Driver) {
	location := d.New(t)
	store := d.handle(t, location)
	writer := store
	if d.WakesAcross {
		writer = d.handle(t, location)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a, b := store.Wake(ctx), store.Wake(t.Context())
	for range 3 {
		update(t, writer, func(tx pap.Tx) { must[uint64](t)(tx.Put(record(pap.KindGrant, "g", "acme"))) })
		woken(t, a)
		woken(t, b)
	}
	cancel() // releasing one leaves the other
	update(t, writer, func(tx pap.Tx) { must[uint64](t)(tx.Put(record(pap.KindGrant, "g", "acme"))) })
	woken(t, b)
}
