package vm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/builtin"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// compiler turns one plan into a program.
type compiler struct {
	policy    *ir.Policy
	program   *Program
	functions map[string]int32
	builtins  map[string]int32
	texts     map[int]int32
	lookUps   map[string]int32
	yes, no   int32
	noSet     int32 // the empty one
	noObject  int32
	bound     int // calls with a function of their own
}

func compile(policy *ir.Policy) (*Program, error) {
	k := &compiler{
		policy: policy, program: &Program{entries: map[string]Entry{}, dynamic: newDispatch()},
		functions: map[string]int32{}, builtins: map[string]int32{}, texts: map[int]int32{}, lookUps: map[string]int32{},
	}
	p := k.program
	k.yes, k.no = k.constant(value.True), k.constant(value.False)
	k.noSet, k.noObject = k.constant(value.Freeze((*value.Heap)(nil).NewSet())), k.constant(noData)
	if err := k.addBuiltins(); err != nil {
		return nil, err
	}
	p.functions = make([]function, len(policy.Funcs.Funcs))
	for i, f := range policy.Funcs.Funcs {
		k.functions[f.Name] = int32(i)
		p.functions[i] = function{name: f.Name, params: params(f), rule: slices.Max(f.Params) < f.Return, memo: -1, latest: -1, result: int32(f.Return)}
		if n := len(f.Params); n > 2 && n <= 2+maxKeptArgs {
			p.functions[i].latest = i
		}
		if len(f.Params) == 2 {
			p.functions[i].memo = i
			p.dynamic.add(f.Path, int32(i))
			if f.Path[0] == "g0" {
				p.entries[strings.Join(f.Path[1:], "\x00")+"\x00"] = Entry(i)
			}
		}
	}
	for i, f := range policy.Funcs.Funcs {
		if readsUnset(f) {
			return nil, &Unsupported{Why: "a rule of " + ruleName(f.Name) + " unifies two values that share variables, which OPA plans before these are known"}
		}
		d := newDepths(int32(f.Return))
		for _, b := range f.Blocks {
			d.see(b)
		}
		if d.clash() {
			return nil, &Unsupported{Why: "one of the rules of " + ruleName(f.Name) + " goes on below another"}
		}
		if err := k.function(&p.functions[i], f.Blocks); err != nil {
			return nil, err
		}
	}
	p.query = function{name: "query", params: inputAndData, memo: -1, latest: -1}
	var blocks []*ir.Block
	for _, plan := range policy.Plans.Plans {
		blocks = append(blocks, plan.Blocks...)
	}
	dropCaptured(policy, blocks)
	if err := k.function(&p.query, blocks); err != nil {
		return nil, err
	}
	p.runs.New = func() any { return newRun(p) }
	return p, nil
}

func (k *compiler) function(f *function, blocks []*ir.Block) error {
	f.locals = int(max(slices.Max(f.params)+1, int32(ir.Unused)))
	a := &assembler{compiler: k, f: f, saves: map[ir.Local]int32{}, based: map[int32]bool{int32(ir.Data): true},
		known: map[ir.Local]int32{}, loose: looseLocals(blocks)}
	if err := a.sequence(blocks); err != nil {
		return err
	}
	a.emit(instr{op: opReturn, b: k.constant(value.Value{})})
	a.finish()
	k.optimise(f)
	return nil
}

func params(f *ir.Func) []int32 {
	locals := make([]int32, len(f.Params))
	for i, l := range f.Params {
		locals[i] = int32(l)
	}
	return locals
}

// repeatable are built-in functions that OPA declares as nondeterministic and
// that take what they need from the evaluation.
var repeatable = []string{"time.now_ns", "io.jwt.decode_verify"}

func (k *compiler) addBuiltins() error {
	for _, b := range k.policy.Static.BuiltinFuncs {
		declared := ast.BuiltinMap[b.Name]
		if declared == nil || declared.Nondeterministic && !slices.Contains(repeatable, b.Name) {
			return &Unsupported{Why: fmt.Sprintf("the built-in %s depends on more than the evaluation", b.Name)}
		}
		call, native := builtin.Lookup(b.Name)
		if call == nil {
			return &Unsupported{Why: "there is no built-in " + b.Name}
		}
		k.builtins[b.Name] = int32(len(k.program.builtins))
		k.program.builtins = append(k.program.builtins, makeNative(b, call, native))
		if !native {
			k.program.foreign = append(k.program.foreign, b.Name)
		}
	}
	slices.Sort(k.program.foreign)
	return nil
}

// mostBound is how many calls get a function of their own, which keeps what
// the call's constants are read as.
const mostBound = 1000

// boundTo returns the built-in function of one call, if that is worth one.
func (a *assembler) boundTo(name string, in instr) (int32, bool) {
	args := make([]value.Value, in.c)
	for i, o := range a.f.args[in.b:] {
		if o < 0 {
			args[i] = a.program.constants[^o]
		}
	}
	call := builtin.Bind(name, args)
	if call == nil || a.bound == mostBound {
		return 0, false
	}
	a.bound++
	own := a.program.builtins[in.x]
	own.call = call
	a.program.builtins = append(a.program.builtins, own)
	return int32(len(a.program.builtins) - 1), true
}

func makeNative(b *ir.BuiltinFunc, call builtin.Func, own bool) native {
	n := native{name: b.Name, call: call, void: b.Decl.Result() == nil, cost: 1}
	if !own {
		n.cost = 16
	}
	return n
}
