package builtin

import (
	"math/big"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var numbers = table{
	ast.NumbersRange.Name:     func(c *Call, args []value.Value) (value.Value, error) { return steps(c, args, value.OfInt(1)) },
	ast.NumbersRangeStep.Name: func(c *Call, args []value.Value) (value.Value, error) { return steps(c, args, args[2]) },
	ast.FormatInt.Name:        formatInt,
	ast.ToNumber.Name:         toNumber,
}

// steps is the numbers from args[0] to args[1], up or down.
func steps(c *Call, args []value.Value, step value.Value) (value.Value, error) {
	from, okFrom := args[0].Int()
	to, okTo := args[1].Int()
	by, okBy := step.Int()
	if okBy && by <= 0 {
		return ask()
	}
	if !okFrom || !okTo || !okBy {
		return stepsOfLarge(c, args, step)
	}
	low, high := min(from, to), max(from, to)
	n := (uint64(high) - uint64(low)) / uint64(by) // steps, one less than numbers
	if n >= 1<<40 || !c.holdsValues(int(n)+1) {
		return full()
	}
	if from > to {
		by = -by
	}
	numbers := c.Heap.NewArray(int(n) + 1)
	for i := range int64(n) + 1 {
		c.Heap.Append(numbers, value.OfInt(from+i*by))
	}
	return numbers, nil
}

// stepsOfLarge refuses a range that cannot be held; OPA's function counts the
// others.
func stepsOfLarge(c *Call, args []value.Value, step value.Value) (value.Value, error) {
	var operands [3]*big.Int
	for i, v := range [...]value.Value{args[0], args[1], step} {
		if v.Kind() != value.Number {
			return ask()
		}
		n, err := builtins.NumberToInt(ast.Number(v.Number()))
		if err != nil {
			return ask()
		}
		operands[i] = n
	}
	from, to, by := operands[0], operands[1], operands[2]
	if by.Sign() <= 0 {
		return ask()
	}
	n := new(big.Int).Sub(to, from)
	n.Div(n.Abs(n), by)
	if !n.IsInt64() || n.Int64() >= 1<<40 || !c.holdsValues(int(n.Int64())) {
		return full()
	}
	return ask()
}

func formatInt(c *Call, args []value.Value) (value.Value, error) {
	n, okN := args[0].Int()
	base, okBase := plainInt(c, args[1])
	if !okN || !okBase {
		return ask()
	}
	switch base {
	case 2, 8, 10, 16:
		return c.made(strconv.AppendInt(c.text[:0], n, int(base)))
	}
	return ask()
}

func toNumber(c *Call, args []value.Value) (value.Value, error) {
	switch v := args[0]; v.Kind() {
	case value.Number:
		return v, nil
	case value.Null:
		return value.OfInt(0), nil
	case value.Bool:
		if v.IsTrue() {
			return value.OfInt(1), nil
		}
		return value.OfInt(0), nil
	case value.String:
		if n, ok := decimalInt(v.Text()); ok {
			return value.OfInt(n), nil
		}
		if len(v.Text()) > value.MaxNumber {
			return full()
		}
	}
	return ask()
}

// decimalInt returns the integer that a text spells in the shortest way.
func decimalInt(s string) (int64, bool) {
	digits := s
	if len(s) > 1 && s[0] == '-' && s[1] != '0' {
		digits = s[1:]
	}
	if digits == "" || digits[0] < '0' || digits[0] > '9' || digits[0] == '0' && len(digits) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// plainInt returns an integer that is written in the shortest way: 1, and not
// 1.0.
func plainInt(c *Call, v value.Value) (int64, bool) {
	n, ok := v.Int()
	if !ok {
		return 0, false
	}
	c.text = appendNumber(c.text[:0], v)
	written, ok := decimalInt(stringOf(c.text))
	return n, ok && written == n
}

// appendNumber writes a number as it was read.
func appendNumber(to []byte, v value.Value) []byte {
	text, err := value.AppendJSON(to, v)
	if err != nil { // OPA has numbers that JSON has not: 007
		return append(to, v.Number()...)
	}
	return text
}
