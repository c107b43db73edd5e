package matrix

import (
	"sync"
	"time"
)

// meter bounds how often something is done for each of many people.
type meter struct {
	most   int
	within time.Duration

	mu    sync.Mutex
	since time.Time
	times map[string]int
	all   int
}

// everybody bounds what is done for all people together, in multiples of what
// is done for one.
const everybody = 20

// allow reports whether it may be done once more. All begin anew together after
// each span, so that what is remembered stays small.
func (m *meter) allow(who string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.times == nil || now.Sub(m.since) >= m.within || now.Before(m.since) {
		m.since, m.times, m.all = now, map[string]int{}, 0
	}
	if m.times[who] >= m.most || m.all >= m.most*everybody {
		return false
	}
	m.times[who]++
	m.all++
	return true
}
