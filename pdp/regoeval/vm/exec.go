package vm

import (
	"strconv"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// run executes a function in its frame. It is false where the run failed.
func (r *Run) run(f *function, frame []value.Value, loops []cursor) (value.Value, bool) {
	for pc := 0; ; pc++ {
		in := &f.code[pc]
		holds := true
		switch in.op {
		case opJump:
			holds = false
		case opReset:
			frame[in.a] = value.Value{}
		case opMove:
			frame[in.a] = *r.operand(in.b, frame)
		case opLookUp:
			at := &r.memo.kept[in.x]
			if at.generation != r.memo.generation {
				at = r.lookUp(in.x, frame)
			}
			frame[in.a] = at.value
			holds = at.value.Defined()
		case opName:
			v := frame[in.b].GetName(r.program.constants[^in.c].Text(), &r.hints[in.x])
			frame[in.a] = v
			holds = v.Defined()
		case opDot:
			v := r.operand(in.b, frame).Get(*r.operand(in.c, frame))
			frame[in.a] = v
			holds = v.Defined()
		case opEqual:
			holds = value.Equal(*r.operand(in.b, frame), *r.operand(in.c, frame))
		case opNotEqual:
			holds = !value.Equal(*r.operand(in.b, frame), *r.operand(in.c, frame))
		case opNotFalse:
			holds = !r.operand(in.b, frame).IsFalse()
		case opCompare:
			holds = compare(in.x, r.operand(in.b, frame), r.operand(in.c, frame))
		case opIsKind:
			holds = r.operand(in.b, frame).Kind() == value.Kind(in.x)
		case opIsDefined:
			holds = r.operand(in.b, frame).Defined()
		case opIsUndefined:
			holds = !r.operand(in.b, frame).Defined()
		case opScan:
			loops[in.x] = cursor{0, r.operand(in.b, frame).Len()}
			holds = loops[in.x].end > 0
		case opNext:
			at := &loops[in.x]
			if at.at == at.end {
				holds = false
				break
			}
			r.fuel--
			if r.fuel < 0 && !r.look(f, pc) {
				return value.Value{}, false
			}
			frame[in.a], frame[in.c] = r.operand(in.b, frame).At(at.at)
			at.at++
		case opCall:
			g := &r.program.functions[in.x]
			if g.memo >= 0 {
				if had := &r.memo.kept[g.memo]; had.generation == r.memo.generation {
					frame[in.a] = had.value
					holds = had.value.Defined()
					break
				}
			}
			v, ok := r.call(g, frame, f.args[in.b:in.b+in.c])
			if !ok {
				return value.Value{}, false
			}
			frame[in.a] = v
			holds = v.Defined()
		case opCount:
			if v := r.operand(f.args[in.b], frame); v.Composite() {
				frame[in.a] = value.OfInt(int64(v.Len()))
				break
			}
			fallthrough
		case opBuiltin:
			v, ok := r.builtin(f, pc, frame)
			if !ok {
				return value.Value{}, false
			}
			frame[in.a] = v
			holds = v.Defined() || r.program.builtins[in.x].void
		case opReturn:
			return *r.operand(in.b, frame), true
		default:
			var ok bool
			if holds, ok = r.make(f, pc, frame); !ok {
				return value.Value{}, false
			}
		}
		if holds == in.not {
			pc = int(in.to) - 1
		}
	}
}

// make executes the instructions that build values, and the rare ones.
func (r *Run) make(f *function, pc int, frame []value.Value) (holds, ok bool) {
	in := &f.code[pc]
	switch in.op {
	case opArray:
		frame[in.a] = r.heap.NewArray(int(in.x))
	case opObject:
		frame[in.a] = r.heap.NewObjectOf(int(in.x))
	case opSet:
		frame[in.a] = r.heap.NewSet()
	case opAppend:
		r.heap.Append(frame[in.a], *r.operand(in.b, frame))
	case opAdd:
		if frame[in.a].Fixed() { // made late
			frame[in.a] = r.heap.NewSet()
		}
		r.heap.Add(frame[in.a], *r.operand(in.b, frame))
	case opInsert:
		r.insert(&frame[in.a], *r.operand(in.b, frame), *r.operand(in.c, frame))
	case opInsertLast:
		r.heap.InsertLast(frame[in.a], *r.operand(in.b, frame), *r.operand(in.c, frame))
	case opInsertOnce:
		key, elem := *r.operand(in.b, frame), *r.operand(in.c, frame)
		if old := frame[in.a].Get(key); old.Defined() {
			if !value.Equal(old, elem) {
				return false, r.failKeys(f, pc)
			}
			return true, true
		}
		r.insert(&frame[in.a], key, elem)
	case opMoveOnce:
		v, target := r.operand(in.b, frame), &frame[in.a]
		switch {
		case !target.Defined():
			*target = *v
		case !value.Equal(*target, *v):
			return false, r.failConflict(f, pc)
		} // of equal values, such as 1 and 1.0, the first one counts
	case opBase:
		v, clear := base(*r.operand(in.b, frame), *r.operand(in.c, frame))
		if !clear {
			return false, r.failUnsure("a key into data is of another type than what is there", f, pc)
		}
		frame[in.a] = v
		return v.Defined(), true
	case opLen:
		frame[in.a] = value.OfInt(int64(r.operand(in.b, frame).Len()))
	case opMerge:
		frame[in.a] = r.merge(*r.operand(in.b, frame), *r.operand(in.c, frame))
	case opDynamic:
		g := r.dynamic(f.args[in.b:in.b+in.c], frame)
		if g == nil {
			return false, true
		}
		v, ok := r.call(g, frame, inputAndData)
		frame[in.a] = v
		return true, ok
	case opEnter:
		if !r.enter(in, frame) {
			return false, r.failUnsure("data is replaced in part", f, pc)
		}
	case opUnmixed:
		if r.operand(in.b, frame).Len() > 0 {
			return false, r.failUnsure("rules and data are visited in one loop", f, pc)
		}
	case opLeave:
		r.leave(in, frame)
	case opLevel:
		frame[in.a] = value.OfInt(int64(r.level))
	case opResult:
		r.found = append(r.found, *r.operand(in.b, frame))
	}
	return true, true
}

// insert sets a member of an object, which may be made late.
func (r *Run) insert(object *value.Value, key, elem value.Value) {
	if object.Fixed() {
		*object = r.heap.NewObject()
	}
	r.heap.Insert(*object, key, elem)
}

// merge puts the members of both objects into one; where they meet in what is
// no object, a's stands.
func (r *Run) merge(a, b value.Value) value.Value {
	if a.Kind() != value.Object || b.Kind() != value.Object {
		return a
	}
	v := r.heap.NewObject()
	for i := range a.Len() {
		key, elem := a.At(i)
		if other := b.Get(key); other.Defined() {
			elem = r.merge(elem, other)
		}
		r.heap.Insert(v, key, elem)
	}
	for i := range b.Len() {
		if key, elem := b.At(i); !a.Get(key).Defined() {
			r.heap.Insert(v, key, elem)
		}
	}
	return v
}

// base looks a key up in data. It is unclear what topdown finds where a number
// names a member or a text of digits an element: it reads its store by paths of
// texts, and what it has read before by values.
func base(v, key value.Value) (found value.Value, clear bool) {
	found = v.Get(key)
	switch {
	case found.Defined():
	case v.Kind() == value.Object && key.Kind() == value.Number:
		return found, !v.Get(value.OfString(key.Number())).Defined()
	case v.Kind() == value.Array && key.Kind() == value.String:
		_, err := strconv.Atoi(key.Text())
		return found, err != nil
	}
	return found, true
}

func compare(how comparison, a, b *value.Value) bool {
	switch how {
	case equal:
		return value.Equal(*a, *b)
	case unequal:
		return !value.Equal(*a, *b)
	case less:
		return value.Compare(*a, *b) < 0
	case atMost:
		return value.Compare(*a, *b) <= 0
	case more:
		return value.Compare(*a, *b) > 0
	case atLeast:
		return value.Compare(*a, *b) >= 0
	default:
		return b.Has(*a)
	}
}
