package vm

import "github.com/open-policy-agent/opa/v1/ir"

// blocksOf are the blocks of a statement.
func blocksOf(s ir.Stmt) []*ir.Block {
	switch s := s.(type) {
	case *ir.BlockStmt:
		return s.Blocks
	case *ir.ScanStmt:
		return []*ir.Block{s.Block}
	case *ir.NotStmt:
		return []*ir.Block{s.Block}
	case *ir.WithStmt:
		return []*ir.Block{s.Block}
	}
	return nil
}

// each visits the statements and those of their blocks.
func each(stmts []ir.Stmt, visit func(ir.Stmt)) {
	for _, s := range stmts {
		visit(s)
		for _, b := range blocksOf(s) {
			each(b.Stmts, visit)
		}
	}
}

// written are the locals that a statement itself sets.
func written(s ir.Stmt) []ir.Local {
	switch s := s.(type) {
	case *ir.AssignIntStmt:
		return []ir.Local{s.Target}
	case *ir.AssignVarStmt:
		return []ir.Local{s.Target}
	case *ir.AssignVarOnceStmt:
		return []ir.Local{s.Target}
	case *ir.CallStmt:
		return []ir.Local{s.Result}
	case *ir.CallDynamicStmt:
		return []ir.Local{s.Result}
	case *ir.DotStmt:
		return []ir.Local{s.Target}
	case *ir.LenStmt:
		return []ir.Local{s.Target}
	case *ir.MakeArrayStmt:
		return []ir.Local{s.Target}
	case *ir.MakeNullStmt:
		return []ir.Local{s.Target}
	case *ir.MakeNumberIntStmt:
		return []ir.Local{s.Target}
	case *ir.MakeNumberRefStmt:
		return []ir.Local{s.Target}
	case *ir.MakeObjectStmt:
		return []ir.Local{s.Target}
	case *ir.MakeSetStmt:
		return []ir.Local{s.Target}
	case *ir.ObjectMergeStmt:
		return []ir.Local{s.Target}
	case *ir.ResetLocalStmt:
		return []ir.Local{s.Target}
	case *ir.ScanStmt:
		return []ir.Local{s.Key, s.Value}
	case *ir.WithStmt:
		return []ir.Local{s.Local}
	}
	return nil
}

// reads reports whether a statement itself reads the local.
func reads(s ir.Stmt, l ir.Local) bool {
	is := func(operands ...ir.Operand) bool {
		for _, o := range operands {
			if o.Value == ir.Val(l) {
				return true
			}
		}
		return false
	}
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		return s.Array == l || is(s.Value)
	case *ir.AssignVarStmt:
		return is(s.Source)
	case *ir.AssignVarOnceStmt:
		return s.Target == l || is(s.Source)
	case *ir.CallStmt:
		return is(s.Args...)
	case *ir.CallDynamicStmt:
		for _, arg := range s.Args {
			if arg == l {
				return true
			}
		}
		return is(s.Path...)
	case *ir.DotStmt:
		return is(s.Source, s.Key)
	case *ir.EqualStmt:
		return is(s.A, s.B)
	case *ir.NotEqualStmt:
		return is(s.A, s.B)
	case *ir.IsArrayStmt:
		return is(s.Source)
	case *ir.IsObjectStmt:
		return is(s.Source)
	case *ir.IsSetStmt:
		return is(s.Source)
	case *ir.IsDefinedStmt:
		return s.Source == l
	case *ir.IsUndefinedStmt:
		return s.Source == l
	case *ir.LenStmt:
		return is(s.Source)
	case *ir.ObjectInsertStmt:
		return s.Object == l || is(s.Key, s.Value)
	case *ir.ObjectInsertOnceStmt:
		return s.Object == l || is(s.Key, s.Value)
	case *ir.ObjectMergeStmt:
		return s.A == l || s.B == l
	case *ir.ResultSetAddStmt:
		return s.Value == l
	case *ir.ReturnLocalStmt:
		return s.Source == l
	case *ir.ScanStmt:
		return s.Source == l
	case *ir.SetAddStmt:
		return s.Set == l || is(s.Value)
	case *ir.WithStmt:
		return s.Local == l || is(s.Value)
	}
	return false
}
