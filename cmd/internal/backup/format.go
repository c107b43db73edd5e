package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// version is the format's; a change that an older program would misread
// raises it.
const version = 1

// maxLine bounds the memory that reading takes: the largest file of a release
// in base64, and its wrapping.
const maxLine = bundles.MaxFileBytes/3*4 + 1<<20

// ErrDamaged is returned for a file that is not a whole backup.
var ErrDamaged = errors.New("not a complete backup")

// line is one line of the file; exactly one member is set.
type line struct {
	Header   *header            `json:"xiezhi_backup,omitempty"`
	Decision *authz.AuditRecord `json:"decision,omitempty"`
	Blob     *blob              `json:"blob,omitempty"`
	Release  *pap.Release       `json:"release,omitempty"`
	Document *document          `json:"document,omitempty"`
	Record   *record            `json:"record,omitempty"`
	Use      *pap.GrantUse      `json:"use,omitempty"`
	Case     *oneCase           `json:"case,omitempty"`
	Answered *cheq.Answered     `json:"answered,omitempty"`
	Audit    *authz.AuditRecord `json:"audit,omitempty"`
	End      *end               `json:"end,omitempty"`
}

type header struct {
	Version   int            `json:"version"`
	CreatedAt time.Time      `json:"created_at"`
	Revision  authz.Revision `json:"revision"`
}

type blob struct {
	Data []byte `json:"data"`
}

// record is [pap.Record] as the file has it: the compiler keeps the two equal,
// and renaming a Go field does not change the file.
type record struct {
	Position uint64    `json:"position"`
	Kind     pap.Kind  `json:"kind"`
	Key      string    `json:"key"`
	Tenant   string    `json:"tenant"`
	At       time.Time `json:"at"`
	Body     []byte    `json:"body"`
}

// document is [pap.Document] as the file has it.
type document struct {
	Path      string    `json:"path"`
	Version   int64     `json:"version"`
	Content   []byte    `json:"content"`
	Deleted   bool      `json:"deleted,omitempty"`
	Draft     bool      `json:"draft,omitempty"`
	Release   uint64    `json:"release,omitempty"`
	Layer     string    `json:"layer"`
	Tenant    string    `json:"tenant,omitempty"`
	UpdatedBy string    `json:"updated_by"`
	UpdatedAt time.Time `json:"updated_at"`
}

// oneCase is a case of CHEQ with its timeline, and where it is shown.
type oneCase struct {
	Case       cheq.Case       `json:"case"`
	Timeline   []cheq.Event    `json:"timeline"`
	Deliveries []cheq.Delivery `json:"deliveries,omitempty"`
}

type end struct {
	Lines  int            `json:"lines"` // before this one
	SHA256 bundles.Digest `json:"sha256"`
}

// writer writes lines and sums them up.
type writer struct {
	zip   *gzip.Writer
	sum   hash.Hash
	lines int
}

func newWriter(w io.Writer) *writer { return &writer{zip: gzip.NewWriter(w), sum: sha256.New()} }

func (w *writer) write(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	w.sum.Write(text)
	w.lines++
	_, err = w.zip.Write(text)
	return err
}

func (w *writer) close() error {
	if err := w.write(line{End: &end{w.lines, bundles.Digest(w.sum.Sum(nil))}}); err != nil {
		return err
	}
	return w.zip.Close()
}

// read hands every line between header and trailer to each, and returns the
// header. The whole file has been found intact when it returns nil: until then
// nothing that each did may be made durable.
func read(file io.ReadSeeker, each func(line) error) (header, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return header{}, err
	}
	zip, err := gzip.NewReader(bufio.NewReaderSize(file, 1<<16))
	if err != nil {
		return header{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r := reader{text: bufio.NewReaderSize(zip, 1<<16), sum: sha256.New()}
	first, err := r.next()
	if err != nil {
		return header{}, err
	}
	if first.Header == nil {
		return header{}, fmt.Errorf("%w: it has no header", ErrDamaged)
	}
	if v := first.Header.Version; v != version {
		return header{}, fmt.Errorf("backup of format %d, this program knows %d", v, version)
	}
	for {
		lines, sum := r.lines, bundles.Digest(r.sum.Sum(nil))
		l, err := r.next()
		if err != nil {
			return header{}, err
		}
		if l.End == nil {
			if err := each(l); err != nil {
				return header{}, fmt.Errorf("line %d: %w", r.lines, err)
			}
			continue
		}
		if *l.End != (end{lines, sum}) {
			return header{}, fmt.Errorf("%w: %d lines with %s, the file ends with %d lines and %s", ErrDamaged, lines, sum, l.End.Lines, l.End.SHA256)
		}
		if _, err := r.text.ReadByte(); err != io.EOF { // reads gzip's own sum too
			return header{}, fmt.Errorf("%w: there is something behind its end (%v)", ErrDamaged, err)
		}
		return *first.Header, nil
	}
}

// reader reads lines and sums them up.
type reader struct {
	text  *bufio.Reader
	sum   hash.Hash
	lines int
}

func (r *reader) next() (line, error) {
	var text []byte
	for {
		part, err := r.text.ReadSlice('\n')
		text = append(text, part...)
		if err == nil {
			break
		}
		if err != bufio.ErrBufferFull {
			return line{}, fmt.Errorf("%w: after line %d: %w", ErrDamaged, r.lines, err)
		}
		if len(text) > maxLine {
			return line{}, fmt.Errorf("%w: line %d is longer than any", ErrDamaged, r.lines+1)
		}
	}
	r.sum.Write(text)
	r.lines++
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var l line
	if err := decoder.Decode(&l); err != nil {
		return line{}, fmt.Errorf("%w: line %d: %w", ErrDamaged, r.lines, err)
	}
	return l, nil
}
