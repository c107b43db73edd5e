package builtin

import (
	"cmp"
	"math"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var versions = table{
	ast.SemVerCompare.Name: text2(func(_ *Call, a, b string) (value.Value, error) {
		x, okX := parseVersion(a)
		y, okY := parseVersion(b)
		if !okX || !okY {
			return ask()
		}
		return ofInt(x.compare(y))
	}),
	ast.SemVerIsValid.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		_, ok := parseVersion(args[0].Text())
		return ofBool(ok)
	},
}

// version is a version of SemVer 2.0.0. What was built from it does not count
// in its order, and is left out.
type version struct {
	numbers [3]int64
	release string // of a pre-release: what stands behind the dash
}

func parseVersion(s string) (version, bool) {
	var v version
	s, build, found := strings.Cut(strings.TrimPrefix(s, "v"), "+")
	if found && !identifiers(build, false) {
		return v, false
	}
	s, v.release, found = strings.Cut(s, "-")
	if found && !identifiers(v.release, true) || strings.Count(s, ".") != 2 {
		return v, false
	}
	for i := range v.numbers {
		var number string
		number, s, _ = strings.Cut(s, ".")
		n, ok := decimalInt(number)
		if !ok || n < 0 {
			return v, false
		}
		v.numbers[i] = n
	}
	return v, true
}

// identifiers reports whether s is a row of identifiers with dots between them;
// strict ones that are numbers begin with no 0.
func identifiers(s string, strict bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strict && len(id) > 1 && id[0] == '0' && numeric(id) {
			return false
		}
		for _, b := range []byte(id) {
			letter := b|0x20 >= 'a' && b|0x20 <= 'z'
			if !letter && b != '-' && (b < '0' || b > '9') {
				return false
			}
		}
	}
	return true
}

func numeric(id string) bool {
	for _, b := range []byte(id) {
		if b < '0' || b > '9' {
			return false
		}
	}
	return id != ""
}

func (v version) compare(w version) int {
	for i, n := range v.numbers {
		if c := cmp.Compare(n, w.numbers[i]); c != 0 {
			return c
		}
	}
	switch {
	case v.release == w.release:
		return 0
	case v.release == "":
		return 1
	case w.release == "":
		return -1
	}
	return compareReleases(v.release, w.release)
}

func compareReleases(a, b string) int {
	restA, restB := a, b
	for restA != "" && restB != "" {
		var x, y string
		x, restA, _ = strings.Cut(restA, ".")
		y, restB, _ = strings.Cut(restB, ".")
		if c := compareIdentifiers(x, y); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(len(restA), len(restB)); c != 0 {
		return c
	}
	// Only numbers past 64 bits differ; OPA's function does not come back.
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// compareIdentifiers orders numbers before words. Numbers past 64 bits are
// equal to OPA.
func compareIdentifiers(a, b string) int {
	switch numA, numB := numeric(a), numeric(b); {
	case numA && numB:
		return cmp.Compare(saturated(a), saturated(b))
	case numA:
		return -1
	case numB:
		return 1
	}
	return strings.Compare(a, b)
}

func saturated(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}
