package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// MaxDepth is how deep a document may nest.
const MaxDepth = 64

// FieldError says which place of a document is wrong and why. Path is an RFC
// 6901 JSON pointer; the empty path is the whole document.
type FieldError struct {
	Path   string
	Detail string
}

func (e *FieldError) Error() string {
	if e.Path == "" {
		return e.Detail
	}
	return e.Path + ": " + e.Detail
}

// Under says that an error about a part of a document is about the member at
// prefix: it prefixes the path of a [*FieldError], and makes one of any other
// error.
func Under(err error, prefix string) error {
	var field *FieldError
	if errors.As(err, &field) {
		return &FieldError{Path: prefix + field.Path, Detail: field.Detail}
	}
	return &FieldError{Path: prefix, Detail: err.Error()}
}

// Parse reads exactly one JSON value (RFC 8259) in one pass. It refuses what
// readers are known to disagree about: duplicate names, invalid UTF-8, lone
// surrogates, numbers outside the limits of [IntValue] and [FloatValue],
// nesting beyond [MaxDepth], bytes after the value. Errors are [*FieldError]s.
// The result does not refer to data: a value may outlive the call, as a
// decision's record does, and data may then hold the next call. A small
// document's texts are parts of one copy of it; of a large one each text is
// kept by itself and repeated ones once, see [repeated].
func Parse(data []byte) (Value, error) { return parseTo(data, MaxDepth) }

// large is from how many bytes on a document is a table and not a question.
const large = 64 << 10

// parseTo is Parse with its own bound on nesting.
func parseTo(data []byte, maxDepth int) (Value, error) {
	p := parsers.Get().(*parser)
	defer p.release()
	p.maxDepth, p.clean, p.expected = maxDepth, utf8.Valid(data), mostMembers(data)
	if len(data) < large {
		p.data = string(data)
	} else {
		p.data, p.repeated = borrow(data), newRepeated()
	}
	p.open = p.room[:0]
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	p.space()
	if p.pos != len(p.data) {
		return Value{}, p.fault("unexpected text after the JSON value")
	}
	return v, nil
}

// parser walks the text once. Members wait in open until their list or object
// ends; then they are sorted and move into the slab, where they stay.
type parser struct {
	data     string
	pos      int
	maxDepth int
	clean    bool // all of data is valid UTF-8, so each text in it is
	open     []Member
	slab     []Member   // its length is in use
	expected int        // how many members may still come, at most
	most     int        // how many were open at one time
	repeated *repeated  // nil: texts are parts of data
	room     [64]Member // for open; most documents never have more open at once
}

// parsers saves the room. Nothing that a parser returns lies in itself, and it
// keeps nothing of what it read.
var parsers = sync.Pool{New: func() any { return new(parser) }}

func (p *parser) release() {
	p.reset()
	parsers.Put(p)
}

// reset clears what was in use of the room, which most documents leave empty.
func (p *parser) reset() {
	clear(p.room[:min(max(p.most, len(p.open)), len(p.room))])
	p.data, p.pos, p.maxDepth, p.clean, p.expected = "", 0, 0, false, 0
	p.open, p.most, p.slab, p.repeated = nil, 0, nil, nil
}

// mostMembers counts what members begin with, in texts too.
func mostMembers(data []byte) int {
	return bytes.Count(data, []byte{','}) + bytes.Count(data, []byte{'{'}) + bytes.Count(data, []byte{'['})
}

func (p *parser) fault(format string, args ...any) error {
	return &FieldError{Detail: fmt.Sprintf(format, args...) + fmt.Sprintf(" (at byte %d)", p.pos)}
}

func (p *parser) space() {
	for p.pos < len(p.data) && isSpace(p.data[p.pos]) {
		p.pos++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (p *parser) value(depth int) (Value, error) {
	p.space()
	if p.pos == len(p.data) {
		return Value{}, p.fault("the text ends where a value is expected")
	}
	if depth > p.maxDepth {
		return Value{}, p.fault("nested deeper than %d levels", p.maxDepth)
	}
	switch c := p.data[p.pos]; {
	case c == '"':
		text, err := p.text()
		return textValue(text), err
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.list(depth)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case strings.HasPrefix(p.data[p.pos:], "true"):
		p.pos += 4
		return BoolValue(true), nil
	case strings.HasPrefix(p.data[p.pos:], "false"):
		p.pos += 5
		return BoolValue(false), nil
	case strings.HasPrefix(p.data[p.pos:], "null"):
		p.pos += 4
		return Value{}, nil
	default:
		return Value{}, p.fault("unexpected character %q", c)
	}
}

func (p *parser) object(depth int) (Value, error) {
	first := len(p.open)
	sorted := true
	p.pos++
	p.space()
	if p.pos < len(p.data) && p.data[p.pos] == '}' {
		p.pos++
		return Value{kind: KindObject}, nil
	}
	for {
		p.space()
		if p.pos == len(p.data) || p.data[p.pos] != '"' {
			return Value{}, p.fault("a member name in quotes is expected")
		}
		name, err := p.text()
		if err != nil {
			return Value{}, err
		}
		p.space()
		if p.pos == len(p.data) || p.data[p.pos] != ':' {
			return Value{}, Under(p.fault("a colon is expected"), "/"+escapePointer(name))
		}
		p.pos++
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, Under(err, "/"+escapePointer(name))
		}
		if n := len(p.open); n > first && p.open[n-1].Name >= name {
			sorted = false
		}
		p.open = append(p.open, Member{name, v})
		p.space()
		if p.pos == len(p.data) {
			return Value{}, p.fault("the text ends inside an object")
		}
		switch p.data[p.pos] {
		case ',':
			p.pos++
			continue
		case '}':
			p.pos++
		default:
			return Value{}, p.fault("a comma or } is expected")
		}
		break
	}
	if !sorted {
		members := p.open[first:]
		sortMembers(members)
		for i := 1; i < len(members); i++ {
			if members[i].Name == members[i-1].Name {
				return Value{}, &FieldError{Path: "/" + escapePointer(members[i].Name), Detail: "this member is given twice"}
			}
		}
	}
	return membersValue(KindObject, p.close(first)), nil
}

func (p *parser) list(depth int) (Value, error) {
	first := len(p.open)
	p.pos++
	p.space()
	if p.pos < len(p.data) && p.data[p.pos] == ']' {
		p.pos++
		return Value{kind: KindList}, nil
	}
	for i := 0; ; i++ {
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, Under(err, "/"+strconv.Itoa(i))
		}
		p.open = append(p.open, Member{Value: v})
		p.space()
		if p.pos == len(p.data) {
			return Value{}, p.fault("the text ends inside a list")
		}
		switch p.data[p.pos] {
		case ',':
			p.pos++
		case ']':
			p.pos++
			return membersValue(KindList, p.close(first)), nil
		default:
			return Value{}, p.fault("a comma or ] is expected")
		}
	}
}

// slabSize is how many members of a large document share one piece of memory:
// 10 KiB, which is one of the sizes that Go allocates without waste.
const slabSize = 256

// close moves what is open from first on to where it stays.
func (p *parser) close(first int) []Member {
	p.most = max(p.most, len(p.open))
	closing := p.open[first:]
	p.open = p.open[:first]
	n := len(closing)
	p.expected -= n
	if n > cap(p.slab)-len(p.slab) {
		if n > slabSize/8 {
			return slices.Clone(closing)
		}
		p.slab = make([]Member, 0, min(n+p.expected, slabSize))
	}
	start := len(p.slab)
	p.slab = append(p.slab, closing...)
	return p.slab[start:]
}

// UnmarshalJSON implements json.Unmarshaler, as strict as [Parse].
func (v *Value) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}

var _ json.Unmarshaler = (*Value)(nil)
