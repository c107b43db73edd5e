package vm

import (
	"cmp"
	"context"

	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/builtin"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// Run is one evaluation.
type Run struct {
	program *Program
	heap    value.Heap
	ctx     context.Context
	input   value.Value
	data    value.Value
	lenient bool

	stack   []value.Value // frames; the next one begins at top
	top     int
	cursors []cursor // of loops; the next frame's begin at loop
	loop    int
	depth   int
	hints   []uint32
	args    []value.Value // of built-in functions

	latest     []latest // by function
	memos      []memo   // the first is outside of `with`
	memo       *memo
	level      int // which it is
	pushed     int // the last that is in use
	generation uint64
	ended      int // evaluations

	fuel  int // steps until the next look at the bounds
	steps int // left after that
	host  builtin.Call
	found []value.Value // answers of the query
	err   *Error
}

// cursor is where a loop is.
type cursor struct{ at, end int }

func newRun(p *Program) *Run {
	r := &Run{
		program: p, stack: make([]value.Value, 1024), cursors: make([]cursor, 64), hints: make([]uint32, p.hints+len(p.lookUps)),
		latest: make([]latest, len(p.functions)),
		memos:  []memo{{kept: make([]kept, len(p.functions)+len(p.lookUps))}},
	}
	r.host.Heap, r.host.Cancel, r.host.Cache = &r.heap, (*ending)(r), builtins.Cache{}
	return r
}

// Begin starts an evaluation, which must be ended. Values of in must not change
// until then.
func (p *Program) Begin(ctx context.Context, in Input) *Run {
	r := p.runs.Get().(*Run)
	r.ctx, r.input, r.data, r.lenient = ctx, in.Value, in.Data, in.Lenient
	if !r.data.Defined() {
		r.data = noData
	}
	r.heap.Limit = cmp.Or(in.Values, DefaultValues)
	r.fuel, r.steps = 0, cmp.Or(in.Steps, DefaultSteps)
	r.host.Context, r.host.Now, r.host.Values = ctx, in.Now, in.Patterns
	r.top, r.loop, r.depth, r.err = 0, 0, 0, nil
	r.generation++
	r.level, r.pushed = 0, 0
	r.memo = &r.memos[0]
	r.memo.generation = r.generation
	return r
}

var noData = value.Freeze((*value.Heap)(nil).NewObject())

// End gives the memory back.
func (r *Run) End() {
	r.heap.Reset()
	clear(r.host.Cache)
	r.ctx, r.host.Context, r.host.Values = nil, nil, nil
	r.found = r.found[:0]
	if r.ended++; r.ended%forgetEvery == 0 {
		clear(r.stack)
	}
	r.program.runs.Put(r)
}

// forgetEvery is after how many evaluations frames are cleared: what an earlier
// request left there must not be kept for long.
const forgetEvery = 256

// Call returns the value of a rule, undefined where it has none. What was
// computed for one rule is there for the next. The value is good until End.
// Errors are [*Error]s; after one, the run is of no more use.
func (r *Run) Call(e Entry) (value.Value, error) {
	v := r.enterFunction(&r.program.functions[e])
	if r.err != nil {
		return value.Value{}, r.err
	}
	return v, nil
}

// Query returns the results of the planned query: an object of its variables
// each, in the order in which they were found. They are good until End.
func (r *Run) Query() ([]value.Value, error) {
	r.found = r.found[:0]
	r.enterFunction(&r.program.query)
	if r.err != nil {
		return nil, r.err
	}
	return r.found, nil
}

// enterFunction calls a function of no arguments from outside.
func (r *Run) enterFunction(f *function) (v value.Value) {
	defer r.recovered()
	if r.err != nil || r.fuel <= 0 && !r.look(&r.program.query, 0) {
		return value.Value{}
	}
	frame := [2]value.Value{r.input, r.data}
	v, _ = r.call(f, frame[:], inputAndData)
	return v
}

var inputAndData = []int32{0, 1}

// operand is a local or a constant.
func (r *Run) operand(o int32, frame []value.Value) *value.Value {
	if o >= 0 {
		return &frame[o]
	}
	return &r.program.constants[^o]
}

// slice is how many steps are taken between looks at the bounds.
const slice = 1024

// look reports whether the run may go on. The context's end is noticed a few
// thousand steps late.
func (r *Run) look(f *function, pc int) bool {
	r.steps += r.fuel // what was taken too much
	switch {
	case r.steps <= 0:
		return r.fail(CodeBudget, "the evaluation takes more steps than it may", f, pc)
	case r.heap.Full():
		return r.fail(CodeBudget, value.ErrMemory.Error(), f, pc)
	case r.ctx.Err() != nil:
		return r.fail(CodeBudget, context.Cause(r.ctx).Error(), f, pc)
	}
	r.fuel = min(slice, r.steps)
	r.steps -= r.fuel
	return true
}

// ending tells OPA's functions whether the evaluation's context has ended.
type ending Run

var _ topdown.Cancel = (*ending)(nil)

// Cancel is for who evaluates, not for functions.
func (*ending) Cancel() {}

// Cancelled implements [topdown.Cancel].
func (e *ending) Cancelled() bool { return e.ctx != nil && e.ctx.Err() != nil }
