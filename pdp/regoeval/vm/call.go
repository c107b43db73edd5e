package vm

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/builtin"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// call runs a function whose arguments are operands of the caller's frame. It
// is undefined, and false, where the run failed.
func (r *Run) call(f *function, caller []value.Value, args []int32) (value.Value, bool) {
	var into *kept
	if f.memo >= 0 {
		into = &r.memo.kept[f.memo]
		if into.generation == r.memo.generation {
			return into.value, true
		}
	}
	r.fuel--
	if r.fuel < 0 && !r.look(f, 0) {
		return value.Value{}, false
	}
	if r.depth == maxDepth {
		return value.Value{}, r.fail(topdown.InternalErr, "rules call each other too deeply", f, 0)
	}
	stack, top, cursors, loop := r.stack, r.top, r.cursors, r.loop
	frame, loops := r.push(f)
	for i, o := range args {
		frame[i] = *r.operand(o, caller)
	}
	var latest *latest
	if f.latest >= 0 {
		latest = &r.latest[f.latest]
		if latest.is(frame[2:len(args)], r.memo.generation) {
			r.stack, r.top, r.cursors, r.loop = stack, top, cursors, loop
			return latest.value, true
		}
		latest.generation = 0 // it may be called within
	}
	for _, l := range f.unset {
		frame[l] = value.Value{}
	}
	r.depth++
	v, ok := r.run(f, frame, loops)
	r.depth--
	if ok && latest != nil {
		latest.generation, latest.value = r.memo.generation, v
		copy(latest.args[:], frame[2:len(args)])
	}
	r.stack, r.top, r.cursors, r.loop = stack, top, cursors, loop
	if ok && into != nil {
		into.generation, into.value = r.memo.generation, v
	}
	return v, ok
}

// push makes room for a frame. Where the stack is full the frame gets a new
// one, since frames below are in use.
func (r *Run) push(f *function) ([]value.Value, []cursor) {
	if r.top+f.locals > len(r.stack) {
		r.stack, r.top = make([]value.Value, max(2*len(r.stack), 2*f.locals)), 0
	}
	if r.loop+f.loops > len(r.cursors) {
		r.cursors, r.loop = make([]cursor, max(2*len(r.cursors), 2*f.loops)), 0
	}
	frame := r.stack[r.top : r.top+f.locals : r.top+f.locals]
	loops := r.cursors[r.loop : r.loop+f.loops : r.loop+f.loops]
	r.top += f.locals
	r.loop += f.loops
	return frame, loops
}

// builtin calls a built-in function; its value is undefined where it has none.
func (r *Run) builtin(f *function, pc int, frame []value.Value) (value.Value, bool) {
	in := &f.code[pc]
	b := &r.program.builtins[in.x]
	r.args = r.args[:0]
	cost := int(b.cost)
	for _, o := range f.args[in.b : in.b+in.c] {
		arg := r.operand(o, frame)
		r.args = append(r.args, *arg)
		cost += len(arg.Text()) / textPerStep
	}
	r.fuel -= cost
	if r.fuel < 0 && !r.look(f, pc) {
		return value.Value{}, false
	}
	v, err := b.call(&r.host, r.args)
	r.fuel -= r.host.Work / workPerStep
	r.host.Work = 0
	if err != nil {
		if known, ok := err.(*builtin.Error); ok && r.lenient && slices.Contains(forgiven, known.Code) {
			return value.Value{}, true
		}
		return value.Value{}, r.failBuiltin(err, f, pc)
	}
	if (r.fuel < 0 || r.heap.Full()) && !r.look(f, pc) {
		return value.Value{}, false
	}
	return v, true
}

// A step is so many bytes of text that a function reads, and so many units of
// its work beyond that.
const (
	textPerStep = 256
	workPerStep = 128
)

// forgiven are the codes of errors that are undefined unless errors are strict.
var forgiven = []string{topdown.BuiltinErr, topdown.TypeErr}

// dynamic finds the function that a path names, nil where there is none.
func (r *Run) dynamic(path []int32, frame []value.Value) *function {
	d := r.program.dynamic
	for _, o := range path {
		name := r.operand(o, frame)
		if name.Kind() != value.String {
			return nil
		}
		if d = d.below[name.Text()]; d == nil {
			return nil
		}
	}
	if d.function < 0 {
		return nil
	}
	return &r.program.functions[d.function]
}

// latest is the latest call of a function, whose value is used again where the
// next call has the very same arguments.
type latest struct {
	generation uint64
	args       [maxKeptArgs]value.Value
	value      value.Value
}

// maxKeptArgs is up to how many arguments are compared.
const maxKeptArgs = 3

func (l *latest) is(args []value.Value, generation uint64) bool {
	if l.generation != generation {
		return false
	}
	for i := range args {
		if l.args[i] != args[i] {
			return false
		}
	}
	return true
}
