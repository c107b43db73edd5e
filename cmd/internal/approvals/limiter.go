package approvals

import (
	"sync"
	"time"
)

// limiter allows so many events of a key within a time. It knows a bounded
// number of keys and allows no others. Its zero value allows nothing; it is
// safe for concurrent use.
type limiter struct {
	most   int
	within time.Duration

	mu   sync.Mutex
	keys map[string]window
}

// window counts the events of a key since its first.
type window struct {
	since time.Time
	count int
}

// maxKeys bounds the memory that strangers can fill.
const maxKeys = 10_000

func (l *limiter) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, known := l.keys[key]
	if known && now.Sub(w.since) < l.within {
		if w.count >= l.most {
			return false
		}
		w.count++
		l.keys[key] = w
		return true
	}
	if !known && len(l.keys) >= maxKeys {
		for other, w := range l.keys {
			if now.Sub(w.since) >= l.within {
				delete(l.keys, other)
			}
		}
		if len(l.keys) >= maxKeys {
			return false
		}
	}
	if l.keys == nil {
		l.keys = map[string]window{}
	}
	l.keys[key] = window{now, 1}
	return l.most > 0
}
