package stream

import (
	"encoding/json"
	"fmt"

	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// roster knows the roles of every subject that was ever bound in a tenant, and
// the position of the newest record that they are made of: the tenant's, the
// subject's, its bindings', and those of the roles that these name. So a node
// that saw every record and one that began with the newest of each give every
// subject the same roles at the same position.
type roster struct {
	directory pap.Directory
	positions map[recordKey]uint64 // of records of the directory
	bound     map[holder]map[string]binding
	byRole    map[string]map[holder]struct{} // name of a role → who is bound to it
	byTenant  map[string]map[holder]struct{}
}

type recordKey struct {
	kind        pap.Kind
	tenant, key string
}

// holder is a subject of a tenant, "user:li.wei".
type holder struct{ tenant, subject string }

type binding struct {
	role     string
	position uint64
}

func newRoster() roster {
	return roster{
		positions: map[recordKey]uint64{}, bound: map[holder]map[string]binding{},
		byRole: map[string]map[holder]struct{}{}, byTenant: map[string]map[holder]struct{}{},
	}
}

// apply takes records and returns the entries of every subject that they
// concern.
func (r *roster) apply(records []pap.Record) ([]*entry, error) {
	if err := r.directory.Apply(records); err != nil {
		return nil, err
	}
	concerned := map[holder]struct{}{}
	var shared []func()
	for i := range records {
		later, err := r.note(&records[i], concerned)
		if err != nil {
			return nil, fmt.Errorf("log position %d: %s %s: %w", records[i].Position, records[i].Kind, records[i].Key, err)
		}
		if later != nil {
			shared = append(shared, later)
		}
	}
	for _, later := range shared { // who is bound to a role is known once all bindings are
		later()
	}
	entries := make([]*entry, 0, len(concerned))
	for h := range concerned {
		e, err := r.entry(h)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// note keeps a record's position and adds whom it concerns.
func (r *roster) note(record *pap.Record, concerned map[holder]struct{}) (later func(), err error) {
	all := func(set map[holder]struct{}, only string) {
		for h := range set {
			if only == "" || h.tenant == only {
				concerned[h] = struct{}{}
			}
		}
	}
	switch record.Kind {
	case pap.KindTenant:
		r.positions[recordKey{pap.KindTenant, record.Key, ""}] = record.Position
		return func() { all(r.byTenant[record.Key], "") }, nil
	case pap.KindSubject:
		var s pap.Subject
		if err := json.Unmarshal(record.Body, &s); err != nil {
			return nil, err
		}
		h := holder{s.Tenant, pap.SubjectName(s.Type, s.ID)}
		r.positions[recordKey{pap.KindSubject, h.tenant, h.subject}] = record.Position
		return func() {
			if r.bound[h] != nil {
				concerned[h] = struct{}{}
			}
		}, nil
	case pap.KindRole:
		var role pap.Role
		if err := json.Unmarshal(record.Body, &role); err != nil {
			return nil, err
		}
		r.positions[recordKey{pap.KindRole, role.Tenant, role.Name}] = record.Position
		return func() { all(r.byRole[role.Name], role.Tenant) }, nil
	case pap.KindBinding:
		var b pap.Binding
		if err := json.Unmarshal(record.Body, &b); err != nil {
			return nil, err
		}
		if b.Tenant != "" { // the platform's own roles are for the self policies, which no PEP has
			h := holder{b.Tenant, b.Subject}
			r.bind(h, record.Key, binding{b.Role, record.Position})
			concerned[h] = struct{}{}
		}
	}
	return nil, nil
}

func (r *roster) bind(h holder, id string, b binding) {
	if r.bound[h] == nil {
		r.bound[h] = map[string]binding{}
	}
	r.bound[h][id] = b
	for _, index := range []struct {
		sets map[string]map[holder]struct{}
		name string
	}{{r.byRole, b.role}, {r.byTenant, h.tenant}} {
		if index.sets[index.name] == nil {
			index.sets[index.name] = map[holder]struct{}{}
		}
		index.sets[index.name][h] = struct{}{}
	}
}

func (r *roster) entry(h holder) (*entry, error) {
	position := max(
		r.positions[recordKey{pap.KindTenant, h.tenant, ""}],
		r.positions[recordKey{pap.KindSubject, h.tenant, h.subject}],
	)
	for _, b := range r.bound[h] {
		position = max(position, b.position,
			r.positions[recordKey{pap.KindRole, "", b.role}], r.positions[recordKey{pap.KindRole, h.tenant, b.role}])
	}
	roles := r.directory.Roles(h.tenant, h.subject)
	if roles == nil {
		roles = []string{}
	}
	body, err := json.Marshal(wire.Roles{Roles: roles})
	if err != nil {
		return nil, err
	}
	e := &entry{
		Entry:  wire.Entry{Position: position, Kind: wire.EntryRoles, Tenant: h.tenant, Key: h.subject, Body: body},
		dropAt: wire.Forever,
	}
	e.until, err = e.CountsUntil()
	return e, err
}
