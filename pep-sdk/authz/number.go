package authz

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

func (p *parser) number() (Value, error) {
	if v, end, ok := plainNumber(p.data, p.pos); ok {
		p.pos = end
		return v, nil
	}
	end := p.pos
	for end < len(p.data) && inNumber(p.data[end]) {
		end++
	}
	v, err := parseNumber(p.data[p.pos:end])
	if err != nil {
		return Value{}, p.fault("%v", err)
	}
	p.pos = end
	return v, nil
}

func inNumber(c byte) bool { return strings.IndexByte("+-.0123456789eE", c) >= 0 }

// plainNumber reads the number at the start if it has no exponent and few
// digits. Such a fraction is two exact binary64 numbers divided, which rounds
// as reading its decimal text does.
func plainNumber(text string, start int) (v Value, end int, ok bool) {
	i := start
	if i < len(text) && text[i] == '-' {
		i++
	}
	whole := i
	var n int64
	for ; i < len(text) && isDigit(text[i]) && i-whole < MaxDigits; i++ {
		n = n*10 + int64(text[i]-'0')
	}
	if i == whole || text[whole] == '0' && i-whole > 1 {
		return Value{}, 0, false
	}
	places := 0
	if i < len(text) && text[i] == '.' {
		point := i
		for i++; i < len(text) && isDigit(text[i]) && i-whole <= MaxDigits; i++ {
			n = n*10 + int64(text[i]-'0')
		}
		if places = i - point - 1; places == 0 {
			return Value{}, 0, false
		}
	}
	if i < len(text) && inNumber(text[i]) {
		return Value{}, 0, false
	}
	for ; places > 0 && n%10 == 0; places-- {
		n /= 10
	}
	if text[start] == '-' {
		n = -n
	}
	if places == 0 {
		return Value{kind: KindInt, word: uint64(n)}, i, true
	}
	return Value{kind: KindFloat, word: math.Float64bits(float64(n) / tens[places])}, i, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

var tens = [MaxDigits + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// parseNumber reads a JSON number under the limits of the package. It works on
// the decimal text: binary64 never decides what is an integer.
func parseNumber(text string) (Value, error) {
	if len(text) > 64 {
		return Value{}, fmt.Errorf("a number of %d characters is too long; send it as a string", len(text))
	}
	if v, end, ok := plainNumber(text, 0); ok && end == len(text) {
		return v, nil
	}
	digits, exponent, negative, ok := scanNumber(text)
	if !ok {
		return Value{}, fmt.Errorf("%q is not a JSON number", text)
	}
	if digits == "" {
		return Value{kind: KindInt}, nil
	}
	if exponent >= 0 { // an integer: digits followed by exponent zeros
		if len(digits)+exponent > 16 {
			return Value{}, fmt.Errorf("integer %s is outside ±(2^53−1); send it as a string", text)
		}
		n, err := strconv.ParseInt(digits+strings.Repeat("0", exponent), 10, 64)
		if err != nil {
			return Value{}, fmt.Errorf("%q is not a JSON number", text)
		}
		if negative {
			n = -n
		}
		return IntValue(n)
	}
	if len(digits) > MaxDigits {
		return Value{}, fmt.Errorf("number %s has more than %d significant digits; send it as a string", text, MaxDigits)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.Abs(f) < 0x1p-1022 { // the fifteen-digit promise ends with the normal numbers
		return Value{}, fmt.Errorf("number %s is out of range; send it as a string", text)
	}
	return Value{kind: KindFloat, word: math.Float64bits(f)}, nil
}

// scanNumber splits a JSON number into its significant digits, without zeros
// at either end, and the power of ten of the last one.
func scanNumber(text string) (digits string, exponent int, negative, ok bool) {
	rest, negative := strings.CutPrefix(text, "-")
	mantissa, exp, hasExp := cutExponent(rest)
	if hasExp {
		n, err := strconv.Atoi(exp)
		if err != nil || n > 9999 || n < -9999 {
			return "", 0, false, false
		}
		exponent = n
	}
	whole, fraction, hasPoint := strings.Cut(mantissa, ".")
	if whole == "" || len(whole) > 1 && whole[0] == '0' || hasPoint && fraction == "" || !onlyDigits(whole) || !onlyDigits(fraction) {
		return "", 0, false, false
	}
	exponent -= len(fraction)
	digits = strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(digits, "0")
	return trimmed, exponent + len(digits) - len(trimmed), negative, true
}

func cutExponent(text string) (mantissa, exponent string, found bool) {
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, "", false
}

func onlyDigits(text string) bool {
	for i := range len(text) {
		if !isDigit(text[i]) {
			return false
		}
	}
	return true
}
