package value

import (
	"math"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// OfNumber returns the number that a JSON text spells. OPA writes a number as
// it read it, and so is this one written.
func OfNumber(text string) Value {
	digits, fraction := plainDecimal(text)
	switch {
	case digits > 0 && !fraction:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return OfInt(n)
		}
	case digits > 0 && digits <= authz.MaxDigits:
		f, _ := strconv.ParseFloat(text, 64) // of so few digits it has no error
		return Value{kind: Number, form: binary, word: math.Float64bits(f)}
	}
	v := OfString(text)
	v.kind, v.form = Number, decimal
	return v
}

// plainDecimal returns how many digits count in a text that is as the shortest
// one of its number, without an exponent; 0 of any other text. Fractions that
// begin with six zeros are written with an exponent.
func plainDecimal(text string) (digits int, fraction bool) {
	s := text
	if len(s) > 0 && s[0] == '-' {
		s = s[1:]
	}
	whole := 0
	for whole < len(s) && s[whole]-'0' <= 9 {
		whole++
	}
	if whole == 0 || s[0] == '0' && whole > 1 {
		return 0, false
	}
	if whole == len(s) {
		if s == "0" && text != s {
			return 0, false // -0
		}
		return whole, false
	}
	part := s[whole+1:]
	zeros := 0
	for i := range len(part) {
		if part[i]-'0' > 9 {
			return 0, false
		}
		if zeros == i && part[i] == '0' {
			zeros++
		}
	}
	if s[whole] != '.' || part == "" || part[len(part)-1] == '0' {
		return 0, false
	}
	if s[0] != '0' {
		return whole + len(part), true
	}
	if zeros > 5 {
		return 0, false
	}
	return len(part) - zeros, true
}

// Int returns a number that OPA takes for an int64, as the index of an array
// for one: 1, and 1.0, but not 1e0.
func (v Value) Int() (int64, bool) {
	if v.kind != Number {
		return 0, false
	}
	switch v.form {
	case integer:
		return int64(v.word), true
	case decimal:
		return util.Atoi64(v.text())
	default:
		return 0, false
	}
}

// Number returns the decimal text of a number as OPA holds it, "" for other
// kinds.
func (v Value) Number() string {
	if v.kind != Number {
		return ""
	}
	switch v.form {
	case integer:
		return strconv.FormatInt(int64(v.word), 10)
	case binary:
		return binaryText(math.Float64frombits(v.word))
	default:
		return v.text()
	}
}

// Float returns the number as binary64, rounded where it must be.
func (v Value) Float() float64 {
	switch v.form {
	case integer:
		return float64(int64(v.word))
	case binary:
		return math.Float64frombits(v.word)
	default:
		f, _ := strconv.ParseFloat(v.text(), 64) // out of range: ±Inf
		return f
	}
}

// comparable returns the number as binary64; exact says that numbers of which
// it is true are ordered as these are: integers up to 2^53, and decimals of up
// to 15 digits, which binary64 tells apart.
func (v Value) comparable() (f float64, exact bool) {
	switch v.form {
	case integer:
		const most = 1 << 53
		n := int64(v.word)
		return float64(n), n <= most && n >= -most
	case binary:
		return math.Float64frombits(v.word), true
	default:
		return shortDecimal(v.text())
	}
}

// powers are the powers of ten that binary64 holds exactly.
var powers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// shortDecimal reads a number's text of at most 15 digits and a small exponent:
// both are exact then, so that one division or multiplication rounds correctly.
func shortDecimal(text string) (f float64, ok bool) {
	mantissa, digits, exponent, i := 0, 0, 0, 0
	pointed := false
	negative := strings.HasPrefix(text, "-")
	if negative {
		i = 1
	}
	for ; i < len(text) && text[i]|0x20 != 'e'; i++ {
		c := text[i] - '0'
		if c > 9 {
			if text[i] != '.' || pointed {
				return 0, false
			}
			pointed = true
			continue
		}
		if mantissa = 10*mantissa + int(c); mantissa > 0 {
			digits++
		}
		if pointed {
			exponent--
		}
		if digits > authz.MaxDigits {
			return 0, false
		}
	}
	if i < len(text) {
		e, err := strconv.Atoi(text[i+1:])
		if err != nil {
			return 0, false
		}
		exponent += e
	}
	f = float64(mantissa)
	switch {
	case mantissa == 0: // whatever its exponent
	case exponent < -22 || exponent > 22:
		return 0, false
	case exponent < 0:
		f /= powers[-exponent]
	default:
		f *= powers[exponent]
	}
	if negative {
		f = -f
	}
	return f, true
}

func compareTexts(a, b Value) int {
	return ast.NumberCompare(ast.Number(a.Number()), ast.Number(b.Number()))
}

// binaryText writes a fraction as authz does.
func binaryText(f float64) string {
	if v, err := authz.FloatValue(f); err == nil {
		return v.Number()
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
