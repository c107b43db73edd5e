// Package trust says whose signature counts: keys by purpose, their windows,
// and the root that vouches for them.
//
// A verifier is configured with a [Root], which it never learns from a server.
// The root signs a [Set]: every key of the installation with its one
// [Purpose], the times in which it signs and is believed, and whether it was
// revoked. Sets are numbered; a verifier takes no set below the one it has.
// Keys rotate and are revoked by a new set, without touching any verifier's
// configuration.
//
// Everything signed is a JWS in compact form (RFC 7515) of one algorithm,
// Ed25519 (RFC 8037), with a header of exactly three members in one spelling,
// {"alg":"EdDSA","kid":"…","typ":"…"}, and a payload that names the
// installation (iss), the audience (aud) and the time (iat) beside its body.
// [Kind] fixes purpose, typ and audience together, so nothing that was signed
// as one thing passes for another.
//
// The package stands on the standard library alone, since every service that
// embeds the SDK carries it. All types are immutable or say otherwise.
package trust
