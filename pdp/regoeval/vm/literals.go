package vm

import (
	"cmp"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Topdown leaves the variables within a literal, as {input.x, input.y}, until it
// needs their values. What is read from the literal itself is in the order of
// its variables, and has equal values more than once. So it is for who first
// reads a rule whose value it is. A plan makes the value first, and so does
// topdown where the literal is the operand of a built-in function, or in the
// head of a comprehension, of a rule of many values, or of one with variables in
// its name.

// literals follows literals through the variables of rules.
type literals struct {
	c       *ast.Compiler
	of      map[*ast.Rule]map[ast.Var]pending // nil is the query
	mocks   []*ast.Rule                       // functions that `with` puts in place of others
	changed bool
	seen    error
}

// unsettled refuses references into literals where the value's order or its
// equal values would be seen.
func unsettled(rules []*ast.Rule, query ast.Body, c *ast.Compiler) error {
	l := &literals{c: c, of: map[*ast.Rule]map[ast.Var]pending{nil: {}}}
	if !slices.ContainsFunc(rules, func(r *ast.Rule) bool { return holdsPending(r) }) && !holdsPending(query) {
		return nil
	}
	mocks := func(node any) {
		ast.WalkExprs(node, func(e *ast.Expr) bool {
			for _, w := range e.With {
				if ref, ok := w.Value.Value.(ast.Ref); ok && isFunction(ref, c) {
					l.mocks = append(l.mocks, c.GetRules(ref)...)
				}
			}
			return false
		})
	}
	mocks(query)
	for _, r := range rules {
		mocks(r)
	}
	for l.changed = true; l.changed && l.seen == nil; {
		l.changed = false
		l.body(nil, query, ast.VarSet{})
		for _, r := range rules {
			l.rule(r)
		}
	}
	return l.seen
}

func (l *literals) rule(r *ast.Rule) {
	for b := r; b != nil; b = b.Else {
		bound := ast.VarSet{}
		for _, arg := range b.Head.Args {
			bound.Update(varsOf(arg))
		}
		l.body(r, b.Body, bound)
		for i, arg := range b.Head.Args {
			for v := range varsOf(r.Head.Args[i]) {
				l.mark(r, arg, l.of[r][v])
			}
		}
	}
}

// body follows the expressions in their order; bound are the variables that
// have values before them.
func (l *literals) body(r *ast.Rule, b ast.Body, bound ast.VarSet) {
	bound = maps.Clone(bound)
	for _, e := range b {
		l.closures(r, e, bound)
		l.references(r, e, e, bound)
		switch {
		case e.IsEquality():
			l.unify(r, e.Operand(0), e.Operand(1), bound)
			l.unify(r, e.Operand(1), e.Operand(0), bound)
		case e.IsCall():
			l.call(r, e)
		}
		bound.Update(varsOf(e))
	}
}

// call follows the operands of a call into functions, and their results out of
// them.
func (l *literals) call(r *ast.Rule, e *ast.Expr) {
	operands := e.Operands()
	for _, f := range slices.Concat(l.c.GetRules(e.Operator()), l.mocks) {
		n := len(f.Head.Args)
		for i, arg := range operands {
			if i < n {
				l.mark(f, f.Head.Args[i], l.kind(r, arg))
			} else {
				l.mark(r, arg, l.result(f))
			}
		}
	}
}

// closures follows what has a body of its own within the expression.
func (l *literals) closures(r *ast.Rule, e *ast.Expr, bound ast.VarSet) {
	var follow func(x any) bool
	follow = func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension:
			l.body(r, x.Body, bound)
		case *ast.SetComprehension:
			l.body(r, x.Body, bound)
		case *ast.ObjectComprehension:
			l.body(r, x.Body, bound)
		case *ast.Not:
			l.body(r, x.Body, bound)
		case *ast.LogicalAnd:
			l.body(r, x.Lhs, bound)
			l.body(r, x.Rhs, bound)
		case *ast.LogicalOr:
			l.body(r, x.Lhs, bound)
			l.body(r, x.Rhs, bound)
		case *ast.Every:
			ast.WalkClosures(x.Domain, follow)
			l.references(r, e, x.Domain, bound)
			l.every(r, e, x, bound)
		}
		return true
	}
	ast.WalkClosures(e, follow)
}

// every follows one, whose order only errors show.
func (l *literals) every(r *ast.Rule, e *ast.Expr, every *ast.Every, bound ast.VarSet) {
	kind := l.kind(r, every.Domain)
	if kind == pendingKeys || kind == pendingValues && mayFail(every.Body, l.c) {
		l.refuse(e)
	}
	bound = maps.Clone(bound)
	for _, t := range []*ast.Term{every.Key, every.Value} {
		if t != nil {
			l.mark(r, t, kind)
			bound.Update(varsOf(t))
		}
	}
	l.body(r, every.Body, bound)
}

// references looks at those of a part of the expression that are not within
// closures.
func (l *literals) references(r *ast.Rule, e *ast.Expr, part any, bound ast.VarSet) {
	look := func(x any) bool {
		ref, ok := x.(ast.Ref)
		if !ok {
			return isClosure(x)
		}
		if l.shows(l.kind(r, ref[0]), ref[1:], bound) {
			l.refuse(e)
		}
		for _, rule := range l.rulesOf(ref) {
			if n := len(rule.Ref()); n < len(ref) && l.shows(l.result(rule), ref[n:], bound) {
				l.refuse(e)
			}
		}
		l.keys(r, ref)
		return false
	}
	ast.NewGenericVisitor(look).Walk(part)
}

// keys follows a reference's keys into the heads of rules that have variables
// in their place.
func (l *literals) keys(r *ast.Rule, ref ast.Ref) {
	worst := settled
	for _, key := range ref[1:] {
		worst = max(worst, l.kind(r, key))
	}
	if worst == settled {
		return
	}
	for _, rule := range l.rulesOf(ref) {
		l.markAll(rule, rule.Head.Reference[1:], worst)
		if rule.Head.Key != nil {
			l.mark(rule, rule.Head.Key, worst)
		}
	}
}

// unify marks the variables that get their values from a term.
func (l *literals) unify(r *ast.Rule, to, from *ast.Term, bound ast.VarSet) {
	a, isArray := to.Value.(*ast.Array)
	b, both := from.Value.(*ast.Array)
	if isArray && both && a.Len() == b.Len() {
		for i := range a.Len() {
			l.unify(r, a.Elem(i), b.Elem(i), bound)
		}
		return
	}
	if _, ok := to.Value.(ast.Ref); ok {
		return
	}
	kind := l.kind(r, from)
	for v := range varsOf(to).Diff(bound) {
		l.markVar(r, v, kind)
	}
}

func (l *literals) markAll(r *ast.Rule, terms []*ast.Term, kind pending) {
	for _, t := range terms {
		l.mark(r, t, kind)
	}
}

func (l *literals) mark(r *ast.Rule, t *ast.Term, kind pending) {
	for v := range varsOf(t) {
		l.markVar(r, v, kind)
	}
}

func (l *literals) markVar(r *ast.Rule, v ast.Var, kind pending) {
	if kind <= l.of[r][v] {
		return
	}
	if l.of[r] == nil {
		l.of[r] = map[ast.Var]pending{}
	}
	l.of[r][v], l.changed = kind, true
}

func (l *literals) refuse(e *ast.Expr) {
	at := cmp.Or(e.Location, &ast.Location{})
	l.seen = cmp.Or(l.seen, error(&Unsupported{File: at.File, Line: at.Row,
		Why: "the order in which a set or an object is written is seen: it holds more than constants"}))
}
