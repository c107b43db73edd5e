package architecture

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// pkg is one package of this repository, by its folder.
type pkg struct {
	path    string
	doc     string
	hasCode bool // files other than tests
	code    imports
	tests   imports
}

// imports are the packages that files import, the standard library's left out.
type imports struct {
	own     []string // by their folders
	outside []string
}

// strangers are the floors that meet in authz, in bundles and in ports, and
// never import each other. No table can loosen this.
var strangers = []string{"pdp", "pap", "cheq", "provisioning"}

// vocabulary is the package that every service embeds.
const vocabulary = "pep-sdk/authz"

// emptyNames say nothing about what a package does.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib", "types", "models"}

// checkImports returns what the packages do against the table, one line each.
func checkImports(t table, packages []pkg) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, p := range packages {
		if slices.Contains(emptyNames, path.Base(p.path)) {
			fault("%s: a package is one noun; its name says what it does", p.path)
		}
		if p.hasCode && p.doc == "" {
			fault("%s: no package comment; its first sentence says what the package does", p.path)
		}
		r, ok := t.rowOf(p.path)
		if !ok {
			fault("%s: no row in ARCHITECTURE.md; give it one on its floor", p.path)
			continue
		}
		for _, to := range p.code.own {
			if why := t.forbids(r, p.path, to); why != "" {
				fault("%s imports %s: %s", p.path, to, why)
			}
		}
		for _, to := range p.code.outside {
			if p.path == vocabulary {
				fault("%s imports %s: the vocabulary uses the standard library only", p.path, to)
			} else if !t.mayUse(r, to) && !(isTest(p.path) && t.lends(to)) {
				fault("%s imports %s: its row in ARCHITECTURE.md does not name that library; one package knows each outside library", p.path, to)
			}
		}
		for _, to := range p.tests.own {
			if why := t.forbidsTests(p.path, to); why != "" {
				fault("tests of %s import %s: %s", p.path, to, why)
			}
		}
		for _, to := range p.tests.outside {
			if !t.mayUse(r, to) && !t.lends(to) {
				fault("tests of %s import %s: neither its row in ARCHITECTURE.md nor that of %s names that library", p.path, to, allTests)
			}
		}
	}
	return append(faults, stale(t, packages)...)
}

// forbids says why a package of row r may not import another of ours; empty:
// it may.
func (t table) forbids(r row, from, to string) string {
	switch why := estranged(from, to); {
	case why != "":
		return why
	case !slices.ContainsFunc(r.own, func(pattern string) bool { return matches(pattern, to) }):
		return "its row in ARCHITECTURE.md does not allow that"
	}
	return ""
}

// forbidsTests says why the tests of a package may not import another of ours.
// Beside what stands below them they may import the suites under tests/ and
// what lies on their own floor.
func (t table) forbidsTests(from, to string) string {
	if why := estranged(from, to); why != "" {
		return why
	}
	if isTest(to) || floor(to) == floor(from) || t.depth(to) > t.depth(from) {
		return ""
	}
	return "it stands above them in ARCHITECTURE.md"
}

// estranged says why two packages never import each other, whatever the table
// says.
func estranged(from, to string) string {
	switch {
	case floor(from) != floor(to) && slices.Contains(strangers, floor(from)) && slices.Contains(strangers, floor(to)):
		return "these two floors never import each other; they meet in authz, bundles or a port"
	case floor(from) == "pep-sdk" && floor(to) != "pep-sdk" && floor(to) != "bundles":
		return "the SDK never imports the server"
	}
	return ""
}

// floor is the first element of a package's folder.
func floor(pkg string) string {
	first, _, _ := strings.Cut(pkg, "/")
	return first
}

// stale finds what the table says of nothing: rows and libraries that no
// package is behind.
func stale(t table, packages []pkg) []string {
	var faults []string
	for _, r := range t {
		here := r.packages == shared || r.packages == allTests
		var used []string
		for _, p := range packages {
			own, _ := t.rowOf(p.path)
			here = here || own.packages == r.packages
			if own.packages == r.packages || r.packages == shared {
				used = slices.Concat(used, p.code.outside, p.tests.outside)
			} else if r.packages == allTests {
				used = slices.Concat(used, p.tests.outside)
			}
		}
		if !here {
			faults = append(faults, fmt.Sprintf("ARCHITECTURE.md: no package is %s", r.packages))
		}
		for _, library := range r.outside {
			if here && library != "" && !slices.ContainsFunc(used, func(to string) bool { return within(library, to) }) {
				faults = append(faults, fmt.Sprintf("ARCHITECTURE.md: nothing in %s imports %s", r.packages, library))
			}
		}
	}
	return faults
}
