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
// # What the node keeps
//
// For each connection the position and release last sent and last
// acknowledged, nothing else: a writer that comes to a connection computes
// what it lacks now. A slow PEP therefore costs no memory and gets the newest
// state, not the history.
package stream
