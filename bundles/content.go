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
	MaxFiles     = 100_000
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
	files  []File
	leaves []Digest // of files, in their order
	digest Digest
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
func NewContent(files []File) (*Content, error) { return seal(files, leafOf) }

// seal is NewContent; leaf answers for files that have one already.
func seal(files []File, leaf func(File) Digest) (*Content, error) {
	if len(files) > MaxFiles {
		return nil, fmt.Errorf("%d files: a release holds at most %d", len(files), MaxFiles)
	}
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	total := 0
	for i, f := range sorted {
		if err := ValidPath(f.Path); err != nil {
			return nil, err
		}
		if i > 0 && sorted[i-1].Path == f.Path {
			return nil, fmt.Errorf("%s: given twice", f.Path)
		}
		if len(f.Data) > MaxFileBytes {
			return nil, fmt.Errorf("%s: %d bytes, a file holds at most %d", f.Path, len(f.Data), MaxFileBytes)
		}
		if total += len(f.Data); total > MaxBytes {
			return nil, fmt.Errorf("more than %d bytes in one release", MaxBytes)
		}
	}
	leaves := make([]Digest, len(sorted))
	for i, f := range sorted {
		leaves[i] = leaf(f)
	}
	return &Content{files: sorted, leaves: leaves, digest: merkleRoot(leaves)}, nil
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
func (c *Content) Digest() Digest { return c.digest }

// Files returns all files, sorted by path.
func (c *Content) Files() []File { return c.files }

// ErrNoFile is returned for a path that the content does not hold.
var ErrNoFile = errors.New("no such file in this release")

// File returns the bytes of one file.
func (c *Content) File(p string) ([]byte, error) {
	i, ok := slices.BinarySearchFunc(c.files, p, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return nil, fmt.Errorf("%s: %w", p, ErrNoFile)
	}
	return c.files[i].Data, nil
}

// Change is one difference between two contents. Data is nil for a removal.
type Change struct {
	Path    string
	Removed bool
	Data    []byte
}

// Apply returns the content with the changes made. Removing a file that is not
// there is an error. It hashes what changed, and not what stays.
func (c *Content) Apply(changes []Change) (*Content, error) {
	type kept struct {
		data []byte
		leaf Digest
	}
	byPath := make(map[string]kept, len(c.files)+len(changes))
	for i, f := range c.files {
		byPath[f.Path] = kept{f.Data, c.leaves[i]}
	}
	for _, ch := range changes {
		if !ch.Removed {
			byPath[ch.Path] = kept{ch.Data, leafOf(File{ch.Path, ch.Data})}
			continue
		}
		if _, ok := byPath[ch.Path]; !ok {
			return nil, fmt.Errorf("remove %s: %w", ch.Path, ErrNoFile)
		}
		delete(byPath, ch.Path)
	}
	files := make([]File, 0, len(byPath))
	for p, k := range byPath {
		files = append(files, File{p, k.data})
	}
	return seal(files, func(f File) Digest { return byPath[f.Path].leaf })
}

// Diff returns the changes that lead from c to other, sorted by path.
func (c *Content) Diff(other *Content) []Change {
	var changes []Change
	i, j := 0, 0
	for i < len(c.files) || j < len(other.files) {
		switch {
		case j == len(other.files) || i < len(c.files) && c.files[i].Path < other.files[j].Path:
			changes = append(changes, Change{Path: c.files[i].Path, Removed: true})
			i++
		case i == len(c.files) || other.files[j].Path < c.files[i].Path:
			changes = append(changes, Change{Path: other.files[j].Path, Data: other.files[j].Data})
			j++
		default:
			if c.leaves[i] != other.leaves[j] {
				changes = append(changes, Change{Path: c.files[i].Path, Data: other.files[j].Data})
			}
			i, j = i+1, j+1
		}
	}
	return changes
}

// merkleRoot hashes leaves as RFC 6962 §2.1 does.
func merkleRoot(leaves []Digest) Digest {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	half := 1
	for half*2 < len(leaves) {
		half *= 2
	}
	left, right := merkleRoot(leaves[:half]), merkleRoot(leaves[half:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

// leafOf hashes one file: the length of the path, the path, the SHA-256 of the
// data.
func leafOf(f File) Digest {
	data := sha256.Sum256(f.Data)
	return sha256.Sum256(slices.Concat([]byte{0, byte(len(f.Path) >> 8), byte(len(f.Path))}, []byte(f.Path), data[:]))
}
