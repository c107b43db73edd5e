package stream

import "sync/atomic"

// Stats are counts since the hub was made.
type Stats struct {
	Connections int64  // now, polls included
	Frames      uint64 // sent over sockets
	Bytes       uint64 // of these
	Signatures  uint64
	Packed      uint64 // snapshots and deltas that were built
	Acks        uint64
	Rejects     uint64 // releases and log ranges that PEPs refused
	Resyncs     uint64 // that PEPs asked for
	Refused     uint64 // hellos without a right, malformed or too many
	Dropped     uint64 // connections that did not keep the protocol
	Expelled    uint64 // connections that lost their right
	Stalls      uint64 // writes that gave up their place
	WriteErrors uint64 // connections that a write ended
	Failures    uint64 // what this node could not do; its log says what
}

type counters struct {
	connections                                               atomic.Int64
	frames, bytes, signatures, packed, acks, rejects, resyncs atomic.Uint64
	refused, dropped, expelled, stalls, writeErrors, failures atomic.Uint64
}

// Stats returns the counts.
func (h *Hub) Stats() Stats {
	s := &h.stats
	return Stats{
		Connections: s.connections.Load(), Frames: s.frames.Load(), Bytes: s.bytes.Load(), Signatures: s.signatures.Load(),
		Packed: s.packed.Load(), Acks: s.acks.Load(), Rejects: s.rejects.Load(), Resyncs: s.resyncs.Load(),
		Refused: s.refused.Load(), Dropped: s.dropped.Load(), Expelled: s.expelled.Load(), Stalls: s.stalls.Load(),
		WriteErrors: s.writeErrors.Load(), Failures: s.failures.Load(),
	}
}
