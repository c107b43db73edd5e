package vm

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// pending says what of a value may be a literal that topdown reads as it is
// written (see [literals]), the worst first.
type pending uint8

const (
	pendingKeys   pending = 2 // an object's keys; a look-up finds the first of equal ones
	pendingValues pending = 1 // a set's values; a look-up finds what is there
	settled       pending = 0
)

// pendingIn is what a literal itself is, without its parts.
func pendingIn(v ast.Value) pending {
	switch v := v.(type) {
	case ast.Set:
		if v.Len() > 1 && !ast.IsConstant(v) {
			return pendingValues
		}
	case ast.Object:
		if keys := v.Keys(); len(keys) > 1 && slices.ContainsFunc(keys, func(t *ast.Term) bool { return !ast.IsConstant(t.Value) }) {
			return pendingKeys
		}
	}
	return settled
}

func holdsPending(node any) (holds bool) {
	ast.WalkTerms(node, func(t *ast.Term) bool {
		holds = holds || pendingIn(t.Value) > settled
		return holds
	})
	return holds
}

// kind is what a term may be.
func (l *literals) kind(r *ast.Rule, t *ast.Term) (worst pending) {
	look := func(x any) bool {
		switch x := x.(type) {
		case ast.Var:
			worst = max(worst, l.of[r][x])
		case ast.Ref:
			worst = max(worst, l.kind(r, x[0]))
			for _, rule := range l.rulesOf(x) {
				worst = max(worst, l.result(rule))
			}
			return true
		case ast.Value:
			worst = max(worst, pendingIn(x))
		}
		return isClosure(x)
	}
	ast.NewGenericVisitor(look).Walk(t)
	return worst
}

// shows reports whether a look-up of keys in something of the kind differs from
// one in its value.
func (l *literals) shows(kind pending, keys ast.Ref, bound ast.VarSet) bool {
	return kind == pendingKeys || kind == pendingValues &&
		slices.ContainsFunc(keys, func(key *ast.Term) bool { return len(varsOf(key).Diff(bound)) > 0 })
}

// rulesOf are those that a reference may reach.
func (l *literals) rulesOf(ref ast.Ref) []*ast.Rule {
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return nil
	}
	return l.c.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true})
}

// result is what a rule's value may be.
func (l *literals) result(r *ast.Rule) (worst pending) {
	if r.Head.RuleKind() == ast.MultiValue || !r.Ref().IsGround() {
		return settled
	}
	for b := r; b != nil; b = b.Else {
		if b.Head.Value != nil {
			worst = max(worst, l.kind(r, b.Head.Value))
		}
	}
	return worst
}

// varsOf are the variables outside of closures.
func varsOf(node any) ast.VarSet {
	vis := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipClosures: true})
	vis.Walk(node)
	return vis.Vars()
}

func isClosure(x any) bool {
	switch x.(type) {
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.Every,
		*ast.Not, *ast.LogicalAnd, *ast.LogicalOr:
		return true
	}
	return false
}
