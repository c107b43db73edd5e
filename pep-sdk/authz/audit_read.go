package authz

import (
	"bytes"
	"strings"
	"time"
	"unicode/utf8"
)

// ReadAuditRecord reads a record that AppendJSON wrote and that has been in good
// hands since: its members stand in the order in which they were written, and
// the body is JSON that [ParseAuditBody] may still refuse, for its depth, say.
// The body is not parsed but becomes BodyJSON, which is a part of data; the
// texts are not. What others wrote is for [ParseAuditRecord]. Errors are
// [*FieldError]s.
func ReadAuditRecord(data []byte) (AuditRecord, error) {
	// Before the body all values are texts, in which quotes are escaped.
	const bodyName = `,"body":`
	end := bytes.Index(data, []byte(bodyName))
	if end < 0 {
		return AuditRecord{}, &FieldError{Detail: "it has no body"}
	}
	body, whole := bytes.CutSuffix(data[end+len(bodyName):], []byte{'}'})
	if !whole || !wellFormed(body) {
		return AuditRecord{}, &FieldError{Path: "/body", Detail: "not JSON"}
	}
	e := envelope{parser: parser{data: string(data[:end])}}
	r := AuditRecord{BodyJSON: body[:len(body):len(body)]}
	r.ID = e.text(`{"id":`)
	at := e.text(`,"time":`)
	r.Kind = AuditKind(e.text(`,"kind":`))
	r.Tenant = e.optional(`,"tenant":`)
	r.Actor = e.text(`,"actor":`)
	r.Subject = e.optional(`,"subject":`)
	r.Action = e.text(`,"action":`)
	r.Resource = e.optional(`,"resource":`)
	r.Effect = e.optional(`,"effect":`)
	r.Revision = e.optional(`,"revision":`)
	if e.err == nil && e.parser.pos != len(e.parser.data) {
		e.err = e.parser.fault("unexpected member")
	}
	if e.err != nil {
		return AuditRecord{}, e.err
	}
	var err error
	if r.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return AuditRecord{}, Under(err, "/time")
	}
	return r, nil
}

// envelope reads the members before the body, one behind the other, until one
// fails.
type envelope struct {
	parser parser
	err    error
}

// text reads the member whose beginning is given.
func (e *envelope) text(name string) (text string) {
	p := &e.parser
	rest, found := strings.CutPrefix(p.data[p.pos:], name)
	switch {
	case e.err != nil:
	case !found || !strings.HasPrefix(rest, `"`):
		e.err = p.fault("%s and a text are expected", name)
	default:
		p.pos += len(name)
		text, e.err = p.text()
	}
	return text
}

// optional reads the member if it comes next.
func (e *envelope) optional(name string) string {
	if !strings.HasPrefix(e.parser.data[e.parser.pos:], name) {
		return ""
	}
	return e.text(name)
}

// wellFormed reports whether data is one JSON value without white space around
// it, whatever its names, numbers and depth mean to [Parse].
func wellFormed(data []byte) bool {
	end := skipValue(data, 0, 0)
	return end == len(data) && utf8.Valid(data)
}

// maxSkipped bounds the recursion.
const maxSkipped = 2 * MaxAuditDepth

// skipValue returns where the value that begins at i ends, or -1 if there is
// none. It never looks beyond the end of data.
func skipValue(data []byte, i, depth int) int {
	if i >= len(data) || depth > maxSkipped {
		return -1
	}
	switch c := data[i]; c {
	case '"':
		return skipText(data, i+1)
	case '{', '[':
		return skipMembers(data, i, depth)
	case 't':
		return skipWord(data, i, "true")
	case 'f':
		return skipWord(data, i, "false")
	case 'n':
		return skipWord(data, i, "null")
	default:
		return skipNumber(data, i)
	}
}

func skipWord(data []byte, i int, word string) int {
	if end := i + len(word); end <= len(data) && string(data[i:end]) == word {
		return end
	}
	return -1
}

// skipMembers skips an object or a list, which begins at i.
func skipMembers(data []byte, i, depth int) int {
	object, closing := data[i] == '{', data[i]+2 // as ASCII has it
	i++
	if i < len(data) && data[i] == closing {
		return i + 1
	}
	for {
		if object {
			if i >= len(data) || data[i] != '"' {
				return -1
			}
			if i = skipText(data, i+1); i < 0 || i >= len(data) || data[i] != ':' {
				return -1
			}
			i++
		}
		if i = skipValue(data, i, depth+1); i < 0 || i >= len(data) {
			return -1
		}
		switch data[i] {
		case ',':
			i++
		case closing:
			return i + 1
		default:
			return -1
		}
	}
}

// skipText skips the rest of a text, from behind its first quote.
func skipText(data []byte, i int) int {
	for i < len(data) {
		switch c := data[i]; {
		case ordinary[c]:
			i++
		case c == '"':
			return i + 1
		case c != '\\' || i+1 >= len(data):
			return -1
		case data[i+1] == 'u':
			if i+6 > len(data) || !isHex(data[i+2:i+6]) {
				return -1
			}
			i += 6
		case strings.IndexByte(`"\/bfnrt`, data[i+1]) >= 0:
			i += 2
		default:
			return -1
		}
	}
	return -1
}

func isHex(digits []byte) bool {
	for _, c := range digits {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// skipNumber skips -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func skipNumber(data []byte, i int) int {
	if data[i] == '-' {
		i++
	}
	first := i
	if i = skipDigits(data, i); i < 0 || data[first] == '0' && i > first+1 {
		return -1
	}
	if i < len(data) && data[i] == '.' {
		if i = skipDigits(data, i+1); i < 0 {
			return -1
		}
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		if i++; i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		return skipDigits(data, i)
	}
	return i
}

// skipDigits skips digits, of which there must be one.
func skipDigits(data []byte, i int) int {
	first := i
	for i < len(data) && data[i] >= '0' && data[i] <= '9' {
		i++
	}
	if i == first {
		return -1
	}
	return i
}
