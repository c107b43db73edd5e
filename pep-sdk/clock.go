package pep

import (
	"fmt"
	"math"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

const (
	// skewAlarm is how far the local clock may be off before anybody is told.
	skewAlarm = 60 * time.Second
	// jumpAlarm is how much more of wall-clock time than of monotonic time may
	// pass between two looks before the process is taken to have been suspended.
	jumpAlarm = 2 * time.Second
	// maxBehind is how far a node's time may lie behind the newest that was
	// signed before.
	maxBehind = time.Minute
	// unknownAge stands for "never vouched for": it is over every bound.
	unknownAge = time.Duration(math.MaxInt64)
)

// instant is one look at the local clocks.
type instant struct {
	mono time.Duration // since the PEP began; stands still while the machine is suspended
	wall time.Time     // the local clock; may say anything
}

// since is the time that passed from earlier to i. Where the wall clock went
// on much further than the monotonic one, the machine was suspended or somebody
// set the clock: which of the two cannot be known, so it counts as passed.
func (i instant) since(earlier instant) time.Duration {
	mono, wall := i.mono-earlier.mono, i.wall.Sub(earlier.wall)
	if wall > mono+jumpAlarm {
		return wall
	}
	return max(mono, 0)
}

func (i instant) back(d time.Duration) instant {
	return instant{mono: i.mono - d, wall: i.wall.Add(-d)}
}

// vouch is a heartbeat's word for something: the latest local instant before
// which it was surely signed is not known, the earliest is. Ages are counted
// from that one.
type vouch struct {
	given bool
	at    instant
}

func (v vouch) age(at instant) time.Duration {
	if !v.given {
		return unknownAge
	}
	return at.since(v.at)
}

// clock says what time it is, and how old what is known is (DESIGN §4). It is
// a value: a copy answers for the moment at which it was taken, and ages with
// the instants that it is asked for. It reads no clock.
//
// A node signs its own time. When a heartbeat answers the nonce of a hello, it
// was signed after the hello was sent and before it was received: so the
// node's clock now lies between "signed plus what passed since it came" and
// "signed plus what passed since the hello". Later heartbeats of the
// connection carry no nonce; whoever holds them back makes them look as old as
// they are against the later of the two bounds.
type clock struct {
	grantStale time.Duration

	// From the disk, until the first heartbeat of this process.
	start   instant
	highest time.Time // newest signed time on disk; zero: none
	vouched time.Time // signed time of the heartbeat that vouches for what is on disk; zero: none

	newest time.Time // newest signed time that was believed, on disk too; zero: none

	// From the first heartbeat of this process on.
	anchored bool
	early    time.Time // no later than the node's clock at earlyAt
	earlyAt  instant
	late     time.Time // no earlier than the node's clock at lateAt; zero: not known
	lateAt   instant

	policies vouch
	grants   vouch
	look     instant // the newest, to see a suspended machine
}

func newClock(start instant, grantStale time.Duration) clock {
	return clock{start: start, look: start, grantStale: grantStale}
}

// heartbeat is a verified heartbeat and when it was signed at the earliest.
type heartbeat struct {
	stream.Heartbeat
	signed string
	keyID  string
	at     instant
	// differs says that the state held is not what the heartbeat says.
	differs bool
}

// now is the time that decisions take for now.
func (c *clock) now(at instant) time.Time {
	if c.anchored {
		return c.early.Add(at.mono - c.earlyAt.mono)
	}
	if c.highest.IsZero() {
		return at.wall
	}
	if signed := c.highest.Add(max(at.mono-c.start.mono, 0)); signed.After(at.wall) {
		return signed
	}
	return at.wall
}

// signedNow is the time by which signatures are judged: never the local clock,
// since one that is ahead would end every retired key, and with it the way
// back to the right time. Zero where no signed time is known.
func (c *clock) signedNow(at instant) time.Time {
	switch {
	case c.anchored:
		return c.now(at)
	case c.highest.IsZero():
		return time.Time{}
	}
	return c.highest.Add(max(at.mono-c.start.mono, 0))
}

// behind refuses a node whose time lies far behind what was signed before: by it
// what has ended would count again. One of the two is wrong, and this machine's
// clock says which: where it agrees with the node, the two of them are believed,
// so that one heartbeat from the future locks nobody out for good.
func (c *clock) behind(signed time.Time, at instant) error {
	if c.newest.IsZero() || signed.After(c.newest.Add(-maxBehind)) || at.wall.Sub(signed).Abs() <= skewAlarm {
		return nil
	}
	return fmt.Errorf("the node's clock says %s, a heartbeat of %s was signed before, and the clock of this machine (%s) does not bear the node out: set right whichever is wrong",
		signed.Format(time.RFC3339), c.newest.Format(time.RFC3339), at.wall.UTC().Format(time.RFC3339))
}

// answered takes a heartbeat that signs the nonce of the hello sent at hello.
// It returns how old it may be, or why the node is not believed.
func (c *clock) answered(signed time.Time, hello, at instant) (time.Duration, error) {
	if err := c.behind(signed, at); err != nil {
		return 0, err
	}
	age := max(at.mono-hello.mono, 0)
	if !c.late.IsZero() {
		// An earlier bound may be tighter, but what was just proved goes first:
		// nodes whose clocks disagree make the earlier bound worthless.
		if earlier := c.late.Add(at.mono - c.lateAt.mono).Sub(signed); earlier >= 0 && earlier <= age {
			age = earlier
		} else {
			c.late = time.Time{}
		}
	}
	if c.late.IsZero() {
		c.late, c.lateAt = signed.Add(age), at
	}
	if now := c.now(at); !c.anchored || now.Before(signed) || now.After(signed.Add(age)) {
		c.early, c.earlyAt = signed, at
	}
	c.anchored, c.newest = true, signed
	return age, nil
}

// heard takes a later heartbeat of the same connection. It returns how old it
// may be, or an error where only a new nonce can say that.
func (c *clock) heard(signed time.Time, at instant) (time.Duration, error) {
	if !c.anchored || c.late.IsZero() {
		return 0, fmt.Errorf("a heartbeat of %s, and no bound for the node's clock is known", signed.Format(time.RFC3339Nano))
	}
	age := c.late.Add(at.mono - c.lateAt.mono).Sub(signed)
	if age < -jumpAlarm {
		return 0, fmt.Errorf("the node's clock jumped ahead by %s", -age)
	}
	if age < 0 { // the two monotonic clocks drift
		c.late, c.lateAt, age = signed, at, 0
	}
	if c.now(at).Before(signed) {
		c.early, c.earlyAt = signed, at
	}
	if c.newest.Before(signed) {
		c.newest = signed
	}
	return age, nil
}

// uncertain is how far the two bounds for the node's clock are apart.
func (c *clock) uncertain(at instant) time.Duration {
	if !c.anchored || c.late.IsZero() {
		return unknownAge
	}
	return c.late.Add(at.mono - c.lateAt.mono).Sub(c.now(at))
}

// looked notes a look at the clocks. It reports whether the machine seems to
// have been suspended since the one before: then what still comes out of the
// connection may be of any age, and only a new nonce counts.
func (c *clock) looked(at instant) (jumped bool) {
	before := c.look
	c.look = at
	if at.wall.Sub(before.wall) <= at.mono-before.mono+jumpAlarm {
		return false
	}
	c.late = time.Time{}
	return true
}

// skew is how far the local clock is ahead of the signed time; zero before
// the first heartbeat.
func (c *clock) skew(at instant) time.Duration {
	if !c.anchored {
		return 0
	}
	return at.wall.Sub(c.now(at))
}

// policiesAge is the time since somebody last vouched for the active release.
func (c *clock) policiesAge(at instant) time.Duration {
	if c.policies.given {
		return c.policies.age(at)
	}
	if c.vouched.IsZero() {
		return unknownAge
	}
	// What passed in this process passed, wherever the clocks stand.
	return max(c.now(at).Sub(c.vouched), at.since(c.start), 0)
}

// freshness is what one decision may trust. away says that no node is heard.
func (c *clock) freshness(at instant, away bool) authz.Freshness {
	f := authz.Freshness{Now: c.now(at), Age: c.policiesAge(at), GrantsAge: c.grants.age(at)}
	f.Grants = c.grants.given && !c.late.IsZero() && f.GrantsAge < c.grantStale
	if f.Grants {
		f.Latest = c.late.Add(at.since(c.lateAt))
	}
	f.Stale = away || f.Age >= stream.SilentAfter || f.GrantsAge >= stream.SilentAfter
	return f
}
