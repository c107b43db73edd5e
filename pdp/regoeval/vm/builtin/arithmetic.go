package builtin

import (
	"math"
	"math/bits"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// Integers of 64 bits are computed here, where the result is one too.
var arithmetic = table{
	ast.Plus.Name:     integers(add),
	ast.Minus.Name:    minus,
	ast.Multiply.Name: product,
	ast.Divide.Name:   integers(divide),
	ast.Rem.Name:      integers(remainder),
	ast.Abs.Name: whole(func(n int64) int64 {
		if n < 0 {
			return -n
		}
		return n
	}),
	ast.Round.Name: whole(func(n int64) int64 { return n }),
	ast.Ceil.Name:  whole(func(n int64) int64 { return n }),
	ast.Floor.Name: whole(func(n int64) int64 { return n }),
}

func integers(f func(x, y int64) (int64, bool)) Func {
	return func(_ *Call, args []value.Value) (value.Value, error) {
		x, okX := args[0].Int()
		y, okY := args[1].Int()
		if !okX || !okY {
			return ask()
		}
		n, ok := f(x, y)
		if !ok {
			return ask()
		}
		return value.OfInt(n), nil
	}
}

// whole is a function of one integer. OPA computes large ones in floating
// point, which is exact below 2^53.
func whole(f func(n int64) int64) Func {
	return func(_ *Call, args []value.Value) (value.Value, error) {
		n, ok := args[0].Int()
		if !ok || n >= 1<<53 || n <= -1<<53 {
			return ask()
		}
		return value.OfInt(f(n)), nil
	}
}

func add(x, y int64) (int64, bool) {
	sum := x + y
	return sum, (sum > x) == (y > 0)
}

func subtract(x, y int64) (int64, bool) {
	difference := x - y
	return difference, (difference < x) == (y > 0)
}

func multiply(x, y int64) (int64, bool) {
	high, low := bits.Mul64(magnitude(x), magnitude(y))
	if high != 0 || low > math.MaxInt64 {
		return 0, false
	}
	return x * y, true
}

var multiplication = integers(multiply)

func product(c *Call, args []value.Value) (value.Value, error) {
	if v, err := multiplication(c, args); err == nil || args[0].Kind() != value.Number || args[1].Kind() != value.Number {
		return v, err
	}
	// OPA has no bound: squares of squares take all time there is.
	if len(args[0].Number())+len(args[1].Number()) > value.MaxNumber {
		return full()
	}
	return ask()
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// divide leaves fractions to OPA, and 0, whose quotient may be −0.
func divide(x, y int64) (int64, bool) {
	if y == 0 || x == 0 || x == math.MinInt64 || x%y != 0 {
		return 0, false
	}
	return x / y, true
}

func remainder(x, y int64) (int64, bool) {
	if y == 0 || x == math.MinInt64 {
		return 0, false
	}
	return x % y, true
}

var subtraction = integers(subtract)

func minus(c *Call, args []value.Value) (value.Value, error) {
	if args[0].Kind() == value.Set && args[1].Kind() == value.Set {
		return difference(c, args)
	}
	return subtraction(c, args)
}

var bitwise = table{
	ast.BitsAnd.Name:        integers(func(x, y int64) (int64, bool) { return x & y, true }),
	ast.BitsOr.Name:         integers(func(x, y int64) (int64, bool) { return x | y, true }),
	ast.BitsXOr.Name:        integers(func(x, y int64) (int64, bool) { return x ^ y, true }),
	ast.BitsNegate.Name:     whole(func(n int64) int64 { return ^n }),
	ast.BitsShiftLeft.Name:  shiftLeft,
	ast.BitsShiftRight.Name: integers(func(x, y int64) (int64, bool) { return x >> uint64(min(y, 63)), y >= 0 }),
}

// maxShift is up to how many bits a number is shifted. OPA has no bound: one
// call could take the memory of the machine.
const maxShift = 3 * value.MaxNumber

func shiftLeft(c *Call, args []value.Value) (value.Value, error) {
	x, okX := args[0].Int()
	by, okY := args[1].Int()
	if okX && okY && by >= 0 && by < 63 && x<<by>>by == x {
		return value.OfInt(x << by), nil
	}
	if args[0].Kind() != value.Number || args[1].Kind() != value.Number {
		return ask()
	}
	from, errX := builtins.NumberToInt(ast.Number(args[0].Number()))
	shift, errY := builtins.NumberToInt(ast.Number(args[1].Number()))
	if errX != nil || errY != nil || shift.Sign() < 0 || from.Sign() == 0 {
		return ask()
	}
	if bits := shift.Uint64(); bits > maxShift || !c.holds(int(bits/3)) {
		return full()
	}
	return ask()
}
