package vm

import (
	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// comparisons are built-in functions that are one instruction where a rule only
// asks whether they are true.
var comparisons = map[string]comparison{
	"equal": equal, "neq": unequal, "lt": less, "lte": atMost, "gt": more, "gte": atLeast, "internal.member_2": member,
}

// comparison is how opCompare holds b against c.
type comparison = int32

const (
	equal comparison = iota
	unequal
	less
	atMost
	more
	atLeast
	member
)

// kinds are the built-in functions that ask for a type, of the same use.
var kinds = map[string]value.Kind{
	"is_null": value.Null, "is_boolean": value.Bool, "is_number": value.Number, "is_string": value.String,
	"is_array": value.Array, "is_object": value.Object, "is_set": value.Set,
}

// compare makes one instruction of a comparison and the statement that asks for
// its result. It returns how many statements that takes.
func (a *assembler) compare(stmts []ir.Stmt, i int) int {
	call, ok := stmts[i].(*ir.CallStmt)
	if !ok || i+1 == len(stmts) {
		return 0
	}
	how, compares := comparisons[call.Func]
	kind, looks := kinds[call.Func]
	if !compares && !looks {
		return 0
	}
	test, ok := stmts[i+1].(*ir.NotEqualStmt)
	if !ok || test.A.Value != ir.Val(call.Result) || test.B.Value != ir.Val(ir.Bool(false)) || readLater(stmts[i+1:], call.Result) {
		return 0
	}
	if looks {
		a.isKind(call.Args[0], kind)
		return 2
	}
	a.orBreak(instr{op: opCompare, b: a.operand(call.Args[0]), c: a.operand(call.Args[1]), x: how})
	return 2
}
