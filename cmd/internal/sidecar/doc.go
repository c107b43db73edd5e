// Package sidecar is the SDK for services in other languages: a PEP that
// decides in-process, behind the decision doors of a server.
//
// The doors are httpd's own; what decides behind them is a [pep.PEP]. Nobody
// is asked for a credential: whoever can open the door may ask for anybody in
// the tenants that are served. So the door is a Unix socket of one user or a
// loopback address, and nothing else.
//
// After a crash the next start finds the PEP's folder as it is, and replaces
// the socket that nobody listens on.
package sidecar
