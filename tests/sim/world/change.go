package world

import (
	"context"
	"sync"
)

// Change tells those who wait that a simulator's state is another. Its zero
// value is ready.
type Change struct {
	mu   sync.Mutex
	next chan struct{}
}

// Next returns a channel that is closed at the next change. Take it before
// looking at the state.
func (c *Change) Next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

// Announce wakes all who wait.
func (c *Change) Announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

// Await returns what look finds as soon as it finds something. It looks again
// after each change.
func Await[T any](ctx context.Context, c *Change, look func() (T, bool)) (T, error) {
	for {
		next := c.Next()
		if found, ok := look(); ok {
			return found, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
}
