package builtin

import (
	"errors"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// ErrWork means that one call would take longer than an evaluation may go on
// after its end: functions cannot be stopped.
var ErrWork = errors.New("a built-in function is called with more than it may take")

// Bounds of one call, each of a few tens of milliseconds on a slow machine.
const (
	mostWork    = 8 << 20 // units: of a regular expression, instructions times bytes
	mostWritten = 1 << 20 // bytes that sprintf and $"…" make
	mostJSON    = 8 << 20 // bytes that json.marshal makes, by estimate
	mostPattern = 16 << 10
)

// works counts units of work. It is false where the call would take too many,
// and whoever asked answers [ErrWork].
func (c *Call) works(units int) bool {
	if units < 0 || units > mostWork {
		return false
	}
	c.Work += units
	return true
}

func tooMuch() (value.Value, error) { return value.Value{}, ErrWork }

// ended reports whether the evaluation has.
func (c *Call) ended() bool { return c.Cancel != nil && c.Cancel.Cancelled() }
