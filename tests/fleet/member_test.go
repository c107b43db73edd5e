//go:build unix

package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp/local"
	"github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// fleet is the PEPs of one test.
type fleet struct {
	site     *site
	compiler *local.Compiler
	members  []*member

	// mayClose says that a PEP may deny for want of anything fresh.
	mayClose bool

	newest atomic.Uint64 // release that is being published, or was
	asked  atomic.Uint64
	allows atomic.Uint64

	mu     sync.Mutex
	faults []string
}

// maxFaults bounds what a broken product prints.
const maxFaults = 20

func (f *fleet) fault(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// report fails the test by what was wrong.
func (f *fleet) report(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, text := range f.faults[:min(len(f.faults), maxFaults)] {
		t.Error(text)
	}
	if len(f.faults) > maxFaults {
		t.Errorf("and %d more", len(f.faults)-maxFaults)
	}
}

// member is one PEP through all its lives.
type member struct {
	fleet  *fleet
	id     string
	tenant string
	dir    string
	road   *road
	now    func() time.Time // nil: the local clock

	life sync.RWMutex // held for writing while it is between two lives
	pep  *pep.PEP     // nil: it is down

	// What it was seen to hold at most, in all its lives. Answers may be ahead
	// of what it says of itself by a moment.
	release  atomic.Uint64 // as it says
	position atomic.Uint64 // as it says
	answered atomic.Uint64 // release that it answered from
}

// muster makes PEPs that are not running yet; they go with the test.
func (s *site) muster(t *testing.T, n int, roads []*road, tenants ...string) *fleet {
	t.Helper()
	f := &fleet{site: s, compiler: local.NewCompiler()}
	f.newest.Store(1)
	folder := disks(t)
	for i := range n {
		id := fmt.Sprintf("pep-%d", i)
		f.members = append(f.members, &member{fleet: f, id: id, tenant: tenants[i%len(tenants)], dir: filepath.Join(folder, id), road: roads[i%len(roads)]})
	}
	t.Cleanup(func() { f.close(t) })
	return f
}

// disks is a folder for the members' disks: in memory where the system has such
// a place, since a thousand PEPs do not share one disk anywhere.
func disks(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "xiezhi-fleet-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// each calls do for all members, many at a time.
func (f *fleet) each(t *testing.T, do func(*member) error) {
	t.Helper()
	var busy sync.WaitGroup
	turns := make(chan struct{}, 32)
	for _, m := range f.members {
		turns <- struct{}{}
		busy.Go(func() {
			defer func() { <-turns }()
			if err := do(m); err != nil {
				t.Errorf("%s: %v", m.id, err)
			}
		})
	}
	busy.Wait()
}

func (f *fleet) close(t *testing.T) {
	f.each(t, func(m *member) error { return m.stop() })
}

// start begins a life of the member on what its folder holds.
func (m *member) start(ctx context.Context) error {
	s := m.fleet.site
	p, err := pep.New(ctx, pep.Config{
		Server: "http://" + s.api, Token: func() (string, error) { return s.tokens[m.tenant].Token, nil },
		ID: m.id, Tenants: []string{m.tenant}, Labels: map[string]string{"tenant": m.tenant},
		// The budget is for a machine that does everything here at once.
		Engine: local.New(local.Options{Compiler: m.fleet.compiler, Budget: 20 * time.Second}), Trust: s.trust, Dir: m.dir, GrantStale: grantStale,
		RemoteTimeout: time.Nanosecond, // what is asked is what a PEP decides by itself
		HTTP:          m.road.client, Now: m.now,
	})
	if err != nil {
		return err
	}
	m.life.Lock()
	defer m.life.Unlock()
	m.pep = p
	raise(&m.release, m.answered.Load()) // what it answered from it was closed with
	return nil
}

// stop ends the member's life without waiting for anything: what it had not
// shipped stays on its disk.
func (m *member) stop() error {
	m.life.Lock()
	defer m.life.Unlock()
	if m.pep == nil {
		return nil
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	err := m.pep.Close(now)
	m.pep = nil
	if errors.Is(err, context.Canceled) {
		return nil // records are left, as asked
	}
	return err
}

// crash ends the member's life as a killed process would: what its folder held
// at some moment before is what the next one begins with. A release that it
// activated after that moment is none that the next life knows of.
func (m *member) crash() error {
	image := m.dir + ".image"
	if err := copyFolder(image, m.dir); err != nil {
		return err
	}
	if err := m.stop(); err != nil {
		return err
	}
	return m.roll(image)
}

// roll puts a folder in the place of the member's, which is down. What the
// next life begins with knows nothing of releases after it.
func (m *member) roll(image string) error {
	m.life.Lock()
	defer m.life.Unlock()
	m.release.Store(0)
	m.answered.Store(0)
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	return os.Rename(image, m.dir)
}

// copyFolder copies files that may be written and replaced meanwhile; of a
// folder that is not there, nothing.
func copyFolder(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(from, path) // path begins with from
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it was replaced
		case err != nil:
			return err
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, relative), 0o700)
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, relative), text, 0o600)
	})
}

// look is what the member says of itself, if it lives. It notes what it holds,
// and faults a release that fell.
func (m *member) look() (pep.Status, bool) {
	m.life.RLock()
	defer m.life.RUnlock()
	if m.pep == nil {
		return pep.Status{}, false
	}
	floor := m.release.Load()
	s := m.pep.Status()
	if s.Revision.Release < floor {
		m.fleet.fault("%s went from release %d to %d", m.id, floor, s.Revision.Release)
	}
	raise(&m.release, s.Revision.Release)
	raise(&m.position, s.Revision.Position)
	return s, true
}

func raise(highest *atomic.Uint64, to uint64) {
	for {
		was := highest.Load()
		if to <= was || highest.CompareAndSwap(was, to) {
			return
		}
	}
}

// order is a request that only a grant for exactly it allows.
func order(tenant, name string) authz.Request {
	return authz.Request{
		Tenant: tenant, Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "order.place"},
		Resource: authz.Entity{Type: "order", ID: name, Properties: authz.MustValue(map[string]any{"amount": 2000})},
	}
}

// decide asks the member, and holds the answer against everything but grants.
// false: the member is down, or denies for want of anything to decide by.
func (m *member) decide(req authz.Request) (pep.Answer, bool) {
	if !m.life.TryRLock() {
		return pep.Answer{}, false
	}
	defer m.life.RUnlock()
	if m.pep == nil {
		return pep.Answer{}, false
	}
	floor := max(m.release.Load(), m.answered.Load())
	a, err := m.pep.Decide(context.Background(), req)
	f := m.fleet
	f.asked.Add(1)
	if err != nil {
		if !errors.Is(err, pep.ErrNoState) {
			f.fault("%s: %v", m.id, err)
		}
		return pep.Answer{}, false
	}
	if a.Remote {
		f.fault("%s asked the server: %s", m.id, a.Why)
	}
	if a.Effect == authz.Allow {
		f.allows.Add(1)
	}
	if a.Revision.Release < floor {
		m.fleet.fault("%s answered from release %d after %d", m.id, a.Revision.Release, floor)
	}
	raise(&m.answered, a.Revision.Release)
	if f.mayClose && a.Effect == authz.Deny {
		return a, false
	}
	m.checkMark(&a)
	return a, true
}

// checkMark refuses an answer that does not come whole from a release that was
// published under the number in its revision.
func (m *member) checkMark(a *pep.Answer) {
	marked := ""
	for _, r := range a.Reasons {
		if r.Policy == "platform/marker" {
			marked = r.Message
		}
	}
	if marked != strconv.FormatUint(a.Revision.Release, 10) || a.Revision.Release > m.fleet.newest.Load() {
		m.fleet.fault("%s: %s is marked %q, and %d was published: %+v", m.id, a.Revision, marked, m.fleet.newest.Load(), a.Reasons)
	}
}
