package value

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxJSON is how many bytes AppendJSON writes at most: a value that shares its
// parts is small in memory and may be endless when it is written out.
const MaxJSON = 64 << 20

// AppendJSON appends the value as OPA's data API writes it, which is what
// encoding/json makes of ast.JSON: a set is an array in Rego's order; a number
// is written as it was read; the name of a member that is no string is its JSON
// (of two names that are then one, the later in Rego's order stays); members
// are ordered by name; and <, >, &, U+2028 and U+2029 in texts are escaped for
// HTML. An undefined value, a number that JSON does not know (such as +Inf),
// and more than [MaxJSON] bytes are errors.
func AppendJSON(dst []byte, v Value) ([]byte, error) {
	return appendJSON(dst, v, len(dst)+MaxJSON)
}

func appendJSON(dst []byte, v Value, most int) ([]byte, error) {
	if len(dst) > most {
		return dst, fmt.Errorf("the value takes more than %d bytes of JSON", MaxJSON)
	}
	switch v.kind {
	case Null:
		return append(dst, "null"...), nil
	case Bool:
		return strconv.AppendBool(dst, v.IsTrue()), nil
	case Number:
		return appendNumber(dst, v)
	case String:
		return appendText(dst, v.text()), nil
	case Array, Set:
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			_, e := v.At(i)
			var err error
			if dst, err = appendJSON(dst, e, most); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case Object:
		if n := v.Len(); n > 0 {
			// Strings come after numbers and before composites.
			first, _ := v.At(0)
			last, _ := v.At(n - 1)
			if first.kind != String || last.kind != String {
				return appendRenamed(dst, v, most)
			}
		}
		dst = append(dst, '{')
		for i := range v.Len() {
			k, e := v.At(i)
			var err error
			if dst, err = appendMember(dst, k.text(), e, most); err != nil {
				return dst, err
			}
		}
		return closed(dst), nil
	default:
		return dst, errors.New("an undefined value has no JSON")
	}
}

func appendMember(dst []byte, name string, v Value, most int) ([]byte, error) {
	dst = append(appendText(dst, name), ':')
	dst, err := appendJSON(dst, v, most)
	return append(dst, ','), err
}

// closed ends an object.
func closed(dst []byte) []byte {
	if dst[len(dst)-1] == ',' {
		dst = dst[:len(dst)-1]
	}
	return append(dst, '}')
}

// appendRenamed writes an object with keys that are no strings.
func appendRenamed(dst []byte, v Value, most int) ([]byte, error) {
	type member struct {
		name string
		elem Value
	}
	all := make([]member, v.Len())
	for i := range all {
		k, e := v.At(i)
		name := k.Text()
		if k.kind != String {
			text, err := appendJSON(nil, k, most-len(dst))
			if err != nil {
				return dst, err
			}
			name = string(text)
		}
		all[i] = member{name, e}
	}
	slices.SortStableFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
	dst = append(dst, '{')
	for i, m := range all {
		if i+1 < len(all) && all[i+1].name == m.name {
			continue
		}
		var err error
		if dst, err = appendMember(dst, m.name, m.elem, most); err != nil {
			return dst, err
		}
	}
	return closed(dst), nil
}

func appendNumber(dst []byte, v Value) ([]byte, error) {
	switch v.form {
	case integer:
		return strconv.AppendInt(dst, int64(v.word), 10), nil
	case binary:
		return append(dst, v.Number()...), nil
	}
	text, err := json.Marshal(json.Number(v.text()))
	return append(dst, text...), err
}

func appendText(dst []byte, s string) []byte {
	if plainText(s) {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	text, _ := json.Marshal(s) // a string always has its JSON
	return append(dst, text...)
}

// plainText reports whether a text is written in JSON as it is. U+2028 and
// U+2029 begin with the byte E2.
func plainText(s string) bool {
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c == 0xE2 || c == 0x7F:
			return false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return ascii || utf8.ValidString(s)
}
