package cedareval

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// clause is one of the three conditions of a statement's scope.
type clause struct {
	op     clauseOp
	typ    types.EntityType // of is and is-in
	entity types.EntityUID  // of ==, in and is-in
}

type clauseOp uint8

const (
	opAny clauseOp = iota
	opEqual
	opIn
	opIs
	opIsIn
)

// scope is a statement's three clauses. Action is a list: in [a, b] is two
// clauses of which one must hold; in [] is none, and holds never.
type scope struct {
	principal clause
	actions   []clause
	resource  clause
}

func scopeOf(statement *ast.Policy) scope {
	s := scope{principal: clauseOf(statement.Principal), resource: clauseOf(statement.Resource)}
	set, isSet := statement.Action.(ast.ScopeTypeInSet)
	if !isSet {
		s.actions = []clause{clauseOf(statement.Action)}
	}
	for _, entity := range set.Entities {
		if c := (clause{op: opIn, entity: entity}); !slices.Contains(s.actions, c) {
			s.actions = append(s.actions, c)
		}
	}
	return s
}

func clauseOf(n ast.IsScopeNode) clause {
	switch n := n.(type) {
	case ast.ScopeTypeEq:
		return clause{op: opEqual, entity: n.Entity}
	case ast.ScopeTypeIn:
		return clause{op: opIn, entity: n.Entity}
	case ast.ScopeTypeIs:
		return clause{op: opIs, typ: n.Type}
	case ast.ScopeTypeIsIn:
		return clause{op: opIsIn, typ: n.Type, entity: n.Entity}
	default:
		return clause{}
	}
}

// party is one of the three entities that a request is about.
type party struct {
	uid       types.EntityUID
	ancestors []types.EntityUID
}

func (p *party) satisfies(c clause) bool {
	switch c.op {
	case opEqual:
		return p.uid == c.entity
	case opIn:
		return p.in(c.entity)
	case opIs:
		return p.uid.Type == c.typ
	case opIsIn:
		return p.uid.Type == c.typ && p.in(c.entity)
	default:
		return true
	}
}

func (p *party) in(entity types.EntityUID) bool {
	return p.uid == entity || slices.Contains(p.ancestors, entity)
}

// parties are who asks to do what to what.
type parties struct {
	principal, action, resource party
}

// unmet returns the position of the first clause that does not hold (0
// principal, 1 action, 2 resource), or −1 where the scope holds.
func (s *scope) unmet(p *parties) int {
	switch {
	case !p.principal.satisfies(s.principal):
		return 0
	case !slices.ContainsFunc(s.actions, p.action.satisfies):
		return 1
	case !p.resource.satisfies(s.resource):
		return 2
	default:
		return -1
	}
}

// ancestors lists everything above uid, each once.
func ancestors(entities types.EntityGetter, uid types.EntityUID) []types.EntityUID {
	entity, ok := entities.Get(uid)
	if !ok || entity.Parents.Len() == 0 {
		return nil
	}
	var found []types.EntityUID
	seen := map[types.EntityUID]bool{uid: true}
	for todo := entity.Parents.Slice(); len(todo) > 0; {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[next] {
			continue
		}
		seen[next] = true
		found = append(found, next)
		if above, ok := entities.Get(next); ok {
			todo = append(todo, above.Parents.Slice()...)
		}
	}
	return found
}
