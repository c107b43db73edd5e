package builtin

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
	"github.com/open-policy-agent/opa/v1/topdown/cache"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// Call is what a function may use beside its arguments. It is of one
// evaluation at a time, and used for all of its calls. It keeps buffers, so
// using it again for the next evaluation saves making them.
type Call struct {
	Heap    *value.Heap
	Context context.Context
	Now     time.Time
	Cancel  topdown.Cancel             // nil where nothing ends the evaluation
	Values  cache.InterQueryValueCache // compiled patterns of OPA's own functions, shared by evaluations
	Cache   builtins.Cache             // of this evaluation
	Work    int                        // what functions did beyond reading their arguments once, in units; whoever calls takes it

	text  []byte        // where texts are put together
	elems []value.Value // where elements are put in order, and the path of a walk
}

// Func is a function. Its result is undefined where OPA's function yields
// nothing. A relation (walk) yields an array of its results. Arguments must not
// be kept beyond the evaluation.
//
// An error that is an [*Error] makes the call undefined where built-in errors
// do; any other ([value.ErrMemory], what OPA calls a halt) ends the evaluation.
type Func func(c *Call, args []value.Value) (value.Value, error)

// Error is why a function failed, with OPA's code and text.
type Error struct {
	Code    string // topdown.BuiltinErr or topdown.TypeErr
	Message string // with the function's name in front
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Lookup returns the function of that name; native says that it is written for
// this form of values. It is nil where OPA has none.
func Lookup(name string) (f Func, native bool) {
	if f := natives[name]; f != nil {
		return f, true
	}
	return foreign(name), false
}

// natives are the functions of this package by OPA's names.
var natives = settle(tables)

var tables = []table{
	comparisons, arithmetic, bitwise, numbers, aggregates, kinds, units,
	arrays, sets, objects, memberships, walks,
	strs, searches, replacements, formats, patterns, globs,
	networks, times, encodings, versions,
}
