// Package approvals joins cases to the rest of a server: it keeps them in the
// store beside the log, reads rules, templates and people as the log has them
// when a case is settled, and mints grants into it.
//
// What a settlement reads is what its own transaction sees. The node's view of
// rules and directory is compiled and held in memory; a transaction that finds
// anything newer in the log begins again once the node has caught up. Reviewers
// that an attribute source names are looked up between two tries: no transaction
// waits for a source, and who could not be looked up is no reviewer.
package approvals
