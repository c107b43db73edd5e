// Package pap publishes: it administers policy documents, releases, dynamic
// policies and the directory of tenants, subjects, roles, bindings and access
// tokens.
//
// Two sequences carry every change. A release is a numbered, content-addressed
// set of files; numbers never fall. Everything else is an entry in one log:
// each entry puts one [Record], whole, at the next position. A node that has
// applied release r and log position g answers at revision r<r>.g<g>.
//
// Every write happens in one store transaction together with its log entry and
// its audit record, so after a crash either all of them are there or none.
// Rules live here; atomicity and ordering live in the [Store].
package pap
