package pdp

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// budget is a context that ends after a time, and starts a timer only for who
// waits for it: most evaluations are over before they ask, and those that look
// at Err now and then need none.
type budget struct {
	context.Context
	until time.Time

	mu    sync.Mutex // of who makes timed
	timed atomic.Pointer[timed]
}

// timed is the budget for who waits.
type timed struct {
	context.Context
	cancel context.CancelFunc
}

// waited reports whether somebody waits, or did. It may still hold the context
// then, which must stay ended.
func (b *budget) waited() bool {
	return b.timed.Load() != nil
}

func (b *budget) begin(ctx context.Context, d time.Duration) {
	b.Context, b.until = ctx, time.Now().Add(d)
}

// Deadline implements context.Context.
func (b *budget) Deadline() (time.Time, bool) {
	if until, ok := b.Context.Deadline(); ok && until.Before(b.until) {
		return until, true
	}
	return b.until, true
}

// Done implements context.Context.
func (b *budget) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.timed.Load()
	if t == nil {
		t = &timed{}
		t.Context, t.cancel = context.WithDeadline(b.Context, b.until)
		b.timed.Store(t)
	}
	return t.Done()
}

// Err implements context.Context.
func (b *budget) Err() error {
	if t := b.timed.Load(); t != nil {
		return t.Err()
	}
	if err := b.Context.Err(); err != nil {
		return err
	}
	if time.Until(b.until) <= 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context. Package context looks for its own kind
// here: it finds the timer, or starts it.
func (b *budget) Value(key any) any {
	if t := b.timed.Load(); t != nil {
		return t.Value(key)
	}
	return b.Context.Value(key)
}

// end stops the timer, if there is one. Who still waits sees the end.
func (b *budget) end() {
	if t := b.timed.Load(); t != nil {
		t.cancel()
	}
}
