package vm

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// A plan builds each number and each composite where it is used. Those that are
// made of constants alone are made here, once. While code is made, known says
// which locals hold a constant or what another local does: until either is
// written again, and no longer than the block lasts in which that was so.

// knownValue returns the constant in a local of the plan.
func (a *assembler) knownValue(o ir.Operand) (value.Value, bool) {
	c := a.operand(o)
	if c >= 0 {
		return value.Value{}, false
	}
	return a.program.constants[^c], true
}

// set emits that a local is a constant, or what another local is. Where nothing reads it, the optimiser
// drops it again.
func (a *assembler) set(l ir.Local, operand int32) {
	a.emit(instr{op: opMove, a: a.local(l), b: operand})
	a.unknown(l)
	a.known[l] = operand
}

// forget notes that the statements write locals, here or further within.
func (a *assembler) forget(stmts []ir.Stmt) {
	each(stmts, a.write)
}

// write notes that a statement writes its locals.
func (a *assembler) write(s ir.Stmt) {
	for _, l := range written(s) {
		a.unknown(l)
	}
}

// unknown notes that a local is written.
func (a *assembler) unknown(l ir.Local) {
	delete(a.known, l)
	for other, o := range a.known {
		if o == int32(l) {
			delete(a.known, other)
		}
	}
}

// fold makes the constant that begins at statement i, if one does. It returns
// how many statements that takes.
func (a *assembler) fold(stmts []ir.Stmt, i int) int {
	target, v, ok := builder(stmts[i])
	if !ok || a.loose[target] {
		return 0
	}
	end := a.lastBuilding(stmts, i, target)
	made := map[ir.Local]value.Value{target: v}
	for _, s := range stmts[i+1 : end+1] {
		if inner, v, ok := builder(s); ok {
			if a.loose[inner] {
				return 0
			}
			made[inner] = v
			continue
		}
		if to, v, ok := a.literal(s); ok {
			made[to] = v
			continue
		}
		if !a.build(s, made) {
			return 0
		}
	}
	for _, v := range made {
		if room(v, maxConstant) < 0 {
			return 0
		}
	}
	for _, l := range slices.Sorted(maps.Keys(made)) {
		a.set(l, a.constant(value.Freeze(made[l])))
	}
	return end + 1 - i
}

// lastBuilding is the last statement of the block that adds to what statement
// i makes, or i.
func (a *assembler) lastBuilding(stmts []ir.Stmt, i int, target ir.Local) int {
	end := i
	for j := i + 1; j < len(stmts); j++ {
		if again, _, ok := builder(stmts[j]); ok && again == target {
			break
		}
		if to, ok := addsTo(stmts[j]); ok && to == target {
			end = j
		}
	}
	return end
}

// build adds to a composite what is constant.
func (a *assembler) build(s ir.Stmt, made map[ir.Local]value.Value) bool {
	var none *value.Heap
	get := func(o ir.Operand) (value.Value, bool) {
		if l, ok := o.Value.(ir.Local); ok {
			if v, ok := made[l]; ok {
				return v, true
			}
		}
		return a.knownValue(o)
	}
	to, ok := addsTo(s)
	if !ok || !made[to].Composite() {
		return false
	}
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		v, ok := get(s.Value)
		if ok {
			none.Append(made[to], v)
		}
		return ok
	case *ir.SetAddStmt:
		v, ok := get(s.Value)
		if ok {
			none.Add(made[to], v)
		}
		return ok
	case *ir.ObjectInsertStmt:
		key, ok := get(s.Key)
		v, also := get(s.Value)
		if ok && also {
			none.Insert(made[to], key, v)
		}
		return ok && also
	}
	return false
}

// literal is a statement that makes a scalar.
func (a *assembler) literal(s ir.Stmt) (ir.Local, value.Value, bool) {
	switch s := s.(type) {
	case *ir.AssignIntStmt:
		return s.Target, value.OfInt(s.Value), true
	case *ir.MakeNumberIntStmt:
		return s.Target, value.OfInt(s.Value), true
	case *ir.MakeNumberRefStmt:
		return s.Target, value.OfNumber(a.policy.Static.Strings[s.Index].Value), true
	case *ir.MakeNullStmt:
		return s.Target, value.NullValue, true
	}
	return 0, value.Value{}, false
}

// builder is a statement that makes an empty composite.
func builder(s ir.Stmt) (ir.Local, value.Value, bool) {
	var none *value.Heap
	switch s := s.(type) {
	case *ir.MakeArrayStmt:
		return s.Target, none.NewArray(int(s.Capacity)), true
	case *ir.MakeSetStmt:
		return s.Target, none.NewSet(), true
	case *ir.MakeObjectStmt:
		return s.Target, none.NewObject(), true
	}
	return 0, value.Value{}, false
}

// addsTo is the composite that a statement adds to.
func addsTo(s ir.Stmt) (ir.Local, bool) {
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		return s.Array, true
	case *ir.SetAddStmt:
		return s.Set, true
	case *ir.ObjectInsertStmt:
		return s.Object, true
	case *ir.ObjectInsertOnceStmt:
		return s.Object, true
	}
	return 0, false
}

// looseLocals are the composites that are added to elsewhere than in the block
// that makes them.
func looseLocals(blocks []*ir.Block) map[ir.Local]bool {
	loose := map[ir.Local]bool{}
	var look func(b *ir.Block)
	look = func(b *ir.Block) {
		begun := map[ir.Local]bool{}
		for _, s := range b.Stmts {
			if l, _, ok := builder(s); ok {
				begun[l] = true
			}
			if l, ok := addsTo(s); ok && !begun[l] {
				loose[l] = true
			}
			for _, inner := range blocksOf(s) {
				look(inner)
			}
		}
	}
	for _, b := range blocks {
		look(b)
	}
	return loose
}

// maxConstant is how many values a constant may hold. One that shares its parts
// is small as it is built, and endless when it is copied.
const maxConstant = 10_000

// room returns what is left of so many values after v's, or less than 0.
func room(v value.Value, left int) int {
	left--
	if !v.Composite() {
		return left
	}
	for i := 0; i < v.Len() && left >= 0; i++ {
		key, elem := v.At(i)
		if v.Kind() == value.Object {
			left = room(key, left)
		}
		left = room(elem, left)
	}
	return left
}
