package pip

import "time"

// breakAfter is how many calls in a row must fail for a source not to be
// asked any more, breakFor how long it is left alone at least.
const (
	breakAfter = 5
	breakFor   = 5 * time.Second
)

// breaker is a circuit breaker: it opens after failures in a row, and lets one
// call at a time try whether they have ended. Its caller holds a lock.
type breaker struct {
	failures int       // in a row
	until    time.Time // open, and nothing is tried before; zero: closed
	trying   bool
}

// allow reports whether a call may be made, and whether it is the one that
// tries an open breaker. Each call that was allowed ends in called or uncalled.
func (b *breaker) allow(now time.Time) (ok, try bool) {
	switch {
	case b.until.IsZero():
		return true, false
	case b.trying || now.Before(b.until):
		return false, false
	default:
		b.trying = true
		return true, true
	}
}

// uncalled takes back a call that was allowed and not made.
func (b *breaker) uncalled(try bool) {
	if try {
		b.trying = false
	}
}

// called notes how a call ended, and reports whether that opened or closed the
// breaker. What began before it opened does not count any more. pause is how
// long it then stays open.
func (b *breaker) called(try, failed bool, now time.Time, pause time.Duration) (opened, closed bool) {
	switch {
	case !b.until.IsZero() && !try:
		return false, false
	case !failed:
		*b = breaker{}
		return false, try
	}
	b.failures++
	b.trying = false
	if b.failures < breakAfter && !try {
		return false, false
	}
	b.until = now.Add(pause)
	return !try, false
}
