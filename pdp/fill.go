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
	if !hasPlaceholder(text) {
		return text
	}
	return string(new(filling).append(nil, text, args, request))
}

func hasPlaceholder(text string) bool { return strings.IndexByte(text, '{') >= 0 }

// filling is memory for texts while they are filled.
type filling struct {
	texts []byte
	open  []filled
	json  []byte
}

// filled is a text that becomes a string with the others.
type filled struct {
	to    *string
	start int // in texts
}

// text sets to to the text, filled: at once where there is nothing to fill,
// else with [filling.done].
func (f *filling) text(to *string, text string, args, request authz.Value) {
	if !hasPlaceholder(text) {
		*to = text
		return
	}
	f.open = append(f.open, filled{to, len(f.texts)})
	f.texts = f.append(f.texts, text, args, request)
}

// done makes all texts since the last time, which lie in one string.
func (f *filling) done() {
	if len(f.open) == 0 {
		return
	}
	all, end := string(f.texts), len(f.texts)
	for i := len(f.open) - 1; i >= 0; i-- {
		*f.open[i].to = all[f.open[i].start:end]
		end = f.open[i].start
	}
	clear(f.open)
	f.texts, f.open = f.texts[:0], f.open[:0]
}

// append appends the text, filled.
func (f *filling) append(buf []byte, text string, args, request authz.Value) []byte {
	for {
		before, rest, ok := strings.Cut(text, "{")
		buf = append(buf, before...)
		if !ok {
			return buf
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return append(append(buf, '{'), rest...)
		}
		v, found := args.Get(name)
		if !found {
			v, found = memberAt(request, name)
		}
		buf = f.appendValue(buf, v, found)
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
func fillValue(v authz.Value) string { return string(new(filling).appendValue(nil, v, true)) }

func (f *filling) appendValue(buf []byte, v authz.Value, found bool) []byte {
	switch {
	case !found:
		return append(buf, '?')
	case v.Kind() == authz.KindString:
		return appendShown(buf, v.Text())
	case v.Kind() == authz.KindList, v.Kind() == authz.KindObject:
		f.json = v.AppendJSON(f.json[:0])
		return appendShown(buf, f.json)
	default: // a word or a number, which is short
		return v.AppendJSON(buf)
	}
}

// appendShown appends what a message shows of a text.
func appendShown[T string | []byte](buf []byte, text T) []byte {
	start := len(buf)
	for _, r := range string(text) {
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
