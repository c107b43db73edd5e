// Package wake tells readers that there may be something new to read.
package wake

import (
	"context"
	"sync"
)

// Hub hands hints to listeners. The zero Hub is ready; it is safe for
// concurrent use.
type Hub struct {
	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
}

// Listen returns a channel that receives after calls of Ring, without queueing
// more than one value. It is never closed, and is released when ctx ends.
func (h *Hub) Listen(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	if h.listeners == nil {
		h.listeners = make(map[chan struct{}]struct{})
	}
	h.listeners[c] = struct{}{}
	h.mu.Unlock()
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		delete(h.listeners, c)
		h.mu.Unlock()
	})
	return c
}

// Ring wakes every listener. It never blocks.
func (h *Hub) Ring() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.listeners {
		select {
		case c <- struct{}{}:
		default: // the hint before this one has not been read yet
		}
	}
}
