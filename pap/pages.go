package pap

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// FilePage is a run of a release's files, at least one, sorted by path. Stores keep
// the list of a release's files in pages, and a page that releases share once:
// a release that changes one file of many writes and reads one page.
type FilePage struct {
	Digest bundles.Digest // of what it lists
	Files  []ReleaseFile
}

// pageBegins reports whether a page begins with the path, as about one in 256
// does. It asks for nothing but the path, so that a file more or less changes
// one page or two, whatever comes before. Stores share fewer pages, and lose
// nothing, when it is made to say otherwise.
func pageBegins(path string) bool {
	h := fnv.New32a()
	io.WriteString(h, path)
	return h.Sum32()>>24 == 0
}

// FilePagesOf divides a release's files, in any order, into pages in the order of
// their paths. It refuses a path that [CheckKeys] refuses, and one that is
// there twice (ErrConflict).
func FilePagesOf(files []ReleaseFile) ([]FilePage, error) {
	byPath := func(a, b ReleaseFile) int { return strings.Compare(a.Path, b.Path) }
	if files = slices.Clone(files); !slices.IsSortedFunc(files, byPath) {
		slices.SortFunc(files, byPath)
	}
	var pages []FilePage
	for i, f := range files {
		if err := CheckKeys(f.Path); err != nil {
			return nil, err
		}
		if i > 0 && files[i-1].Path == f.Path {
			return nil, fmt.Errorf("file %q of the release: %w", f.Path, ErrConflict)
		}
		if len(pages) == 0 || pageBegins(f.Path) {
			pages = append(pages, FilePage{Files: files[i:i:i]})
		}
		last := &pages[len(pages)-1]
		last.Files = files[i-len(last.Files) : i+1 : i+1]
	}
	for i := range pages {
		pages[i].Digest = digestOfPage(pages[i].Files)
	}
	return pages, nil
}

// DigestsOf lists the pages' digests.
func DigestsOf(pages []FilePage) []bundles.Digest {
	digests := make([]bundles.Digest, len(pages))
	for i, p := range pages {
		digests[i] = p.Digest
	}
	return digests
}

func digestOfPage(files []ReleaseFile) (digest bundles.Digest) {
	h := sha256.New()
	var line []byte
	for _, f := range files {
		line = binary.AppendUvarint(line[:0], uint64(len(f.Path)))
		line = append(append(line, f.Path...), f.Digest[:]...)
		line = binary.AppendUvarint(line, uint64(f.Size))
		h.Write(line)
	}
	h.Sum(digest[:0])
	return digest
}

// FilePageCache keeps the pages of the release that was listed or stored last: the
// next one shares most of them. Its zero value is empty. It is safe for
// concurrent use, and holds nothing that depends on a transaction's end.
type FilePageCache struct {
	mu    sync.Mutex
	pages map[bundles.Digest][]ReleaseFile
}

// Keep replaces what is kept.
func (c *FilePageCache) Keep(pages []FilePage) {
	kept := make(map[bundles.Digest][]ReleaseFile, len(pages))
	for _, p := range pages {
		kept[p.Digest] = p.Files
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pages = kept
}

// Files lists the files of a release that has these pages, in order of Path as
// bytes. The pages that are not kept are read; an altered one is refused.
func (c *FilePageCache) Files(digests []bundles.Digest, read func(missing []bundles.Digest) (map[bundles.Digest][]ReleaseFile, error)) ([]ReleaseFile, error) {
	c.mu.Lock()
	known := c.pages // never written again
	c.mu.Unlock()
	pages := make([]FilePage, len(digests))
	var missing []bundles.Digest
	for i, d := range digests {
		pages[i] = FilePage{d, known[d]}
		if pages[i].Files == nil {
			missing = append(missing, d)
		}
	}
	if len(missing) > 0 {
		stored, err := read(missing)
		if err != nil {
			return nil, err
		}
		for i := range pages {
			p := &pages[i]
			if p.Files != nil {
				continue
			}
			if p.Files = stored[p.Digest]; digestOfPage(p.Files) != p.Digest || len(p.Files) == 0 {
				return nil, fmt.Errorf("page %s lists other files: the store was altered", p.Digest)
			}
		}
	}
	slices.SortFunc(pages, func(a, b FilePage) int { return cmp.Compare(a.Files[0].Path, b.Files[0].Path) })
	c.Keep(pages)
	n := 0
	for _, p := range pages {
		n += len(p.Files)
	}
	files := make([]ReleaseFile, 0, n)
	for _, p := range pages {
		files = append(files, p.Files...)
	}
	return files, nil
}
