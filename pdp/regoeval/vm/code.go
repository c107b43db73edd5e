package vm

import (
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/builtin"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// Program is a planned query and the rules that it can reach, as code.
type Program struct {
	query     function
	functions []function
	entries   map[string]Entry // by the rule's path, joined by \x00
	dynamic   *dispatch
	constants []value.Value
	paths     [][]string // of `with`
	lookUps   []lookUp
	builtins  []native
	foreign   []string
	hints     int
	runs      sync.Pool
}

// Entry returns the rule that the ground reference names, such as
// data.xiezhi.platform.network.deny, if the query reaches it without `with`.
func (p *Program) Entry(ref ast.Ref) (Entry, bool) {
	key := make([]byte, 0, 64)
	for i, term := range ref {
		switch name := term.Value.(type) {
		case ast.Var:
			if i > 0 || name != ast.DefaultRootDocument.Value.(ast.Var) {
				return 0, false
			}
		case ast.String:
			key = append(append(key, name...), 0)
		default:
			return 0, false
		}
	}
	e, ok := p.entries[string(key)]
	return e, ok
}

// Foreign lists the built-in functions that the program leaves to OPA's own
// implementations, sorted.
func (p *Program) Foreign() []string { return p.foreign }

// Constants are the values that are the same in every run: a run's values are
// these very ones where a rule spells them out. They outlive runs.
func (p *Program) Constants() []value.Value { return p.constants }

// function is a rule, or all rules of one name, as code.
type function struct {
	name     string
	params   []int32 // the plan's locals of its arguments, here the first ones; input and data begin
	rule     bool    // it has no arguments of its own
	memo     int     // where its value is kept; -1: nowhere
	latest   int     // where its latest call is kept; -1: nowhere
	result   int32   // the local of its value
	constant int32   // its value where that is always the same; 0: it is not
	harmless bool    // it cannot fail, other than by the bounds of a run
	locals   int
	unset    []int32 // locals that must be undefined when it begins
	loops    int     // scans that can be under way at once
	code     []instr
	places   []place // of each instruction
	args     []int32 // operands of its calls
}

// native is a built-in function.
type native struct {
	name string
	call builtin.Func
	void bool // it has no result
	cost int32
}

// instr is one instruction. An operand is a local, or ^i for constant i.
type instr struct {
	op      opcode
	not     bool // goes on at to if it holds
	a, b, c int32
	x       int32
	to      int32 // where to go on if it does not hold
}

type opcode uint8

const (
	opJump        opcode = iota
	opReset              // a is undefined
	opMove               // a = b
	opDot                // a = b[c], or to
	opLookUp             // a = what is at the path x below input or data, or to
	opBase               // the same below data, where it may be an error
	opName               // a = local b[constant c], or to; x is its hint
	opEqual              // b == c, or to
	opNotEqual           // b != c, or to
	opNotFalse           // b is not false, or to
	opCompare            // b against c as x says, or to
	opIsKind             // b is of the kind x, or to
	opIsDefined          // b is defined, or to
	opIsUndefined        // b is undefined, or to
	opLen                // a = how many elements b has
	opArray              // a = an empty array with room for x
	opObject             // a = an empty object with room for x
	opSet                // a = an empty set
	opAppend             // to array a the value b
	opInsert             // into object a under b the value c
	opInsertLast         // the same, b comes after all that are there
	opInsertOnce         // the same; another value there is a conflict
	opAdd                // to set a the value b
	opMerge              // a = objects b and c
	opMoveOnce           // a = b; another value there is a conflict
	opScan               // begins the loop x over b, or to where that is empty
	opUnmixed            // data b beside rules that are visited too must be empty
	opNext               // a, c = next key and element of b in the loop x, or to
	opCall               // a = function x(args from b, c of them), or to
	opBuiltin            // a = built-in x(args from b, c of them), or to
	opCount              // the same of count
	opDynamic            // a = the function that the path (args from b, c of them) names, undefined where it is; to: it names none
	opEnter              // `with`: a is what changes, b the value, x the path; c and the local after it keep what was
	opLeave              // ends it: a and c as of opEnter
	opLevel              // a = the memo in use
	opReturn             // b
	opResult             // b is an answer of the query
)

// dispatch finds functions by path.
type dispatch struct {
	below    map[string]*dispatch
	function int32 // -1: none
}

func (d *dispatch) add(path []string, function int32) {
	for _, name := range path {
		next := d.below[name]
		if next == nil {
			next = newDispatch()
			d.below[name] = next
		}
		d = next
	}
	d.function = function
}

func newDispatch() *dispatch { return &dispatch{below: map[string]*dispatch{}, function: -1} }

// lookUp is a name below input or data, or below another lookUp. What it finds
// is kept as long as input and data are the same.
type lookUp struct {
	root int32
	from int32 // where the memo keeps what it is below; -1: that is the root
	name string
}
