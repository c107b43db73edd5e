package vm

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/builtin"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// Unsupported says why a query cannot be planned.
type Unsupported struct {
	File string // where it is known
	Line int
	Why  string
}

func (e *Unsupported) Error() string { return e.Why }

// Error is why a run failed.
type Error struct {
	Code    string // OPA's: eval_conflict_error, eval_builtin_error, eval_type_error, eval_internal_error; or CodeBudget
	Message string
	File    string
	Line    int
	Stack   []byte // of a panic, which is a fault of this program
}

// CodeBudget is the code of a run that used up its steps or values, or whose
// context ended.
const CodeBudget = "budget_spent"

func (e *Error) Error() string { return e.Message }

// place is where a statement stands.
type place struct {
	file string
	line int
}

// fail ends the run. It returns false, for the caller to return.
func (r *Run) fail(code, message string, f *function, pc int) bool {
	if r.err == nil {
		at := f.places[pc]
		r.err = &Error{Code: code, Message: message, File: at.file, Line: at.line}
	}
	return false
}

func (r *Run) failBuiltin(err error, f *function, pc int) bool {
	var known *builtin.Error
	switch isKnown := errors.As(err, &known); {
	case errors.Is(err, value.ErrMemory), errors.Is(err, builtin.ErrWork), isKnown && known.Code == topdown.CancelErr, r.ctx.Err() != nil:
		return r.fail(CodeBudget, err.Error(), f, pc)
	case isKnown:
		return r.fail(known.Code, known.Message, f, pc)
	}
	return r.fail(topdown.InternalErr, err.Error(), f, pc)
}

// failConflict says that a rule has two values.
func (r *Run) failConflict(f *function, pc int) bool {
	name := ruleName(f.name)
	if !f.rule {
		return r.fail(topdown.ConflictErr, "function "+name+" produced conflicting values for the same inputs", f, pc)
	}
	return r.fail(topdown.ConflictErr, "rule "+name+" produced conflicting values", f, pc)
}

// ruleName is the rule's reference in the name of the plan's function.
func ruleName(name string) string { return name[strings.IndexByte(name, '.')+1:] }

func (r *Run) failKeys(f *function, pc int) bool {
	return r.fail(topdown.ConflictErr, "object keys must be unique", f, pc)
}

func (r *Run) failUnsure(why string, f *function, pc int) bool {
	return r.fail(topdown.InternalErr, "topdown is to say: "+why, f, pc)
}

// recovered turns a panic into the run's error.
func (r *Run) recovered() {
	if cause := recover(); cause != nil {
		r.err = &Error{Code: topdown.InternalErr, Message: fmt.Sprintf("panic: %v", cause), Stack: debug.Stack()}
	}
}
