package vm

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// What topdown does differently from a plan, and can be seen before a run.

// check refuses comprehensions whose errors topdown meets where a plan does
// not: those that it evaluates once for all values of an outer variable, and
// those that are an expression of their own, which a plan skips.
func check(c *ast.Compiler, policy *ir.Policy, query ast.Body) error {
	planned := map[string]bool{}
	for _, f := range policy.Funcs.Funcs {
		planned[ruleName(f.Name)] = true
	}
	var rules []*ast.Rule
	for _, m := range c.Modules {
		for _, r := range m.Rules {
			if !isPlanned(r, planned) {
				continue
			}
			rules = append(rules, r)
			if err := indexed(r, c, func(t *ast.Term) bool { return c.ComprehensionIndex(t) != nil }); err != nil {
				return err
			}
			if err := cmp.Or(oddlyNamed(r), negated(r), skipped(r, c), misplaced(r, c), ranging(r, c), asValue(r, c)); err != nil {
				return err
			}
		}
	}
	if err := cmp.Or(unsettled(rules, query, c), negated(query), skipped(query, c), misplaced(query, c), ranging(query, c), asValue(query, c)); err != nil || len(query) == 1 {
		return err // no variable comes before its comprehensions
	}
	return indexed(query, c, func(*ast.Term) bool { return true })
}

func indexed(node any, c *ast.Compiler, has func(*ast.Term) bool) (err error) {
	ast.WalkTerms(node, func(t *ast.Term) bool {
		if ast.IsComprehension(t.Value) && has(t) && mayFail(t, c) {
			err = &Unsupported{File: t.Location.File, Line: t.Location.Row,
				Why: "the comprehension is evaluated for all values of a variable at once, and calls functions that may fail"}
		}
		return err != nil
	})
	return err
}

func skipped(node any, c *ast.Compiler) (err error) {
	ast.WalkExprs(node, func(e *ast.Expr) bool {
		if t, ok := e.Terms.(*ast.Term); ok {
			ast.WalkTerms(t, func(t *ast.Term) bool {
				_, conflicts := t.Value.(*ast.ObjectComprehension)
				if ast.IsComprehension(t.Value) && (conflicts || mayFail(t, c)) {
					err = &Unsupported{File: e.Location.File, Line: e.Location.Row, Why: "a comprehension that may fail, and whose value nobody reads"}
				}
				return err != nil
			})
		}
		return err != nil
	})
	return err
}

// negated refuses `not` of an equality of two composites: OPA's planner sees by
// their lengths that some are never equal, and plans nothing of them then, which
// inside a `not` means that they are.
func negated(node any) (err error) {
	ast.WalkExprs(node, func(e *ast.Expr) bool {
		operator := ""
		if e.IsCall() {
			operator = e.Operator().String()
		}
		if e.Negated && slices.Contains(equalities, operator) && isComposite(e.Operand(0)) && isComposite(e.Operand(1)) {
			err = &Unsupported{File: e.Location.File, Line: e.Location.Row, Why: "the negation of an equality of two composites"}
		}
		return err != nil
	})
	return err
}

var equalities = []string{ast.Equality.Name, ast.Equal.Name, ast.Assign.Name}

func isComposite(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Object:
		return true
	}
	return false
}

// isPlanned reports whether a function of the plan is of the rule: its name is
// the rule's, or where that has variables, or shares its beginning with another
// that has, what comes before them.
func isPlanned(r *ast.Rule, planned map[string]bool) bool {
	ref := r.Ref()
	for i := range ref {
		if planned[ref[:i+1].String()] {
			return true
		}
	}
	return false
}

// harmless are built-in functions that never fail.
var harmless = []string{
	"eq", "equal", "assign", "neq", "lt", "lte", "gt", "gte", "internal.member_2", "internal.member_3", "type_name",
	"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string",
}

// mayFail reports whether evaluating the closure calls anything that may.
func mayFail(closure any, c *ast.Compiler) (may bool) {
	calls := map[*ast.Term]bool{}
	ast.WalkExprs(closure, func(e *ast.Expr) bool {
		if e.IsCall() {
			calls[e.OperatorTerm()] = true
			may = may || !slices.Contains(harmless, e.Operator().String())
		}
		return may
	})
	ast.WalkTerms(closure, func(t *ast.Term) bool {
		if ref, ok := t.Value.(ast.Ref); ok && !calls[t] {
			may = may || reachesRules(ref, c)
		}
		return may
	})
	return may
}

func reachesRules(ref ast.Ref, c *ast.Compiler) bool {
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return false
	}
	node := c.RuleTree.Child(ref[0].Value)
	for _, t := range ref[1:] {
		if node == nil || len(node.Values) > 0 || !t.IsGround() {
			break
		}
		node = node.Child(t.Value)
	}
	return node != nil
}

// ranging refuses references whose variable stands where names of rules do, as
// in data.lib[name]: what a plan finds there are also functions, and not the
// empty sets of rules below.
func ranging(node any, c *ast.Compiler) (err error) {
	ast.WalkRefs(node, func(ref ast.Ref) bool {
		if !ref[0].Equal(ast.DefaultRootDocument) {
			return false
		}
		names := c.RuleTree.Child(ref[0].Value)
		for _, t := range ref[1:] {
			switch {
			case names == nil || len(names.Children) == 0:
				return false
			case !t.IsGround():
				err = &Unsupported{File: t.Location.File, Line: t.Location.Row, Why: "a variable stands where names of rules do"}
				return true
			case isOdd(t):
				err = oddName(t)
				return true
			}
			names = names.Child(t.Value)
		}
		return false
	})
	return err
}

// oddlyNamed refuses rules whose names hold numbers that are not written as
// integers are: 1e0 and 1 are equal, and topdown keeps the rules of both apart.
func oddlyNamed(r *ast.Rule) error {
	for _, t := range r.Ref() {
		if isOdd(t) {
			return oddName(t)
		}
	}
	return nil
}

func isOdd(t *ast.Term) bool {
	number, ok := t.Value.(ast.Number)
	if !ok {
		return false
	}
	n, whole := number.Int64()
	return !whole || strconv.FormatInt(n, 10) != number.String()
}

func oddName(t *ast.Term) error {
	return &Unsupported{File: t.Location.File, Line: t.Location.Row, Why: "a number that is not written as an integer stands where names of rules do"}
}

// asValue refuses references to functions that are not called: a plan calls
// them without arguments, topdown finds nothing there.
func asValue(node any, c *ast.Compiler) (err error) {
	functions := map[*ast.Term]bool{} // where one may stand
	ast.WalkExprs(node, func(e *ast.Expr) bool {
		if e.IsCall() {
			functions[e.OperatorTerm()] = true
		}
		for _, w := range e.With {
			if isFunction(w.Target.Value.(ast.Ref), c) {
				functions[w.Target], functions[w.Value] = true, true
			}
		}
		return false
	})
	ast.WalkTerms(node, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok {
			functions[call[0]] = true
		}
		if ref, ok := t.Value.(ast.Ref); ok && !functions[t] && throughFunction(ref, c) {
			err = &Unsupported{File: t.Location.File, Line: t.Location.Row, Why: "a function stands where a value is read"}
		}
		return err != nil
	})
	return err
}

func throughFunction(ref ast.Ref, c *ast.Compiler) bool {
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return false
	}
	names := c.RuleTree.Child(ref[0].Value)
	for _, t := range ref[1:] {
		if names == nil || !t.IsGround() {
			return false
		}
		if names = names.Child(t.Value); names != nil && slices.ContainsFunc(names.Values, func(r *ast.Rule) bool { return len(r.Head.Args) > 0 }) {
			return true
		}
	}
	return false
}

// depths follows the objects that a function builds for rules with variables in
// their names. Where one rule gives a value and another goes on below it,
// whether they conflict depends on topdown's order.
type depths struct {
	of     map[int32]int // object locals
	leaf   map[int]bool  // a value is put there
	branch map[int]bool  // an object is put there
	set    map[int]bool  // a set is put there
}

func newDepths(result int32) *depths {
	return &depths{of: map[int32]int{result: 0}, leaf: map[int]bool{}, branch: map[int]bool{}, set: map[int]bool{}}
}

// see looks at a block of the plan.
func (d *depths) see(b *ir.Block) {
	for i, s := range b.Stmts {
		switch s := s.(type) {
		case *ir.BlockStmt:
			for _, inner := range s.Blocks {
				d.see(inner)
			}
		case *ir.ScanStmt:
			d.see(s.Block)
		case *ir.NotStmt:
			d.see(s.Block)
		case *ir.WithStmt:
			d.see(s.Block)
		case *ir.ObjectInsertOnceStmt:
			if depth, ok := d.of[int32(s.Object)]; ok {
				d.leaf[depth] = true
			}
		case *ir.DotStmt:
			if from, ok := s.Source.Value.(ir.Local); ok && i+1 < len(b.Stmts) {
				depth, built := d.of[int32(from)]
				if out, ok := b.Stmts[i+1].(*ir.BreakStmt); ok && out.Index == 1 && built {
					d.of[int32(s.Target)] = depth + 1
				}
			}
		case *ir.MakeObjectStmt:
			if depth, ok := d.of[int32(s.Target)]; ok && depth > 0 {
				d.branch[depth-1] = true
			}
		case *ir.MakeSetStmt:
			if depth, ok := d.of[int32(s.Target)]; ok && depth > 0 {
				d.set[depth-1] = true
			}
		}
	}
}

func (d *depths) clash() bool {
	for depth := range d.branch {
		if d.leaf[depth] || d.set[depth] {
			return true
		}
	}
	for depth := range d.set {
		if d.leaf[depth] {
			return true
		}
	}
	return false
}
