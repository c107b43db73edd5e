package bundles

import (
	"fmt"
	"maps"
	"slices"
)

// Change is one difference between two contents. Data is nil for a removal.
type Change struct {
	Path    string
	Removed bool
	Data    []byte
}

// Apply returns the content with the changes made, in their order. Removing a
// file that is not there is an error. It checks and hashes what changed, and
// not what stays.
func (c *Content) Apply(changes []Change) (*Content, error) {
	last := make(map[string]*Change, len(changes))
	replaces := true // and neither adds nor removes
	for i := range changes {
		ch := &changes[i]
		before, again := last[ch.Path]
		_, known := c.find(ch.Path)
		if there := known; ch.Removed {
			if again {
				there = !before.Removed
			}
			if !there {
				return nil, fmt.Errorf("remove %s: %w", ch.Path, ErrNoFile)
			}
		}
		replaces = replaces && known && !ch.Removed
		last[ch.Path] = ch
	}
	for _, ch := range last {
		if f := (File{ch.Path, ch.Data}); !ch.Removed {
			if err := f.check(); err != nil {
				return nil, err
			}
		}
	}
	var next *Content
	if replaces {
		next = c.replace(last)
	} else {
		next = c.merge(last)
	}
	if err := checkSize(len(next.files), next.bytes); err != nil {
		return nil, err
	}
	return next, nil
}

// replace returns the content with other data in files that it has.
func (c *Content) replace(changes map[string]*Change) *Content {
	next := &Content{files: slices.Clone(c.files), bytes: c.bytes}
	dirty := make([]int, 0, len(changes))
	for p, ch := range changes {
		i, _ := c.find(p)
		next.bytes += len(ch.Data) - len(c.files[i].Data)
		next.files[i].Data = ch.Data
		dirty = append(dirty, i)
	}
	slices.Sort(dirty)
	next.tree = c.tree.with(len(c.files), dirty, func(i int) Digest { return leafOf(next.files[i]) })
	return next
}

// merge returns the content with files added and removed, which moves those
// behind them.
func (c *Content) merge(changes map[string]*Change) *Content {
	next := &Content{files: make([]File, 0, len(c.files)+len(changes)), bytes: c.bytes}
	leaves := make([]Digest, 0, cap(next.files))
	at := 0
	keep := func(until int) {
		next.files = append(next.files, c.files[at:until]...)
		for ; at < until; at++ {
			leaves = append(leaves, c.tree.leaf(at))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(changes)) {
		i, known := c.find(p)
		keep(i)
		if known {
			next.bytes -= len(c.files[i].Data)
			at++
		}
		if f := (File{p, changes[p].Data}); !changes[p].Removed {
			next.files, leaves = append(next.files, f), append(leaves, leafOf(f))
			next.bytes += len(f.Data)
		}
	}
	keep(len(c.files))
	var dirty []int
	for i := range leaves {
		if i >= len(c.files) || leaves[i] != c.tree.leaf(i) {
			dirty = append(dirty, i)
		}
	}
	next.tree = c.tree.with(len(leaves), dirty, func(i int) Digest { return leaves[i] })
	return next
}

// Diff returns the changes that lead from c to other, sorted by path. Files
// that both have at the same place cost nothing where many stand together.
func (c *Content) Diff(other *Content) []Change {
	var changes []Change
	for i, j := 0, 0; i < len(c.files) || j < len(other.files); {
		if i == j && i < len(c.files) && j < len(other.files) {
			if n := c.tree.same(other.tree, i); n > 0 {
				i, j = i+n, j+n
				continue
			}
		}
		switch {
		case j == len(other.files) || i < len(c.files) && c.files[i].Path < other.files[j].Path:
			changes = append(changes, Change{Path: c.files[i].Path, Removed: true})
			i++
		case i == len(c.files) || other.files[j].Path < c.files[i].Path:
			changes = append(changes, Change{Path: other.files[j].Path, Data: other.files[j].Data})
			j++
		default:
			if c.tree.leaf(i) != other.tree.leaf(j) {
				changes = append(changes, Change{Path: c.files[i].Path, Data: other.files[j].Data})
			}
			i, j = i+1, j+1
		}
	}
	return changes
}
