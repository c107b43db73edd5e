package cheq_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

func pending() (bool, error) { return false, nil }

func TestWaitersAreReleasedTogetherAndOnlyForTheirCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w cheq.Waiters
		ctx, stop := context.WithCancel(t.Context())
		ends := make(chan error, 5)
		for i := range 4 {
			go func() { ends <- w.Wait(ctx, fmt.Sprintf("cheq-%d", i/3), pending) }()
		}
		synctest.Wait()
		w.Settled("cheq-0")
		w.Settled("cheq-2") // nobody waits for it
		synctest.Wait()
		if len(ends) != 3 {
			t.Fatalf("%d were released, want the three of the case", len(ends))
		}
		for range 3 {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
		stop()
		if err := <-ends; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up: %v", err)
		}
	})
}

func TestACaseThatSettledBeforeIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w cheq.Waiters
		if err := w.Wait(t.Context(), "cheq-1", func() (bool, error) { return true, nil }); err != nil {
			t.Error(err)
		}
		broken := errors.New("the store is away")
		if err := w.Wait(t.Context(), "cheq-1", func() (bool, error) { return false, broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
		// The news that comes while the store is asked is not missed.
		if err := w.Wait(t.Context(), "cheq-1", func() (bool, error) { w.Settled("cheq-1"); return false, nil }); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Wait(ctx, "cheq-1", pending); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
