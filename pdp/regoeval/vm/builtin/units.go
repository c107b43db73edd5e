package builtin

import (
	"math"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// A whole amount with a unit is computed here; fractions and exponents are left
// to OPA.
var units = table{
	ast.UnitsParse.Name:      text1(func(_ *Call, s string) (value.Value, error) { return amount(s, unit) }),
	ast.UnitsParseBytes.Name: text1(func(_ *Call, s string) (value.Value, error) { return amount(s, byteUnit) }),
}

func amount(s string, factorOf func(unit string) (int64, bool)) (value.Value, error) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	if len(s) > value.MaxNumber {
		return full()
	}
	if digits == 0 || digits > 18 || s[0] == '0' && digits > 1 {
		return ask()
	}
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	factor, ok := factorOf(s[digits:])
	if err != nil || !ok || n > math.MaxInt64/factor {
		return ask()
	}
	return value.OfInt(n * factor), nil
}

// unit knows m only as milli, which it leaves to OPA, and M as mega.
func unit(s string) (int64, bool) {
	if s == "m" {
		return 0, false
	}
	return multiple(s)
}

func byteUnit(s string) (int64, bool) {
	if n := len(s); n > 1 && (s[n-1] == 'b' || s[n-1] == 'B') {
		s = s[:n-1]
	}
	return multiple(s)
}

// multiple returns the factor of a decimal or binary prefix.
func multiple(s string) (int64, bool) {
	base := int64(1000)
	switch {
	case s == "":
		return 1, true
	case len(s) == 2 && s[1]|0x20 == 'i':
		base = 1024
	case len(s) != 1:
		return 0, false
	}
	exponent := 0
	switch s[0] | 0x20 {
	case 'k':
		exponent = 1
	case 'm':
		exponent = 2
	case 'g':
		exponent = 3
	case 't':
		exponent = 4
	case 'p':
		exponent = 5
	case 'e':
		exponent = 6
	default:
		return 0, false
	}
	factor := int64(1)
	for range exponent {
		factor *= base
	}
	return factor, true
}
