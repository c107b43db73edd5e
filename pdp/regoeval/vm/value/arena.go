package value

import "unsafe"

// How many bytes the first chunk of an arena has, how many a chunk that is kept
// may have, and how many an arena keeps for the next evaluation.
const (
	firstChunk = 2 << 10
	mostChunk  = 256 << 10
	mostKept   = 4 * mostChunk
)

// arena hands out runs of zeroed cells, all of which reset takes back.
type arena[T any] struct {
	chunks []chunk[T]
	used   int // chunks[:used] have given cells; the last of them gives more
}

type chunk[T any] struct {
	cells []T
	given int
}

// take returns n zeroed cells.
func (a *arena[T]) take(n int) []T {
	if a.used > 0 {
		c := &a.chunks[a.used-1]
		if n <= len(c.cells)-c.given {
			c.given += n
			return c.cells[c.given-n : c.given : c.given]
		}
	}
	return a.takeNext(n)
}

// takeNext goes on to a chunk that holds n cells and has given none.
func (a *arena[T]) takeNext(n int) []T {
	next := a.used
	a.used++
	i := next
	for i < len(a.chunks) && len(a.chunks[i].cells) < n {
		i++
	}
	if i == len(a.chunks) {
		bytes := min(firstChunk<<min(next, 16), mostChunk)
		a.chunks = append(a.chunks, chunk[T]{cells: make([]T, max(n, bytes/cellSize[T]()))})
	}
	a.chunks[i], a.chunks[next] = a.chunks[next], a.chunks[i]
	c := &a.chunks[next]
	c.given = n
	return c.cells[:n:n]
}

// shorten takes back the last n cells that the latest take gave.
func (a *arena[T]) shorten(n int) { a.chunks[a.used-1].given -= n }

// last returns the end of the cells that were given.
func (a *arena[T]) last() *T {
	if a.used == 0 || a.chunks[a.used-1].given == 0 {
		return nil
	}
	c := &a.chunks[a.used-1]
	return &c.cells[c.given-1]
}

// reset takes everything back. Cells are zeroed, so that they hold on to
// nothing; what only an evaluation of unusual size needs is let go.
func (a *arena[T]) reset() {
	kept, bytes := 0, 0
	for _, c := range a.chunks {
		size := len(c.cells) * cellSize[T]()
		if size > mostChunk || bytes+size > mostKept {
			continue
		}
		clear(c.cells[:c.given])
		c.given = 0
		a.chunks[kept] = c
		kept++
		bytes += size
	}
	clear(a.chunks[kept:])
	a.chunks, a.used = a.chunks[:kept], 0
}

// poison overwrites what was given, and never gives it again.
func (a *arena[T]) poison(with T) {
	for _, c := range a.chunks {
		for i := range c.cells[:c.given] {
			c.cells[i] = with
		}
	}
	a.chunks, a.used = nil, 0
}

func cellSize[T any]() int {
	var cell T
	return int(unsafe.Sizeof(cell))
}
