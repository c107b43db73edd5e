package feishu

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// clean makes what people wrote show itself: a line break, a character that
// turns the direction of text, or one that is not seen at all becomes a sign
// that is.
func clean(text string) string {
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == '\n':
			out.WriteString(" ⏎ ")
		case r == utf8.RuneError:
			out.WriteRune('�')
		case hidden(r):
			fmt.Fprintf(&out, "‹U+%04X›", r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// blank are letters and signs by the letter of Unicode that show as nothing.
var blank = &unicode.RangeTable{
	R16: []unicode.Range16{{0x034f, 0x034f, 1}, {0x115f, 0x1160, 1}, {0x17b4, 0x17b5, 1}, {0x2800, 0x2800, 1}, {0x3164, 0x3164, 1}, {0xffa0, 0xffa0, 1}},
	R32: []unicode.Range32{{0xe0100, 0xe01ef, 1}},
}

func hidden(r rune) bool {
	if r == ' ' || r == '\u3000' {
		return false
	}
	return r == utf8.RuneError || !unicode.IsPrint(r) || unicode.Is(blank, r)
}

// fit makes what people wrote show itself in at most so many bytes, and a sign
// that says of how many where that is not all.
func fit(text string, most int) (shown string, cut bool) {
	shown = clean(prefix(text, most))
	if len(text) <= most && len(shown) <= most {
		return shown, false
	}
	return fmt.Sprintf("%s… ✂ %d B", prefix(shown, most), len(text)), true
}

// prefix is the beginning of a text, to a whole character.
func prefix(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// both is a text that people wrote in one language, where the other is missing.
func both(t cheq.Text) cheq.Text {
	if t.EN == "" {
		t.EN = t.ZH
	}
	if t.ZH == "" {
		t.ZH = t.EN
	}
	return t
}

// textf fills both languages in with the same values.
func textf(en, zh string, values ...any) cheq.Text {
	return cheq.Text{EN: fmt.Sprintf(en, values...), ZH: fmt.Sprintf(zh, values...)}
}

var beijing = time.FixedZone("UTC+8", 8*60*60)

// stamp writes a time with its zone.
func stamp(t time.Time) cheq.Text {
	return cheq.Text{EN: t.UTC().Format("2006-01-02 15:04 UTC"), ZH: t.In(beijing).Format("2006-01-02 15:04 UTC+8")}
}

// lasting writes a duration to the minute, or to the second below one.
func lasting(d time.Duration) cheq.Text {
	if d < time.Minute {
		return textf("%d s", "%d 秒", int(d/time.Second))
	}
	var en, zh []string
	for _, unit := range [...]struct {
		long   time.Duration
		en, zh string
	}{{24 * time.Hour, "d", "天"}, {time.Hour, "h", "小时"}, {time.Minute, "min", "分钟"}} {
		if n := d / unit.long; n > 0 {
			en, zh = append(en, fmt.Sprintf("%d %s", n, unit.en)), append(zh, fmt.Sprintf("%d %s", n, unit.zh))
			d -= n * unit.long
		}
	}
	return cheq.Text{EN: strings.Join(en, " "), ZH: strings.Join(zh, " ")}
}
