package pdp

import (
	"context"
	"sync"
	"time"
)

// budget is a context that ends after a time, and starts a timer only for who
// waits for it: most evaluations are over before they ask, and those that look
// at Err now and then need none.
type budget struct {
	context.Context
	until time.Time

	mu     sync.Mutex
	timed  context.Context // nil: nobody waits
	cancel context.CancelFunc
}

// waited reports whether somebody waits, or did. It may still hold the context
// then, which must stay ended.
func (b *budget) waited() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.timed != nil
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
	if b.timed == nil {
		b.timed, b.cancel = context.WithDeadline(b.Context, b.until)
	}
	return b.timed.Done()
}

// Err implements context.Context.
func (b *budget) Err() error {
	b.mu.Lock()
	timed := b.timed
	b.mu.Unlock()
	if timed != nil {
		return timed.Err()
	}
	if err := b.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(b.until) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context. Package context looks for its own kind
// here: it finds the timer, or starts it.
func (b *budget) Value(key any) any {
	b.mu.Lock()
	timed := b.timed
	b.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return b.Context.Value(key)
}

// end stops the timer, if there is one. Who still waits sees the end.
func (b *budget) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel != nil {
		b.cancel()
	}
}
