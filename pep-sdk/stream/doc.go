// Package stream is the protocol between a server node and a PEP, xiezhi.v1:
// its frames, and the rules that both ends keep. One frame is one WebSocket
// message in binary, or one part of the answer to an HTTP poll, so that a PEP
// goes through the same states whichever way it hears of changes.
//
// # States of a PEP
//
//	          hello                    keys, log…, heartbeat(nonce)      release
//	connect ─────────▶ greeted ─────────────────────────────▶ current ◀──────────▶ behind
//	   ▲                  │                                      │        ack          │
//	   └── lost ◀─────────┴────────── bye, close, silence ───────┴─────────────────────┘
//
// After hello the node sends, in this order and only what the PEP lacks: the
// key set, the log range from the PEP's position, a heartbeat that signs the
// hello's nonce, the release as a snapshot or a delta on what the PEP holds.
// After that it sends what is new, the log always before a release, and a
// heartbeat every [HeartbeatEvery].
//
// # What the PEP checks
//
// Everything is verified against the key set, and the key set against the
// configured root. A log range must begin at the PEP's position (or at 0 with
// Reset) and be signed for exactly the tenants that the PEP serves; so must
// heartbeats and manifests. A release is never lower than the active one; the
// same number counts only with the same digest (a manifest signed anew). What
// fails a check is answered with reject, changes nothing, and leaves the PEP
// as stale as it is.
//
// A heartbeat makes fresh only what it speaks of: grants and restrictions once
// the PEP's position is at least the heartbeat's, policies once its release
// and digest are the heartbeat's, all of it only under the heartbeat's key
// set. So a channel that loses or holds back anything but heartbeats is found
// out, and one that holds back heartbeats too lets the PEP go stale.
//
// # Entries
//
// An entry is one object, whole; the newest of a key replaces older ones. A
// grant or restriction that has ended is sent as such until its validity is
// over, then no more: who still holds it holds nothing that counts. A range
// with Reset leaves out what does not count ([Entry.CountsUntil]). A subject's
// roles stand at the position of the newest record that they are made of, so
// every node gives them the same position, whatever it saw of the history.
// Grants travel without what people wrote about them.
//
// A heartbeat with State asks a PEP whose position is exactly its Position to
// compare; one whose [StateDigest] differs asks for the log from 0 (resync).
// Where the store was restored from a backup, its log ends below what a PEP
// holds: once a read that began after the hello shows that, the node sends a
// Reset that leads to a lower position, once in a connection. A PEP that does
// not take it refuses it, and the operator sees that.
//
// # Polling
//
// POST /stream/poll carries a hello, as a part ([AppendPart]), and after it what
// else the PEP has to say: rejects and resyncs, each a part. It is answered with
// what the PEP lacks, in parts as well, a heartbeat that signs the hello's nonce
// among them. With ?wait=30s (at most 60 s) a PEP that lacks nothing but the
// heartbeat is answered when it lacks more, or when the time is over. There is
// no ack: the next hello's Held is one. Each poll has a nonce of its own.
//
// # What the node keeps
//
// For each connection the position and release last sent and last
// acknowledged, nothing else: a writer that comes to a connection computes
// what it lacks now. A slow PEP therefore costs no memory and gets the newest
// state, not the history.
package stream
