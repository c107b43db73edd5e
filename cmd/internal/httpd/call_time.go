package httpd

import (
	"context"
	"sync"
	"time"
)

// callTime is the context of one call. It ends after a time and starts a timer
// only for who waits for that: most calls are answered before anybody does.
type callTime struct {
	context.Context // the server's
	until           time.Time

	mu     sync.Mutex
	ended  bool
	timed  context.Context // nil: nobody waits
	cancel context.CancelFunc
}

func (t *callTime) begin(ctx context.Context, d time.Duration) {
	t.Context, t.until = ctx, time.Now().Add(d)
}

// Deadline implements context.Context.
func (t *callTime) Deadline() (time.Time, bool) { return t.until, true }

// Done implements context.Context.
func (t *callTime) Done() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timed == nil {
		t.timed, t.cancel = context.WithDeadline(t.Context, t.until)
		if t.ended {
			t.cancel()
		}
	}
	return t.timed.Done()
}

// Err implements context.Context.
func (t *callTime) Err() error {
	t.mu.Lock()
	timed, ended := t.timed, t.ended
	t.mu.Unlock()
	switch {
	case timed != nil:
		return timed.Err()
	case ended:
		return context.Canceled
	case t.Context.Err() != nil:
		return t.Context.Err()
	case !time.Now().Before(t.until):
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context. Package context looks for its own kind
// here, having asked for Done: it finds the timer.
func (t *callTime) Value(key any) any {
	t.mu.Lock()
	timed := t.timed
	t.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return t.Context.Value(key)
}

// end is called when the call is answered: who still waits does so no longer.
func (t *callTime) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.cancel != nil {
		t.cancel()
	}
}
