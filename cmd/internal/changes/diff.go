package changes

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
)

// What a card shows of a difference.
const (
	maxFiles   = 20
	maxLines   = 200 // of all files together
	maxColumns = 300 // bytes of a line
	around     = 3   // lines that did not change, before and after those that did
	maxCells   = 4e6 // of the table of a comparison; files beyond it are compared as a whole
)

// difference lists what changes, in order of path.
func difference(content *bundles.Content, changes []bundles.Change) (files []cheq.ChangedFile, more int) {
	changes = slices.Clone(changes)
	slices.SortFunc(changes, func(a, b bundles.Change) int { return strings.Compare(a.Path, b.Path) })
	left := maxLines
	for i, c := range changes {
		if i == maxFiles {
			return files, len(changes) - maxFiles
		}
		before, _ := content.File(c.Path) // absent: a new file
		lines, added, removed := compare(split(before), split(c.Data))
		shown := lines[:min(len(lines), left)]
		left -= len(shown)
		for j, line := range shown {
			shown[j] = cut(line)
		}
		files = append(files, cheq.ChangedFile{
			Path: c.Path, Added: added, Removed: removed, Diff: strings.Join(shown, "\n"), Cut: len(lines) - len(shown),
		})
	}
	return files, 0
}

func split(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	if !utf8.Valid(data) {
		return []string{fmt.Sprintf("%d bytes that are no text", len(data))}
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

func cut(line string) string {
	if len(line) <= maxColumns {
		return line
	}
	return strings.ToValidUTF8(line[:maxColumns], "") + "…"
}

// compare returns the lines of a unified difference, and how many lines are new
// and gone.
func compare(a, b []string) (lines []string, added, removed int) {
	edits := edit(a, b)
	last := -1 // edit that was written last
	for i, e := range edits {
		if e.sign != ' ' {
			if e.sign == '+' {
				added++
			} else {
				removed++
			}
		}
		if !near(edits, i) {
			continue
		}
		if last != i-1 || i == 0 {
			lines = append(lines, fmt.Sprintf("@@ -%d +%d @@", e.from+1, e.to+1))
		}
		lines, last = append(lines, string(e.sign)+e.text), i
	}
	return lines, added, removed
}

// near reports whether an edit is one of those shown.
func near(edits []line, i int) bool {
	return slices.ContainsFunc(edits[max(0, i-around):min(len(edits), i+around+1)], func(e line) bool { return e.sign != ' ' })
}

// line is one line of either side, at its places there.
type line struct {
	sign     byte // ' ', '-' or '+'
	text     string
	from, to int
}

// edit turns a into b by a longest common subsequence of what differs.
func edit(a, b []string) []line {
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	var edits []line
	for i := range start {
		edits = append(edits, line{' ', a[i], i, i})
	}
	i, j, n, m := start, start, len(a)-end, len(b)-end
	longest := common(a[start:n], b[start:m])
	for i < n || j < m {
		switch {
		case i < n && j < m && a[i] == b[j] && longest != nil:
			edits = append(edits, line{' ', a[i], i, j})
			i, j = i+1, j+1
		case i < n && (j == m || longest == nil || longest[i-start+1][j-start] >= longest[i-start][j-start+1]):
			edits = append(edits, line{'-', a[i], i, j})
			i++
		default:
			edits = append(edits, line{'+', b[j], i, j})
			j++
		}
	}
	for k := range end {
		edits = append(edits, line{' ', a[n+k], n + k, m + k})
	}
	return edits
}

// common is how long the longest common subsequence of each two ends is; nil
// where that is too much to tell.
func common(a, b []string) [][]int32 {
	if (len(a)+1)*(len(b)+1) > maxCells {
		return nil
	}
	table := make([][]int32, len(a)+1)
	cells := make([]int32, (len(a)+1)*(len(b)+1))
	for i := range table {
		table[i] = cells[i*(len(b)+1) : (i+1)*(len(b)+1)]
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	return table
}
