package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// printJSON writes v, indented, as a command's whole result.
func printJSON(cmd *cobra.Command, v any) error {
	encoder := json.NewEncoder(cmd.OutOrStdout())
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// printer writes text for people. It keeps the first error. What it is handed
// may come from a policy, a request or a server; it prints no control
// characters of theirs.
type printer struct {
	w      io.Writer
	colour bool
	err    error
}

// newPrinter writes to the command's output, in colour on a terminal.
func newPrinter(cmd *cobra.Command) *printer {
	w := cmd.OutOrStdout()
	return &printer{w: w, colour: isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// line prints one line.
func (p *printer) line(format string, args ...any) {
	for i := range args {
		if text, ok := args[i].(string); ok {
			args[i] = printable(text)
		}
	}
	p.write(fmt.Sprintf(format+"\n", args...))
}

// table prints rows in columns, two spaces apart. A column that is empty in
// every row is left out. The last cell of a row is not padded, so long text
// belongs there.
func (p *printer) table(indent string, rows [][]string) {
	widths := columnWidths(rows)
	for _, row := range rows {
		var b strings.Builder
		b.WriteString(indent)
		for i, cell := range row {
			if widths[i] == 0 {
				continue
			}
			cell = printable(cell)
			b.WriteString(string(p.paint(cell)))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell))+2))
			}
		}
		p.write(strings.TrimRight(b.String(), " ") + "\n")
	}
}

// columnWidths counts characters. A row's last cell makes its column no wider
// than 1.
func columnWidths(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			width := utf8.RuneCountInString(printable(cell))
			if i == len(row)-1 {
				width = min(width, 1)
			}
			widths[i] = max(widths[i], width)
		}
	}
	return widths
}

func (p *printer) write(text string) {
	if _, err := io.WriteString(p.w, text); err != nil && p.err == nil {
		p.err = fmt.Errorf("write the result: %w", err)
	}
}

// colours are the words that stand out, by their terminal code.
var colours = map[string]string{
	authz.Allow.String(): "32", authz.Review.String(): "33", authz.Deny.String(): "31",
	"FAIL": "31", "ok": "32",
}

// paint colours a word that stands out.
func (p *printer) paint(word string) painted {
	code, ok := colours[word]
	if !p.colour || !ok {
		return painted(word)
	}
	return painted("\x1b[1;" + code + "m" + word + "\x1b[0m")
}

// painted is text that may hold terminal codes: ours.
type painted string

// printable replaces what could steer a terminal or hide text; line breaks and
// tabs stay.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsGraphic(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// plural is "1 rule", "2 rules".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
