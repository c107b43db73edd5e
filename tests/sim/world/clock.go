package world

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrTimeout is the cause of a context that [Clock.WithTimeout] has ended.
var ErrTimeout = errors.New("world: the time is up")

// Clock is the time of a simulator: the machine's, or one that stands still
// until a test moves it. Safe for concurrent use.
type Clock struct {
	mu      sync.Mutex
	stopped bool // false: the machine's time
	now     time.Time
	timers  []*timer
	changed chan struct{} // closed when a timer is set, fires or is stopped
}

type timer struct {
	at  time.Time
	run func()
}

// MachineClock returns the machine's time. It cannot be moved.
func MachineClock() *Clock { return &Clock{} }

// StoppedClock returns a clock that stands at t until [Clock.Advance] moves it.
func StoppedClock(t time.Time) *Clock {
	return &Clock{stopped: true, now: t, changed: make(chan struct{})}
}

// Stopped reports whether the clock moves by [Clock.Advance] only.
func (c *Clock) Stopped() bool { return c.stopped }

// Now returns the time, in UTC.
func (c *Clock) Now() time.Time {
	if !c.stopped {
		return time.Now().UTC()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now.UTC()
}

// AfterFunc runs f in a goroutine of its own once d has passed. The returned
// function takes it back, and reports whether f had not been started.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	if !c.stopped {
		return time.AfterFunc(d, f).Stop
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d <= 0 {
		go f()
		return func() bool { return false }
	}
	t := &timer{at: c.now.Add(d), run: f}
	c.timers = append(c.timers, t)
	c.announce()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.timers, t)
		if i < 0 {
			return false
		}
		c.timers = slices.Delete(c.timers, i, i+1)
		c.announce()
		return true
	}
}

// Wait returns once d has passed, or with the error of a context that ended.
func (c *Clock) Wait(ctx context.Context, d time.Duration) error {
	passed := make(chan struct{})
	stop := c.AfterFunc(d, func() { close(passed) })
	defer stop()
	select {
	case <-passed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WithTimeout returns a context that ends once d has passed on this clock, with
// the cause [ErrTimeout]. It carries no deadline, which would be one of the
// machine's.
func (c *Clock) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := c.AfterFunc(d, func() { cancel(ErrTimeout) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Advance moves a stopped clock and starts what has fallen due, the earliest
// first. It does not wait for what it started.
func (c *Clock) Advance(d time.Duration) {
	if !c.stopped {
		panic("world: the machine's clock cannot be moved")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	slices.SortStableFunc(c.timers, func(a, b *timer) int { return a.at.Compare(b.at) })
	for len(c.timers) > 0 && !c.timers[0].at.After(c.now) {
		go c.timers[0].run()
		c.timers = c.timers[1:]
	}
	c.announce()
}

// AwaitTimers returns once at least n timers of a stopped clock are set: whoever
// was to wait is waiting, and the clock may be moved.
func (c *Clock) AwaitTimers(ctx context.Context, n int) error {
	for {
		c.mu.Lock()
		set, changed := len(c.timers), c.changed
		c.mu.Unlock()
		if set >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announce is called with the lock held.
func (c *Clock) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}
