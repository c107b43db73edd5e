package bundles

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of one release. They bound the memory of every node that reads it.
const (
	MaxFiles     = 250_000
	MaxFileBytes = 64 << 20
	MaxBytes     = 512 << 20
)

// File is one file of a release. Path is slash-separated and relative.
type File struct {
	Path string
	Data []byte
}

// Content is the files of one release, sorted by path. Its methods are safe
// for concurrent use; the data it returns must not be changed.
type Content struct {
	files []File
	tree  *tree // over files, in their order
	bytes int   // of files
}

// Digest is a SHA-256.
type Digest [sha256.Size]byte

// String returns "sha256:" and the hexadecimal form.
func (d Digest) String() string { return "sha256:" + hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// ParseDigest reads what String writes.
func ParseDigest(text string) (Digest, error) {
	var d Digest
	hexText, ok := strings.CutPrefix(text, "sha256:")
	if !ok || len(hexText) != 2*len(d) {
		return d, fmt.Errorf("digest %q: want sha256: and 64 hexadecimal digits", text)
	}
	if _, err := hex.Decode(d[:], []byte(hexText)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", text, err)
	}
	return d, nil
}

// NewContent checks and seals a set of files, given in any order.
func NewContent(files []File) (*Content, error) {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	total := 0
	for i, f := range sorted {
		if err := f.check(); err != nil {
			return nil, err
		}
		if i > 0 && sorted[i-1].Path == f.Path {
			return nil, fmt.Errorf("%s: given twice", f.Path)
		}
		total += len(f.Data)
	}
	if err := checkSize(len(sorted), total); err != nil {
		return nil, err
	}
	leaves := newTree(len(sorted), func(i int) Digest { return leafOf(sorted[i]) })
	return &Content{files: sorted, tree: leaves, bytes: total}, nil
}

func (f *File) check() error {
	if err := ValidPath(f.Path); err != nil {
		return err
	}
	if len(f.Data) > MaxFileBytes {
		return fmt.Errorf("%s: %d bytes, a file holds at most %d", f.Path, len(f.Data), MaxFileBytes)
	}
	return nil
}

func checkSize(files, bytes int) error {
	switch {
	case files > MaxFiles:
		return fmt.Errorf("%d files: a release holds at most %d", files, MaxFiles)
	case bytes > MaxBytes:
		return fmt.Errorf("more than %d bytes in one release", MaxBytes)
	}
	return nil
}

// ValidPath refuses what could leave the folder or look like another file.
func ValidPath(p string) error {
	if p == "" || p == "." || !fs.ValidPath(p) || !utf8.ValidString(p) || len(p) > 512 || strings.ContainsAny(p, "\\\x00:\n\r") {
		return fmt.Errorf("path %q: want a clean relative path with forward slashes", p)
	}
	for step := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(step, ".") {
			return fmt.Errorf("path %q: hidden files are not part of a release", p)
		}
	}
	return nil
}

// ReadFS reads every regular file below the root that keep accepts (nil: all).
// Hidden files and folders are left out; links are refused.
func ReadFS(fsys fs.FS, keep func(path string) bool) (*Content, error) {
	var files []File
	total := int64(0)
	err := fs.WalkDir(fsys, ".", func(p string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p == ".":
			return nil
		case strings.HasPrefix(path.Base(p), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return nil
		case keep != nil && !keep(p):
			return nil
		case !entry.Type().IsRegular():
			return fmt.Errorf("%s: only regular files can be part of a release", p)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if total += info.Size(); info.Size() > MaxFileBytes || total > MaxBytes {
			return fmt.Errorf("%s: too large for a release", p)
		}
		data, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		files = append(files, File{p, data})
		if len(files) > MaxFiles {
			return fmt.Errorf("more than %d files", MaxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read policy folder: %w", err)
	}
	return NewContent(files)
}

// Digest identifies the content.
func (c *Content) Digest() Digest { return c.tree.root() }

// Bytes is how long all files are together.
func (c *Content) Bytes() int { return c.bytes }

// Files returns all files, sorted by path.
func (c *Content) Files() []File { return c.files }

// ErrNoFile is returned for a path that the content does not hold.
var ErrNoFile = errors.New("no such file in this release")

// File returns the bytes of one file.
func (c *Content) File(p string) ([]byte, error) {
	i, ok := c.find(p)
	if !ok {
		return nil, fmt.Errorf("%s: %w", p, ErrNoFile)
	}
	return c.files[i].Data, nil
}

// find is where the path stands, or would.
func (c *Content) find(p string) (int, bool) {
	return slices.BinarySearchFunc(c.files, p, func(f File, p string) int { return strings.Compare(f.Path, p) })
}

// Under returns the files whose paths begin with prefix, sorted.
func (c *Content) Under(prefix string) []File {
	from, _ := c.find(prefix)
	n, _ := slices.BinarySearchFunc(c.files[from:], prefix, func(f File, prefix string) int {
		if strings.HasPrefix(f.Path, prefix) {
			return -1
		}
		return 1
	})
	return c.files[from : from+n]
}

// Without returns the content that lacks the files whose paths begin with
// prefix. It hashes no file, and its cost follows what is left.
func (c *Content) Without(prefix string) *Content {
	from, _ := c.find(prefix)
	to := from + len(c.Under(prefix))
	places := make([]int, 0, len(c.files)-(to-from))
	for i := range c.files[:from] {
		places = append(places, i)
	}
	for i := range c.files[to:] {
		places = append(places, to+i)
	}
	return c.at(places)
}

// Select returns the content of those files that keep accepts. It hashes none.
func (c *Content) Select(keep func(path string) bool) *Content {
	var places []int
	for i := range c.files {
		if keep(c.files[i].Path) {
			places = append(places, i)
		}
	}
	return c.at(places)
}

// at is the content of the files at these places, which are sorted.
func (c *Content) at(places []int) *Content {
	part := &Content{files: make([]File, len(places))}
	for i, place := range places {
		part.files[i] = c.files[place]
		part.bytes += len(c.files[place].Data)
	}
	part.tree = newTree(len(places), func(i int) Digest { return c.tree.leaf(places[i]) })
	return part
}

// leafOf hashes one file: the length of the path, the path, the SHA-256 of the
// data.
func leafOf(f File) Digest {
	data := sha256.Sum256(f.Data)
	return sha256.Sum256(slices.Concat([]byte{0, byte(len(f.Path) >> 8), byte(len(f.Path))}, []byte(f.Path), data[:]))
}
