package httpd

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// callTime is the context of one call. It ends after a time and starts a timer
// only for who waits for that: most calls are answered before anybody does.
// Whether it has ended is asked many times in one decision, and costs one look
// at the clock.
type callTime struct {
	context.Context // the server's
	begun, until    time.Time

	mu    sync.Mutex // orders the first who waits and the end
	ended atomic.Bool
	timed atomic.Pointer[timedCall] // nil: nobody waits
}

// timedCall is a call's time for who waits.
type timedCall struct {
	context.Context
	cancel context.CancelFunc
}

func (t *callTime) begin(ctx context.Context, d time.Duration) {
	t.Context, t.begun = ctx, time.Now()
	t.until = t.begun.Add(d)
}

// Deadline implements context.Context.
func (t *callTime) Deadline() (time.Time, bool) { return t.until, true }

// Done implements context.Context.
func (t *callTime) Done() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	timed := t.timed.Load()
	if timed == nil {
		timed = &timedCall{}
		timed.Context, timed.cancel = context.WithDeadline(t.Context, t.until)
		if t.ended.Load() {
			timed.cancel()
		}
		t.timed.Store(timed)
	}
	return timed.Done()
}

// Err implements context.Context.
func (t *callTime) Err() error {
	if timed := t.timed.Load(); timed != nil {
		return timed.Err()
	}
	if t.ended.Load() {
		return context.Canceled
	}
	if err := t.Context.Err(); err != nil {
		return err
	}
	if time.Until(t.until) <= 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context. Package context looks for its own kind
// here, having asked for Done: it finds the timer.
func (t *callTime) Value(key any) any {
	if timed := t.timed.Load(); timed != nil {
		return timed.Value(key)
	}
	return t.Context.Value(key)
}

// end is called when the call is answered: who still waits does so no longer.
func (t *callTime) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended.Store(true)
	if timed := t.timed.Load(); timed != nil {
		timed.cancel()
	}
}
