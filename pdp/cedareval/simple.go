package cedareval

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// simple is an expression over what most conditions are about: strings, integers
// and booleans of the request, and who is in what. It reads the request where
// it is. Its value is one of these, or unsure: wherever it meets anything else,
// an error above all, the answer is cedar-go's.
type simple func(e *evaluation) authz.Value

// unsure is null, which is no value of Cedar's.
var unsure authz.Value

// simpleConditions returns the conditions of a statement as one expression that
// is true, false or unsure; nil where cedar-go is always asked.
func simpleConditions(conditions []condition) simple {
	all := constant(authz.BoolValue(true))
	for _, c := range conditions {
		next := simpleOf(c.body)
		if next == nil {
			return nil
		}
		if c.unless {
			next = not(next)
		}
		all = and(all, next)
	}
	return all
}

// simpleOf returns nil for what is not simple.
func simpleOf(n ast.IsNode) simple {
	switch n := n.(type) {
	case ast.NodeValue:
		v := simpleLiteral(n.Value)
		if v.Kind() == authz.KindNull {
			return nil
		}
		return constant(v)
	case ast.NodeTypeAccess:
		return access(n.StrOpNode, func(v authz.Value, _ bool) authz.Value { return v })
	case ast.NodeTypeHas:
		// Who asks whether a gap is there is refused before.
		return access(n.StrOpNode, func(_ authz.Value, given bool) authz.Value { return authz.BoolValue(given) })
	case ast.NodeTypeNot:
		return of(simpleOf(n.Arg), not)
	case ast.NodeTypeAnd:
		return ofTwo(n.BinaryNode, and)
	case ast.NodeTypeOr:
		return ofTwo(n.BinaryNode, func(a, b simple) simple { return not(and(not(a), not(b))) })
	case ast.NodeTypeEquals:
		return ofTwo(n.BinaryNode, equal)
	case ast.NodeTypeNotEquals:
		return ofTwo(n.BinaryNode, func(a, b simple) simple { return not(equal(a, b)) })
	case ast.NodeTypeLessThan:
		return ofTwo(n.BinaryNode, less)
	case ast.NodeTypeGreaterThan:
		return ofTwo(n.BinaryNode, func(a, b simple) simple { return less(b, a) })
	case ast.NodeTypeLessThanOrEqual:
		return ofTwo(n.BinaryNode, func(a, b simple) simple { return not(less(b, a)) })
	case ast.NodeTypeGreaterThanOrEqual:
		return ofTwo(n.BinaryNode, func(a, b simple) simple { return not(less(a, b)) })
	case ast.NodeTypeIfThenElse:
		return choice(simpleOf(n.If), simpleOf(n.Then), simpleOf(n.Else))
	case ast.NodeTypeLike:
		return of(simpleOf(n.Arg), func(a simple) simple { return like(a, n.Value) })
	case ast.NodeTypeContains:
		return contains(n.Left, simpleOf(n.Right))
	case ast.NodeTypeIn:
		return within(n.Left, "", n.Right)
	case ast.NodeTypeIs:
		return within(n.Left, n.EntityType, nil)
	case ast.NodeTypeIsIn:
		return within(n.Left, n.EntityType, n.Entity)
	default:
		return nil
	}
}

func of(a simple, build func(simple) simple) simple {
	if a == nil {
		return nil
	}
	return build(a)
}

func ofTwo(n ast.BinaryNode, build func(a, b simple) simple) simple {
	a, b := simpleOf(n.Left), simpleOf(n.Right)
	if a == nil || b == nil {
		return nil
	}
	return build(a, b)
}

func constant(v authz.Value) simple { return func(*evaluation) authz.Value { return v } }

// simpleLiteral is unsure for what is not simple.
func simpleLiteral(v types.Value) authz.Value {
	switch v := v.(type) {
	case types.Boolean:
		return authz.BoolValue(bool(v))
	case types.String:
		return authz.StringValue(string(v))
	case types.Long:
		n, err := authz.IntValue(int64(v))
		if err != nil {
			return unsure
		}
		return n
	default:
		return unsure
	}
}

// access reads an attribute of the principal or the resource, or a member of
// the context.
func access(n ast.StrOpNode, use func(v authz.Value, given bool) authz.Value) simple {
	variable, ok := n.Arg.(ast.NodeTypeVariable)
	if !ok {
		return nil
	}
	t := top{name: string(n.Value)}
	switch variable.Name {
	case "principal":
		t.root = principalRoot
	case "resource":
		t.root = resourceRoot
	case "context":
		t.root = contextRoot
		if t.name == tenantMember {
			return func(e *evaluation) authz.Value { return use(authz.StringValue(e.in.Request.Tenant), true) }
		}
		if t.name == nowMember {
			return nil
		}
	default:
		return nil
	}
	return func(e *evaluation) authz.Value { return use(e.simpleMember(t)) }
}

// simpleMember returns what was kept of a request; it is unsure where there is
// nothing, or nothing simple.
func (e *evaluation) simpleMember(t top) (v authz.Value, given bool) {
	for i := range e.kept {
		m := &e.kept[i]
		if m.top != t {
			continue
		}
		switch k := m.value.Kind(); m.typ.(type) {
		case nil:
			if plain(k) {
				return m.value, true
			}
		case resolved.StringType:
			if k == authz.KindString {
				return m.value, true
			}
		case resolved.LongType:
			if k == authz.KindInt {
				return m.value, true
			}
		case resolved.BoolType:
			if k == authz.KindBool {
				return m.value, true
			}
		}
		return unsure, true
	}
	return unsure, false
}

func isTrue(v authz.Value) bool { return v.Kind() == authz.KindBool && v.Bool() }

func not(a simple) simple {
	return func(e *evaluation) authz.Value {
		v := a(e)
		if v.Kind() != authz.KindBool {
			return unsure
		}
		return authz.BoolValue(!v.Bool())
	}
}

// and asks b only where a is true, as Cedar does.
func and(a, b simple) simple {
	return func(e *evaluation) authz.Value {
		v := a(e)
		if !isTrue(v) {
			return boolOrUnsure(v)
		}
		return boolOrUnsure(b(e))
	}
}

func boolOrUnsure(v authz.Value) authz.Value {
	if v.Kind() != authz.KindBool {
		return unsure
	}
	return v
}

func choice(test, then, otherwise simple) simple {
	if test == nil || then == nil || otherwise == nil {
		return nil
	}
	return func(e *evaluation) authz.Value {
		v := test(e)
		switch {
		case v.Kind() != authz.KindBool:
			return unsure
		case v.Bool():
			return then(e)
		default:
			return otherwise(e)
		}
	}
}

// equal is false for values of two types, as Cedar's is.
func equal(a, b simple) simple {
	return func(e *evaluation) authz.Value {
		x, y := a(e), b(e)
		if x.Kind() == authz.KindNull || y.Kind() == authz.KindNull {
			return unsure
		}
		return authz.BoolValue(x.Equal(y))
	}
}

func less(a, b simple) simple {
	return func(e *evaluation) authz.Value {
		x, y := a(e), b(e)
		if x.Kind() != authz.KindInt || y.Kind() != authz.KindInt {
			return unsure
		}
		return authz.BoolValue(x.Int() < y.Int())
	}
}

func like(a simple, pattern types.Pattern) simple {
	return func(e *evaluation) authz.Value {
		v := a(e)
		if v.Kind() != authz.KindString {
			return unsure
		}
		return authz.BoolValue(pattern.Match(types.String(v.Text())))
	}
}

// contains asks a set that the policy spells out.
func contains(set ast.IsNode, element simple) simple {
	elements, ok := elementsOf(set)
	if !ok || element == nil {
		return nil
	}
	values := make([]authz.Value, len(elements))
	for i, v := range elements {
		if values[i] = simpleLiteral(v); values[i].Kind() == authz.KindNull {
			return nil
		}
	}
	return func(e *evaluation) authz.Value {
		v := element(e)
		if v.Kind() == authz.KindNull {
			return unsure
		}
		return authz.BoolValue(slices.ContainsFunc(values, v.Equal))
	}
}

// elementsOf returns the elements of a set of literals.
func elementsOf(n ast.IsNode) (elements []types.Value, ok bool) {
	switch n := n.(type) {
	case ast.NodeTypeSet:
		for _, element := range n.Elements {
			literal, ok := element.(ast.NodeValue)
			if !ok {
				return nil, false
			}
			elements = append(elements, literal.Value)
		}
		return elements, true
	case ast.NodeValue:
		set, ok := n.Value.(types.Set)
		if ok {
			elements = set.Slice()
		}
		return elements, ok
	default:
		return nil, false
	}
}

// within asks whether one of the parties is of a type, where one is named, and
// in an entity or in one of several, where above is not nil.
func within(n ast.IsNode, typ types.EntityType, above ast.IsNode) simple {
	variable, ok := n.(ast.NodeTypeVariable)
	if !ok {
		return nil
	}
	var side func(p *parties) *party
	switch variable.Name {
	case "principal":
		side = func(p *parties) *party { return &p.principal }
	case "action":
		side = func(p *parties) *party { return &p.action }
	case "resource":
		side = func(p *parties) *party { return &p.resource }
	default:
		return nil
	}
	var entities []types.EntityUID
	if above != nil {
		elements, isSet := elementsOf(above)
		if literal, ok := above.(ast.NodeValue); ok && !isSet {
			elements = []types.Value{literal.Value}
		}
		for _, v := range elements {
			uid, ok := v.(types.EntityUID)
			if !ok {
				return nil
			}
			entities = append(entities, uid)
		}
		if !isSet && len(entities) == 0 {
			return nil
		}
	}
	return func(e *evaluation) authz.Value {
		p := side(&e.parties)
		return authz.BoolValue((typ == "" || p.uid.Type == typ) && (above == nil || slices.ContainsFunc(entities, p.in)))
	}
}
