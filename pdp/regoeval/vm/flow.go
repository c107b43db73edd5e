package vm

// reads visits the operands that an instruction reads.
func (f *function) reads(in *instr, visit func(operand int32)) {
	switch in.op {
	case opCall, opBuiltin, opCount, opDynamic:
		for _, o := range f.args[in.b : in.b+in.c] {
			visit(o)
		}
		if in.op == opDynamic {
			visit(0)
			visit(1)
		}
		return
	case opNext:
		visit(in.b)
		return
	case opLookUp:
		visit(0)
		visit(1)
		return
	case opEnter:
		visit(in.a)
		if in.to >= 0 {
			visit(in.to)
		}
	case opLeave:
		visit(in.c)
		visit(in.c + 1)
		return
	case opAppend, opInsert, opInsertLast, opInsertOnce, opAdd, opMoveOnce:
		visit(in.a)
	}
	switch in.op {
	case opMove, opName, opNotFalse, opIsKind, opIsDefined, opIsUndefined, opLen, opAppend, opAdd, opMoveOnce, opUnmixed, opScan, opReturn, opResult, opEnter:
		visit(in.b)
	case opDot, opBase, opEqual, opCompare, opNotEqual, opInsert, opInsertLast, opInsertOnce, opMerge:
		visit(in.b)
		visit(in.c)
	}
}

// writes visits the locals that an instruction sets before the next one.
func (in *instr) writes(visit func(local int32)) {
	switch in.op {
	case opReset, opMove, opDot, opLookUp, opBase, opName, opLen, opArray, opObject, opSet, opMerge, opMoveOnce,
		opCall, opBuiltin, opCount, opDynamic, opLevel, opLeave:
		visit(in.a)
	case opNext:
		visit(in.a)
		visit(in.c)
	case opEnter:
		visit(in.a)
		visit(in.c)
		visit(in.c + 1)
	}
}

// changes reports whether the instruction sets the local, or adds to what is
// there.
func (in *instr) changes(local int32) (does bool) {
	in.writes(func(l int32) { does = does || l == local })
	switch in.op {
	case opAppend, opInsert, opInsertLast, opInsertOnce, opAdd:
		does = in.a == local
	}
	return does
}

// sets is the local that an instruction also sets where it goes to another
// than the next one, -1 if none.
func (in *instr) sets() int32 {
	switch in.op {
	case opDot, opLookUp, opBase, opName, opCall, opBuiltin, opCount:
		return in.a
	}
	return -1
}

// falls reports whether the next instruction may follow.
func (in *instr) falls() bool { return in.op != opJump && in.op != opReturn }

// branches reports whether the instruction at to may follow.
func (in *instr) branches() bool {
	switch in.op {
	case opReset, opMove, opLen, opArray, opObject, opSet, opAppend, opInsert, opInsertLast, opInsertOnce, opAdd, opMerge, opMoveOnce,
		opUnmixed, opEnter, opLeave, opLevel, opReturn, opResult:
		return false
	}
	return true
}

// rename gives the locals of an instruction other numbers.
func (in *instr) rename(number func(operand int32) int32) {
	in.a = number(in.a)
	switch in.op {
	case opCall, opBuiltin, opCount, opDynamic:
		return // the others are of the list of arguments
	case opEnter:
		if in.to >= 0 {
			in.to = number(in.to)
		}
	}
	in.b, in.c = number(in.b), number(in.c)
}
