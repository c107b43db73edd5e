// Package stream pushes releases, grants, restrictions and roles to PEPs: the
// node's side of xiezhi.v1 (pep-sdk/stream), over WebSocket and HTTP polling.
//
// A [Hub] is told of every read of the store ([Hub.Update]) and holds what is
// newest: the live entries in order of position, the releases that PEPs should
// have. PEPs that serve the same tenants are one audience, and share what is
// built and signed for it: manifest, snapshot, deltas, log ranges, heartbeats.
//
// Nothing is queued for a connection. A change marks connections; one of the
// writers takes each, computes what it lacks now against what it was sent, and
// sends that: the log ahead of any release. A connection is sent one release
// at a time and a few log ranges, and the next when it has acknowledged, so
// the slowest PEP costs what the quickest does. A write that stalls gives its
// writer's place to another goroutine and ends the connection at its deadline.
//
// Places are bounded, so that nobody keeps others out: of all, of one tenant's
// credentials, and of those who have not finished their hello. So is what a PEP
// says, on a socket or in polls. Who is not let in for its credential, its
// rights or the protocol is in the audit, at most once a minute.
//
// What may be slow (cutting a release for an audience, sealing it in the
// database, packing it) is done by builders, never by a writer or under the
// hub's lock. A seal is stored, so that every node serves the same manifest.
//
// A heartbeat is signed only for a read that just succeeded, dated when that
// read began: a node that is cut off from the database signs none, and its
// PEPs become stale. After a crash nothing is missing: PEPs come back with
// what they hold, and the store has the rest.
package stream
