// Package engine is the decision core with its three languages: it compiles
// releases and restrictions, holds a candidate to the gate that every release
// must pass, and reads and formats policy folders. The server and the command
// line decide through it, so that what a folder does on a desk is what it does
// in production.
//
// An [Engine] is safe for concurrent use. It keeps nothing but compilers, which
// keep caches.
package engine
