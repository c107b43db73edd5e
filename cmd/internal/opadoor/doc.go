// Package opadoor serves stock Open Policy Agents, to the letter of OPA's
// bundle, decision log and status protocols (1.22):
//
//	GET  /bundles/{name}        a signed snapshot, with ETag and long polling
//	POST /logs[/{partition}]    decision logs, into the audit store
//	POST /status[/{partition}]  status reports, into what the PAP knows of PEPs
//
// The name of a bundle is its audience: a tenant, several tenants with commas
// between, `platform` for the platform's part alone, or `all`. A tenant's
// bundle holds the platform's part too, so that both are activated together.
// The caller needs the right stream.subscribe in each tenant; a tenant's
// caller is given no other tenant's bundle.
//
// A bundle is built once a release and name, by one goroutine ([Door.Run]) and
// never by a request, and every node builds the same bytes: the archive holds
// no times, and the ECDSA signature is the deterministic one of RFC 6979. So
// the ETag, a digest of the bytes, is the same wherever an agent asks next.
//
// While a release is rolled out in stages, stock agents are given its base:
// they have no labels that a stage could select, and cannot reject what they
// were sent before it holds everywhere.
//
// Logs and reports are answered with a 2xx only when they are kept. The record
// of a decision has an id made of caller, decision and time, so what an agent
// sends again is kept once. One event that could not be kept would block an
// agent's log for good; so what is odd about an event (another tenant's name,
// a date in another century, too large an input) is noted in its record, and
// only what no agent sends is refused.
//
// Nothing here must survive a crash.
package opadoor
