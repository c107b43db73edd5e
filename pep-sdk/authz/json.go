package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
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
// The result does not refer to data.
func Parse(data []byte) (Value, error) { return parseTo(data, MaxDepth) }

// parseTo is Parse with its own bound on nesting.
func parseTo(data []byte, maxDepth int) (Value, error) {
	p := parser{data: string(data), maxDepth: maxDepth}
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

// parser walks one immutable copy of the text; strings without escapes are
// slices of it.
type parser struct {
	data     string
	pos      int
	maxDepth int
}

func (p *parser) fault(format string, args ...any) error {
	return &FieldError{Detail: fmt.Sprintf(format, args...) + fmt.Sprintf(" (at byte %d)", p.pos)}
}

func (p *parser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) value(depth int) (Value, error) {
	p.space()
	if p.pos == len(p.data) {
		return Value{}, p.fault("the text ends where a value is expected")
	}
	if depth > p.maxDepth {
		return Value{}, p.fault("nested deeper than %d levels", p.maxDepth)
	}
	switch c := p.data[p.pos]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.list(depth)
	case c == '"':
		text, err := p.text()
		return Value{kind: KindString, text: text}, err
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
	var members []Member
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
		if n := len(members); n > 0 && members[n-1].Name >= name {
			sorted = false
		}
		if members == nil {
			members = make([]Member, 0, 8)
		}
		members = append(members, Member{name, v})
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
		sortMembers(members)
		for i := 1; i < len(members); i++ {
			if members[i].Name == members[i-1].Name {
				return Value{}, &FieldError{Path: "/" + escapePointer(members[i].Name), Detail: "this member is given twice"}
			}
		}
	}
	return Value{kind: KindObject, elems: members}, nil
}

func (p *parser) list(depth int) (Value, error) {
	var elems []Member
	p.pos++
	p.space()
	if p.pos < len(p.data) && p.data[p.pos] == ']' {
		p.pos++
		return Value{kind: KindList}, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, Under(err, "/"+strconv.Itoa(len(elems)))
		}
		elems = append(elems, Member{Value: v})
		p.space()
		if p.pos == len(p.data) {
			return Value{}, p.fault("the text ends inside a list")
		}
		switch p.data[p.pos] {
		case ',':
			p.pos++
		case ']':
			p.pos++
			return Value{kind: KindList, elems: elems}, nil
		default:
			return Value{}, p.fault("a comma or ] is expected")
		}
	}
}

func (p *parser) text() (string, error) {
	start := p.pos + 1
	for i := start; i < len(p.data); i++ {
		switch c := p.data[i]; {
		case c == '"':
			text := p.data[start:i]
			if !utf8.ValidString(text) {
				return "", p.fault("not valid UTF-8")
			}
			p.pos = i + 1
			return text, nil
		case c == '\\':
			return p.escapedText(start, i)
		case c < 0x20:
			p.pos = i
			return "", p.fault("a control character in a string must be escaped")
		}
	}
	return "", p.fault("the text ends inside a string")
}

// escapedText continues text at the first backslash.
func (p *parser) escapedText(start, first int) (string, error) {
	buf := append(make([]byte, 0, len(p.data[start:first])+32), p.data[start:first]...)
	for i := first; i < len(p.data); {
		c := p.data[i]
		switch {
		case c == '"':
			if !utf8.Valid(buf) {
				return "", p.fault("not valid UTF-8")
			}
			p.pos = i + 1
			return string(buf), nil
		case c < 0x20:
			p.pos = i
			return "", p.fault("a control character in a string must be escaped")
		case c != '\\':
			buf = append(buf, c)
			i++
			continue
		}
		p.pos = i
		if i+1 == len(p.data) {
			break
		}
		if p.data[i+1] != 'u' {
			j := strings.IndexByte(`"\/bfnrt`, p.data[i+1])
			if j < 0 {
				return "", p.fault("unknown escape \\%c", p.data[i+1])
			}
			buf = append(buf, "\"\\/\b\f\n\r\t"[j])
			i += 2
			continue
		}
		r, ok := hex4(p.data[i+2:])
		if !ok {
			return "", p.fault("\\u needs four hexadecimal digits")
		}
		i += 6
		if utf16.IsSurrogate(r) {
			low, ok := rune(0), false
			if strings.HasPrefix(p.data[i:], `\u`) {
				low, ok = hex4(p.data[i+2:])
			}
			if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
				return "", p.fault("half of a surrogate pair")
			}
			i += 6
		}
		buf = utf8.AppendRune(buf, r)
	}
	return "", p.fault("the text ends inside a string")
}

func hex4(text string) (rune, bool) {
	if len(text) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(text[:4], 16, 16)
	if err != nil || text[0] == '+' {
		return 0, false
	}
	return rune(n), true
}

func (p *parser) number() (Value, error) {
	end := p.pos
	for end < len(p.data) && strings.IndexByte("+-.0123456789eE", p.data[end]) >= 0 {
		end++
	}
	v, err := parseNumber(p.data[p.pos:end])
	if err != nil {
		return Value{}, p.fault("%v", err)
	}
	p.pos = end
	return v, nil
}

// parseNumber reads a JSON number under the limits of the package. It works on
// the decimal text: binary64 never decides what is an integer.
func parseNumber(text string) (Value, error) {
	if len(text) > 64 {
		return Value{}, fmt.Errorf("a number of %d characters is too long; send it as a string", len(text))
	}
	if n, ok := smallInt(text); ok {
		return Value{kind: KindInt, bits: uint64(n)}, nil
	}
	digits, exponent, negative, ok := scanNumber(text)
	if !ok {
		return Value{}, fmt.Errorf("%q is not a JSON number", text)
	}
	if digits == "" {
		return Value{kind: KindInt}, nil
	}
	if exponent >= 0 { // an integer: digits followed by exponent zeros
		if len(digits)+exponent > 16 {
			return Value{}, fmt.Errorf("integer %s is outside ±(2^53−1); send it as a string", text)
		}
		n, err := strconv.ParseInt(digits+strings.Repeat("0", exponent), 10, 64)
		if err != nil {
			return Value{}, fmt.Errorf("%q is not a JSON number", text)
		}
		if negative {
			n = -n
		}
		return IntValue(n)
	}
	if len(digits) > MaxDigits {
		return Value{}, fmt.Errorf("number %s has more than %d significant digits; send it as a string", text, MaxDigits)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.Abs(f) < 0x1p-1022 { // the fifteen-digit promise ends with the normal numbers
		return Value{}, fmt.Errorf("number %s is out of range; send it as a string", text)
	}
	return Value{kind: KindFloat, bits: math.Float64bits(f)}, nil
}

func smallInt(text string) (int64, bool) {
	if text == "" || len(text) > 15 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	var n int64
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// scanNumber splits a JSON number into its significant digits, without zeros
// at either end, and the power of ten of the last one.
func scanNumber(text string) (digits string, exponent int, negative, ok bool) {
	rest, negative := strings.CutPrefix(text, "-")
	mantissa, exp, hasExp := cutExponent(rest)
	if hasExp {
		n, err := strconv.Atoi(exp)
		if err != nil || n > 9999 || n < -9999 {
			return "", 0, false, false
		}
		exponent = n
	}
	whole, fraction, hasPoint := strings.Cut(mantissa, ".")
	if whole == "" || len(whole) > 1 && whole[0] == '0' || hasPoint && fraction == "" || !onlyDigits(whole) || !onlyDigits(fraction) {
		return "", 0, false, false
	}
	exponent -= len(fraction)
	digits = strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(digits, "0")
	return trimmed, exponent + len(digits) - len(trimmed), negative, true
}

func cutExponent(text string) (mantissa, exponent string, found bool) {
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, "", false
}

func onlyDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}

// AppendJSON appends the value's JSON text: no white space, members sorted by
// name as bytes, numbers as ECMAScript writes them.
func (v Value) AppendJSON(buf []byte) []byte {
	switch v.kind {
	case KindBool:
		return strconv.AppendBool(buf, v.Bool())
	case KindInt:
		return strconv.AppendInt(buf, int64(v.bits), 10)
	case KindFloat:
		return appendFloat(buf, v.Float())
	case KindString:
		return AppendQuoted(buf, v.text)
	case KindList:
		buf = append(buf, '[')
		for i := range v.elems {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = v.elems[i].Value.AppendJSON(buf)
		}
		return append(buf, ']')
	case KindObject:
		buf = append(buf, '{')
		for i := range v.elems {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = AppendQuoted(buf, v.elems[i].Name)
			buf = append(buf, ':')
			buf = v.elems[i].Value.AppendJSON(buf)
		}
		return append(buf, '}')
	default:
		return append(buf, "null"...)
	}
}

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler, as strict as [Parse].
func (v *Value) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}

// appendFloat writes a number as ECMAScript's Number::toString does, which is
// what RFC 8785 asks for.
func appendFloat(buf []byte, f float64) []byte {
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(buf, f, 'f', -1, 64)
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(text, "e")
	sign := exponent[:1]
	return append(buf, mantissa+"e"+sign+strings.TrimLeft(exponent[1:], "0")...)
}

const hexDigits = "0123456789abcdef"

// AppendQuoted appends text as a JSON string, escaped as RFC 8785 asks: only
// what must be.
func AppendQuoted(buf []byte, text string) []byte {
	buf = append(buf, '"')
	start := 0
	for i := range len(text) {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		buf = append(buf, text[start:i]...)
		start = i + 1
		if j := strings.IndexByte("\"\\\b\f\n\r\t", c); j >= 0 {
			buf = append(buf, '\\', `"\bfnrt`[j])
		} else {
			buf = append(buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	buf = append(buf, text[start:]...)
	return append(buf, '"')
}

var (
	_ json.Marshaler   = Value{}
	_ json.Unmarshaler = (*Value)(nil)
)
