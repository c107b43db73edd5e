// Package serve is the wiring: it builds one server node out of its parts, by
// hand and in reading order, runs it, and stops it so that nothing that was
// answered is lost.
package serve
