package spool

import (
	"slices"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// recentBytes is the most memory that records take which are on disk and wait
// for the shipper, and the most that is kept for later ones.
const recentBytes = 8 << 20

// buffer is the memory of a batch.
type buffer struct {
	data []byte              // frames
	held []authz.AuditRecord // their records, with the bodies in data; of too many, none
}

// size is about how many bytes it takes.
func (b *buffer) size() int {
	const heldBytes = 256
	return cap(b.data) + heldBytes*cap(b.held)
}

// hold notes the record of the batch's last frame.
func (b *batch) hold(record *authz.AuditRecord) {
	if uint64(len(b.held)) != b.records || b.size() > recentBytes {
		b.held = b.held[:0] // and no later one, since some are missing
		return
	}
	b.held = append(b.held, *record)
	held := &b.held[b.records]
	held.Time = held.Time.UTC().Round(0) // as it is read again
	if size := len(held.BodyJSON); size > 0 {
		end := len(b.data) - len("}")
		held.Body, held.BodyJSON = authz.Value{}, b.data[end-size:end:end]
	}
}

// stretch is a synced batch that is still in memory: in the usual case nobody
// reads it from its file again.
type stretch struct {
	segment  *segment
	from, to int64
	buffer
}

// remember keeps a batch that was just synced at the end of the active segment,
// if there is room. The caller holds mu.
func (s *Spool) remember(b *batch) {
	if uint64(len(b.held)) != b.records || s.recentSize+b.size() > recentBytes {
		s.reuse(b.buffer)
		return
	}
	s.recent = append(s.recent, stretch{s.active, s.active.end, s.active.end + int64(len(b.data)), b.buffer})
	s.recentSize += b.size()
}

// recall takes the batches out of memory that begin at an offset, as many as
// are handed to the sink at once. If there are none, it says how far the file
// must be read.
func (s *Spool) recall(seg *segment, from, end int64) (some []stretch, to int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, records := 0, 0
	for to = from; n < len(s.recent) && records < batchRecords && to-from < batchBytes; n++ {
		next := &s.recent[n]
		if next.segment != seg || next.from != to {
			break
		}
		records, to = records+len(next.held), next.to
		s.recentSize -= next.size()
	}
	if n > 0 {
		some = slices.Clone(s.recent[:n])
		s.recent = slices.Delete(s.recent, 0, n)
		return some, to
	}
	if len(s.recent) > 0 && s.recent[0].segment == seg {
		end = s.recent[0].from
	}
	return nil, end
}

// forget leaves all that is not shipped to the disk: what the sink refused is
// checked when it is read from there. The caller holds mu.
func (s *Spool) forget() { s.recent, s.recentSize = nil, 0 }

// reuse keeps the memory of records that nobody needs any more. The caller
// holds mu.
func (s *Spool) reuse(b buffer) {
	if s.spareSize+b.size() > recentBytes {
		return
	}
	clear(b.held)
	s.spare = append(s.spare, buffer{b.data[:0], b.held[:0]})
	s.spareSize += b.size()
}

// fresh returns an empty batch, in memory that was used before if there is any.
// The caller holds mu.
func (s *Spool) fresh() *batch {
	b := &batch{done: make(chan struct{})}
	if last := len(s.spare) - 1; last >= 0 {
		b.buffer = s.spare[last]
		s.spare[last] = buffer{}
		s.spare = s.spare[:last]
		s.spareSize -= b.size()
	}
	return b
}
