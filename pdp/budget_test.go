package pdp

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestABudgetEndsByItself(t *testing.T) {
	for name, watch := range map[string]func(b *budget) func() error{
		"for who looks": func(b *budget) func() error {
			return b.Err
		},
		"for who waits": func(b *budget) func() error {
			<-b.Done()
			return b.Err
		},
		"for contexts made of it": func(b *budget) func() error {
			below, cancel := context.WithCancel(b)
			t.Cleanup(cancel)
			return func() error { return context.Cause(below) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b budget
				b.begin(t.Context(), time.Second)
				defer b.end()
				if err := b.Err(); err != nil {
					t.Fatalf("at its beginning: %v", err)
				}
				err := watch(&b)
				time.Sleep(time.Second)
				synctest.Wait()
				if got := err(); !errors.Is(got, context.DeadlineExceeded) {
					t.Fatalf("after its time: %v, want %v", got, context.DeadlineExceeded)
				}
			})
		})
	}
}

func TestABudgetEndsWithItsContext(t *testing.T) {
	for name, waits := range map[string]bool{"looked at": false, "waited for": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				gone := errors.New("the client is gone")
				var b budget
				b.begin(ctx, time.Hour)
				defer b.end()
				if waits {
					b.Done()
				}
				cancel(gone)
				synctest.Wait()
				if !errors.Is(b.Err(), context.Canceled) || !errors.Is(context.Cause(&b), gone) {
					t.Fatalf("got %v because of %v", b.Err(), context.Cause(&b))
				}
			})
		})
	}
}
