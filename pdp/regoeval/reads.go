package regoeval

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// access is a part of the request that a rule looks at: everything at and
// below the path. The path names members by string literals and ends where the
// reference goes on in a computed way.
type access struct {
	path     []string
	location *ast.Location
}

// accesses lists what one compiled body reads of input, its else apart.
func accesses(rule *ast.Rule) []access {
	a := findAliases(rule)
	var found []access
	here := rule.Location // OPA makes terms without one; then the expression's is near enough
	var read func(node any) bool
	read = func(node any) bool {
		switch node := node.(type) {
		case *ast.Rule:
			return node != rule
		case *ast.With:
			visit(node.Value, read) // the target is what is replaced, not read
			return true
		case *ast.Expr:
			here = cmp.Or(node.Location, here)
			if v, _, ok := binding(node); ok && a[v] != nil {
				return true
			}
			if base, steps, ok := objectGet(node); ok {
				if path, ok := a.path(base); ok {
					found = append(found, access{slices.Concat(path, steps), here})
					for _, rest := range node.Operands()[2:] {
						visit(rest, read)
					}
					return true
				}
			}
		case *ast.Term:
			path, ok := a.path(node)
			if ok {
				found = append(found, access{path, cmp.Or(node.Location, here)})
			}
			if ref, isRef := node.Value.(ast.Ref); isRef {
				for _, step := range ref[1:] {
					visit(step, read)
				}
				return true
			}
		}
		return false
	}
	visit(rule, read)
	return found
}

// aliases are the local variables that are bound in one place, to input, to
// the subject, the resource or the action, or to the properties of one. What
// is read through them is read of that part; the binding alone reads nothing.
//
// Smaller parts get no alias: reading all of them is what is declared. Nor does
// context: `ctx := input.context` also asks whether there is a context, which
// no digest tells.
type aliases map[ast.Var][]string

func findAliases(rule *ast.Rule) aliases {
	bound := map[ast.Var][]*ast.Term{}
	visit(rule, func(node any) bool {
		switch node := node.(type) {
		case *ast.Rule:
			return node != rule
		case *ast.Expr:
			if v, to, ok := binding(node); ok {
				bound[v] = append(bound[v], to)
			}
		}
		return false
	})
	a := aliases{}
	for again := true; again; { // an alias of an alias may be found first
		again = false
		for v, to := range bound {
			path, ok := a.path(to[0])
			if ok && a[v] == nil && len(to) == 1 && len(path) <= 2 && !slices.Contains(path, "context") {
				a[v] = append([]string{}, path...) // not nil, though it may be empty
				again = true
			}
		}
	}
	return a
}

// path returns the part of input that a term is, as far as it is named.
func (a aliases) path(t *ast.Term) ([]string, bool) {
	switch value := t.Value.(type) {
	case ast.Var:
		if value.Equal(ast.InputRootDocument.Value) {
			return nil, true
		}
		path, ok := a[value]
		return path, ok
	case ast.Ref:
		path, ok := a.path(value[0])
		return slices.Concat(path, literals(value[1:])), ok
	default:
		return nil, false
	}
}

// binding recognises `v = input.a.b`, where every step is a literal.
func binding(e *ast.Expr) (v ast.Var, to *ast.Term, ok bool) {
	if !e.IsEquality() || e.Negated || len(e.With) > 0 {
		return "", nil, false
	}
	left, right := e.Operand(0), e.Operand(1)
	if _, ok := left.Value.(ast.Var); !ok {
		left, right = right, left
	}
	v, ok = left.Value.(ast.Var)
	if !ok {
		return "", nil, false
	}
	switch value := right.Value.(type) {
	case ast.Var:
		return v, right, value.Equal(ast.InputRootDocument.Value)
	case ast.Ref:
		return v, right, len(literals(value[1:])) == len(value)-1
	}
	return "", nil, false
}

// objectGet recognises object.get(base, "a", …) and object.get(base, ["a",
// "b"], …) with a base that is named, and returns the literal steps.
func objectGet(e *ast.Expr) (base *ast.Term, steps []string, ok bool) {
	if !e.IsCall() || !e.Operator().Equal(ast.ObjectGet.Ref()) || len(e.Operands()) < 3 {
		return nil, nil, false
	}
	base = e.Operand(0)
	switch value := base.Value.(type) {
	case ast.Var:
	case ast.Ref:
		if len(literals(value[1:])) != len(value)-1 {
			return nil, nil, false
		}
	default:
		return nil, nil, false
	}
	switch key := e.Operand(1).Value.(type) {
	case ast.String:
		steps = []string{string(key)}
	case *ast.Array:
		path := make([]*ast.Term, key.Len())
		for i := range path {
			path[i] = key.Elem(i)
		}
		steps = literals(path)
		if len(steps) != len(path) {
			return nil, nil, false
		}
	}
	return base, steps, len(steps) > 0
}

// literals returns the leading string literals.
func literals(terms []*ast.Term) []string {
	var steps []string
	for _, t := range terms {
		s, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		steps = append(steps, string(s))
	}
	return steps
}

// requestMembers is what a request consists of; nil: any members.
var requestMembers = map[string][]string{
	"tenant": {}, "context": nil,
	"subject": {"type", "id", "properties"}, "resource": {"type", "id", "properties"}, "action": {"name", "properties"},
}

// checkReads holds what the policy can reach to what it declares.
func checkReads(m *module, reached map[*ast.Rule]bool, schema *pdp.AttributeSchema, report *faults) {
	for rule := range reached {
		for _, a := range accesses(rule) {
			for _, why := range undeclared(a.path, m.policy.Reads, schema) {
				report.at(a.location, m.id, "", "%s", why)
			}
		}
	}
}

// undeclared says what is wrong with a policy that reads the path.
func undeclared(path, reads []string, schema *pdp.AttributeSchema) []string {
	if len(path) == 0 {
		return []string{"input is taken as a whole: refer to the members that are needed, by name"}
	}
	entity := path[0]
	members, known := requestMembers[entity]
	switch {
	case !known:
		return []string{"a request has no member " + entity + ": it has tenant, subject, action, resource and context"}
	case entity == "context":
		if len(path) == 1 {
			return []string{`context is taken as a whole: refer to its members by name, as input.context.<member> or object.get(input, ["context", "<member>"], …)`}
		}
		if name := "context." + path[1]; !slices.Contains(reads, name) {
			return []string{"input." + name + " is read and not declared: add " + name + " to the policy's reads"}
		}
		return nil
	case len(path) > 1 && len(members) > 0 && !slices.Contains(members, path[1]):
		return []string{"input." + entity + " has no member " + path[1] + ": it has " + strings.Join(members, ", ")}
	case entity != "subject" && entity != "resource" || len(path) > 1 && path[1] != "properties":
		return nil
	}
	var missing []string
	for _, attribute := range schema.All() {
		property, ok := strings.CutPrefix(attribute.Name, entity+".")
		if !ok || !attribute.Trusted && attribute.Source == "" || slices.Contains(reads, attribute.Name) {
			continue
		}
		if len(path) <= 2 {
			missing = append(missing, "all properties of the "+entity+" are taken, "+attribute.Name+" among them, which is not declared: refer to properties by name, or add it to the policy's reads")
		} else if path[2] == property {
			missing = append(missing, attribute.Name+" is read and not declared: add it to the policy's reads")
		}
	}
	return missing
}
