package matrix

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes a text one line that shows what is in it: what would break the
// line, hide, or turn the direction of what stands beside it, is spelled out.
func clean(text string) string {
	odd := func(r rune) bool {
		return r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp)
	}
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n':
			b.WriteString(" ⏎ ")
		case r == '\r' || r == '\t':
			b.WriteByte(' ')
		case odd(r):
			fmt.Fprintf(&b, "\\u{%x}", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
