package stream

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// errFull is why one more PEP is not let in for now.
var errFull = errors.New("too many connections")

// shareOf names whose places a PEP takes: those of its credential's tenant,
// however many tokens and subjects that makes, or of one subject of the platform's.
func shareOf(tenant, subject string) string {
	if tenant == "" {
		return pap.Platform + "/" + subject
	}
	return tenant
}

// full says why there is no place for another connection of this caller, or
// nil. The hub's lock is held.
func (h *Hub) full(c *access.Caller) error {
	share := shareOf(c.Tenant, c.Name())
	switch {
	case len(h.conns) >= h.config.Connections:
		return fmt.Errorf("%w: this node has %d, as many as it may", errFull, h.config.Connections)
	case h.perShare[share] >= h.config.PerTenant:
		return fmt.Errorf("%w: %s has %d on this node, as many as it may", errFull, share, h.config.PerTenant)
	}
	return nil
}

// greetings counts those who are let in and have not finished their hello.
type greetings struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by share
}

// greetingShare is the part of all greetings that one share may have.
const greetingShare = 4

// enter takes a place; leave gives it back.
func (g *greetings) enter(share string, most int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= most:
		return fmt.Errorf("%w: %d have not said hello yet", errFull, g.all)
	case g.of[share] >= max(1, most/greetingShare):
		return fmt.Errorf("%w: %d of %s have not said hello yet", errFull, g.of[share], share)
	}
	if g.of == nil {
		g.of = map[string]int{}
	}
	g.all++
	g.of[share]++
	return nil
}

func (g *greetings) leave(share string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.of[share]--; g.of[share] == 0 {
		delete(g.of, share)
	}
}

// Bounds of what a PEP may send unasked, and of resyncs a minute.
const (
	unasked    = 32
	maxResyncs = 12
)

// errOften is a PEP that says more than it may.
var errOften = fmt.Errorf("%w: it says more than it is asked", errPEP)

// allowance is what a PEP may say yet. On a socket it is some frames unasked,
// and one for each that it is sent; for all polls of a PEP some each minute.
type allowance struct {
	mu        sync.Mutex
	owed      int       // frames that it may send
	renewedAt time.Time // of one that polls
	resyncs   int       // in this window
	resyncsAt time.Time
}

func newAllowance() *allowance { return &allowance{owed: unasked} }

// says takes a frame of this type off, or refuses it with [errOften].
func (a *allowance) says(typ wire.Type, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.owed--; a.owed < 0 {
		a.owed = 0
		return errOften
	}
	if typ != wire.TypeResync {
		return nil
	}
	if now.Sub(a.resyncsAt) > time.Minute {
		a.resyncs, a.resyncsAt = 0, now
	}
	if a.resyncs++; a.resyncs > maxResyncs {
		return fmt.Errorf("%w: more than %d resyncs within a minute", errOften, maxResyncs)
	}
	return nil
}

// renew begins another minute of polls, if it is time.
func (a *allowance) renew(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.renewedAt) > time.Minute {
		a.owed, a.renewedAt = unasked, now
	}
}

// sent adds what may be answered to frames that it was sent.
func (a *allowance) sent(frames int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owed = min(a.owed+frames, 2*unasked)
}
