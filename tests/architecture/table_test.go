package architecture

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// row is one line of the import table.
type row struct {
	packages string   // pattern of the packages it speaks of
	own      []string // patterns of the packages of this repository that they may import
	outside  []string // modules of others that they may import
}

// table is the import table, from the top floor down.
type table []row

// Two rows speak of no package of their own.
const (
	shared   = "..."       // its libraries are everybody's
	allTests = "tests/..." // its libraries are every test's
)

// parseTable reads the one Markdown table whose first head is "package".
func parseTable(markdown string) (table, error) {
	var t table
	found := false
	for n, line := range strings.Split(markdown, "\n") {
		cells := splitCells(line)
		switch {
		case !found:
			found = len(cells) == 3 && cells[0] == "package"
		case cells == nil:
			return t, t.validate()
		case strings.Trim(strings.Join(cells, ""), "-:") == "": // the line under the head
		case len(cells) != 3:
			return nil, fmt.Errorf("line %d: %d cells, want 3", n+1, len(cells))
		case len(codes(cells[0])) != 1:
			return nil, fmt.Errorf("line %d: want one package or pattern in back quotes, not %q", n+1, cells[0])
		default:
			t = append(t, row{packages: codes(cells[0])[0], own: codes(cells[1]), outside: codes(cells[2])})
		}
	}
	if !found {
		return nil, errors.New("there is no table of three columns whose first is called package")
	}
	return t, t.validate()
}

// splitCells returns nil for a line that is no row of a table.
func splitCells(line string) []string {
	line = strings.TrimSpace(line)
	if len(line) < 2 || line[0] != '|' || line[len(line)-1] != '|' {
		return nil
	}
	cells := strings.Split(line[1:len(line)-1], "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

// codes returns the words that stand in back quotes; other text is for people.
func codes(cell string) []string {
	var words []string
	parts := strings.Split(cell, "`")
	for i := 1; i < len(parts)-1; i += 2 {
		words = append(words, parts[i])
	}
	return words
}

// validate holds what is true of any table: each row speaks of different
// packages, imports point down, and each library has one home, a package with
// those in its folder: one in the server and one in the SDK, which speak to
// each other in the same libraries.
func (t table) validate() error {
	home := map[string]string{}
	for i, r := range t {
		for _, above := range t[:i] {
			if above.packages == r.packages {
				return fmt.Errorf("two rows speak of %s", r.packages)
			}
			rises := func(pattern string) bool { return matches(pattern, strings.TrimSuffix(above.packages, "/...")) }
			if slices.ContainsFunc(r.own, rises) {
				return fmt.Errorf("%s stands below %s and may not import it: imports point down", r.packages, above.packages)
			}
		}
		if isTest(r.packages) {
			continue // driving a library, or comparing with it, is no second home
		}
		for _, library := range r.outside {
			side := "server " + library
			if floor(r.packages) == "pep-sdk" {
				side = "SDK " + library
			}
			if other, ok := home[side]; ok && !within(other, r.packages) {
				return fmt.Errorf("%s and %s both know %s: one package knows each outside library", other, r.packages, library)
			}
			home[side] = cmp.Or(home[side], r.packages)
		}
	}
	return nil
}

// rowOf returns the row with the longest pattern that matches the package.
func (t table) rowOf(pkg string) (row, bool) {
	var best row
	for _, r := range t {
		if r.packages != shared && matches(r.packages, pkg) && len(r.packages) > len(best.packages) {
			best = r
		}
	}
	return best, best.packages != ""
}

// depth is the place of a package's row, counted from the top.
func (t table) depth(pkg string) int {
	own, _ := t.rowOf(pkg)
	return slices.IndexFunc(t, func(r row) bool { return r.packages == own.packages })
}

// mayUse reports whether the row, or the shared one, names the library that an
// imported package lies in.
func (t table) mayUse(r row, imported string) bool {
	named := func(library string) bool { return within(library, imported) }
	return slices.ContainsFunc(r.outside, named) || slices.ContainsFunc(t, func(other row) bool {
		return other.packages == shared && slices.ContainsFunc(other.outside, named)
	})
}

// lends reports whether the row of all tests names the library.
func (t table) lends(imported string) bool {
	return slices.ContainsFunc(t, func(r row) bool { return r.packages == allTests && t.mayUse(r, imported) })
}

// matches reports whether a pattern, a folder or a folder with "/..." after it,
// matches a folder.
func matches(pattern, pkg string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return within(root, pkg)
	}
	return pkg == pattern
}

// within reports whether a path is root or lies below it.
func within(root, path string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

func isTest(pkg string) bool { return within("tests", pkg) }
