package authz

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ordinary are the bytes that a string holds as they are.
var ordinary = func() (is [256]bool) {
	for c := range is {
		is[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return is
}()

// text reads a string in quotes.
func (p *parser) text() (string, error) {
	start := p.pos + 1
	i := start
	for i < len(p.data) && ordinary[p.data[i]] {
		i++
	}
	if i == len(p.data) {
		return "", p.fault("the text ends inside a string")
	}
	switch p.data[i] {
	case '"':
		text := p.data[start:i]
		if !p.clean && !utf8.ValidString(text) {
			return "", p.fault("not valid UTF-8")
		}
		p.pos = i + 1
		if p.repeated != nil {
			text = p.repeated.keep(text)
		}
		return text, nil
	case '\\':
		return p.escapedText(start, i)
	default:
		p.pos = i
		return "", p.fault("a control character in a string must be escaped")
	}
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
			if p.repeated != nil {
				return p.repeated.keep(borrow(buf)), nil
			}
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
