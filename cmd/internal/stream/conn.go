package stream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// conn is one PEP that is connected or polls.
type conn struct {
	hello    *wire.Hello
	caller   access.Caller
	key      string // of its pap.PEP
	audience *audience
	serial   uint64 // spreads heartbeats and checks
	since    time.Time
	ws       *websocket.Conn
	wake     chan struct{} // of a poll, instead of ws
	place    place         // under the queue's lock

	// mu guards what follows. It is never held while something is written.
	mu      sync.Mutex
	held    wire.Held // as last acknowledged
	keys    uint64    // version of the key set it was sent
	kid     string    // of the manifest of what it holds, as it was last sent
	log     uint64    // position that the next range begins at
	sent    uint64    // highest position that it was sent to
	reset   bool      // the next range begins at 0
	anew    bool      // it was reset since the log ends below what it held
	unacked []uint64  // positions that ranges under way lead to
	// pending is the release under way; Release 0 is none.
	pending   wire.Held
	pendingAt time.Time
	former    wire.Held // one under way that was given up; it may still come in
	snapshot  bool      // the next release is a snapshot, also of what it holds
	refused   wire.Held
	refusedAt time.Time // a log range was refused then

	greeted  bool      // it was sent the heartbeat with its nonce
	beatWant bool      // its heartbeat is due
	beatRead time.Time // of the last heartbeat

	says *allowance

	leaving    bool // bye is to be written
	leftReason string
	retryAfter time.Duration
	gone       bool // nothing is written any more
	fault      error

	pep       pap.PEP // as others are told
	flushedAt time.Time
}

// maxUnacked bounds log ranges under way to one PEP.
const maxUnacked = 16

// beatDue notes that a heartbeat is due if it is by one of the last due
// phases, and reports whether the connection waits for one.
func (c *conn) beatDue(phase, due uint64) bool {
	mine := due >= phases
	for i := uint64(0); i < due && !mine; i++ {
		mine = (phase-i)%phases == c.serial%phases
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beatWant = c.beatWant || mine
	return c.beatWant || !c.greeted
}

// beatSoon makes a heartbeat due with the next read.
func (c *conn) beatSoon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beatWant = true
}

// again has everything sent anew: the log from 0, a snapshot, or both. The lock
// is held.
func (c *conn) again(log, snapshot bool) {
	if log {
		c.reset, c.refusedAt, c.unacked = true, time.Time{}, nil
	}
	if snapshot {
		c.giveUp()
		c.snapshot, c.refused = true, wire.Held{}
	}
}

// giveUp waits no more for the release under way. The lock is held.
func (c *conn) giveUp() {
	if c.pending.Release != 0 {
		c.former, c.pending = c.pending, wire.Held{}
	}
}

// leave has bye written and the connection closed. It reports whether that was
// not asked for before.
func (c *conn) leave(reason string, retryAfter time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false
	}
	c.leaving, c.leftReason, c.retryAfter = true, reason, retryAfter
	return true
}

// drop ends the connection at once; its reader removes it.
func (c *conn) drop() { c.fail(nil) }

// fail drops it for what the PEP did.
func (c *conn) fail(fault error) {
	c.mu.Lock()
	c.gone, c.fault = true, cmp.Or(c.fault, fault)
	c.mu.Unlock()
	if c.ws != nil {
		_ = c.ws.CloseNow() // it fails only where it is closed
	}
	if c.wake != nil {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// errPEP wraps what a PEP did against the protocol.
var errPEP = errors.New("the PEP does not keep the protocol")

// listen reads what the PEP sends until the connection ends.
func (h *Hub) listen(c *conn) {
	var err error
	for err == nil {
		err = h.hear(h.base, c.ws, func(data []byte) error { return h.receive(c, data) })
	}
	h.remove(c, err)
}

// hear reads one message and hands it to take, which keeps nothing of it.
func (h *Hub) hear(ctx context.Context, ws *websocket.Conn, take func(data []byte) error) error {
	kind, r, err := ws.Reader(ctx)
	if err != nil {
		return err
	}
	if kind != websocket.MessageBinary {
		return fmt.Errorf("%w: want binary messages", errPEP)
	}
	buf, ok := h.buffers.Get().(*bytes.Buffer)
	if !ok {
		buf = &bytes.Buffer{}
	}
	defer h.buffers.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(r); err != nil { // SetReadLimit bounds it
		return err
	}
	return take(buf.Bytes())
}

// receive takes one frame of a PEP.
func (h *Hub) receive(c *conn, data []byte) error {
	f, err := wire.Decode(data, wire.MaxPEPFrame)
	if err != nil {
		return fmt.Errorf("%w: %w", errPEP, err)
	}
	now := h.config.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.says.says(f.Type, now); err != nil {
		return err
	}
	switch f.Type {
	case wire.TypeAck:
		err = c.ack(f.Held, now)
		h.stats.acks.Add(1)
	case wire.TypeReject:
		err = c.reject(&f, now)
		h.stats.rejects.Add(1)
		h.config.Log.Warn("a PEP refuses what it was sent", "pep", c.key, "release", f.Release, "position", f.Position, "reason", f.Reason)
	case wire.TypeResync:
		h.stats.resyncs.Add(1)
		c.again(f.Log, f.Snapshot)
	default:
		err = fmt.Errorf("%w: %s after hello", errPEP, f.Type)
	}
	if err != nil {
		return err
	}
	c.pep.SeenAt = now
	h.view.changed(c)
	h.queue.mark([]*conn{c}, laneSlow)
	return nil
}

// ack takes what the PEP says it holds, if that can be: a release may also have
// come over an earlier connection. The lock is held.
func (c *conn) ack(held *wire.Held, now time.Time) error {
	is := func(other wire.Held) bool { return held.Release == other.Release && held.Digest == other.Digest }
	sent := c.pending.Release != 0 && is(c.pending)
	switch {
	case !is(c.held) && !sent && !is(c.former) && !(held.Release > c.held.Release && c.audience.has(held.Release, held.Digest)):
		return fmt.Errorf("%w: it acknowledges release %d, which it was not sent", errPEP, held.Release)
	case held.Position > c.sent:
		return fmt.Errorf("%w: it acknowledges position %d and was sent %d", errPEP, held.Position, c.sent)
	case held.Position < c.held.Position:
		return fmt.Errorf("%w: it held position %d and acknowledges %d", errPEP, c.held.Position, held.Position)
	case held.Keys > max(c.keys, c.held.Keys):
		return fmt.Errorf("%w: it acknowledges key set %d, which it was not sent", errPEP, held.Keys)
	}
	if sent {
		c.pending, c.refused = wire.Held{}, wire.Held{}
	}
	c.held = *held
	for len(c.unacked) > 0 && c.unacked[0] <= held.Position {
		c.unacked = c.unacked[1:]
	}
	c.pep.Revision = authz.Revision{Release: held.Release, Position: held.Position}
	c.pep.Digest, c.pep.AckedAt, c.pep.Stale = held.Digest, now, held.Stale
	return nil
}

// reject notes what the PEP does not take. It is not sent again before there
// is something else to send, or the PEP asks.
func (c *conn) reject(f *wire.Frame, now time.Time) error {
	switch {
	case f.Release != 0 && f.Release != c.pending.Release && f.Release != c.refused.Release && f.Release != c.former.Release:
		return fmt.Errorf("%w: it refuses release %d, which it was not sent", errPEP, f.Release)
	case f.Position > c.sent:
		return fmt.Errorf("%w: it refuses position %d and was sent %d", errPEP, f.Position, c.sent)
	}
	if f.Release != 0 && f.Release == c.pending.Release {
		c.refused, c.pending = c.pending, wire.Held{}
	}
	if f.Position != 0 {
		c.refusedAt, c.unacked, c.log = now, nil, c.held.Position
	}
	c.pep.Rejects++
	c.pep.Rejected = &pap.Rejection{Release: f.Release, Position: f.Position, Reason: f.Reason, At: now}
	return nil
}

// add registers a PEP; one of the same key that is connected already has come
// back, and its old connection ends.
func (h *Hub) add(c *conn) error {
	h.mu.Lock()
	if h.set == nil || h.read.IsZero() {
		h.mu.Unlock()
		return errNotReady
	}
	if h.closing {
		h.mu.Unlock()
		return errStopping
	}
	if err := h.full(&c.caller); err != nil {
		h.mu.Unlock()
		return err
	}
	old := h.byKey[c.key]
	h.serial++
	c.serial = h.serial
	name := audienceName(c.hello.Tenants)
	c.audience = h.audiences[name]
	if c.audience == nil {
		c.audience = h.newAudience(c.hello.Tenants)
		h.audiences[name] = c.audience
	}
	c.audience.members[c] = struct{}{}
	h.conns[c], h.byKey[c.key] = struct{}{}, c
	h.perShare[shareOf(c.caller.Tenant, c.caller.Name())]++
	h.mu.Unlock()
	h.stats.connections.Add(1)
	h.view.changed(c)
	if old != nil && old.wake == nil {
		old.leave("another connection has the same id", time.Second)
		h.queue.mark([]*conn{old}, laneFast)
	}
	h.queue.mark([]*conn{c}, laneFast)
	h.queue.mark([]*conn{c}, laneSlow)
	return nil
}

// errStopping is what a PEP is refused with for now.
var errStopping = errors.New("this node stops")

// remove forgets a connection that has ended.
func (h *Hub) remove(c *conn, why error) {
	c.drop()
	c.mu.Lock()
	why = cmp.Or(c.fault, why)
	c.mu.Unlock()
	h.mu.Lock()
	_, there := h.conns[c]
	if there {
		delete(h.conns, c)
		if h.byKey[c.key] == c {
			delete(h.byKey, c.key)
		}
		share := shareOf(c.caller.Tenant, c.caller.Name())
		if h.perShare[share]--; h.perShare[share] == 0 {
			delete(h.perShare, share)
		}
		delete(c.audience.members, c)
		c.audience.idleSince = h.config.Now()
	}
	replaced := h.byKey[c.key] != nil
	h.mu.Unlock()
	if !there {
		return
	}
	h.stats.connections.Add(-1)
	if errors.Is(why, errPEP) || errors.Is(why, websocket.ErrMessageTooBig) {
		h.stats.dropped.Add(1)
		h.config.Log.Warn("a PEP is dropped", "pep", c.key, "address", c.pep.Address, "reason", why)
	}
	if !replaced && c.wake == nil {
		c.mu.Lock()
		c.pep.Connected = false // SeenAt stays: a connection to another node may be newer
		c.mu.Unlock()
		h.view.changed(c)
	}
}

// overdue drops those that do not acknowledge.
func (h *Hub) overdue(now time.Time) {
	h.mu.RLock()
	var late []*conn
	for c := range h.conns {
		c.mu.Lock()
		if c.wake == nil && c.pending.Release != 0 && now.Sub(c.pendingAt) > ackWithin {
			late = append(late, c)
		}
		c.mu.Unlock()
	}
	h.mu.RUnlock()
	for _, c := range late {
		c.fail(fmt.Errorf("%w: a release was not acknowledged within %s", errPEP, ackWithin))
	}
}
