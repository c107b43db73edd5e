package vm

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ir"
)

// readsUnset reports whether a value of the plan is put together from, or
// given to a function with, a local that nothing has set before. OPA's planner
// does that where it unifies two composites that share variables: [x, _] with
// [1, [y, x]], for one. Each rule has a block of its own and uses the numbers
// of locals again: what another rule set is not set here.
func readsUnset(f *ir.Func) bool {
	for _, b := range f.Blocks {
		set := map[ir.Local]bool{f.Return: true}
		for _, l := range f.Params {
			set[l] = true
		}
		if readsBefore(b.Stmts, set) {
			return true
		}
	}
	return false
}

// readsBefore adds to the locals that are set. What one of several blocks sets,
// such as a body and its else, is not set in the others: the planner uses the
// numbers of locals there again.
func readsBefore(stmts []ir.Stmt, set map[ir.Local]bool) bool {
	unset := false
	read := func(operands ...ir.Operand) {
		for _, o := range operands {
			if l, ok := o.Value.(ir.Local); ok && !set[l] {
				unset = true
			}
		}
	}
	for _, s := range stmts {
		given := true
		switch s := s.(type) {
		case *ir.AssignVarStmt:
			if l, ok := s.Source.Value.(ir.Local); ok && !set[l] {
				given = false // nor is what it is given to
			}
		case *ir.ArrayAppendStmt:
			read(s.Value)
		case *ir.SetAddStmt:
			read(s.Value)
		case *ir.ObjectInsertStmt:
			read(s.Key, s.Value)
		case *ir.ObjectInsertOnceStmt:
			read(s.Key, s.Value)
		case *ir.CallStmt:
			read(s.Args...)
		case *ir.DotStmt:
			read(s.Source, s.Key)
		case *ir.EqualStmt:
			read(s.A, s.B)
		case *ir.NotEqualStmt:
			read(s.A, s.B)
		}
		if !given {
			continue
		}
		for _, l := range written(s) {
			set[l] = true
		}
		blocks := blocksOf(s)
		if len(blocks) == 1 {
			unset = readsBefore(blocks[0].Stmts, set) || unset
		}
		if len(blocks) < 2 {
			continue
		}
		before := maps.Clone(set)
		for _, b := range blocks {
			inside := maps.Clone(before)
			unset = readsBefore(b.Stmts, inside) || unset
			maps.Copy(set, inside)
		}
	}
	return unset
}
