package access

import (
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// verdict is one right that a token was found to have.
type verdict struct {
	token, right, tenant string
}

// verdicts are the ALLOWs of the self policies under one snapshot and one
// state of the directory. Everything a self policy reads is in these and in
// the key, except the clock, so they are kept only as long as a directory may
// be behind anyway. A change of either starts anew: it holds at once (M4).
type verdicts struct {
	snapshot  *pdp.Snapshot
	directory uint64
	until     time.Time

	mu      sync.RWMutex
	allowed map[verdict]struct{}
}

// maxVerdicts bounds the memory that callers can fill.
const maxVerdicts = 10_000

// verdictLife bounds how late a self policy that reads the clock may be.
const verdictLife = 100 * time.Millisecond

// current returns the verdicts of this moment. They are read before the
// question is asked, so an answer is never filed under a newer state.
func (g *Guard) current() *verdicts {
	snapshot, directory, now := g.config.PDP.Active(), g.config.Directory.Version(), g.config.Now()
	v := g.verdicts.Load()
	if v == nil || v.snapshot != snapshot || v.directory != directory || !now.Before(v.until) {
		v = &verdicts{snapshot: snapshot, directory: directory, until: now.Add(verdictLife), allowed: map[verdict]struct{}{}}
		g.verdicts.Store(v)
	}
	return v
}

func (v *verdicts) allows(asked verdict) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	_, ok := v.allowed[asked]
	return ok
}

func (v *verdicts) add(asked verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.allowed) < maxVerdicts {
		v.allowed[asked] = struct{}{}
	}
}
