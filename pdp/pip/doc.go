// Package pip holds attribute sources (policy information points, X1): where
// trusted attributes come from that neither the caller nor the directory
// knows.
//
// A source answers for one attribute of one entity at a time and is asked only
// when an applicable policy declares that it reads it. [Static] answers out of
// a file that the operator writes.
package pip
