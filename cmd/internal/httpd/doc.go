// Package httpd is the HTTP door: it decodes a call into our types, calls one
// method, and encodes the answer.
//
// [Routes] is the one table of what is served. The router, the OpenAPI
// document and the tests are driven by it; a route that names no right and is
// not marked public cannot be registered, and an answer that left without its
// right having been asked for is withheld.
//
// Our own doors decode strictly: an unknown member, a duplicate name, a wrong
// type or a body over the limit is refused with a problem document that names
// the place. The AuthZEN doors follow their standard instead. No malformed
// request and no failure is ever answered with ALLOW.
//
// Fiber and fasthttp reuse the memory of a request for the next one. Nothing
// taken from them leaves [call] uncopied. fasthttp cannot see a client leave,
// so calls end by their own limits or when the server stops.
//
// The package holds nothing that must survive a crash.
package httpd
