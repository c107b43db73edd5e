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
	for _, u := range e.here {
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
		gaps = findGaps(gaps, r, &trail{step: m.name}, m.value, m.typ)
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

// environment builds what cedar-go evaluates with.
func (e *evaluation) environment(schema *Schema) *environment {
	return e.build(schema, e.record(principalRoot), e.record(resourceRoot))
}

// environmentFor builds what one policy sees where subject and resource are one
// entity: of each attribute the side that it mentions.
func (e *evaluation) environmentFor(schema *Schema, p *policy) *environment {
	attributes := types.RecordMap{}
	for _, m := range e.kept {
		if m.root == contextRoot || !p.mentionsTop(m.top) {
			continue
		}
		if v, ok := read(m.value, m.typ); ok {
			attributes[types.String(m.name)] = v
		}
	}
	record := types.NewRecord(attributes)
	return e.build(schema, record, record)
}

func (e *evaluation) build(schema *Schema, principal, resource types.Record) *environment {
	entities := &requestEntities{
		principal: types.Entity{UID: e.parties.principal.uid, Attributes: principal},
		resource:  types.Entity{UID: e.parties.resource.uid, Attributes: resource},
		actions:   schema.actionEntities(),
	}
	if above := e.parties.principal.ancestors; len(above) > 0 {
		entities.principal.Parents = types.NewEntityUIDSet(above...)
	}
	return &environment{entities: entities, request: cedar.Request{
		Principal: e.parties.principal.uid, Action: e.parties.action.uid, Resource: e.parties.resource.uid, Context: e.context(),
	}}
}

// record reads the kept members of one root.
func (e *evaluation) record(r root) types.Record {
	return types.NewRecord(e.members(r))
}

func (e *evaluation) members(r root) types.RecordMap {
	record := make(types.RecordMap, len(e.kept))
	for _, m := range e.kept {
		if m.root != r {
			continue
		}
		if v, ok := read(m.value, m.typ); ok {
			record[types.String(m.name)] = v
		}
	}
	return record
}

// context adds what the server says.
func (e *evaluation) context() types.Record {
	record := e.members(contextRoot)
	if e.mentioned(top{contextRoot, tenantMember}) != nil {
		record[tenantMember] = types.String(e.in.Request.Tenant)
	}
	if e.mentioned(top{contextRoot, nowMember}) != nil {
		record[nowMember] = types.NewDatetime(e.in.Now)
	}
	return types.NewRecord(record)
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
