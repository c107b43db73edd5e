package pdp

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// maxFill bounds what one placeholder may put into a message, in bytes: its
// text can come from the request.
const maxFill = 120

// fillText replaces {name} by the argument of that name, or by the request
// member at that dotted path; "?" where there is neither.
func fillText(text string, args, request authz.Value) string {
	if !strings.Contains(text, "{") {
		return text
	}
	var room [256]byte
	filled := room[:0]
	for {
		before, rest, ok := strings.Cut(text, "{")
		filled = append(filled, before...)
		if !ok {
			return string(filled)
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return string(append(append(filled, '{'), rest...))
		}
		v, found := args.Get(name)
		if !found {
			v, found = memberAt(request, name)
		}
		filled = appendFill(filled, v, found)
		text = after
	}
}

// memberAt follows a dotted path through objects and lists.
func memberAt(v authz.Value, path string) (authz.Value, bool) {
	for step := range strings.SplitSeq(path, ".") {
		if v.Kind() == authz.KindList {
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= v.Len() || strconv.Itoa(i) != step {
				return authz.Value{}, false
			}
			v = v.Index(i)
			continue
		}
		var ok bool
		if v, ok = v.Get(step); !ok {
			return authz.Value{}, false
		}
	}
	return v, true
}

// fillValue is what a message shows of a value.
func fillValue(v authz.Value) string { return string(appendFill(nil, v, true)) }

func appendFill(buf []byte, v authz.Value, found bool) []byte {
	if !found {
		return append(buf, '?')
	}
	text := v.Text()
	if v.Kind() != authz.KindString {
		text = string(v.AppendJSON(nil))
	}
	start := len(buf)
	for _, r := range text {
		if rewrites(r) {
			continue
		}
		if buf = utf8.AppendRune(buf, r); len(buf)-start > maxFill {
			return append(wholeRunes(buf[:start+maxFill], start), "…"...)
		}
	}
	return buf
}

// rewrites reports whether a request could rewrite the sentence around it with
// the rune: controls and bidirectional overrides.
func rewrites(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// wholeRunes drops the beginning of a rune at the end of what follows start.
func wholeRunes(buf []byte, start int) []byte {
	for end := len(buf); end > start; end-- {
		if utf8.RuneStart(buf[end-1]) {
			if utf8.FullRune(buf[end-1:]) {
				return buf
			}
			return buf[:end-1]
		}
	}
	return buf
}
