package cedareval

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// root is where a path into the request begins.
type root uint8

const (
	principalRoot root = iota
	resourceRoot
	contextRoot
	actionRoot
	// builtRoot is a record that the policy itself builds. What stands in it is
	// mentioned where it is built; an entity in it can be subject or resource.
	builtRoot
)

// place is a path into the request as a policy sees it. Without steps it is
// the root itself.
type place struct {
	root  root
	steps []string
}

func (p place) equal(q place) bool { return p.root == q.root && slices.Equal(p.steps, q.steps) }

// key is the place as one string. No step holds the separator: Cedar's strings
// are valid UTF-8.
func (p place) key() string {
	return string(rune('0'+p.root)) + strings.Join(p.steps, "\xff")
}

func (p place) child(step string) place {
	return place{p.root, append(slices.Clip(p.steps), step)}
}

// top is the attribute or context member that p leads into.
func (p place) top() top { return top{p.root, p.steps[0]} }

// top is a first step into the request: the unit in which it is converted and
// in which reads are declared.
type top struct {
	root root
	name string
}

// sieved is one bit of 64: what a sieve has no bit for is not among what went
// into it.
func (t top) sieved() uint64 {
	h := uint(len(t.name))*31 + uint(t.root)*17
	if t.name != "" {
		h += uint(t.name[0]) + uint(t.name[len(t.name)-1])*7
	}
	return 1 << (h % 64)
}

// reads names the attribute or member as a policy's metadata does.
func (t top) reads() string {
	return [...]string{"subject.", "resource.", "context."}[t.root] + t.name
}

// mention is a place that a policy looks at. Whole says that it uses the value
// with all that is below it; otherwise it only asks whether something is
// there, or passes through.
type mention struct {
	place
	whole bool
}

// hit reports whether the mention would see that the request has no Cedar
// value at gap.
func (m mention) hit(gap place) bool {
	n := min(len(m.steps), len(gap.steps))
	return m.root == gap.root && slices.Equal(m.steps[:n], gap.steps[:n]) && (m.whole || len(gap.steps) <= len(m.steps))
}

// analysis finds what one policy mentions. It follows every expression back to
// the places that its value can come from.
type analysis struct {
	schema   *Schema // nil: no attribute is an entity
	mentions []mention
	byKey    map[string]int // place → position in mentions
	// problems are what a statement may not do, in the words of a fault.
	problems []string
}

func newAnalysis(schema *Schema) *analysis {
	return &analysis{schema: schema, byKey: map[string]int{}}
}

func (a *analysis) problem(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(a.problems, text) {
		a.problems = append(a.problems, text)
	}
}

func (a *analysis) mention(p place, whole bool) {
	if i, known := a.byKey[p.key()]; known {
		a.mentions[i].whole = a.mentions[i].whole || whole
		return
	}
	a.byKey[p.key()] = len(a.mentions)
	a.mentions = append(a.mentions, mention{p, whole})
}

// scope notes what the scope of a statement mentions: whether somebody is in a
// role.
func (a *analysis) scope(c clause) {
	if (c.op == opIn || c.op == opIsIn) && c.entity.Type == roleType {
		a.roles()
	}
}

// roles notes that the subject's roles are looked at.
func (a *analysis) roles() { a.mention(rolesPlace, true) }

// roleType is the entity type of a subject's parents.
const roleType types.EntityType = "role"

// rolesPlace is where a subject's roles come from.
var rolesPlace = place{principalRoot, []string{"roles"}}

// use notes that the whole value of n is looked at.
func (a *analysis) use(n ast.IsNode) { a.consume(a.sources(n)) }

func (a *analysis) consume(places []place) {
	for _, p := range places {
		switch {
		case len(p.steps) > 0:
			a.mention(p, true)
		case p.root == contextRoot:
			a.problem("context is used as a whole; name the members that are meant")
		}
	}
}

// sources notes what n mentions and returns the places its value can be taken
// from unchanged.
func (a *analysis) sources(n ast.IsNode) []place {
	switch n := n.(type) {
	case ast.NodeTypeVariable:
		return []place{{root: map[types.String]root{
			"principal": principalRoot, "resource": resourceRoot, "context": contextRoot, "action": actionRoot}[n.Name]}}
	case ast.NodeValue:
		if _, ok := n.Value.(types.EntityUID); ok { // it may name the subject or the resource
			return []place{{root: principalRoot}, {root: resourceRoot}}
		}
		return nil
	case ast.NodeTypeAccess:
		return a.attribute(n.StrOpNode)
	case ast.NodeTypeHas:
		a.attribute(n.StrOpNode)
		return nil
	case ast.NodeTypeIfThenElse:
		a.use(n.If)
		then := slices.Clip(a.sources(n.Then))
		for _, p := range a.sources(n.Else) {
			if !slices.ContainsFunc(then, p.equal) {
				then = append(then, p)
			}
		}
		return then
	case ast.NodeTypeIn:
		a.in(n.Left, n.Right)
		return nil
	case ast.NodeTypeIsIn:
		a.in(n.Left, n.Entity)
		return nil
	case ast.NodeTypeGetTag, ast.NodeTypeHasTag:
		a.problem("a request has no Cedar tags; read an attribute instead, such as resource.tags[\"owner\"]")
	}
	for _, child := range children(n) {
		a.use(child)
	}
	if _, built := n.(ast.NodeTypeRecord); built {
		return []place{{root: builtRoot}}
	}
	return nil
}

// attribute notes an access or a has.
func (a *analysis) attribute(n ast.StrOpNode) []place {
	var found []place
	add := func(p place) {
		if !slices.ContainsFunc(found, p.equal) {
			a.mention(p, false)
			found = append(found, p)
		}
	}
	name, built := string(n.Value), false
	for _, p := range a.sources(n.Arg) {
		switch {
		case p.root == actionRoot:
			a.problem("action has no attributes; what a rule needs to know belongs to the resource or the context")
		case len(p.steps) > authz.MaxDepth:
			a.problem("a path of more than %d steps; no request nests so deep", authz.MaxDepth)
		case p.root == builtRoot:
			built = true
		default:
			add(p.child(name))
		}
		if p.root == builtRoot || a.schema.mayHoldEntity(p) {
			add(place{principalRoot, []string{name}})
			add(place{resourceRoot, []string{name}})
		}
	}
	if built { // a record in the record, or an entity in it
		found = append(found, place{root: builtRoot})
	}
	return found
}

// in notes that left's parents are looked at. Only the subject has parents
// that come from a request: its roles.
func (a *analysis) in(left, right ast.IsNode) {
	who := a.sources(left)
	a.consume(who)
	a.use(right)
	hasRoles := slices.ContainsFunc(who, func(p place) bool {
		return len(p.steps) == 0 && p.root != contextRoot && p.root != actionRoot || a.schema.mayHoldEntity(p)
	})
	if hasRoles && mayBeRole(right) {
		a.roles()
	}
}

// mayBeRole reports whether n can be a role or a set with one.
func mayBeRole(n ast.IsNode) bool {
	switch n := n.(type) {
	case ast.NodeValue:
		uid, ok := n.Value.(types.EntityUID)
		return !ok || uid.Type == roleType
	case ast.NodeTypeSet:
		return slices.ContainsFunc(n.Elements, mayBeRole)
	default:
		return true
	}
}

func children(n ast.IsNode) []ast.IsNode {
	var found []ast.IsNode
	self := true
	ast.Inspect(ast.NewNode(n), func(child ast.IsNode) bool {
		if self {
			self = false
			return true
		}
		found = append(found, child)
		return false
	})
	return found
}
