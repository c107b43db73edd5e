package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// MaxPollWait bounds ?wait= of a poll.
const MaxPollWait = time.Minute

// pollGone is when a PEP that polled counts as away.
const pollGone = MaxPollWait + wire.SilentAfter

// maxPollFrames bounds what a PEP says in one poll.
const maxPollFrames = 32

func revisionOf(held *wire.Held) authz.Revision {
	return authz.Revision{Release: held.Release, Position: held.Position}
}

// poll answers a PEP whose socket is down with what it lacks.
func (h *Hub) poll(w http.ResponseWriter, r *http.Request) {
	who, err := h.admit(r, "poll")
	if err != nil {
		h.refuse(w, &who, err)
		return
	}
	c, wait, err := h.hearPoll(w, r, &who)
	h.greetings.leave(who.share())
	if err != nil {
		h.refuse(w, &who, err)
		return
	}
	if err := h.add(c); err != nil {
		h.refuse(w, &who, err)
		return
	}
	defer h.remove(c, nil)
	answer, bye := h.await(r.Context(), c, wait)
	written := h.answer(w, answer, bye)
	c.mu.Lock()
	c.pep.SeenAt = h.config.Now()
	seen := polled{pep: c.pep, says: c.says, refused: c.refused, refusedAt: c.refusedAt, answered: true}
	if written {
		seen.pending, seen.pendingAt = c.pending, c.pendingAt
	}
	c.mu.Unlock()
	h.view.poll(seen)
}

func pollWait(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > MaxPollWait {
		return 0, fmt.Errorf("%w: wait=%q: want 0s to %s", errPEP, text, MaxPollWait)
	}
	return wait, nil
}

// hearPoll reads the poll: a hello, which goes on from the poll before, and
// what the PEP says beside it.
func (h *Hub) hearPoll(w http.ResponseWriter, r *http.Request, who *visitor) (c *conn, wait time.Duration, err error) {
	if wait, err = pollWait(r); err != nil {
		return nil, 0, err
	}
	body := http.MaxBytesReader(w, r.Body, maxPollFrames*wire.MaxPEPFrame)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(h.config.HelloWithin)) // a test's recorder has none
	hello, err := wire.ReadPart(body, wire.MaxPEPFrame)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: want a hello as a part: %w", errPEP, err)
	}
	if c, err = h.newConn(r.Context(), hello, who); err != nil {
		return nil, 0, err
	}
	c.wake = make(chan struct{}, 1)
	before, ok := h.view.before(&c.pep, h.config.Connections, h.config.PerTenant)
	if !ok {
		return nil, 0, fmt.Errorf("%w: this node, or its part for one tenant, has as many PEPs that poll as it may", errFull)
	}
	c.resume(&before, h.config.Now())
	if err := h.hearMore(c, body); err != nil {
		return nil, 0, err
	}
	_ = control.SetReadDeadline(time.Time{}) // else the wait ends with it
	return c, wait, nil
}

// hearMore takes what the PEP says beside its hello. It is not added yet.
func (h *Hub) hearMore(c *conn, body io.Reader) error {
	for range maxPollFrames {
		part, err := wire.ReadPart(body, wire.MaxPEPFrame)
		if errors.Is(err, io.EOF) && !errors.Is(err, wire.ErrFrame) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errPEP, err)
		}
		f, err := wire.Decode(part, wire.MaxPEPFrame)
		if err != nil {
			return fmt.Errorf("%w: %w", errPEP, err)
		}
		now := h.config.Now()
		if err := c.says.says(f.Type, now); err != nil {
			return err
		}
		switch f.Type {
		case wire.TypeReject:
			h.stats.rejects.Add(1)
			c.refuses(&f, now)
			h.config.Log.Warn("a PEP refuses what it was sent", "pep", c.key, "release", f.Release, "position", f.Position, "reason", f.Reason)
		case wire.TypeResync:
			h.stats.resyncs.Add(1)
			c.again(f.Log, f.Snapshot)
		default:
			return fmt.Errorf("%w: %s in a poll", errPEP, f.Type)
		}
	}
	return fmt.Errorf("%w: more than %d parts in a poll", errPEP, maxPollFrames)
}

// refuses takes a reject of an earlier poll, which another node may have
// answered.
func (c *conn) refuses(f *wire.Frame, now time.Time) {
	if f.Release != 0 {
		c.refused, c.pending = wire.Held{Release: f.Release}, wire.Held{}
	}
	if f.Position != 0 {
		c.refusedAt = now
	}
	c.pep.Rejects++
	c.pep.Rejected = &pap.Rejection{Release: f.Release, Position: f.Position, Reason: f.Reason, At: now}
}

// resume goes on from the poll before. It is not added yet.
func (c *conn) resume(before *polled, now time.Time) {
	c.says, c.refused, c.refusedAt = before.says, before.refused, before.refusedAt
	c.says.renew(now)
	c.pep.Rejects, c.pep.Rejected = before.pep.Rejects, before.pep.Rejected
	c.pep.Offered = before.pep.Offered
	if p := before.pending; p.Release > c.held.Release && now.Sub(before.pendingAt) < pollCompiles {
		c.pending, c.pendingAt = p, before.pendingAt
	}
}

// pollCompiles is how long a PEP that polls may take over a release before it
// is sent again: its answer may have been lost.
const pollCompiles = 15 * time.Second

// pollBuild is how long a poll waits at least for what is being built for it,
// and for a read of the store.
const pollBuild = 5 * time.Second

// await collects what the PEP lacks, and a heartbeat of that moment. Where
// there is nothing to send it waits.
func (h *Hub) await(ctx context.Context, c *conn, wait time.Duration) (frames [][]byte, bye bool) {
	now := time.Now()
	waitUntil, buildUntil := now.Add(wait), now.Add(max(wait, pollBuild))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		more, bye := h.lacks(c, lanePoll)
		frames = append(frames, more...)
		if bye {
			return frames, true
		}
		if len(more) > 0 {
			continue
		}
		until, now := buildUntil, time.Now()
		building, over := h.building(c), !now.Before(buildUntil)
		if !building && len(frames) == 0 && now.Before(waitUntil) {
			until = waitUntil
		} else if over || !building {
			greeting, bye := h.lacks(c, laneGreet)
			if frames = append(frames, greeting...); bye || over || c.told() {
				return frames, bye
			} // else the store is to be read first
		}
		timer.Reset(time.Until(until))
		select {
		case <-c.wake:
		case <-timer.C:
		case <-ctx.Done():
			return nil, true
		case <-h.base.Done():
			return frames, true
		}
	}
}

// building reports whether a release is being prepared for the PEP.
func (h *Hub) building(c *conn) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending.Release != 0 || h.read.IsZero() {
		return false
	}
	number := h.target(c, c.held.Release)
	if number == 0 || number < c.held.Release {
		return false
	}
	if t, _ := h.cut(c.audience, number); t == nil {
		return true
	}
	t, _ := h.wants(c)
	return t != nil
}

// told reports whether the PEP was sent its heartbeat.
func (c *conn) told() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.greeted
}

func (h *Hub) answer(w http.ResponseWriter, frames [][]byte, bye bool) (written bool) {
	size := 0
	for _, frame := range frames {
		size += len(frame) + 4
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeWithin(size))) // a test's recorder has none
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(size))
	if bye {
		w.Header().Set("Connection", "close")
	}
	for _, frame := range frames {
		if !writePart(w, frame) {
			return false
		}
		h.stats.bytes.Add(uint64(len(frame)))
	}
	return true
}

// writePart writes a frame as a part without copying it.
func writePart(w io.Writer, frame []byte) bool {
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(frame)))); err != nil {
		return false
	}
	_, err := w.Write(frame)
	return err == nil
}
