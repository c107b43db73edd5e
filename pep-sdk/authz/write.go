package authz

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// AppendJSON appends the value's JSON text: no white space, members sorted by
// name as bytes, numbers as ECMAScript writes them.
func (v Value) AppendJSON(buf []byte) []byte {
	switch v.kind {
	case KindBool:
		return strconv.AppendBool(buf, v.Bool())
	case KindInt:
		return strconv.AppendInt(buf, int64(v.word), 10)
	case KindFloat:
		return appendFloat(buf, v.Float())
	case KindString:
		return AppendQuoted(buf, v.text())
	case KindList:
		buf = append(buf, '[')
		for i, m := range v.members() {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = m.Value.AppendJSON(buf)
		}
		return append(buf, ']')
	case KindObject:
		buf = append(buf, '{')
		for i, m := range v.members() {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = AppendQuoted(buf, m.Name)
			buf = append(buf, ':')
			buf = m.Value.AppendJSON(buf)
		}
		return append(buf, '}')
	default:
		return append(buf, "null"...)
	}
}

// String returns the JSON text, for people.
func (v Value) String() string { return string(v.AppendJSON(nil)) }

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

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
		if ordinary[c] {
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

var _ json.Marshaler = Value{}
