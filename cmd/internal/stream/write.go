package stream

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/bundles"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// writer is one goroutine that writes to connections, one at a time. One whose
// write stalls is replaced, and ends when that connection is done.
type writer struct {
	hub      *Hub
	stall    *time.Timer
	replaced atomic.Bool
	conn     atomic.Pointer[conn] // that it writes to
}

// startWriter adds a writer, unless the hub has stopped.
func (h *Hub) startWriter() {
	h.stalledMu.Lock()
	defer h.stalledMu.Unlock()
	if h.stopped {
		return
	}
	h.running.Go(func() {
		w := &writer{hub: h}
		w.stall = time.AfterFunc(time.Hour, w.stalled)
		w.stall.Stop()
		w.run()
	})
}

// stalled gives the writer's place to another.
func (w *writer) stalled() {
	c := w.conn.Load()
	if c == nil || !w.replaced.CompareAndSwap(false, true) {
		return
	}
	h := w.hub
	h.stats.stalls.Add(1)
	h.stalledMu.Lock()
	h.stalled++
	full := h.stalled > maxStalled
	h.stalledMu.Unlock()
	if full {
		c.drop()
	}
	h.startWriter()
}

func (w *writer) run() {
	h := w.hub
	for {
		c, l, ok := h.queue.take()
		if !ok {
			return
		}
		w.serve(c, l)
		h.queue.done(c)
		if w.replaced.Load() {
			h.stalledMu.Lock()
			h.stalled--
			h.stalledMu.Unlock()
			return
		}
	}
}

// serve sends what the connection lacks now.
func (w *writer) serve(c *conn, l lane) {
	for {
		frames, bye := w.hub.lacks(c, l)
		for _, frame := range frames {
			if err := w.write(c, frame); err != nil {
				w.hub.stats.writeErrors.Add(1)
				c.drop() // its reader removes it
				return
			}
		}
		if bye {
			time.AfterFunc(closeAfter, c.drop) // a PEP that reads bye closes by itself
			return
		}
		if len(frames) == 0 {
			return
		}
	}
}

// writeWithin is how long one frame may take: large ones more.
func writeWithin(size int) time.Duration {
	return wire.WriteWithin + time.Duration(size>>20)*time.Second
}

// closeAfter is how long a PEP that was told bye may take to close.
const closeAfter = 300 * time.Millisecond

func (w *writer) write(c *conn, frame []byte) error {
	ctx, cancel := context.WithTimeout(w.hub.base, writeWithin(len(frame)))
	defer cancel()
	w.conn.Store(c)
	w.stall.Reset(stallAfter)
	err := c.ws.Write(ctx, websocket.MessageBinary, frame)
	w.stall.Stop()
	w.conn.Store(nil)
	if err == nil {
		w.hub.stats.frames.Add(1)
		w.hub.stats.bytes.Add(uint64(len(frame)))
	}
	return err
}

// lacks returns what is to be sent next, none if nothing is, and notes it as
// sent. With bye it is the last.
func (h *Hub) lacks(c *conn, l lane) (frames [][]byte, bye bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gone:
		return nil, c.wake != nil
	case c.leaving:
		c.gone = true
		frame, err := encode(wire.Header{Type: wire.TypeBye, Reason: c.leftReason, RetryAfter: c.retryAfter}, nil)
		if err != nil {
			return nil, true
		}
		return [][]byte{frame}, true
	case h.set == nil || h.read.IsZero():
		return nil, false
	}
	for _, step := range h.steps(l) {
		frames, err := step(c)
		if err != nil {
			h.stats.failures.Add(1)
			h.config.Log.Error("cannot tell a PEP what is new; it becomes stale", "pep", c.key, "error", err)
			return nil, false
		}
		if len(frames) > 0 {
			if l == laneFast || l == laneSlow { // a poll asks for frames: they are no leave to say more
				c.says.sent(len(frames))
			}
			return frames, false
		}
	}
	return nil, false
}

// steps are what a lane asks for, in this order.
func (h *Hub) steps(l lane) []func(*conn) ([][]byte, error) {
	switch l {
	case laneFast:
		return []func(*conn) ([][]byte, error){h.lacksKeys, h.lacksLog, h.lacksGreeting}
	case lanePoll:
		return []func(*conn) ([][]byte, error){h.lacksKeys, h.lacksLog, h.lacksRelease}
	case laneGreet:
		return []func(*conn) ([][]byte, error){h.lacksGreeting}
	default:
		return []func(*conn) ([][]byte, error){h.lacksKeys, h.lacksLog, h.lacksGreeting, h.lacksHeartbeat, h.lacksRelease}
	}
}

// lacksKeys also sends the manifest of what the PEP holds anew, where the key
// that signed it was revoked: else it would hold nothing that is signed.
func (h *Hub) lacksKeys(c *conn) ([][]byte, error) {
	newer := c.keys < h.set.Version()
	if !h.heldIsRevoked(c) {
		if !newer {
			return nil, nil
		}
		c.keys = h.set.Version()
		return [][]byte{h.keysFrame}, nil
	}
	t, failed := h.cut(c.audience, c.held.Release)
	var sealed bundles.Sealed
	if t != nil && t.digest == c.held.Digest {
		if sealed, failed = h.sealedTarget(c.audience, t); sealed.Signed != "" && sealed.KeyID != c.kid {
			frame, err := h.keysFrameWith(c.audience, t)
			if err != nil {
				return nil, err
			}
			c.keys, c.kid = h.set.Version(), sealed.KeyID
			return [][]byte{frame}, nil
		}
	}
	building := failed == nil && sealed.Signed == "" && (t == nil || t.digest == c.held.Digest)
	if !newer || building {
		return nil, nil
	}
	c.keys = h.set.Version() // better without its manifest than not at all
	return [][]byte{h.keysFrame}, nil
}

// heldIsRevoked reports whether what the PEP holds, and should hold, was
// signed by a key that is revoked.
func (h *Hub) heldIsRevoked(c *conn) bool {
	if c.held.Release == 0 || c.held.KeyID == "" {
		return false
	}
	key, known := h.set.Key(c.held.KeyID)
	return known && !key.RevokedAt.IsZero() && h.target(c, c.held.Release) == c.held.Release
}

func (h *Hub) lacksLog(c *conn) ([][]byte, error) {
	if c.log > h.head.Position && h.read.After(c.since) && !c.anew {
		c.reset, c.anew = true, true // a read since its hello finds less than it holds: the log is another one
	}
	switch {
	case c.log >= h.head.Position && !c.reset, len(c.unacked) >= maxUnacked:
		return nil, nil
	case !c.refusedAt.IsZero() && h.config.Now().Sub(c.refusedAt) < wire.HeartbeatEvery:
		return nil, nil
	}
	key := rangeKey{from: c.log}
	if c.reset || c.log == 0 {
		key = rangeKey{reset: true}
	}
	frames, err := h.logFrames(c.audience, key)
	if err != nil {
		return nil, err
	}
	if key.reset {
		c.held.Position = 0 // whatever it acknowledges now is newer
	}
	c.reset, c.refusedAt = false, time.Time{}
	c.log, c.sent = h.head.Position, max(c.sent, h.head.Position)
	c.unacked = append(c.unacked, c.log)
	return frames, nil
}

// lacksGreeting answers the hello's nonce, by a read that began after the hello
// came: the PEP takes the heartbeat to be no older than its hello, and counts
// the time that grants have left from there.
func (h *Hub) lacksGreeting(c *conn) ([][]byte, error) {
	if c.greeted || h.read.Before(c.since) || h.config.Now().Sub(h.read) > freshRead {
		return nil, nil
	}
	t, known := h.heartbeatTarget(c)
	if !known {
		return nil, nil
	}
	frame, err := h.heartbeat(c.audience, t, c.hello.Nonce, false)
	if err != nil {
		return nil, err
	}
	c.greeted = true
	h.beaten(c)
	return [][]byte{frame}, nil
}

func (h *Hub) lacksHeartbeat(c *conn) ([][]byte, error) {
	if !c.greeted || !c.beatWant || !h.read.After(c.beatRead) {
		return nil, nil
	}
	t, known := h.heartbeatTarget(c)
	if !known {
		return nil, nil
	}
	frame, err := h.heartbeat(c.audience, t, "", (h.phase/phases+c.audience.serial)%stateEvery == 0)
	if err != nil {
		return nil, err
	}
	h.beaten(c)
	return [][]byte{frame}, nil
}

// beaten notes a heartbeat as sent.
func (h *Hub) beaten(c *conn) {
	c.beatWant, c.beatRead = false, h.read
	c.pep.SeenAt = h.config.Now()
	c.pep.HonoursUntil = h.read.Add(h.config.GrantStale)
	h.view.beaten(c)
}

// heartbeatTarget is what the PEP should hold; nil before the first release.
// It is not known while it is being cut.
func (h *Hub) heartbeatTarget(c *conn) (t *target, known bool) {
	number := h.target(c, c.held.Release)
	if number == 0 {
		return nil, true
	}
	t, _ = h.cut(c.audience, number)
	return t, t != nil
}

func (h *Hub) lacksRelease(c *conn) ([][]byte, error) {
	t, sealed := h.wants(c)
	if t == nil || sealed.Signed == "" {
		return nil, nil
	}
	base := c.held.Digest
	if c.snapshot || t.number == c.held.Release || c.refused.Release == t.number {
		base = "" // the same number with other content is no step from it
	}
	frame := h.releaseFrame(c.audience, t, base, c.held.Release)
	if frame == nil {
		return nil, nil
	}
	c.snapshot = false
	c.pending = wire.Held{Release: t.number, Digest: t.digest, KeyID: sealed.KeyID}
	c.pendingAt = h.config.Now()
	c.pep.Offered = max(c.pep.Offered, t.number)
	return [][]byte{frame}, nil
}

// wants is the release that the PEP lacks and may be sent now, or nil. While
// it is not sealed, it is being sealed.
func (h *Hub) wants(c *conn) (*target, bundles.Sealed) {
	number := h.target(c, c.held.Release)
	if number == 0 || number < c.held.Release || c.pending.Release != 0 {
		return nil, bundles.Sealed{}
	}
	t, _ := h.cut(c.audience, number)
	if t == nil {
		return nil, bundles.Sealed{}
	}
	if !c.snapshot && t.digest == c.held.Digest && number == c.held.Release {
		return nil, bundles.Sealed{}
	}
	sealed, _ := h.sealedTarget(c.audience, t)
	if r := &c.refused; r.Release == number && (r.Digest == "" || r.Digest == t.digest && r.KeyID == sealed.KeyID) {
		return nil, bundles.Sealed{}
	}
	return t, sealed
}
