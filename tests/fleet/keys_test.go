//go:build unix

package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// watch is members that are asked without a break for a grant that counts all
// the time: when one does not allow it, it is closed.
type watch struct {
	fleet  *fleet
	steady *mintedGrant
	dead   *mintedGrant // revoked before

	mu    sync.Mutex
	since map[string]time.Time // members that are closed now
	longs []closure
}

type closure struct {
	id   string
	long time.Duration
	how  string
}

func (c closure) String() string { return fmt.Sprintf("%s for %s (%s)", c.id, c.long, c.how) }

// keep asks until ctx ends.
func (w *watch) keep(ctx context.Context, members []*member) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	how := map[string]string{}
	for i := 0; ctx.Err() == nil; i++ {
		m := members[i%len(members)]
		m.try(w.dead)
		allowed, answered := m.try(w.steady)
		now := time.Now()
		w.mu.Lock()
		began, closed := w.since[m.id]
		switch {
		case !allowed && !closed:
			w.since[m.id] = now
			how[m.id] = "it does not count"
			if !answered {
				how[m.id] = "no answer"
			}
		case allowed && closed:
			delete(w.since, m.id)
			w.longs = append(w.longs, closure{m.id, now.Sub(began).Round(time.Millisecond), how[m.id]})
		}
		w.mu.Unlock()
		if i%2 == 1 {
			<-ticker.C
		}
	}
}

// closures takes what was closed since it was asked last.
func (w *watch) closures() []closure {
	w.mu.Lock()
	defer w.mu.Unlock()
	longs := w.longs
	w.longs = nil
	slices.SortFunc(longs, func(a, b closure) int { return int(b.long - a.long) })
	return longs
}

func (w *watch) closed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.since)
}

// logKey is the key that signed the newest range on the member's disk.
func (m *member) logKey() string {
	text, err := os.ReadFile(filepath.Join(m.dir, "state", "log.jws"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var r stream.LogRange
	kid, err := trust.Unverified(trust.KindLog, lines[len(lines)-1], &r)
	if err != nil {
		return err.Error()
	}
	return kid
}

// keysVersion is of the key set on the member's disk.
func (m *member) keysVersion(root trust.Root) uint64 {
	text, err := os.ReadFile(filepath.Join(m.dir, "state", "keys.jws"))
	if err != nil {
		return 0
	}
	set, err := root.Open(string(text), time.Time{})
	if err != nil {
		return 0
	}
	return set.Version()
}

// converge waits until all members hold the folder's key set, and releases and
// ranges that the newest keys signed.
func (f *fleet) converge(t *testing.T) {
	t.Helper()
	set := f.site.keySet(t)
	releases, log := f.site.signing(t, trust.PurposeReleases), f.site.signing(t, trust.PurposeLog)
	await(t, patience, func() string {
		for _, m := range f.members {
			if v := m.keysVersion(f.site.trust); v != set.Version() {
				return fmt.Sprintf("%s holds key set %d, not %d", m.id, v, set.Version())
			}
			if kid := m.logKey(); kid != log {
				return fmt.Sprintf("%s: the log is signed by %s, not %s", m.id, kid, log)
			}
		}
		return ""
	})
	await(t, patience, func() string {
		for _, m := range f.members {
			switch bundle, err := m.bundle(set); {
			case err != nil: // it is being replaced by one that counts
				return fmt.Sprintf("%s: %v", m.id, err)
			case bundle.KeyID != releases:
				return fmt.Sprintf("%s: the release is signed by %s, not %s", m.id, bundle.KeyID, releases)
			}
		}
		return ""
	})
}

// closesAtMost is for how long a PEP may be closed when a key is revoked: until
// what the key signed has come anew, on a busy machine.
const closesAtMost = 5 * time.Second

// TestKeysRotateAndAreRevokedUnderLoad changes the keys that releases and the
// log are signed with, and revokes them, while PEPs decide and releases and
// grants come and go. Nobody may answer wrong: a rotation is not noticed, and a
// revocation closes for a moment at most. What a revoked key signs afterwards
// is refused.
func TestKeysRotateAndAreRevokedUnderLoad(t *testing.T) {
	leavesNothing(t)
	s := start(t, "acme")
	roads := []*road{s.build(t), s.build(t)}
	f := s.muster(t, sized(10, 100), roads, "acme")
	f.mayClose = true
	f.each(t, func(m *member) error { return m.start(t.Context()) })
	f.await(t, authz.Revision{Release: 1})
	control := s.forgeControl(t)

	ctx, over := context.WithCancel(t.Context())
	var load sync.WaitGroup
	t.Cleanup(func() {
		over()
		load.Wait()
	})
	w := &watch{fleet: f, since: map[string]time.Time{}}
	for _, g := range []**mintedGrant{&w.steady, &w.dead} {
		var err error
		if *g, err = s.mint(ctx, "acme", fmt.Sprintf("watched-%p", g), time.Hour); err != nil {
			t.Fatal(err)
		}
		f.enforce(t, *g, true)
	}
	if err := s.revoke(ctx, w.dead, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	f.enforce(t, w.dead, false)
	const askers = 4
	for i := range askers {
		var some []*member
		for j := i; j < len(f.members); j += askers {
			some = append(some, f.members[j])
		}
		load.Go(func() { w.keep(ctx, some) })
	}
	calm := &storm{
		fleet: f, dice: throw(t), length: time.Hour, tenants: []string{"acme"}, minted: map[string][]*mintedGrant{},
		publishes: int(time.Hour / (700 * time.Millisecond)),
	}
	whole := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	load.Go(func() { whole("publish", calm.publish(ctx, calm.dice.of(1))) })
	load.Go(func() { whole("grants", calm.grant(ctx, calm.dice.of(2), 10_000, 200*time.Millisecond)) })
	load.Go(func() { calm.ask(ctx, calm.dice.of(3)) })

	for _, purpose := range []trust.Purpose{trust.PurposeReleases, trust.PurposeLog} {
		began := time.Now()
		finish(t, "keys", "rotate", string(purpose), "--keys", s.keys(), "--in", "3s")
		await(t, patience, func() string {
			for _, k := range s.keySet(t).Keys() {
				if k.Purpose == purpose && k.SignFrom.After(time.Now()) {
					return "the new key does not sign yet"
				}
			}
			return ""
		})
		f.converge(t)
		t.Logf("rotated %s: all hold what the new key signed %s after the command, 3 s of which it waits", purpose, since(began))
		if closures := w.closures(); len(closures) > 0 || w.closed() > 0 {
			t.Errorf("the rotation of %s closed %d PEPs, at most %v", purpose, len(closures)+w.closed(), closures[:min(len(closures), 3)])
		}
	}

	taken := s.steal(t) // before they are revoked
	for _, purpose := range []trust.Purpose{trust.PurposeLog, trust.PurposeReleases} {
		began := time.Now()
		finish(t, "keys", "revoke", s.signing(t, purpose), "--keys", s.keys(), "--reason", "stolen in a test")
		f.converge(t)
		await(t, patience, func() string {
			if n := w.closed(); n > 0 {
				return fmt.Sprintf("%d PEPs are closed", n)
			}
			return ""
		})
		closures := w.closures()
		t.Logf("revoked the key for %s: all hold what the new key signed %s after the command; %d closures, the longest %v",
			purpose, since(began), len(closures), closures[:min(len(closures), 3)])
		if len(closures) > 0 && closures[0].long > closesAtMost {
			t.Errorf("%s was closed for %s", closures[0].id, closures[0].long)
		}
	}
	over()
	load.Wait()
	f.report(t)

	control()
	for _, c := range []struct {
		name  string
		set   string
		dated time.Duration
	}{
		{"with the set from before", taken.set, 0},
		{"with the set that there is", s.keySet(t).Signed(), 0},
		{"dated before the revocation", s.keySet(t).Signed(), -time.Minute},
	} {
		t.Run("forged "+c.name, func(t *testing.T) {
			f.refuses(t, s.forge(t, f.members[0], stolen{c.set, taken.releases, taken.log}, w.dead, time.Now().Add(c.dated)), w.dead)
		})
	}
	f.report(t)
}

// refuses leads the first member's road to a forger, and sees that nobody on it
// takes anything of it, and all find back.
func (f *fleet) refuses(t *testing.T, forger *forger, dead *mintedGrant) {
	t.Helper()
	road := f.members[0].road
	forger.leads(road)
	await(t, patience, func() string {
		for _, m := range f.members {
			m.try(dead)
			if s, _ := m.look(); s.Revision.Release >= forger.release || s.Revision.Position >= forger.position {
				t.Fatalf("%s took what was forged: %s", m.id, s.Revision)
			}
		}
		said := strings.Join(forger.refusals(), "\n")
		for _, what := range []string{"log: ", "heartbeat: ", "release manifest: "} {
			if !strings.Contains(said, what+trust.ErrRevoked.Error()) {
				return fmt.Sprintf("nothing was said against the %s, but %.2000s", what, said)
			}
		}
		return ""
	})
	for _, g := range road.gates() {
		to := f.site.api
		if g == road.stream {
			to = f.site.stream
		}
		g.set(func() { g.to = to })
	}
	road.cut()
	f.enforce(t, dead, false)
	back, err := f.site.mint(t.Context(), "acme", "back from "+t.Name(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.enforce(t, back, true)
}

// forgeControl makes a PEP of its own that meets a forger with the keys of now:
// it believes what these sign, or the forgeries show nothing. It is to be
// called at the end, since the PEP then holds more than the server has.
func (s *site) forgeControl(t *testing.T) func() {
	t.Helper()
	f := s.muster(t, 1, []*road{s.build(t)}, "acme")
	m := f.members[0]
	m.id = "pep-control"
	if err := m.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		g, err := s.mint(t.Context(), "acme", "control", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		f.newest.Store(1 << 62)
		await(t, patience, func() string {
			if st, _ := m.look(); st.Revision.Position < g.minted.position {
				return "the control is behind"
			}
			return ""
		})
		forger := s.forge(t, m, s.steal(t), g, time.Now())
		forger.leads(m.road)
		await(t, patience, func() string {
			if st, _ := m.look(); st.Revision != (authz.Revision{Release: forger.release, Position: forger.position}) {
				return fmt.Sprintf("the forger is not believed with good keys: %+v %q", st, forger.refusals())
			}
			return ""
		})
		forger.lower()
		await(t, patience, func() string {
			m.look()
			if said := strings.Join(forger.refusals(), "\n"); !strings.Contains(said, bundles.ErrLower.Error()) {
				return "nothing was said against the lower release, but " + said
			}
			return ""
		})
		f.report(t)
	}
}
