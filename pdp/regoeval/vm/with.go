package vm

import (
	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// What rules are worth differs inside `with`: there they have a memo of their
// own. Where the plan puts input and data back, for what follows the
// expression, the memo that was in use then is put back too.

// keepMemo notes the memo where the plan keeps input or data.
func (a *assembler) keepMemo(s *ir.AssignVarStmt) {
	from, ok := s.Source.Value.(ir.Local)
	if !ok || from != ir.Input && from != ir.Data {
		return
	}
	kept := a.extra()
	a.emit(instr{op: opLevel, a: kept})
	a.saves[s.Target] = kept
}

// extra returns a local that the plan does not know; finish moves it behind
// those of the plan.
func (a *assembler) extra() int32 {
	a.extras++
	return int32(a.extras - 1)
}

func (a *assembler) with(s *ir.WithStmt) error {
	w := with{local: a.local(s.Local), saved: a.extra(), pushes: 1}
	a.extra()
	in := instr{op: opEnter, a: w.local, b: a.operand(s.Value), c: w.saved, x: -1, to: -1}
	if len(s.Path) > 0 {
		path := make([]string, len(s.Path))
		for i, text := range s.Path {
			path[i] = a.policy.Static.Strings[text].Value
		}
		in.x = int32(len(a.program.paths))
		a.program.paths = append(a.program.paths, path)
	} else if from, ok := s.Value.Value.(ir.Local); ok {
		if kept, ok := a.saves[from]; ok {
			in.to, w.pushes = kept, 0
		}
	}
	a.emit(in)
	a.withs = append(a.withs, w)
	end := a.newLabel()
	err := a.block(s.Block, end)
	a.leave(w)
	after := a.emit(instr{op: opJump})
	a.bind(end)
	a.resolve(end)
	a.leave(w)
	a.withs = a.withs[:len(a.withs)-1]
	a.orBreak(instr{op: opJump})
	a.f.code[after].to = int32(len(a.f.code))
	return err
}

// moveExtras gives the locals that the plan does not know their places.
func (a *assembler) moveExtras() {
	behind := int32(a.f.locals)
	a.f.locals += a.extras
	for i := range a.f.code {
		switch in := &a.f.code[i]; in.op {
		case opEnter:
			in.c += behind
			if in.to >= 0 {
				in.to += behind
			}
		case opLeave:
			in.c += behind
		case opLevel:
			in.a += behind
		}
	}
}

// enter changes input or data. It is false where it is unclear what data is
// then.
func (r *Run) enter(in *instr, frame []value.Value) bool {
	frame[in.c], frame[in.c+1] = frame[in.a], value.OfInt(int64(r.level))
	v := *r.operand(in.b, frame)
	if in.x >= 0 {
		path := r.program.paths[in.x]
		if in.a == int32(ir.Data) && !covers(v, below(r.data, path)) {
			return false
		}
		v = r.heap.Upsert(frame[in.a], path, v)
	}
	frame[in.a] = v
	if in.to >= 0 {
		level, _ := frame[in.to].Int()
		r.level = int(level)
	} else {
		r.pushMemo()
	}
	r.memo = &r.memos[r.level]
	return true
}

func below(v value.Value, path []string) value.Value {
	for _, name := range path {
		v = v.Get(value.OfString(name))
	}
	return v
}

// covers reports whether all of an object that is replaced is in what replaces
// it. Otherwise it still shows where topdown looks from above.
func covers(v, replaced value.Value) bool {
	if v.Kind() != value.Object || replaced.Kind() != value.Object {
		return true
	}
	for i := range replaced.Len() {
		key, elem := replaced.At(i)
		if other := v.Get(key); !other.Defined() || !covers(other, elem) {
			return false
		}
	}
	return true
}

func (r *Run) leave(in *instr, frame []value.Value) {
	level, _ := frame[in.c+1].Int()
	frame[in.a] = frame[in.c]
	r.level, r.pushed = int(level), r.pushed-int(in.x)
	r.memo = &r.memos[r.level]
}

// memo is what rules are worth.
type memo struct {
	generation uint64
	kept       []kept // by function
}

type kept struct {
	generation uint64
	value      value.Value
}

// pushMemo begins an empty memo.
func (r *Run) pushMemo() {
	r.pushed++
	if r.pushed == len(r.memos) {
		r.memos = append(r.memos, memo{kept: make([]kept, len(r.program.functions)+len(r.program.lookUps))})
	}
	r.generation++
	r.level = r.pushed
	r.memos[r.level].generation = r.generation
}
