package bundles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

// MaxPacked bounds a bundle file in bytes.
const MaxPacked = 256 << 20

// Entries of a bundle that are not files of the release. No file's path can
// begin with a dot ([ValidPath]).
const (
	manifestEntry = ".manifest.jws"
	unsignedEntry = ".manifest.json" // instead of manifestEntry, in a build that is not signed yet
	deltaEntry    = ".delta.json"
)

// maxDeltaEntry bounds the list of removed files in bytes.
const maxDeltaEntry = 16 << 20

// delta is the entry that makes a bundle a delta. It is not signed: what it
// leads to is.
type delta struct {
	Base    Digest   `json:"base"`
	Removed []string `json:"removed"` // sorted
}

// Seal signs a manifest. It refuses one that no reader would take.
func Seal(sign func(kind trust.Kind, body any) (string, error), m Manifest) (string, error) {
	if err := m.check(); err != nil {
		return "", fmt.Errorf("seal release %d: %w", m.Release, err)
	}
	signed, err := sign(trust.KindRelease, m)
	if err != nil {
		return "", fmt.Errorf("seal release %d: %w", m.Release, err)
	}
	return signed, nil
}

// WriteSnapshot writes a bundle of all files. The same manifest and content
// give the same bytes.
func WriteSnapshot(w io.Writer, signed string, c *Content) error {
	p := newPacker(w)
	p.entry(manifestEntry, []byte(signed))
	p.files(c.files)
	return p.close("snapshot")
}

// WriteUnsigned writes a snapshot that [Read] refuses until somebody has signed
// its manifest.
func WriteUnsigned(w io.Writer, m Manifest, c *Content) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write unsigned bundle: %w", err)
	}
	p := newPacker(w)
	p.entry(unsignedEntry, text)
	p.files(c.files)
	return p.close("unsigned bundle")
}

// WriteDelta writes a bundle of what leads from base to next; signed is next's
// manifest. The same arguments give the same bytes.
func WriteDelta(w io.Writer, signed string, base, next *Content) error {
	d := delta{Base: base.Digest(), Removed: []string{}}
	var changed []File
	for _, change := range base.Diff(next) {
		if change.Removed {
			d.Removed = append(d.Removed, change.Path)
		} else {
			changed = append(changed, File{change.Path, change.Data})
		}
	}
	text, err := json.Marshal(d)
	if err == nil && len(text) > maxDeltaEntry {
		err = fmt.Errorf("the list of removed files has %d bytes, at most %d: send a snapshot", len(text), maxDeltaEntry)
	}
	if err != nil {
		return fmt.Errorf("write delta: %w", err)
	}
	p := newPacker(w)
	p.entry(manifestEntry, []byte(signed))
	p.entry(deltaEntry, text)
	p.files(changed)
	return p.close("delta")
}

// packer writes the entries of a bundle and keeps the first error.
type packer struct {
	packed limitedWriter
	gzip   *gzip.Writer
	tar    *tar.Writer
	err    error
}

func newPacker(w io.Writer) *packer {
	p := &packer{packed: limitedWriter{w, MaxPacked}}
	p.gzip = gzip.NewWriter(&p.packed)
	p.tar = tar.NewWriter(p.gzip)
	return p
}

func (p *packer) files(files []File) {
	for _, f := range files {
		p.entry(f.Path, f.Data)
	}
}

func (p *packer) entry(name string, data []byte) {
	if p.err == nil {
		p.err = p.tar.WriteHeader(entryHeader(name, int64(len(data))))
	}
	if p.err == nil {
		_, p.err = p.tar.Write(data)
	}
}

func (p *packer) close(what string) error {
	if p.err == nil {
		p.err = p.tar.Close()
	}
	if p.err == nil {
		p.err = p.gzip.Close()
	}
	if p.err != nil {
		return fmt.Errorf("write %s: %w", what, p.err)
	}
	return nil
}

// entryHeader is the one header that an entry has.
func entryHeader(name string, size int64) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatUSTAR}
	if len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return r > 0x7e }) {
		h.Format = tar.FormatPAX // USTAR has no room for it
	}
	return h
}

// limitedWriter fails after so many bytes.
type limitedWriter struct {
	w    io.Writer
	left int64
}

func (l *limitedWriter) Write(data []byte) (int, error) {
	if l.left -= int64(len(data)); l.left < 0 {
		return 0, fmt.Errorf("more than %d bytes packed: a bundle holds at most that", MaxPacked)
	}
	return l.w.Write(data)
}

// oneSpelling reads data into v and refuses it where writing v gives other
// bytes: unknown or repeated members, blanks, other orders.
func oneSpelling(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("want it spelled as %.200s", again)
	}
	return nil
}
