package vm

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// lookUp makes one instruction of the statements from i on that follow names
// below input or data, if they do. It returns how many those are.
func (a *assembler) lookUp(stmts []ir.Stmt, i int) int {
	first, ok := stmts[i].(*ir.DotStmt)
	if !ok {
		return 0
	}
	root, ok := first.Source.Value.(ir.Local)
	if !ok || root != ir.Input && root != ir.Data {
		return 0
	}
	var names []string
	at, n := root, 0
	for _, s := range stmts[i:] {
		dot, ok := s.(*ir.DotStmt)
		if !ok || dot.Source.Value != ir.Val(at) {
			break
		}
		name, ok := dot.Key.Value.(ir.StringIndex)
		if !ok || root == ir.Data && digits(a.policy.Static.Strings[name].Value) {
			break
		}
		if n > 0 && readLater(stmts[i+n:], at) {
			break
		}
		names, at = append(names, a.policy.Static.Strings[name].Value), dot.Target
		n++
	}
	if n == 0 {
		return 0
	}
	a.unknown(at)
	a.path(a.local(at), int32(root))
	a.orBreak(instr{op: opLookUp, a: a.local(at), x: a.newLookUp(root, names)})
	return n
}

// digits reports whether the name could be an element's number.
func digits(name string) bool {
	_, err := strconv.Atoi(name)
	return err == nil
}

// readLater reports whether anything but the first statement reads the local.
func readLater(stmts []ir.Stmt, l ir.Local) (found bool) {
	each(stmts[1:], func(s ir.Stmt) { found = found || reads(s, l) })
	return found
}

// newLookUp returns where the memo keeps what is at the path.
func (a *assembler) newLookUp(root ir.Local, names []string) int32 {
	at, key := int32(-1), strconv.Itoa(int(root))
	for _, name := range names {
		key += "\x00" + name
		known, ok := a.lookUps[key]
		if !ok {
			known = int32(len(a.program.functions) + len(a.program.lookUps))
			a.lookUps[key] = known
			a.program.lookUps = append(a.program.lookUps, lookUp{root: int32(root), from: at, name: name})
		}
		at = known
	}
	return at
}

// lookUp finds what is below input or data and keeps it.
func (r *Run) lookUp(x int32, frame []value.Value) *kept {
	at := &r.memo.kept[x]
	if at.generation == r.memo.generation {
		return at
	}
	i := int(x) - len(r.program.functions)
	below := &r.program.lookUps[i]
	from := &frame[below.root]
	if below.from >= 0 {
		from = &r.lookUp(below.from, frame).value
	}
	at.value, at.generation = from.GetName(below.name, &r.hints[r.program.hints+i]), r.memo.generation
	return at
}
