package cedareval

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
)

// index finds the statements whose scope holds, by the three clauses of the
// scope at once: what it returns needs no further test, and its cost follows
// the clauses that hold of a request, not the statements that exist.
type index struct {
	principals, actions, resources clauseIDs
	byScope                        map[scopeKey][]int32
}

// scopeKey is three clause ids: of principal, action and resource.
type scopeKey [3]uint32

// clauseIDs numbers the clauses that occur in one position; opAny is 0.
type clauseIDs struct {
	ids map[clause]uint32
	ops [opIsIn + 1]bool // those that occur
}

func newIndex() *index {
	return &index{byScope: map[scopeKey][]int32{}}
}

// add files a statement under each of its action clauses.
func (x *index) add(s scope, statement int32) {
	for _, action := range s.actions {
		key := scopeKey{x.principals.add(s.principal), x.actions.add(action), x.resources.add(s.resource)}
		x.byScope[key] = append(x.byScope[key], statement)
	}
}

func (c *clauseIDs) add(k clause) uint32 {
	c.ops[k.op] = true
	if k.op == opAny {
		return 0
	}
	id, known := c.ids[k]
	if !known {
		if c.ids == nil {
			c.ids = map[clause]uint32{}
		}
		id = uint32(len(c.ids) + 1)
		c.ids[k] = id
	}
	return id
}

// holding appends the ids of the clauses that hold of p.
func (c *clauseIDs) holding(ids []uint32, p *party) []uint32 {
	if c.ops[opAny] {
		ids = append(ids, 0)
	}
	if c.ops[opEqual] {
		ids = c.appendID(ids, clause{op: opEqual, entity: p.uid})
	}
	if c.ops[opIs] {
		ids = c.appendID(ids, clause{op: opIs, typ: p.uid.Type})
	}
	if c.ops[opIn] {
		ids = c.appendIn(ids, opIn, "", p)
	}
	if c.ops[opIsIn] {
		ids = c.appendIn(ids, opIsIn, p.uid.Type, p)
	}
	return ids
}

func (c *clauseIDs) appendIn(ids []uint32, op clauseOp, typ types.EntityType, p *party) []uint32 {
	ids = c.appendID(ids, clause{op: op, typ: typ, entity: p.uid})
	for _, above := range p.ancestors {
		ids = c.appendID(ids, clause{op: op, typ: typ, entity: above})
	}
	return ids
}

func (c *clauseIDs) appendID(ids []uint32, k clause) []uint32 {
	if id, ok := c.ids[k]; ok {
		return append(ids, id)
	}
	return ids
}

// find appends the statements whose scope holds, in the order in which they
// were added, each once.
func (x *index) find(found []int32, p *parties) []int32 {
	first := len(found)
	var buffers [3][8]uint32
	actions := x.actions.holding(buffers[1][:0], &p.action)
	if len(actions) == 0 {
		return found
	}
	principals := x.principals.holding(buffers[0][:0], &p.principal)
	resources := x.resources.holding(buffers[2][:0], &p.resource)
	for _, principal := range principals {
		for _, action := range actions {
			for _, resource := range resources {
				found = append(found, x.byScope[scopeKey{principal, action, resource}]...)
			}
		}
	}
	slices.Sort(found[first:])
	return append(found[:first], slices.Compact(found[first:])...)
}
