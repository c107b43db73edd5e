package authz

import (
	"testing"
	"time"
)

// A PEP's clock, or another node's, is a little behind the one that something
// was made by; what it acknowledges it enforces.
func TestWhatBeginsAtOnceCountsWhereTheClockIsBehind(t *testing.T) {
	made := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name           string
		start, created time.Time
		now            time.Time
		live           bool
	}{
		{"at once, a clock behind", made, made, made.Add(-time.Second), true},
		{"from before, a clock behind", made.Add(-time.Hour), made, made.Add(-time.Second), true},
		{"from later on, before that", made.Add(time.Minute), made, made.Add(time.Second), false},
		{"from later on, after that", made.Add(time.Minute), made, made.Add(time.Minute), true},
		{"over", made, made, made.Add(time.Hour), false},
		{"nobody says when it was made", made, time.Time{}, made.Add(-time.Second), false},
	} {
		validity := Validity{Start: c.start, End: made.Add(time.Hour)}
		g := Grant{Validity: validity, CreatedAt: c.created}
		r := Restriction{Validity: validity, CreatedAt: c.created}
		if g.Live(c.now) != c.live || r.Live(c.now) != c.live {
			t.Errorf("%s: grant %v, restriction %v, want %v", c.name, g.Live(c.now), r.Live(c.now), c.live)
		}
		if g.Ended = &made; g.Live(c.now) {
			t.Errorf("%s: it was ended and counts", c.name)
		}
	}
}
