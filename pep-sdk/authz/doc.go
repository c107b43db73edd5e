// Package authz is the vocabulary of Xiezhi: requests, values, effects,
// decisions and revisions, and the strict JSON they travel in.
//
// It uses the standard library only, so that a service that embeds the SDK
// pulls in nothing else. Every type is a plain value. A [Value] is immutable
// after construction and may be shared between goroutines.
//
// The zero value of everything that can open a door is the one that keeps it
// shut: the zero [Effect] is [Deny], the zero [Decision] denies.
package authz
