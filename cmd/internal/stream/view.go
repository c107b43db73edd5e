package stream

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// view is what this node knows of PEPs and has not written down yet.
type view struct {
	mu       sync.Mutex
	conns    map[*conn]struct{}
	unlisted map[string]time.Time // keys of PEPs that the store refused, and when
	reports  map[string]pap.PEP
	polled   map[string]polled // by key: PEPs that poll, until they do not
	perShare map[string]int    // of polled, by [shareOf]
}

// Heartbeats alone are written down only so often, and HonoursUntil says so
// much more meanwhile: what is stored is never too early.
const beatFlush = 10 * time.Second

// flushBatch bounds one write.
const flushBatch = 500

func (v *view) init() {
	v.unlisted = map[string]time.Time{}
	v.conns, v.reports, v.polled = map[*conn]struct{}{}, map[string]pap.PEP{}, map[string]polled{}
	v.perShare = map[string]int{}
}

func (v *view) changed(c *conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns[c] = struct{}{}
}

// beaten notes a heartbeat; its time was set under the connection's lock.
func (v *view) beaten(c *conn) {
	if c.pep.SeenAt.Sub(c.flushedAt) >= beatFlush {
		v.changed(c)
	}
}

// polled is what is kept of a PEP between its polls.
type polled struct {
	pep       pap.PEP
	says      *allowance
	refused   wire.Held
	refusedAt time.Time // a log range was refused then
	answered  bool      // it was; else others are told nothing of it
	// pending is what the last answer brought, and may still be compiled.
	pending   wire.Held
	pendingAt time.Time
}

// before returns what is kept of a PEP that polls, and keeps it from now on; it
// is not ok where there are too many: of all, or of its credential's share,
// which can name as many as it likes and must not keep the others' from polling.
func (v *view) before(pep *pap.PEP, most, mostOfShare int) (polled, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p, known := v.polled[pep.Key]; known {
		return p, true
	}
	if len(v.polled) >= most || v.perShare[shareOf(pep.Tenant, pep.Subject)] >= mostOfShare {
		return polled{}, false
	}
	p := polled{pep: *pep, says: newAllowance()}
	v.keep(p)
	return p, true
}

// keep holds on to what is known of a PEP that polls.
func (v *view) keep(p polled) {
	if _, known := v.polled[p.pep.Key]; !known {
		v.perShare[shareOf(p.pep.Tenant, p.pep.Subject)]++
	}
	v.polled[p.pep.Key] = p
}

func (v *view) poll(p polled) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keep(p)
	v.reports[p.pep.Key] = p.pep
}

// Report has the state of a PEP written down that others than the stream know of.
func (h *Hub) Report(p pap.PEP) {
	h.view.mu.Lock()
	defer h.view.mu.Unlock()
	h.view.reports[p.Key] = p
}

// flush writes down what has changed.
func (h *Hub) flush(ctx context.Context, now time.Time) error {
	peps, conns := h.collect(now)
	var failed error
	for batch := range slices.Chunk(peps, flushBatch) {
		if failed == nil {
			failed = h.config.PEPs.PutPEPs(ctx, batch)
			failed = h.unlisted(failed, conns, now)
		}
		if failed != nil {
			h.keepForLater(batch, conns)
		}
	}
	return failed
}

// collect empties the view.
func (h *Hub) collect(now time.Time) ([]pap.PEP, map[string]*conn) {
	v := &h.view
	v.mu.Lock()
	changed, reports := v.conns, v.reports
	v.conns, v.reports = make(map[*conn]struct{}), make(map[string]pap.PEP)
	for key, p := range v.polled {
		if now.Sub(p.pep.SeenAt) > pollGone {
			delete(v.polled, key)
			share := shareOf(p.pep.Tenant, p.pep.Subject)
			if v.perShare[share]--; v.perShare[share] == 0 {
				delete(v.perShare, share)
			}
			if p.pep.Connected = false; p.answered {
				reports[key] = p.pep
			}
		}
	}
	v.mu.Unlock()
	h.mu.RLock()
	defer h.mu.RUnlock()
	for key := range reports {
		if h.byKey[key] != nil && h.byKey[key].wake == nil {
			delete(reports, key) // it has a connection now
		}
	}
	peps, conns := make([]pap.PEP, 0, len(changed)+len(reports)), make(map[string]*conn, len(changed))
	for c := range changed {
		if c.wake != nil {
			continue
		}
		c.mu.Lock()
		p := c.pep
		c.flushedAt = now
		c.mu.Unlock()
		if other := h.byKey[c.key]; other != nil && other != c {
			continue // it came back
		}
		if p.Connected && !p.HonoursUntil.IsZero() {
			p.HonoursUntil = p.HonoursUntil.Add(beatFlush + wire.HeartbeatEvery)
		}
		peps = append(peps, p)
		conns[c.key] = c
	}
	for _, p := range reports {
		peps = append(peps, p)
	}
	slices.SortFunc(peps, func(a, b pap.PEP) int { return strings.Compare(a.Key, b.Key) }) // one order of locks in the store
	return peps, conns
}

func (h *Hub) keepForLater(batch []pap.PEP, conns map[string]*conn) {
	h.view.mu.Lock()
	defer h.view.mu.Unlock()
	for _, p := range batch {
		if c := conns[p.Key]; c != nil {
			h.view.conns[c] = struct{}{}
		} else if _, newer := h.view.reports[p.Key]; !newer {
			h.view.reports[p.Key] = p
		}
	}
}

// Peers returns the connections of this node as PEPs, for tests and metrics.
func (h *Hub) Peers() []pap.PEP {
	h.mu.RLock()
	defer h.mu.RUnlock()
	peps := make([]pap.PEP, 0, len(h.conns))
	for c := range h.conns {
		c.mu.Lock()
		peps = append(peps, c.pep)
		c.mu.Unlock()
	}
	return peps
}
