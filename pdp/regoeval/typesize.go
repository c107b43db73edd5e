package regoeval

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxType is of how many parts the type of a rule's value may be. OPA's checker
// writes types out: where each rule is a pair of the one before, [x, x], fifty
// rules keep it busy for ever, and nothing can stop it.
const maxType = 200_000

// boundTypes refuses rules whose types the checker would not be done with. It
// runs before the checker, when names are resolved and no rule leads to itself.
var boundTypes = ast.CompilerStageDefinition{
	Name: "BoundTypes", MetricName: "compile_stage_bound_types",
	Stage: func(c *ast.Compiler) *ast.Error {
		s := sizer{compiler: c, rules: map[*ast.Rule]int{}}
		for _, m := range c.Modules {
			for _, rule := range m.Rules {
				if s.rule(rule); s.tooLarge != nil {
					at := s.tooLarge.Location
					return ast.NewError(ast.TypeErr, at, "%s", fmt.Sprintf("the type of rule %s has more than %d parts: it holds what other rules hold, several times over", s.tooLarge.Ref(), maxType))
				}
			}
		}
		return nil
	},
}

// sizer estimates, upwards, how many parts the checker's types are of.
type sizer struct {
	compiler *ast.Compiler
	rules    map[*ast.Rule]int
	tooLarge *ast.Rule // the first
}

func (s *sizer) rule(rule *ast.Rule) int {
	if size, ok := s.rules[rule]; ok {
		return size
	}
	s.rules[rule] = 1
	vars := map[ast.Var]int{}
	s.body(rule.Body, vars)
	size := 1
	for _, t := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if t != nil {
			size += s.term(t, vars)
		}
	}
	for _, t := range rule.Head.Reference {
		size += s.term(t, vars)
	}
	if rule.Else != nil {
		size += s.rule(rule.Else)
	}
	for _, v := range vars {
		s.bounded(v, rule)
	}
	s.rules[rule] = s.bounded(size, rule)
	return s.rules[rule]
}

// bounded notes the rule at which a size is too large. It is no larger then
// for others.
func (s *sizer) bounded(size int, rule *ast.Rule) int {
	if size <= maxType {
		return size
	}
	if s.tooLarge == nil {
		s.tooLarge = rule
	}
	return maxType
}

// body learns what its variables are of.
func (s *sizer) body(body ast.Body, vars map[ast.Var]int) {
	for _, e := range body {
		if every, ok := e.Terms.(*ast.Every); ok {
			s.learn(every.Value, s.term(every.Domain, vars), vars)
			s.body(every.Body, vars)
		}
		terms, ok := e.Terms.([]*ast.Term)
		if !ok {
			continue
		}
		if e.IsEquality() && len(terms) == 3 {
			s.learn(terms[1], s.term(terms[2], vars), vars)
			s.learn(terms[2], s.term(terms[1], vars), vars)
			continue
		}
		if ref, ok := terms[0].Value.(ast.Ref); ok && len(terms) > 1 {
			s.learn(terms[len(terms)-1], s.ref(ref, vars), vars)
		}
	}
}

// learn gives the size to all variables of a term.
func (s *sizer) learn(t *ast.Term, size int, vars map[ast.Var]int) {
	ast.WalkVars(t, func(v ast.Var) bool {
		vars[v] = max(vars[v], min(size, maxType+1))
		return false
	})
}

func (s *sizer) term(t *ast.Term, vars map[ast.Var]int) (size int) {
	size = 1
	add := func(t *ast.Term) {
		if size <= maxType {
			size += s.term(t, vars)
		}
	}
	switch v := t.Value.(type) {
	case ast.Var:
		return max(1, vars[v])
	case ast.Ref:
		return s.ref(v, vars)
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(k, e *ast.Term) {
			add(k)
			add(e)
		})
	case *ast.ArrayComprehension:
		s.body(v.Body, vars)
		add(v.Term)
	case *ast.SetComprehension:
		s.body(v.Body, vars)
		add(v.Term)
	case *ast.ObjectComprehension:
		s.body(v.Body, vars)
		add(v.Key)
		add(v.Value)
	}
	return size
}

// ref is the size of all that a reference may come to.
func (s *sizer) ref(ref ast.Ref, vars map[ast.Var]int) int {
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		return s.term(ref[0], vars)
	}
	if !head.Equal(ast.DefaultRootDocument.Value) {
		return max(1, vars[head])
	}
	size := 1
	for _, rule := range s.compiler.GetRules(ref) {
		if size += s.rule(rule); size > maxType {
			break
		}
	}
	return size
}
