package bundles

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

// Read reads a bundle, checks its signature before anything else is unpacked,
// and unpacks no more than what was signed for. A delta needs the content it
// starts from as base; [ErrBase] asks for a snapshot instead. Every error names
// the entry. What has no signature that counts gives [trust.ErrUnsigned].
//
// The caller still has to see that the audience is its own, and that the
// release may follow the one it has ([CheckNext]).
func Read(data io.Reader, set *trust.Set, now time.Time, base *Content) (*Bundle, error) {
	var sealed Sealed
	u := unpacker{open: func(entry, text string) (Manifest, error) {
		if entry == unsignedEntry {
			return Manifest{}, fmt.Errorf("%w: an unsigned build, which `xiezhi bundle sign` signs", trust.ErrUnsigned)
		}
		var err error
		sealed, err = OpenManifest(set, text, now)
		return sealed.Manifest, err
	}, base: base, needsBase: true}
	content, err := u.unpack(data)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	return &Bundle{Sealed: sealed, Content: content}, nil
}

// Unverified is what a bundle says of itself. Nothing of it may be acted upon.
type Unverified struct {
	Manifest Manifest
	KeyID    string // that it claims; empty: an unsigned build
	Delta    bool
	Base     Digest   // of a delta
	Removed  []string // by a delta
	// Files are all files, or the changed ones of a delta.
	Files []File
	// Content is nil for a delta; it is what the manifest says.
	Content *Content
}

// Inspect reads a bundle without asking who signed it, with all other checks
// of [Read].
func Inspect(data io.Reader) (*Unverified, error) {
	var kid string
	u := unpacker{open: func(entry, text string) (m Manifest, err error) {
		if entry == unsignedEntry {
			err = oneSpelling([]byte(text), &m)
		} else {
			kid, err = trust.Unverified(trust.KindRelease, text, &m)
		}
		if err == nil {
			err = m.check()
		}
		return m, err
	}}
	content, err := u.unpack(data)
	if err != nil {
		return nil, fmt.Errorf("inspect bundle: %w", err)
	}
	seen := &Unverified{Manifest: u.manifest, KeyID: kid, Files: u.files, Content: content}
	if u.delta != nil {
		seen.Delta, seen.Base, seen.Removed = true, u.delta.Base, u.delta.Removed
	}
	return seen, nil
}

// ErrLower refuses to go back: to a lower release, or to other content under
// the same number.
var ErrLower = errors.New("not a release that may follow the active one")

// CheckNext reports whether next may follow active, which may be nil. The same
// release may, signed anew.
func CheckNext(active, next *Sealed) error {
	switch {
	case active == nil || next.Release > active.Release:
		return nil
	case next.Release < active.Release:
		return fmt.Errorf("%w: release %d is lower than %d", ErrLower, next.Release, active.Release)
	case next.Digest != active.Digest:
		return fmt.Errorf("%w: release %d with the digest %s, and it is active with %s", ErrLower, next.Release, next.Digest, active.Digest)
	}
	return nil
}

// unpacker reads one bundle.
type unpacker struct {
	open      func(entry, text string) (Manifest, error)
	base      *Content
	needsBase bool // a delta that does not start from base is an error

	tar      *tar.Reader
	manifest Manifest
	delta    *delta
	files    []File
	bytes    int64
}

// unpack returns the content, or nil for a delta that needs no base.
func (u *unpacker) unpack(data io.Reader) (*Content, error) {
	packed := bufio.NewReader(&limitedReader{data, MaxPacked})
	zipped, err := gzip.NewReader(packed)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	if zipped.Name != "" || zipped.Comment != "" || len(zipped.Extra) > 0 {
		return nil, errors.New("gzip: a name, comment or extra field in the header: want none")
	}
	zipped.Multistream(false)
	u.tar = tar.NewReader(&limitedReader{zipped, maxUnpacked})
	if err := u.entries(); err != nil {
		return nil, err
	}
	if n, err := io.CopyN(io.Discard, zipped, 1); n > 0 || err != io.EOF {
		return nil, trailing("after the end of the tar", err)
	}
	if _, err := packed.ReadByte(); err != io.EOF {
		return nil, trailing("after the end of the gzip member", err)
	}
	return u.result()
}

// maxUnpacked bounds what is unpacked, headers and padding included: at most
// three blocks and a long path beside each file.
const maxUnpacked = MaxBytes + MaxFiles*4*512 + trust.MaxSigned + maxDeltaEntry

func trailing(where string, err error) error {
	if err != nil && err != io.EOF {
		return fmt.Errorf("%s: %w", where, err)
	}
	return fmt.Errorf("data %s: a bundle ends there", where)
}

// entries reads the manifest, the delta if it is one, and the files.
func (u *unpacker) entries() error {
	first := true
	for last := ""; ; first = false {
		h, err := u.tar.Next()
		if err == io.EOF && !first {
			return nil
		}
		if err == io.EOF {
			err = fmt.Errorf("%w: no entries", trust.ErrUnsigned)
		}
		if err != nil {
			return fmt.Errorf("the entry after %q: %w", last, err)
		}
		if err := u.entry(h, last, first); err != nil {
			return fmt.Errorf("entry %q: %w", short(h.Name), err)
		}
		last = h.Name
	}
}

func short(name string) string { return name[:min(len(name), 600)] }

func (u *unpacker) entry(h *tar.Header, last string, first bool) error {
	if err := checkHeader(h); err != nil {
		return err
	}
	isManifest := h.Name == manifestEntry || h.Name == unsignedEntry
	switch {
	case first && isManifest:
		return u.readManifest(h)
	case first:
		return fmt.Errorf("%w: the first entry is to be %s", trust.ErrUnsigned, manifestEntry)
	case isManifest:
		return errors.New("a second manifest, or one that is not the first entry")
	case h.Name == deltaEntry && (last == manifestEntry || last == unsignedEntry):
		return u.readDelta(h)
	case h.Name == deltaEntry:
		return errors.New("a delta names its base in the second entry, and once")
	}
	if err := ValidPath(h.Name); err != nil {
		return err
	}
	switch {
	case h.Name == last:
		return errors.New("given twice")
	case len(u.files) > 0 && h.Name < last:
		return fmt.Errorf("after %q: files are sorted by path, each once", short(last))
	}
	return u.readFile(h)
}

// checkHeader refuses what our own headers are not: a link, a device, a
// folder, a sparse file, an owner, a time, extended attributes.
func checkHeader(h *tar.Header) error {
	want := entryHeader(h.Name, h.Size)
	switch {
	case h.Typeflag != tar.TypeReg || h.Linkname != "":
		return fmt.Errorf("of the tar type %q: only regular files can be part of a bundle", h.Typeflag)
	case h.Format&(tar.FormatUSTAR|tar.FormatPAX) == 0:
		return fmt.Errorf("in the tar format %v: want %v", h.Format, want.Format)
	case h.Mode != want.Mode || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.Devmajor != 0 || h.Devminor != 0:
		return errors.New("with an owner or a mode of its own: want none")
	case h.ModTime.Unix() != 0 || h.ModTime.Nanosecond() != 0 || !h.AccessTime.IsZero() || !h.ChangeTime.IsZero():
		return errors.New("with times: want none")
	}
	for key := range h.PAXRecords {
		if key != "path" {
			return fmt.Errorf("with the PAX record %.100q: want none but path", key)
		}
	}
	return nil
}

func (u *unpacker) readManifest(h *tar.Header) error {
	text, err := u.read(h, trust.MaxSigned)
	if err != nil {
		return err
	}
	u.manifest, err = u.open(h.Name, string(text))
	return err
}

func (u *unpacker) readDelta(h *tar.Header) error {
	text, err := u.read(h, maxDeltaEntry)
	if err != nil {
		return err
	}
	var d delta
	if err := oneSpelling(text, &d); err != nil {
		return err
	}
	if d.Removed == nil {
		return errors.New("without the member removed")
	}
	for i, p := range d.Removed {
		switch err := ValidPath(p); {
		case err != nil:
			return err
		case i > 0 && d.Removed[i-1] >= p:
			return fmt.Errorf("removes %q after %q: paths are sorted, each once", p, d.Removed[i-1])
		}
	}
	u.delta = &d
	if !u.needsBase {
		return nil
	}
	if u.base == nil {
		return fmt.Errorf("%w: %s, and there is none here", ErrBase, d.Base)
	}
	if d.Base != u.base.Digest() {
		return fmt.Errorf("%w: %s, and here is %s", ErrBase, d.Base, u.base.Digest())
	}
	return nil
}

func (u *unpacker) readFile(h *tar.Header) error {
	switch {
	case len(u.files) == u.manifest.Files:
		return fmt.Errorf("more files than the %d that were signed for", u.manifest.Files)
	case h.Size > u.manifest.Bytes-u.bytes:
		return fmt.Errorf("%d bytes after %d: more than the %d that were signed for", h.Size, u.bytes, u.manifest.Bytes)
	}
	data, err := u.read(h, MaxFileBytes)
	if err != nil {
		return err
	}
	u.bytes += h.Size
	u.files = append(u.files, File{strings.Clone(h.Name), data})
	return nil
}

// read reads one entry of at most limit bytes. It holds no more memory than
// twice what has arrived.
func (u *unpacker) read(h *tar.Header, limit int64) ([]byte, error) {
	if h.Size < 0 || h.Size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d", h.Size, limit)
	}
	data := make([]byte, 0, min(h.Size, 1<<20))
	for int64(len(data)) < h.Size {
		if len(data) == cap(data) {
			data = slices.Grow(data, int(min(h.Size-int64(len(data)), int64(len(data)))))
		}
		room := data[len(data):min(int64(cap(data)), h.Size)]
		n, err := io.ReadFull(u.tar, room)
		data = data[:len(data)+n]
		if err != nil {
			return nil, fmt.Errorf("cut off after %d of %d bytes: %w", len(data), h.Size, err)
		}
	}
	return data, nil
}

// result makes the content and holds it against the manifest.
func (u *unpacker) result() (*Content, error) {
	var content *Content
	var err error
	switch {
	case u.delta == nil:
		content, err = NewContent(u.files)
	case !u.needsBase:
		return nil, nil
	default:
		content, err = u.apply()
	}
	if err != nil {
		return nil, err
	}
	is := ManifestFor(content, 0, 0, nil, time.Time{})
	switch m := &u.manifest; {
	case is.Digest != m.Digest:
		return nil, fmt.Errorf("the files have the digest %s: %s was signed", is.Digest, m.Digest)
	case is.Files != m.Files || is.Bytes != m.Bytes:
		return nil, fmt.Errorf("%d files of %d bytes: %d of %d were signed for", is.Files, is.Bytes, m.Files, m.Bytes)
	}
	return content, nil
}

func (u *unpacker) apply() (*Content, error) {
	changes := make([]Change, 0, len(u.files)+len(u.delta.Removed))
	for _, p := range u.delta.Removed {
		changes = append(changes, Change{Path: p, Removed: true})
	}
	for _, f := range u.files {
		if _, both := slices.BinarySearch(u.delta.Removed, f.Path); both {
			return nil, fmt.Errorf("entry %q: changed and removed by one delta", f.Path)
		}
		changes = append(changes, Change{Path: f.Path, Data: f.Data})
	}
	content, err := u.base.Apply(changes)
	if err != nil {
		return nil, fmt.Errorf("entry %q: %w", deltaEntry, err)
	}
	return content, nil
}

// limitedReader fails after so many bytes, where io.LimitReader would end.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errors.New("larger than a bundle may be")
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		return n, errors.New("larger than a bundle may be")
	}
	return n, err
}
