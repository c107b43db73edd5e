package vm

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// assembler makes the code of one function. A block of the plan ends in a
// label; what is undefined goes on at the label of the innermost block.
type assembler struct {
	*compiler
	f      *function
	blocks []*label // that a statement is in, the innermost last
	withs  []with   // the same of `with`
	loops  int
	extras int // locals that the plan does not know
	exits  []exit
	saves  map[ir.Local]int32 // where the memo was kept when input or data were
	based  map[int32]bool     // locals that a reference into data has come to
	known  map[ir.Local]int32 // locals that hold a constant
	loose  map[ir.Local]bool  // composites that are added to elsewhere than where they are made
	at     place
}

// label is a place in the code.
type label struct {
	pc    int32
	withs int // how many are entered there
	uses  []int
}

// with is one that is entered.
type with struct {
	local, saved int32
	pushes       int32 // 1: it has a memo of its own
}

// exit is a jump that leaves `with`s.
type exit struct {
	from int // the instruction
	left []with
	to   *label
}

func (a *assembler) emit(in instr) int {
	a.f.code = append(a.f.code, in)
	a.f.places = append(a.f.places, a.at)
	return len(a.f.code) - 1
}

// emitTo emits an instruction that may go on at the label.
func (a *assembler) emitTo(in instr, to *label) {
	a.refer(a.emit(in), to)
}

// orBreak emits an instruction that breaks the innermost block if it does not hold.
func (a *assembler) orBreak(in instr) { a.emitTo(in, a.outer(0)) }

func (a *assembler) refer(pc int, to *label) {
	if left := a.withs[to.withs:]; len(left) > 0 {
		a.exits = append(a.exits, exit{pc, append([]with(nil), left...), to})
		return
	}
	to.uses = append(to.uses, pc)
}

func (a *assembler) newLabel() *label { return &label{pc: -1, withs: len(a.withs)} }

// bind says that the label is here.
func (a *assembler) bind(l *label) { l.pc = int32(len(a.f.code)) }

func (a *assembler) resolve(l *label) {
	for _, pc := range l.uses {
		a.f.code[pc].to = l.pc
	}
	l.uses = nil
}

// outer is the label of a block around, 0 being the innermost.
func (a *assembler) outer(n int) *label { return a.blocks[len(a.blocks)-1-n] }

func (a *assembler) push(l *label) { a.blocks = append(a.blocks, l) }

func (a *assembler) pop(n int) { a.blocks = a.blocks[:len(a.blocks)-n] }

// block emits a block with the label of its end around it.
func (a *assembler) block(b *ir.Block, end *label) error {
	outer := maps.Clone(a.known)
	a.push(end)
	err := a.statements(b.Stmts)
	a.pop(1)
	a.known = outer
	a.forget(b.Stmts)
	return err
}

// sequence emits blocks that run one after the other.
func (a *assembler) sequence(blocks []*ir.Block) error {
	for _, b := range blocks {
		end := a.newLabel()
		if err := a.block(b, end); err != nil {
			return err
		}
		a.bind(end)
		a.resolve(end)
	}
	return nil
}

// finish emits the ways out of `with`s, once all labels are bound.
func (a *assembler) finish() {
	for i := 0; i < len(a.exits); i++ {
		e := a.exits[i]
		a.f.code[e.from].to = int32(len(a.f.code))
		a.at = a.f.places[e.from]
		for j := len(e.left) - 1; j >= 0; j-- {
			a.leave(e.left[j])
		}
		pc := a.emit(instr{op: opJump})
		a.f.code[pc].to = e.to.pc
	}
	a.moveExtras()
}

func (a *assembler) leave(w with) { a.emit(instr{op: opLeave, a: w.local, c: w.saved, x: w.pushes}) }

// local makes room for a local of the plan.
func (a *assembler) local(l ir.Local) int32 {
	a.f.locals = max(a.f.locals, int(l)+1)
	return int32(l)
}

// constant returns the operand of a constant.
func (k *compiler) constant(v value.Value) int32 {
	k.program.constants = append(k.program.constants, v)
	return ^int32(len(k.program.constants) - 1)
}

// text is constant i of the plan as a string.
func (k *compiler) text(i int) int32 {
	if o, ok := k.texts[i]; ok {
		return o
	}
	o := k.constant(value.OfString(k.policy.Static.Strings[i].Value))
	k.texts[i] = o
	return o
}

func (a *assembler) operand(o ir.Operand) int32 {
	switch v := o.Value.(type) {
	case ir.Local:
		if c, ok := a.known[v]; ok {
			return c
		}
		return a.local(v)
	case ir.StringIndex:
		return a.text(int(v))
	case ir.Bool:
		if v {
			return a.yes
		}
		return a.no
	}
	panic("the plan has an operand of an unknown kind")
}
