package vm

import (
	"fmt"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

func (a *assembler) statements(stmts []ir.Stmt) error {
	for i := 0; i < len(stmts); i++ {
		s := stmts[i]
		if at := s.GetLocation(); at.Row > 0 {
			a.at = place{a.policy.Static.Files[at.File].Value, at.Row}
		}
		if n := max(a.fold(stmts, i), a.lookUp(stmts, i), a.compare(stmts, i)); n > 0 {
			i += n - 1
			continue
		}
		a.write(s)
		if err := a.statement(s); err != nil {
			return err
		}
	}
	return nil
}

// statement emits one statement of the plan. What statements mean is what
// OPA's compiler to WebAssembly makes of them.
func (a *assembler) statement(s ir.Stmt) error {
	switch s := s.(type) {
	case *ir.NopStmt:
	case *ir.BlockStmt:
		return a.sequence(s.Blocks)
	case *ir.BreakStmt:
		a.emitTo(instr{op: opJump}, a.outer(int(s.Index)))
	case *ir.NotStmt:
		return a.not(s)
	case *ir.ScanStmt:
		return a.scan(s)
	case *ir.WithStmt:
		return a.with(s)
	case *ir.CallStmt:
		return a.call(s)
	case *ir.CallDynamicStmt:
		a.callDynamic(s)
	case *ir.ReturnLocalStmt:
		a.emit(instr{op: opReturn, b: a.operand(ir.Operand{Value: s.Source})})
	case *ir.ResultSetAddStmt:
		a.emit(instr{op: opResult, b: a.operand(ir.Operand{Value: s.Value})})
	case *ir.DotStmt:
		a.dot(s)
	case *ir.LenStmt:
		a.emit(instr{op: opLen, a: a.local(s.Target), b: a.operand(s.Source)})
	case *ir.EqualStmt:
		a.orBreak(instr{op: opEqual, b: a.operand(s.A), c: a.operand(s.B)})
	case *ir.NotEqualStmt:
		if s.B.Value == ir.Val(ir.Bool(false)) {
			a.orBreak(instr{op: opNotFalse, b: a.operand(s.A)})
			break
		}
		a.orBreak(instr{op: opNotEqual, b: a.operand(s.A), c: a.operand(s.B)})
	case *ir.IsArrayStmt:
		a.isKind(s.Source, value.Array)
	case *ir.IsObjectStmt:
		a.isKind(s.Source, value.Object)
	case *ir.IsSetStmt:
		a.isKind(s.Source, value.Set)
	case *ir.IsDefinedStmt:
		a.orBreak(instr{op: opIsDefined, b: a.operand(ir.Operand{Value: s.Source})})
	case *ir.IsUndefinedStmt:
		a.orBreak(instr{op: opIsUndefined, b: a.operand(ir.Operand{Value: s.Source})})
	case *ir.MakeArrayStmt:
		a.emit(instr{op: opArray, a: a.local(s.Target), x: s.Capacity})
	case *ir.MakeObjectStmt:
		a.emit(instr{op: opObject, a: a.local(s.Target)})
	case *ir.MakeSetStmt:
		a.emit(instr{op: opSet, a: a.local(s.Target)})
	case *ir.ArrayAppendStmt:
		a.emit(instr{op: opAppend, a: a.local(s.Array), b: a.operand(s.Value)})
	case *ir.ObjectInsertStmt:
		a.emit(instr{op: opInsert, a: a.local(s.Object), b: a.operand(s.Key), c: a.operand(s.Value)})
	case *ir.ObjectInsertOnceStmt:
		a.emit(instr{op: opInsertOnce, a: a.local(s.Object), b: a.operand(s.Key), c: a.operand(s.Value)})
	case *ir.SetAddStmt:
		a.emit(instr{op: opAdd, a: a.local(s.Set), b: a.operand(s.Value)})
	case *ir.ObjectMergeStmt:
		a.emit(instr{op: opMerge, a: a.local(s.Target), b: a.operand(ir.Operand{Value: s.A}), c: a.operand(ir.Operand{Value: s.B})})
	default:
		return a.assign(s)
	}
	return nil
}

// assign emits a statement that sets a local to what is known.
func (a *assembler) assign(s ir.Stmt) error {
	if to, v, ok := a.literal(s); ok {
		a.set(to, a.constant(v))
		return nil
	}
	switch s := s.(type) {
	case *ir.AssignVarStmt:
		a.keepMemo(s)
		if from, ok := s.Source.Value.(ir.Local); ok {
			a.path(a.local(s.Target), a.local(from))
		}
		a.set(s.Target, a.operand(s.Source))
	case *ir.AssignVarOnceStmt:
		a.emit(instr{op: opMoveOnce, a: a.local(s.Target), b: a.operand(s.Source)})
	case *ir.ResetLocalStmt:
		a.emit(instr{op: opReset, a: a.local(s.Target)})
	default:
		return &Unsupported{File: a.at.file, Line: a.at.line, Why: fmt.Sprintf("the plan has a %T", s)}
	}
	return nil
}

// path marks what is found below data by names.
func (a *assembler) path(to, from int32) { a.based[to] = from >= 0 && a.based[from] }

func (a *assembler) isKind(o ir.Operand, k value.Kind) {
	a.orBreak(instr{op: opIsKind, b: a.operand(o), x: int32(k)})
}

func (a *assembler) dot(s *ir.DotStmt) {
	source, key, to := a.operand(s.Source), a.operand(s.Key), a.local(s.Target)
	if source < 0 && key < 0 {
		if v := a.program.constants[^source].Get(a.program.constants[^key]); v.Defined() {
			a.set(s.Target, a.constant(v))
			return
		}
	}
	a.path(to, source)
	if name, ok := s.Key.Value.(ir.StringIndex); ok && source >= 0 {
		in := instr{op: opName, a: to, b: source, c: key, x: int32(a.program.hints)}
		if _, err := strconv.Atoi(a.policy.Static.Strings[name].Value); err == nil && a.based[to] {
			in.op = opBase
		}
		a.orBreak(in)
		a.program.hints++
		return
	}
	in := instr{op: opDot, a: to, b: source, c: key}
	if a.based[to] {
		in.op = opBase
	}
	a.orBreak(in)
}

// not emits a block that must not reach its end.
func (a *assembler) not(s *ir.NotStmt) error {
	if n := len(s.Block.Stmts); n > 0 {
		// The plan of `not { … }` relies on a local that a loop around may have
		// left set.
		if last, ok := s.Block.Stmts[n-1].(*ir.IsDefinedStmt); ok {
			a.emit(instr{op: opReset, a: a.local(last.Source)})
		}
	}
	end := a.newLabel()
	if err := a.block(s.Block, end); err != nil {
		return err
	}
	a.emitTo(instr{op: opJump}, a.outer(0))
	a.bind(end)
	a.resolve(end)
	return nil
}

// scan emits a loop. A break within goes on with the next element, a break of
// one block more ends the loop.
func (a *assembler) scan(s *ir.ScanStmt) error {
	loop := int32(a.loops)
	a.loops++
	a.f.loops = max(a.f.loops, a.loops)
	source := a.operand(ir.Operand{Value: s.Source})
	a.forget(s.Block.Stmts) // the loop comes back to what it writes
	a.path(a.local(s.Value), source)
	next, end := a.newLabel(), a.newLabel()
	if mixed(s) {
		a.emit(instr{op: opUnmixed, b: source})
	}
	a.emitTo(instr{op: opScan, b: source, x: loop}, end)
	a.bind(next)
	a.emitTo(instr{op: opNext, a: a.local(s.Key), b: source, c: a.local(s.Value), x: loop}, end)
	a.push(end)
	err := a.block(s.Block, next)
	a.pop(1)
	a.emitTo(instr{op: opJump}, next)
	a.bind(end)
	a.resolve(next)
	a.resolve(end)
	a.loops--
	return err
}

// mixed reports whether the scan visits data after rules of the same level
// were visited. Topdown begins with the data.
func mixed(s *ir.ScanStmt) bool {
	for _, inner := range s.Block.Stmts {
		switch inner := inner.(type) {
		case *ir.EqualStmt:
			if o, ok := inner.A.Value.(ir.Local); ok && o == s.Key {
				return false // one at most
			}
		case *ir.NotStmt:
			if len(inner.Block.Stmts) == 1 {
				dot, ok := inner.Block.Stmts[0].(*ir.DotStmt)
				return ok && dot.Key.Value == ir.Val(s.Key)
			}
		}
	}
	return false
}

func (a *assembler) call(s *ir.CallStmt) error {
	in := instr{op: opCall, a: a.local(s.Result), b: int32(len(a.f.args)), c: int32(len(s.Args))}
	delete(a.based, in.a)
	for _, arg := range s.Args {
		a.f.args = append(a.f.args, a.operand(arg))
	}
	var ok bool
	if in.x, ok = a.functions[s.Func]; ok {
		if c := a.program.functions[in.x].constant; c < 0 {
			a.set(s.Result, c)
			return nil
		}
		a.orBreak(in)
		return nil
	}
	if in.x, ok = a.builtins[s.Func]; !ok {
		return &Unsupported{File: a.at.file, Line: a.at.line, Why: "there is no function " + s.Func}
	}
	in.op = opBuiltin
	if bound, ok := a.boundTo(s.Func, in); ok {
		in.x = bound
	}
	if s.Func == "count" {
		in.op = opCount
	}
	switch {
	case s.Func == "internal.print": // nobody reads it
	default:
		a.orBreak(in)
	}
	return nil
}

// callDynamic emits a call by path: where no function is there the innermost
// block is broken, where it has no value the plan means the fourth.
func (a *assembler) callDynamic(s *ir.CallDynamicStmt) {
	in := instr{op: opDynamic, a: a.local(s.Result), b: int32(len(a.f.args)), c: int32(len(s.Path))}
	for _, o := range s.Path {
		a.f.args = append(a.f.args, a.operand(o))
	}
	a.orBreak(in)
	a.emitTo(instr{op: opIsDefined, b: in.a}, a.outer(3))
}
