package cedareval

import (
	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// kept is an attribute of the subject or resource, or a member of the context,
// that is read because some policy mentions it.
type kept struct {
	top
	value authz.Value
	typ   resolved.IsType // nil: read without a schema
}

// gather keeps what the policies mention and returns the gaps in it.
func (e *evaluation) gather(schema *Schema) []place {
	req := e.in.Request
	e.kept, e.work = e.kept[:0], 0
	var gaps []place
	shape, known := schema.shapeOf(e.parties.principal.uid.Type)
	gaps = e.keep(gaps, principalRoot, req.Subject.Properties, shape, known)
	shape, known = schema.shapeOf(e.parties.resource.uid.Type)
	gaps = e.keep(gaps, resourceRoot, req.Resource.Properties, shape, known)
	shape, known = schema.contextOf(e.parties.action.uid)
	gaps = e.keep(gaps, contextRoot, req.Context, shape, known)
	if e.noRoles && e.mentioned(rolesPlace.top()) != nil {
		gaps = append(gaps, rolesPlace)
	}
	return gaps
}

// mentioned returns what a unit that is asked knows of t, nil where no policy
// mentions it.
func (e *evaluation) mentioned(t top) *mentioned {
	bit := t.sieved()
	for _, u := range e.here {
		if u.sieve&bit == 0 {
			continue
		}
		if who := u.mentions[t]; who != nil {
			return who
		}
	}
	return nil
}

// keep gathers the members of one object; shape is its type where known.
func (e *evaluation) keep(gaps []place, r root, object authz.Value, shape resolved.RecordType, known bool) []place {
	for i := range object.Len() {
		m := kept{top: top{r, object.Name(i)}, value: object.Index(i)}
		who := e.mentioned(m.top)
		if who == nil {
			continue
		}
		attribute, declared := shape[types.String(m.name)]
		work := setWork(m.value)
		if known && !declared || !known && who.special || e.work+work > maxSetWork {
			gaps = append(gaps, place{r, []string{m.name}})
			continue
		}
		e.work += work
		m.typ = attribute.Type
		if m.typ != nil || !plain(m.value.Kind()) {
			gaps = findGaps(gaps, r, &trail{step: m.name}, m.value, m.typ)
		}
		e.kept = append(e.kept, m)
	}
	for name, attribute := range shape {
		if attribute.Optional || r == contextRoot && (name == tenantMember || name == nowMember) {
			continue
		}
		if _, given := object.Get(string(name)); !given && e.mentioned(top{r, string(name)}) != nil {
			gaps = append(gaps, place{r, []string{string(name)}})
		}
	}
	return gaps
}

// maxSetWork bounds the lists of one request: the squares of their lengths, in
// sum. cedar-go's sets probe linearly from a hash that is easily foreseen (that
// of a set is the sum of its elements'), so a hostile list costs its square; a
// request of a megabyte would take minutes.
const maxSetWork = 512 * 512

func setWork(v authz.Value) int {
	work := 0
	switch v.Kind() {
	case authz.KindList:
		work = v.Len() * v.Len()
	case authz.KindObject:
	default:
		return 0
	}
	for i := range v.Len() {
		work += setWork(v.Index(i))
	}
	return work
}

// environment builds what cedar-go evaluates with. It is the evaluation's one
// environment, and holds until the next is built.
func (e *evaluation) environment(schema *Schema) *environment {
	return e.build(schema, e.members(principalRoot), e.members(resourceRoot))
}

// environmentFor builds what one policy sees where subject and resource are one
// entity: of each attribute the side that it mentions.
func (e *evaluation) environmentFor(schema *Schema, p *policy) *environment {
	clear(e.record)
	for _, m := range e.kept {
		if m.root == contextRoot || !p.mentionsTop(m.top) {
			continue
		}
		if v, ok := read(m.value, m.typ); ok {
			e.record[types.String(m.name)] = v
		}
	}
	record := e.recorded()
	return e.build(schema, record, record)
}

func (e *evaluation) build(schema *Schema, principal, resource types.Record) *environment {
	e.entities = requestEntities{
		principal: types.Entity{UID: e.parties.principal.uid, Attributes: principal},
		resource:  types.Entity{UID: e.parties.resource.uid, Attributes: resource},
		actions:   schema.actionEntities(),
	}
	// The index settles the scopes: who mentions no roles asks for no parents.
	if above := e.parties.principal.ancestors; len(above) > 0 && e.mentioned(rolesPlace.top()) != nil {
		e.entities.principal.Parents = types.NewEntityUIDSet(above...)
	}
	e.env = environment{entities: &e.entities, request: cedar.Request{
		Principal: e.parties.principal.uid, Action: e.parties.action.uid, Resource: e.parties.resource.uid, Context: e.context(),
	}}
	return &e.env
}

// members reads the kept members of one root.
func (e *evaluation) members(r root) types.Record {
	e.readMembers(r)
	return e.recorded()
}

func (e *evaluation) readMembers(r root) {
	clear(e.record)
	for _, m := range e.kept {
		if m.root != r {
			continue
		}
		if v, ok := read(m.value, m.typ); ok {
			e.record[types.String(m.name)] = v
		}
	}
}

// recorded is the record of what stands in e.record, which it copies.
func (e *evaluation) recorded() types.Record {
	if len(e.record) == 0 {
		return types.Record{}
	}
	return types.NewRecord(e.record)
}

// context adds what the server says.
func (e *evaluation) context() types.Record {
	e.readMembers(contextRoot)
	if e.mentioned(top{contextRoot, tenantMember}) != nil {
		e.record[tenantMember] = types.String(e.in.Request.Tenant)
	}
	if e.mentioned(top{contextRoot, nowMember}) != nil {
		e.record[nowMember] = types.NewDatetime(e.in.Now)
	}
	return e.recorded()
}

// describe says what is wrong at a gap.
func (p place) describe() string {
	return p.pointer() + " holds what Cedar cannot read (null, a fraction of more than four places, a list too long, or not what the schema says), and the policy looks there"
}

// pointer is the place in the request's own terms.
func (p place) pointer() string {
	start := [...]string{"/subject/properties", "/resource/properties", "/context"}[p.root]
	for _, step := range p.steps {
		start += "/" + escapeStep(step)
	}
	return start
}
