package bundles

import (
	"crypto/sha256"
	"math/bits"
)

// tree is the Merkle tree of RFC 6962 §2.1 over the leaves of a content, each
// level from left to right: a node without a sibling stands on the next level
// as it is. Trees that come of each other share what is equal in them.
type tree struct {
	levels []level // leaves first, the root last; none of no leaves
}

// level is one level's nodes in pages, which never change once they are shared.
type level struct {
	n     int
	pages []*page
}

const pageSize = 64

type page [pageSize]Digest

func (l *level) at(i int) *Digest { return &l.pages[i/pageSize][i%pageSize] }

// newTree hashes leaves, which leaf gives.
func newTree(n int, leaf func(i int) Digest) *tree {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return new(tree).with(n, all, leaf)
}

// with returns the tree of n leaves that are t's, save those at the places in
// dirty: sorted, each once, with all that t has not. It hashes what is above
// them, and nothing else.
func (t *tree) with(n int, dirty []int, leaf func(i int) Digest) *tree {
	next := &tree{}
	for node := leaf; n > 0; {
		before := t.level(len(next.levels))
		l := before.with(n, dirty, node)
		next.levels = append(next.levels, l)
		if n == 1 {
			break
		}
		dirty = parents(dirty, before.n, n)
		node = func(i int) Digest { return l.parent(i) }
		n = (n + 1) / 2
	}
	return next
}

func (t *tree) level(k int) *level {
	if k < len(t.levels) {
		return &t.levels[k]
	}
	return &level{}
}

func (l *level) with(n int, dirty []int, node func(i int) Digest) level {
	next := level{n: n, pages: make([]*page, (n+pageSize-1)/pageSize)}
	copy(next.pages, l.pages)
	own := -1 // the newest page that is this level's own
	for _, i := range dirty {
		if p := i / pageSize; p != own {
			fresh := &page{}
			if next.pages[p] != nil {
				*fresh = *next.pages[p]
			}
			next.pages[p], own = fresh, p
		}
		*next.at(i) = node(i)
	}
	return next
}

// parents lists the nodes above dirty ones, where a level goes from was nodes
// to n: the last one may have lost or got a sibling.
func parents(dirty []int, was, n int) []int {
	var up []int
	add := func(i int) {
		if len(up) == 0 || up[len(up)-1] != i {
			up = append(up, i)
		}
	}
	for _, i := range dirty {
		add(i / 2)
	}
	if was != n {
		add((n - 1) / 2)
	}
	return up
}

// parent is node i of the level above.
func (l *level) parent(i int) Digest {
	if 2*i+1 == l.n {
		return *l.at(2 * i)
	}
	var both [1 + 2*sha256.Size]byte
	both[0] = 1
	copy(both[1:], l.at(2 * i)[:])
	copy(both[1+sha256.Size:], l.at(2*i + 1)[:])
	return sha256.Sum256(both[:])
}

func (t *tree) root() Digest {
	if len(t.levels) == 0 {
		return sha256.Sum256(nil)
	}
	return *t.levels[len(t.levels)-1].at(0)
}

func (t *tree) leaf(i int) Digest { return *t.levels[0].at(i) }

// same is how many leaves from i on are known to be both trees': those below
// the largest node that begins there and is in both.
func (t *tree) same(other *tree, i int) int {
	highest := min(len(t.levels), len(other.levels)) - 1
	if i > 0 {
		highest = min(highest, bits.TrailingZeros(uint(i)))
	}
	for k := highest; k >= 0; k-- {
		a, b := &t.levels[k], &other.levels[k]
		// Of the last node of a level nobody knows how many leaves it has.
		whole := (i>>k+1)<<k <= min(t.levels[0].n, other.levels[0].n)
		if whole && *a.at(i >> k) == *b.at(i >> k) {
			return 1 << k
		}
	}
	return 0
}
