package value

// Two values that share their parts, [b, b] of [c, c] and so on, are small and
// would be endless to compare. So what was found to be equal once is joined:
// same leads from a list or table of a heap to one that is equal, until the
// heap is reset.

// root is what stands for all that were found equal to k.
func (k *known) root() *known {
	r := k
	for r.same != nil && !r.fixed {
		r = r.same
	}
	if r != k && !k.fixed {
		k.same = r
	}
	return r
}

// join notes that both are equal. What outlives the heap is never written.
func (k *known) join(other *known) {
	x, y := k.root(), other.root()
	switch {
	case x == y:
	case x.made && !x.fixed:
		x.same = y
	case y.made && !y.fixed:
		y.same = x
	}
}
