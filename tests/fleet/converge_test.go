//go:build unix

package fleet

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// TestFleetConvergesThroughCrashesCutsAndFreezes publishes, mints and revokes
// while PEPs are ended and begun again and their connections fail. At no
// moment may any of them enforce what it may not; in the end all hold and
// answer the same.
func TestFleetConvergesThroughCrashesCutsAndFreezes(t *testing.T) {
	leavesNothing(t)
	n := sized(100, 1000)
	tenants := []string{"acme", "globex"}
	site := start(t, tenants...)
	var roads []*road
	for range 20 {
		roads = append(roads, site.build(t))
	}
	f := site.muster(t, n, roads, tenants...)
	began := time.Now()
	f.each(t, func(m *member) error { return m.start(t.Context()) })
	f.await(t, authz.Revision{Release: 1})
	t.Logf("%d PEPs connected and current in %s", n, since(began))
	f.measure(t)

	s := &storm{
		fleet: f, roads: roads, dice: throw(t), tenants: tenants, minted: map[string][]*mintedGrant{},
		length: sized(20*time.Second, 3*time.Minute), publishes: sized(5, 50), grants: sized(20, 200), restarts: n / 2,
	}
	began = time.Now()
	s.rage(t)
	t.Logf("%s of storm: %d releases, %d grants, %d restarts, of which %d crashes; %d cuts, %d freezes, %d half-closes, %d blocks; %d answers, %d of them ALLOW",
		since(began), s.publishes, s.grants, s.restarts, s.crashes.Load(), s.cuts.Load(), s.freezes.Load(), s.halves.Load(), s.blocks.Load(), f.asked.Load(), f.allows.Load())

	began = time.Now()
	last, err := site.publish(t.Context(), int(f.newest.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	f.await(t, last)
	t.Logf("all at %s %s after the storm", last, since(began))
	s.checkAnswers(t)
	f.checkList(t, last)
	f.report(t)
	if f.allows.Load() < uint64(s.grants) {
		t.Errorf("%d ALLOWs are too few to show anything", f.allows.Load())
	}
}

func since(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond) }

// await waits until all members are heard, vouched for, and at least at the
// revision.
func (f *fleet) await(t *testing.T, revision authz.Revision) {
	t.Helper()
	await(t, patience, func() string {
		for _, m := range f.members {
			if s, lives := m.look(); !lives || s.Stale || !s.Revision.Includes(revision) {
				return fmt.Sprintf("%s is not at %s: %+v", m.id, revision, s)
			}
		}
		return ""
	})
}

// measure logs how fast changes are while nothing fails.
func (f *fleet) measure(t *testing.T) {
	t.Helper()
	site := f.site
	for range 3 {
		began := time.Now()
		last, err := site.publish(t.Context(), int(f.newest.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		answered := since(began)
		site.admin.must(t, http.StatusOK, call{method: http.MethodPost, path: "/api/v1/releases/" + last.String() + "/await?quorum=all&wait=60s"})
		t.Logf("published in %s, acknowledged by all in %s", answered, since(began))

		began = time.Now()
		g, err := site.mint(t.Context(), "acme", fmt.Sprintf("calm-%d", last.Release), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		answered = since(began)
		f.enforce(t, g, true)
		t.Logf("minted in %s, enforced by all in %s", answered, since(began))
		began = time.Now()
		if err := site.revoke(t.Context(), g, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		answered = since(began)
		f.enforce(t, g, false)
		t.Logf("revoked in %s, enforced by all in %s", answered, since(began))
	}
}

// enforce waits until all members of the tenant allow what the grant opens, or
// all do not.
func (f *fleet) enforce(t *testing.T, g *mintedGrant, allow bool) {
	t.Helper()
	left := 0
	await(t, patience, func() string {
		for ; left < len(f.members); left++ {
			m := f.members[left]
			if m.tenant != g.tenant {
				continue
			}
			if allowed, answered := m.try(g); !answered || allowed != allow {
				return fmt.Sprintf("%s: allowed %v", m.id, allowed)
			}
		}
		return ""
	})
}

// checkAnswers asks every member for the newest grants of its tenant.
func (s *storm) checkAnswers(t *testing.T) {
	t.Helper()
	random := s.dice.of(3)
	for _, tenant := range s.tenants {
		live, err := s.fleet.site.mint(t.Context(), tenant, name(random), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		s.fleet.enforce(t, live, true)
		for range 3 {
			if g := s.some(tenant, random); g != nil && (g.revoked.Load() != nil || time.Now().After(g.end)) {
				s.fleet.enforce(t, g, false)
			}
		}
	}
}

// checkList holds /api/v1/peps against the fleet.
func (f *fleet) checkList(t *testing.T, at authz.Revision) {
	t.Helper()
	await(t, patience, func() string {
		listed := map[string]bool{}
		for _, p := range list[struct {
			ID        string
			Connected bool
			Stale     bool
			Revision  authz.Revision
			Tenant    string
		}](t, f.site.admin, "/api/v1/peps", url.Values{}) {
			if listed[p.ID] || !p.Connected || p.Stale || !p.Revision.Includes(at) {
				return fmt.Sprintf("%s is listed twice, or as %+v, and not at %s", p.ID, p, at)
			}
			listed[p.ID] = true
		}
		for _, m := range f.members {
			if !listed[m.id] {
				return m.id + " is not listed"
			}
		}
		if len(listed) != len(f.members) {
			return fmt.Sprintf("%d are listed", len(listed))
		}
		return ""
	})
}

// leavesNothing waits, when all else of the test has ended, until its
// goroutines and files have too.
func leavesNothing(t *testing.T) {
	t.Helper()
	routines, files := runtime.NumGoroutine(), openFiles(t)
	t.Cleanup(func() {
		await(t, patience, func() string {
			if now := runtime.NumGoroutine(); now > routines {
				stacks := make([]byte, 1<<20)
				return fmt.Sprintf("%d goroutines, %d before\n%s", now, routines, stacks[:runtime.Stack(stacks, true)])
			}
			if now := openFiles(t); now > files {
				return fmt.Sprintf("%d open files, %d before", now, files)
			}
			return ""
		})
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
