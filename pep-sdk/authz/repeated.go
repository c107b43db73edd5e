package authz

import (
	"hash/maphash"
	"strings"
)

// repeated keeps the texts of one large document, those that were met lately
// once. What it remembers is bounded, whatever the document holds; a text that
// was forgotten is kept once more.
type repeated struct {
	seed maphash.Seed
	// recent is a set of places by hash. A text stands in one of a pair of
	// places, the newer of the two first.
	recent [4096]string
	pieces strings.Builder // the newest piece of memory that texts are cut from
}

const (
	longestRepeated = 64       // bytes; longer texts are seldom met again
	pieceSize       = 16 << 10 // bytes of many short texts that share their memory
	longestInPiece  = pieceSize / 16
)

func newRepeated() *repeated { return &repeated{seed: maphash.MakeSeed()} }

// keep returns text in memory of its own.
func (r *repeated) keep(text string) string {
	if len(text) > longestRepeated {
		return r.cut(text)
	}
	place := maphash.String(r.seed, text) % uint64(len(r.recent)) &^ 1
	pair := r.recent[place : place+2]
	switch text {
	case pair[0]:
	case pair[1]:
		pair[0], pair[1] = pair[1], pair[0]
	default:
		pair[0], pair[1] = r.cut(text), pair[0]
	}
	return pair[0]
}

// cut copies text into a piece. A builder never moves what it has room for.
func (r *repeated) cut(text string) string {
	if len(text) > longestInPiece {
		return strings.Clone(text)
	}
	if r.pieces.Cap()-r.pieces.Len() < len(text) {
		r.pieces = strings.Builder{}
		r.pieces.Grow(pieceSize)
	}
	start := r.pieces.Len()
	r.pieces.WriteString(text)
	return r.pieces.String()[start:]
}
