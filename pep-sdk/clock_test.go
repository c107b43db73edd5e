package pep

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// at is an instant some time after the PEP began, with a local clock that is
// off by some time.
func at(after, off time.Duration) instant {
	return instant{mono: after, wall: noon.Add(after + off)}
}

// connected is a clock that began at noon and heard a heartbeat at once.
func connected() clock {
	c := newClock(at(0, 0), MaxGrantStale)
	c.hear(noon, at(0, 0))
	return c
}

// hear is a heartbeat that answers a hello, arrives at once, and speaks of all.
func (c *clock) hear(signed time.Time, when instant) {
	age, err := c.answered(signed, when, when)
	if err != nil {
		panic(err)
	}
	c.policies = vouch{given: true, at: when.back(age)}
	c.grants = c.policies
}

func TestGrantsCountUntilTheHeartbeatIsTooOld(t *testing.T) {
	c := connected()
	for _, row := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {29 * time.Second, true}, {30 * time.Second, false}, {time.Hour, false}} {
		f := c.freshness(at(row.after, 0), false)
		if f.Grants != row.want || f.Age != row.after || !f.Now.Equal(noon.Add(row.after)) {
			t.Errorf("after %s: %+v", row.after, f)
		}
	}
}

func TestTheLocalClockCountsForNothingWhileConnected(t *testing.T) {
	c := connected()
	for _, off := range []time.Duration{-24 * 365 * time.Hour, -time.Minute, 0, time.Second} {
		f := c.freshness(at(10*time.Second, off), false)
		if !f.Grants || f.Age != 10*time.Second || !f.Now.Equal(noon.Add(10*time.Second)) {
			t.Errorf("a clock off by %s: %+v", off, f)
		}
	}
	if got := c.skew(at(10*time.Second, -time.Hour)); got != -time.Hour {
		t.Errorf("skew %s", got)
	}
}

func TestAClockSetBackForwardAndBackAgainRecovers(t *testing.T) {
	c := connected()
	seconds := time.Duration(0)
	step := func(off time.Duration, wantGrants bool) {
		t.Helper()
		seconds += time.Second
		now := at(seconds, off)
		jumped := c.looked(now)
		if jumped { // the machine connects anew
			if c.freshness(now, false).Grants {
				t.Errorf("grants count after a jump of %s", off)
			}
			c.hear(noon.Add(seconds), now)
		}
		f := c.freshness(now, false)
		if f.Grants != wantGrants || !f.Now.Equal(noon.Add(seconds)) || f.Age > 10*time.Second {
			t.Errorf("off by %s: %+v", off, f)
		}
	}
	for _, off := range []time.Duration{0, -24 * time.Hour, -24 * time.Hour, 24 * time.Hour, 24 * time.Hour, -time.Hour, 0} {
		step(off, true)
	}
}

func TestASuspendedMachineDoesNotGainTime(t *testing.T) {
	c := connected()
	// The monotonic clock stood still for an hour.
	woken := instant{mono: 5 * time.Second, wall: noon.Add(time.Hour)}
	if f := c.freshness(woken, false); f.Grants || f.Age < time.Hour-time.Minute {
		t.Errorf("before anybody looked: %+v", f)
	}
	if !c.looked(woken) {
		t.Error("nobody noticed")
	}
	// A heartbeat that lay in a buffer all the time says nothing any more.
	if age, err := c.heard(noon.Add(5*time.Second), woken); err == nil {
		t.Errorf("a heartbeat from before counts, at the age of %s", age)
	}
	// A short one: less than grants may be old, and a grant that ended meanwhile.
	c = connected()
	woken = instant{mono: 5 * time.Second, wall: noon.Add(25 * time.Second)}
	if f := c.freshness(woken, false); !f.Latest.Equal(noon.Add(25 * time.Second)) {
		t.Errorf("a grant would outlive its end: %+v", f)
	}
}

func TestBeforeTheFirstHeartbeatOfAProcessTheLaterTimeCounts(t *testing.T) {
	for _, row := range []struct {
		name    string
		off     time.Duration
		highest time.Time
		now     time.Time
		age     time.Duration
	}{
		{"the local clock is right", 0, noon.Add(-time.Minute), noon.Add(time.Second), 61 * time.Second},
		{"the local clock was set back", -24 * time.Hour, noon.Add(-time.Minute), noon.Add(-time.Minute + time.Second), time.Second},
		{"the local clock was set forward", time.Hour, noon.Add(-time.Minute), noon.Add(time.Hour + time.Second), time.Hour + 61*time.Second},
		{"nothing on disk", 0, time.Time{}, noon.Add(time.Second), unknownAge},
	} {
		c := newClock(at(0, row.off), MaxGrantStale)
		c.highest, c.vouched = row.highest, row.highest
		f := c.freshness(at(time.Second, row.off), true)
		if f.Grants || !f.Stale || !f.Now.Equal(row.now) || f.Age != row.age {
			t.Errorf("%s: %+v, want now %s and age %s", row.name, f, row.now, row.age)
		}
		// It recovers with the first heartbeat.
		c.hear(noon.Add(2*time.Second), at(2*time.Second, row.off))
		if f := c.freshness(at(2*time.Second, row.off), false); !f.Grants || !f.Now.Equal(noon.Add(2*time.Second)) {
			t.Errorf("%s, connected: %+v", row.name, f)
		}
	}
}

func TestAClockThatIsHeldBackDoesNotStopAges(t *testing.T) {
	c := newClock(at(0, -time.Hour), MaxGrantStale)
	c.highest, c.vouched = noon, noon
	for hours := range 5 { // somebody sets it back again and again
		after := time.Duration(hours) * time.Hour
		now := instant{mono: after, wall: noon.Add(-time.Hour)}
		if f := c.freshness(now, true); f.Age < after {
			t.Errorf("after %s: %+v", after, f)
		}
	}
}

func TestAHeartbeatThatWasHeldBackIsAsOldAsItIs(t *testing.T) {
	c := newClock(at(0, 0), MaxGrantStale)
	// The answer to the hello came 20 s late: it may be that old.
	if age, err := c.answered(noon.Add(time.Second), at(0, 0), at(20*time.Second, 0)); err != nil || age != 20*time.Second {
		t.Errorf("age %s, %v", age, err)
	}
	// A proxy goes on holding everything back by 20 s.
	if age, err := c.heard(noon.Add(6*time.Second), at(25*time.Second, 0)); err != nil || age < 19*time.Second {
		t.Errorf("age %s, %v", age, err)
	}
	f := c.freshness(at(25*time.Second, 0), false)
	c.grants = vouch{given: true, at: at(6*time.Second, 0)}
	if f = c.freshness(at(25*time.Second, 0), false); !f.Grants || f.Latest.Before(noon.Add(25*time.Second)) {
		t.Errorf("a grant would count past its end: %+v", f)
	}
	// A connection without delay shows the time again.
	c.hear(noon.Add(30*time.Second), at(30*time.Second, 0))
	if f := c.freshness(at(30*time.Second, 0), false); !f.Now.Equal(noon.Add(30*time.Second)) || c.uncertain(at(30*time.Second, 0)) > time.Second {
		t.Errorf("%+v", f)
	}
}

func TestANodeWhoseClockIsWrongDoesNotPoisonTheNext(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		c := newClock(at(0, 0), MaxGrantStale)
		c.hear(noon.Add(off), at(0, 0))
		c.hear(noon.Add(10*time.Second), at(10*time.Second, 0)) // another node, whose clock is right
		f := c.freshness(at(11*time.Second, 0), false)
		if !f.Grants || !f.Now.Equal(noon.Add(11*time.Second)) || f.Age > 2*time.Second {
			t.Errorf("a node off by %s before: %+v", off, f)
		}
	}
}

func TestClocksThatDriftDoNotEndGrants(t *testing.T) {
	for _, drift := range []time.Duration{-time.Millisecond, time.Millisecond} { // a heartbeat, 200 ppm
		c := connected()
		for beats := 1; beats < 10_000; beats++ {
			after := time.Duration(beats) * 5 * time.Second
			now := at(after, 0)
			c.looked(now)
			age, err := c.heard(noon.Add(after+time.Duration(beats)*drift), now)
			if err != nil || c.uncertain(now) > MaxGrantStale/3 { // as the machine: a new connection
				c.hear(noon.Add(after+time.Duration(beats)*drift), now)
				age = 0
			}
			c.grants = vouch{given: true, at: now.back(age)}
			if f := c.freshness(now, false); !f.Grants {
				t.Fatalf("drift %s: after %s: %+v", drift, after, f)
			}
		}
	}
}

func TestTheTimeOfSignaturesIsNeverTheLocalOne(t *testing.T) {
	c := newClock(at(0, 0), MaxGrantStale)
	if got := c.signedNow(at(0, 10*365*24*time.Hour)); !got.IsZero() {
		t.Errorf("with nothing on disk: %s", got)
	}
	c.highest = noon
	if got := c.signedNow(at(time.Second, 10*365*24*time.Hour)); !got.Equal(noon.Add(time.Second)) {
		t.Errorf("with a heartbeat on disk: %s", got)
	}
}

func TestANodeFarBehindWhatWasSignedBeforeIsNotBelievedUnlessThisMachineAgrees(t *testing.T) {
	for _, row := range []struct {
		name        string
		before      time.Duration // newest signed time, from noon
		signed, off time.Duration // the node's time, and how far this machine's clock is off
		believed    bool
	}{
		{"a node an hour behind, this machine says so too", 0, -time.Hour, 0, false},
		{"and this machine's clock is somewhere else", 0, -time.Hour, -24 * time.Hour, false},
		{"a node a little behind", 0, -50 * time.Second, 0, true},
		{"a heartbeat from the future was believed once, this machine is right", 24 * 365 * time.Hour, 0, 0, true},
		{"and nearly right", 24 * 365 * time.Hour, 0, 59 * time.Second, true},
		{"and this machine is wrong too", 24 * 365 * time.Hour, 0, 2 * time.Minute, false},
		{"nothing was signed before", -time.Hour, -30 * time.Minute, time.Hour, true},
	} {
		for _, fromDisk := range []bool{true, false} {
			c := newClock(at(0, row.off), MaxGrantStale)
			if fromDisk {
				c.highest, c.newest = noon.Add(row.before), noon.Add(row.before)
			} else {
				c.hear(noon.Add(row.before), at(0, row.off))
			}
			now := at(time.Second, row.off)
			age, err := c.answered(noon.Add(row.signed), now, now)
			if believed := err == nil; believed != row.believed {
				t.Errorf("%s (from disk: %t): age %s, %v", row.name, fromDisk, age, err)
			}
			if err != nil && c.now(now).Before(noon.Add(row.before)) {
				t.Errorf("%s: it is %s now", row.name, c.now(now))
			}
		}
	}
}
