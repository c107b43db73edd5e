package pap

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// ReadContentFrom reads a release's files as [ReadContent] does, from the store
// only those that another release does not have: of that one are given its
// files, as the store lists them, and its content.
func ReadContentFrom(tx Tx, r Release, files []ReleaseFile, content *bundles.Content) (*bundles.Content, error) {
	var changes []bundles.Change
	var fresh []ReleaseFile
	at := 0
	for _, f := range r.Files {
		for at < len(files) && files[at].Path < f.Path {
			changes = append(changes, bundles.Change{Path: files[at].Path, Removed: true})
			at++
		}
		if at < len(files) && files[at].Path == f.Path {
			if at++; files[at-1].Digest == f.Digest {
				continue
			}
		}
		fresh = append(fresh, f)
	}
	for _, f := range files[at:] {
		changes = append(changes, bundles.Change{Path: f.Path, Removed: true})
	}
	data, err := readFiles(tx, r, fresh)
	if err != nil {
		return nil, err
	}
	for i, f := range fresh {
		changes = append(changes, bundles.Change{Path: f.Path, Data: data[i]})
	}
	next, err := content.Apply(changes)
	if err != nil {
		return nil, fmt.Errorf("release %d: %w", r.Number, err)
	}
	if next.Digest() != r.Digest {
		return nil, fmt.Errorf("release %d: its files give %s, not %s: the store was altered", r.Number, next.Digest(), r.Digest)
	}
	return next, nil
}

// readAtOnce bounds how many files one question to the store is for.
const readAtOnce = 1000

// readFiles reads the contents of a release's files.
func readFiles(tx Tx, r Release, files []ReleaseFile) ([][]byte, error) {
	data := make([][]byte, 0, len(files))
	for some := range slices.Chunk(files, readAtOnce) {
		digests := make([]bundles.Digest, len(some))
		for i, f := range some {
			digests[i] = f.Digest
		}
		more, err := tx.Blobs(digests)
		if err != nil {
			return nil, fmt.Errorf("release %d: files %s to %s: %w", r.Number, some[0].Path, some[len(some)-1].Path, err)
		}
		data = append(data, more...)
	}
	return data, nil
}

// newestRelease is the newest release as it was read last, so that of the next
// one what changed is read. It is safe for concurrent use.
type newestRelease struct {
	mu      sync.Mutex
	number  uint64 // 0: none was read
	files   []ReleaseFile
	content *bundles.Content
}

// read returns the content of a release. Numbers never stand for other files
// than they did.
func (n *newestRelease) read(ctx context.Context, store Store, number uint64) (*bundles.Content, error) {
	n.mu.Lock()
	known, files, content := n.number, n.files, n.content
	n.mu.Unlock()
	if known == number {
		return content, nil
	}
	var r Release
	err := store.View(ctx, func(tx Tx) error {
		var err error
		if r, err = tx.Release(number); err != nil {
			return fmt.Errorf("release %d: %w", number, err)
		}
		if known == 0 {
			content, err = ReadContent(tx, r)
		} else {
			content, err = ReadContentFrom(tx, r, files, content)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	n.keep(r, content)
	return content, nil
}

func (n *newestRelease) keep(r Release, content *bundles.Content) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Number > n.number {
		n.number, n.files, n.content = r.Number, r.Files, content
	}
}

// list fills in the release's files, and returns the places of those whose
// content the store may not have: it has what the base has, from which the
// changes lead to next.
func (n *newestRelease) list(r *Release, base uint64, content, next *bundles.Content, changes []bundles.Change) (fresh []int) {
	n.mu.Lock()
	known := n.files
	if n.content == nil || n.number != base || n.content.Digest() != content.Digest() {
		known = nil
	}
	n.mu.Unlock()
	r.Files = make([]ReleaseFile, 0, len(next.Files()))
	for i, f := range next.Files() {
		for len(known) > 0 && known[0].Path < f.Path {
			known = known[1:]
		}
		for len(changes) > 0 && changes[0].Path < f.Path {
			changes = changes[1:]
		}
		changed := len(changes) > 0 && changes[0].Path == f.Path
		if !changed && len(known) > 0 && known[0].Path == f.Path {
			r.Files = append(r.Files, known[0])
			continue
		}
		r.Files = append(r.Files, ReleaseFile{Path: f.Path, Digest: sha256.Sum256(f.Data), Size: len(f.Data)})
		if changed {
			fresh = append(fresh, i)
		}
	}
	return fresh
}
