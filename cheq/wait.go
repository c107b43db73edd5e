package cheq

import (
	"context"
	"sync"
)

// Waiters are those on this node who wait for cases to settle. The zero value
// is ready, and safe for concurrent use.
type Waiters struct {
	mu    sync.Mutex
	cases map[string]*waiting
}

// waiting are all who wait for one case.
type waiting struct {
	settled chan struct{}
	count   int
}

// Wait returns once the case is settled on any node, or with ctx's error. It
// asks settled once, when it could no longer miss the news: a case may have
// settled before the call.
func (w *Waiters) Wait(ctx context.Context, id string, settled func() (bool, error)) error {
	of := w.join(id)
	defer w.leave(id, of)
	if done, err := settled(); done || err != nil {
		return err
	}
	select {
	case <-of.settled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *Waiters) join(id string) *waiting {
	w.mu.Lock()
	defer w.mu.Unlock()
	of, ok := w.cases[id]
	if !ok {
		of = &waiting{settled: make(chan struct{})}
		if w.cases == nil {
			w.cases = map[string]*waiting{}
		}
		w.cases[id] = of
	}
	of.count++
	return of
}

func (w *Waiters) leave(id string, of *waiting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if of.count--; of.count == 0 && w.cases[id] == of {
		delete(w.cases, id)
	}
}

// Settled releases all who wait for the case.
func (w *Waiters) Settled(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if of, ok := w.cases[id]; ok {
		close(of.settled)
		delete(w.cases, id)
	}
}
