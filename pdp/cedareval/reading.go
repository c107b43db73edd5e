package cedareval

import (
	"fmt"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// member is an attribute of the subject or resource, or a member of the
// context, that some policy mentions.
type member struct {
	top
	value authz.Value
	typ   resolved.IsType // nil: read without a schema
}

// gather keeps what the domain's policies mention and returns the gaps in it.
func (e *evaluation) gather(d *domain) []place {
	req := e.in.Request
	e.kept, e.work = e.kept[:0], 0
	var gaps []place
	shape, known := d.schema.shapeOf(e.parties.principal.uid.Type)
	gaps = e.keep(gaps, d, principalRoot, req.Subject.Properties, shape, known)
	shape, known = d.schema.shapeOf(e.parties.resource.uid.Type)
	gaps = e.keep(gaps, d, resourceRoot, req.Resource.Properties, shape, known)
	shape, known = d.schema.contextOf(e.parties.action.uid)
	gaps = e.keep(gaps, d, contextRoot, req.Context, shape, known)
	if e.noRoles && d.mentions[rolesPlace.top()] != nil {
		gaps = append(gaps, rolesPlace)
	}
	return gaps
}

// keep gathers the members of one object; shape is its type where known.
func (e *evaluation) keep(gaps []place, d *domain, r root, object authz.Value, shape resolved.RecordType, known bool) []place {
	for i := range object.Len() {
		m := member{top: top{r, object.Name(i)}, value: object.Index(i)}
		who, ok := d.mentions[m.top]
		if !ok {
			continue
		}
		attribute, declared := shape[types.String(m.name)]
		e.work += setWork(m.value)
		if known && !declared || !known && who.special || e.work > maxSetWork {
			gaps = append(gaps, place{r, []string{m.name}})
			continue
		}
		m.typ = attribute.Type
		gaps = findGaps(gaps, r, &trail{step: m.name}, m.value, m.typ)
		e.kept = append(e.kept, m)
	}
	for name, attribute := range shape {
		if attribute.Optional || r == contextRoot && (name == tenantMember || name == nowMember) {
			continue
		}
		if _, given := object.Get(string(name)); !given && d.mentions[top{r, string(name)}] != nil {
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
func (e *evaluation) environment(d *domain) *environment {
	return e.build(d, e.record(principalRoot), e.record(resourceRoot))
}

// environmentFor builds what one policy sees where subject and resource are
// one entity. It is an error where the policy mentions both sides of something
// on which they differ.
func (e *evaluation) environmentFor(d *domain, p *policy) (*environment, error) {
	attributes := types.RecordMap{}
	properties := [...]authz.Value{principalRoot: e.in.Request.Subject.Properties, resourceRoot: e.in.Request.Resource.Properties}
	for _, m := range e.kept {
		if m.root == contextRoot || !p.mentionsTop(m.top) {
			continue
		}
		other := top{principalRoot + resourceRoot - m.root, m.name}
		if v, given := properties[other.root].Get(m.name); p.mentionsTop(other) && (!given || !v.Equal(m.value)) {
			return nil, fmt.Errorf("subject and resource are the same %s and differ in %q, which the policy reads of both", e.parties.principal.uid, m.name)
		}
		if v, ok := read(m.value, m.typ); ok {
			attributes[types.String(m.name)] = v
		}
	}
	record := types.NewRecord(attributes)
	return e.build(d, record, record), nil
}

func (e *evaluation) build(d *domain, principal, resource types.Record) *environment {
	entities := &requestEntities{
		principal: types.Entity{UID: e.parties.principal.uid, Attributes: principal},
		resource:  types.Entity{UID: e.parties.resource.uid, Attributes: resource},
		actions:   d.schema.actionEntities(),
	}
	if above := e.parties.principal.ancestors; len(above) > 0 {
		entities.principal.Parents = types.NewEntityUIDSet(above...)
	}
	return &environment{entities: entities, request: cedar.Request{
		Principal: e.parties.principal.uid, Action: e.parties.action.uid, Resource: e.parties.resource.uid, Context: e.context(d),
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
func (e *evaluation) context(d *domain) types.Record {
	record := e.members(contextRoot)
	if d.mentions[top{contextRoot, tenantMember}] != nil {
		record[tenantMember] = types.String(e.in.Request.Tenant)
	}
	if d.mentions[top{contextRoot, nowMember}] != nil {
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
