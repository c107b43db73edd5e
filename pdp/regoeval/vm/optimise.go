package vm

import (
	"slices"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// optimise shortens the code of a function; what it answers, and where it
// fails, stay as they are.
func (k *compiler) optimise(f *function) {
	k.returnEarly(f)
	f.mergeEnds()
	f.threadJumps()
	f.dropNeverSet()
	f.invert()
	f.dropUnread()
	k.makeLate(f)
	k.fillInOrder(f)
	f.harmless = k.isHarmless(f) && !f.mayDisagree()
	if c := f.alwaysReturns(); c < 0 && k.program.constants[^c].Defined() {
		f.constant = c
	}
	f.settleLocals()
}

// isHarmless reports whether the function cannot fail, other than by the
// bounds of a run and by rules that disagree.
func (k *compiler) isHarmless(f *function) bool {
	for i := range f.code {
		switch in := &f.code[i]; in.op {
		case opCall:
			if !k.program.functions[in.x].harmless {
				return false
			}
		case opBuiltin, opCount:
			if !slices.Contains(harmless, k.program.builtins[in.x].name) {
				return false
			}
		case opInsertOnce, opDynamic, opEnter:
			return false
		}
	}
	return true
}

// mayDisagree reports whether two rules may give two values.
func (f *function) mayDisagree() bool {
	return slices.ContainsFunc(f.code, func(in instr) bool { return in.op == opMoveOnce && in.a != f.result })
}

// returnEarly ends the function where its value is known: the one assignment
// is followed by the end, or all agree on a constant and nothing that is
// skipped can fail.
func (k *compiler) returnEarly(f *function) {
	var values []int // where rules give theirs
	local := int32(-1)
	for i := range f.code {
		in := &f.code[i]
		switch {
		case in.op != opMoveOnce:
		case in.a != f.result && (local < 0 || local == in.a):
			local = in.a
			values = append(values, i)
		case in.a != f.result:
			return
		case in.b != local && (i == 0 || f.code[i-1].op != opIsUndefined || f.code[i-1].b != f.result):
			return // neither a rule's end nor the default
		}
	}
	if len(values) == 0 {
		return
	}
	at := values[0]
	if len(values) == 1 && f.ends(at+1, local) {
		f.code[at] = instr{op: opReturn, b: f.code[at].b}
		return
	}
	for _, i := range values {
		if f.code[i].b >= 0 || !value.Equal(k.program.constants[^f.code[i].b], k.program.constants[^f.code[at].b]) {
			return
		}
	}
	if k.isHarmless(f) {
		for _, i := range values {
			f.code[i] = instr{op: opReturn, b: f.code[i].b}
		}
	}
}

// mergeEnds lets rules without `else` give their values to the function
// directly, not by way of a local that the rule's end reads.
func (f *function) mergeEnds() {
	var values []int // of the rule at hand
	chained := false // it has an else
	for i := range f.code {
		switch in := &f.code[i]; {
		case in.op == opMoveOnce && in.a != f.result:
			values = append(values, i)
		case in.op == opIsUndefined && in.b != f.result && in.b >= 0:
			chained = true
		case in.op == opMoveOnce && i > 0 && f.code[i-1].op == opIsDefined && f.code[i-1].b == in.b && in.b >= 0:
			own := !slices.ContainsFunc(values, func(v int) bool { return f.code[v].a != in.b })
			if own && !chained && len(values) > 0 {
				for _, v := range values {
					f.code[v].a = f.result
				}
				next := int32(i + 1)
				f.code[i-1], f.code[i] = instr{op: opJump, to: next}, instr{op: opJump, to: next}
			}
			values, chained = nil, false
		}
	}
}

// threadJumps lets jumps to jumps go where those go, and drops those to the
// next instruction.
func (f *function) threadJumps() {
	for i := range f.code {
		in := &f.code[i]
		for in.op != opEnter && f.code[in.to].op == opJump && f.code[in.to].to != in.to {
			in.to = f.code[in.to].to
		}
	}
}

// invert makes one instruction of a condition that skips a jump: the jump is
// taken where the condition holds. All other ways to that jump lead to where it
// goes.
func (f *function) invert() {
	for i := range len(f.code) - 1 {
		in, jump := &f.code[i], &f.code[i+1]
		if in.branches() && in.op != opJump && in.op != opNext && in.op != opDynamic && !in.not && int(in.to) == i+2 && jump.op == opJump {
			in.not, in.to, jump.to = true, jump.to, in.to
		}
	}
}

// dropNeverSet settles the questions whether a local is defined that nothing
// defines, as is left where a rule returns early.
func (f *function) dropNeverSet() {
	set := make([]bool, f.locals)
	for _, l := range f.params {
		set[l] = true
	}
	for i := range f.code {
		if in := &f.code[i]; in.op != opReset {
			in.writes(func(l int32) { set[l] = true })
		}
	}
	for i := range f.code {
		switch in := &f.code[i]; {
		case in.op == opIsDefined && in.b >= 0 && !set[in.b]:
			*in = instr{op: opJump, to: in.to}
		case in.op == opIsUndefined && in.b >= 0 && !set[in.b]:
			*in = instr{op: opJump, to: int32(i + 1)}
		}
	}
}

// makeLate lets sets and objects begin as the empty one of the program where
// nobody else gets to see them before they are returned: most stay empty.
func (k *compiler) makeLate(f *function) {
	early := make([]bool, f.locals)
	for i := range f.code {
		in := &f.code[i]
		f.reads(in, func(o int32) {
			adds := in.op == opAdd || in.op == opInsert || in.op == opInsertOnce
			if o >= 0 && in.op != opReturn && (!adds || o == in.b || o == in.c && in.op != opAdd) {
				early[o] = true
			}
		})
	}
	for i := range f.code {
		switch in := &f.code[i]; {
		case in.op == opSet && !early[in.a]:
			*in = instr{op: opMove, a: in.a, b: k.noSet}
		case in.op == opObject && !early[in.a]:
			*in = instr{op: opMove, a: in.a, b: k.noObject}
		}
	}
}

// fillInOrder lets an object whose members are spelt out in their order, as a
// plan has them, be filled without looking for each.
func (k *compiler) fillInOrder(f *function) {
	entered := make([]bool, len(f.code)+1) // other than from the one before
	for i := range f.code {
		if in := &f.code[i]; in.branches() {
			entered[in.to] = true
		}
	}
	for i := range f.code {
		object := &f.code[i]
		if object.op != opObject {
			continue
		}
		last := ""
		for j := i + 1; !entered[j] && f.code[j].falls(); j++ {
			in := &f.code[j]
			if in.op == opInsert && in.a == object.a {
				name, ok := k.name(in.b)
				if !ok || object.x > 0 && name <= last {
					break
				}
				in.op, last = opInsertLast, name
				object.x++
			} else if in.changes(object.a) {
				break
			}
		}
	}
}

// name is the text of an operand that is a constant.
func (k *compiler) name(o int32) (string, bool) {
	if o >= 0 || k.program.constants[^o].Kind() != value.String {
		return "", false
	}
	return k.program.constants[^o].Text(), true
}

// ends reports whether a rule's value becomes the function's from here on, with
// nothing after it.
func (f *function) ends(pc int, local int32) bool {
	if pc+3 >= len(f.code) || f.code[pc].op != opIsDefined || f.code[pc].b != local || f.code[pc+1].op != opMoveOnce || f.code[pc+1].b != local {
		return false
	}
	next := f.code[pc+2]
	return (next.op == opReturn || next.op == opIsUndefined) && next.b == f.result
}

// alwaysReturns returns the constant that is the function's value, 0 if there
// is none.
func (f *function) alwaysReturns() int32 {
	for _, in := range f.code {
		switch in.op {
		case opReset:
		case opReturn:
			return min(in.b, 0)
		default:
			return 0
		}
	}
	return 0
}
