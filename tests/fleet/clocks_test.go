//go:build unix

package fleet

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// clock is a local clock that somebody sets.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// shortLife is how long the grant lasts that ends by itself.
const shortLife = 6 * time.Second

// victim is one PEP with a clock and a disk to tamper with, and two grants: one
// that is revoked, and one that ends.
type victim struct {
	*member
	t              *testing.T
	site           *site
	clock          *clock
	lasting, short *mintedGrant
}

// victim starts one, which is asked for both grants without a break until the
// test ends.
func (s *site) victim(t *testing.T) *victim {
	t.Helper()
	f := s.muster(t, 1, []*road{s.build(t)}, "acme")
	f.mayClose = true
	v := &victim{member: f.members[0], t: t, site: s, clock: &clock{}}
	v.id, v.now = "pep-of-"+filepath.Base(t.Name()), v.clock.now
	v.must(v.start(t.Context()))
	f.await(t, authz.Revision{Release: 1})
	v.lasting, v.short = v.mint(10*time.Minute), v.mint(shortLife)
	v.allows(v.lasting)
	v.allows(v.short)
	ctx, over := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		for ticker := time.NewTicker(5 * time.Millisecond); ; {
			v.try(v.lasting)
			v.try(v.short)
			select {
			case <-ticker.C:
			case <-ctx.Done():
				ticker.Stop()
				return
			}
		}
	})
	t.Cleanup(func() {
		over()
		asking.Wait()
		f.report(t)
	})
	return v
}

func (v *victim) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *victim) mint(validity time.Duration) *mintedGrant {
	v.t.Helper()
	g, err := v.site.mint(v.t.Context(), "acme", v.id+validity.String(), validity)
	v.must(err)
	return g
}

func (v *victim) allows(g *mintedGrant) {
	v.t.Helper()
	await(v.t, patience, func() string {
		if allowed, _ := v.try(g); !allowed {
			s, _ := v.look()
			return "the grant does not count" + status(s.LastError)
		}
		return ""
	})
}

func status(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

func (v *victim) revoke() {
	v.t.Helper()
	v.must(v.site.revoke(v.t.Context(), v.lasting, 0))
}

func (v *victim) restart() {
	v.t.Helper()
	v.must(v.member.stop())
	v.must(v.start(v.t.Context()))
}

// outlast lets the time pass in which either grant may count.
func (v *victim) outlast() {
	v.t.Helper()
	until := v.lasting.revoked.Load().at.Add(grantStale)
	if v.short.end.After(until) {
		until = v.short.end
	}
	pause(v.t.Context(), time.Until(until.Add(time.Second)))
}

// aside copies the folder as it stands.
func (v *victim) aside() (image string) {
	v.t.Helper()
	image, err := os.MkdirTemp(filepath.Dir(v.dir), "aside-") // on the same disk
	v.must(err)
	v.must(copyFolder(image, v.dir))
	return image
}

// recovers gives the member its network back and waits until it enforces what
// is newest, whatever its clock says.
func (v *victim) recovers() {
	v.t.Helper()
	began := time.Now()
	v.road.thaw()
	v.road.stream.slow(0)
	fresh := v.mint(10*time.Minute - time.Second)
	v.allows(fresh)
	v.t.Logf("recovered in %s", since(began))
	for _, g := range []*mintedGrant{v.lasting, v.short} {
		if allowed, answered := v.try(g); allowed || !answered {
			v.t.Errorf("afterwards %s: allowed %v, answered %v", g.id, allowed, answered)
		}
	}
}

// TestClocksAndDisksCannotReviveAGrant tampers with all that a PEP could take
// the time from or read a grant from. At no moment may one count that has
// ended, and with its network back every PEP recovers.
func TestClocksAndDisksCannotReviveAGrant(t *testing.T) {
	leavesNothing(t)
	s := start(t, "acme")
	var rows sync.WaitGroup // at once: most of their time is waiting
	for _, c := range []struct {
		name string
		do   func(*victim)
	}{
		{"clock set back while connected", func(v *victim) {
			v.clock.set(-time.Hour)
			v.allows(v.short) // it is the server's time that counts
			v.revoke()
			v.outlast()
		}},
		{"clock set back while cut off", func(v *victim) {
			v.road.block()
			v.clock.set(-time.Hour)
			v.revoke()
			v.outlast()
		}},
		{"clock set back a little again and again", func(v *victim) {
			v.road.block()
			v.revoke()
			for back := time.Duration(0); time.Now().Before(v.short.end); back += 900 * time.Millisecond {
				v.clock.set(-back)
				pause(v.t.Context(), time.Second)
			}
			v.outlast()
		}},
		{"clock set back, and a restart", func(v *victim) {
			v.road.block()
			v.clock.set(-time.Hour)
			v.revoke()
			v.restart()
			v.outlast()
		}},
		{"clock set forward and back while connected", func(v *victim) {
			v.clock.set(48 * time.Hour)
			v.allows(v.lasting)
			v.clock.set(0)
			v.allows(v.lasting)
			v.revoke()
			v.outlast()
		}},
		{"clock set forward and back while cut off", func(v *victim) {
			v.road.block()
			v.clock.set(48 * time.Hour)
			pause(v.t.Context(), 2*time.Second)
			v.clock.set(0)
			v.revoke()
			v.outlast()
		}},
		{"clock set forward, a restart, and back", func(v *victim) {
			v.road.block()
			v.clock.set(365 * 24 * time.Hour)
			v.restart()
			v.revoke()
			pause(v.t.Context(), 2*time.Second)
			v.clock.set(0)
			v.restart()
			v.outlast()
		}},
		{"clock left far ahead", func(v *victim) {
			v.clock.set(365 * 24 * time.Hour)
			v.restart()
			v.revoke()
			v.outlast()
		}},
		{"clock and disk rolled back together", func(v *victim) {
			image, at := v.aside(), time.Now()
			v.revoke()
			v.outlast()
			v.road.block()
			v.must(v.member.stop())
			v.must(v.roll(image))
			v.clock.set(-time.Since(at))
			v.must(v.start(v.t.Context()))
			pause(v.t.Context(), 3*time.Second)
		}},
		{"clock and disk rolled back together behind a frozen stream", func(v *victim) {
			image, at := v.aside(), time.Now()
			v.revoke()
			v.outlast()
			v.road.stream.freeze()
			v.must(v.member.stop())
			v.must(v.roll(image))
			v.clock.set(-time.Since(at))
			v.must(v.start(v.t.Context()))
			pause(v.t.Context(), 3*time.Second)
		}},
		{"disk emptied", func(v *victim) {
			v.road.block()
			v.revoke()
			v.must(v.member.stop())
			v.must(os.RemoveAll(v.dir))
			v.must(v.roll(v.aside()))
			v.must(v.start(v.t.Context()))
			if s, _ := v.look(); s.Revision.Release != 0 {
				v.t.Errorf("it holds %s from an empty folder", s.Revision)
			}
			v.outlast()
		}},
		{"disk replaced by an older copy", func(v *victim) {
			image := v.aside()
			v.revoke()
			v.outlast()
			v.road.block()
			v.must(v.member.stop())
			v.must(v.roll(image))
			v.must(v.start(v.t.Context()))
			pause(v.t.Context(), 3*time.Second)
		}},
		{"disk replaced by an older copy with the network there", func(v *victim) {
			image := v.aside()
			v.revoke()
			v.must(v.member.stop())
			v.must(v.roll(image))
			v.must(v.start(v.t.Context()))
			v.outlast()
		}},
		{"log on disk replaced by an older one", func(v *victim) { v.olderFile("log.jws") }},
		{"heartbeat on disk replaced by an older one", func(v *victim) { v.olderFile("heartbeat.jws") }},
		{"everything on disk but the heartbeat replaced", func(v *victim) { v.olderFile("log.jws", "release.tar.gz", "keys.jws") }},
		{"stream frozen", func(v *victim) {
			v.road.stream.freeze()
			v.revoke()
			v.outlast()
		}},
		{"stream frozen until the connection is given up", func(v *victim) {
			v.road.stream.freeze()
			v.revoke()
			v.outlast()
			pause(v.t.Context(), time.Until(v.lasting.revoked.Load().at.Add(stream.SilentAfter+2*time.Second)))
		}},
		{"all frozen, and what was frozen comes late", func(v *victim) {
			v.road.freeze()
			v.revoke()
			pause(v.t.Context(), time.Until(v.short.end))
			v.road.stream.slow(500 * time.Millisecond)
			v.road.thaw()
			v.outlast()
		}},
		{"frozen with its clock set back", func(v *victim) {
			v.road.freeze()
			v.clock.set(-time.Hour)
			v.revoke()
			v.outlast()
		}},
		{"every byte a second late", func(v *victim) {
			v.road.stream.slow(time.Second)
			v.revoke()
			v.outlast()
		}},
	} {
		rows.Go(func() {
			t.Run(c.name, func(t *testing.T) {
				v := s.victim(t)
				c.do(v)
				v.recovers()
			})
		})
	}
	rows.Wait()
}

// olderFile lets the revocation and the end of the short grant reach the disk,
// and then puts older copies of files in their place.
func (v *victim) olderFile(names ...string) {
	v.t.Helper()
	image := v.aside()
	v.revoke()
	v.outlast()
	v.road.block()
	v.must(v.member.stop())
	next := v.aside()
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(image, "state", name))
		v.must(err)
		v.must(os.WriteFile(filepath.Join(next, "state", name), text, 0o600))
	}
	v.must(v.roll(next))
	v.must(v.start(v.t.Context()))
	pause(v.t.Context(), 3*time.Second)
}
