package cedareval

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	exptypes "github.com/cedar-policy/cedar-go/x/exp/types"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ReadEntities reads Cedar's JSON form of entities by the schema, as the
// reference implementation does: references and extension values may stand
// without __entity and __extn where the schema says what they are, every
// entity must conform, and the schema's actions and their groups are added.
// Errors name the entity.
func ReadEntities(s *Schema, data []byte) (types.EntityMap, error) {
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("entities: want a list of objects: %w", err)
	}
	entities := types.EntityMap{}
	for i, members := range list {
		entity, err := s.readEntity(members)
		if err != nil {
			return nil, fmt.Errorf("entity %d of the list: %w", i, err)
		}
		if _, taken := entities[entity.UID]; taken {
			return nil, fmt.Errorf("entity %s: given twice", entity.UID)
		}
		entities[entity.UID] = entity
	}
	for uid, action := range s.actions {
		entities[uid] = action
	}
	return entities, nil
}

func (s *Schema) readEntity(members map[string]json.RawMessage) (types.Entity, error) {
	var uid types.EntityUID
	if err := json.Unmarshal(members["uid"], &uid); err != nil {
		return types.Entity{}, fmt.Errorf("uid: %w", err)
	}
	var parents types.EntityUIDSet
	if err := json.Unmarshal(members["parents"], &parents); err != nil {
		return types.Entity{}, fmt.Errorf("%s: parents: %w", uid, err)
	}
	for parent := range parents.All() {
		if !s.mayBeUnder(uid, parent) {
			return types.Entity{}, fmt.Errorf("%s: the schema does not let it be in %s", uid, parent)
		}
	}
	if action, ok := s.actions[uid]; ok {
		return action, nil
	}
	// cedar-go's validator takes only immediate parents; a document may list
	// all that is above.
	members["parents"] = json.RawMessage("[]")
	members["attrs"] = wrapCalls(members["attrs"], s.resolved.Entities[uid.Type].Shape)
	alone, err := json.Marshal(members)
	if err != nil {
		return types.Entity{}, err
	}
	var entity exptypes.Entity
	if err := entity.UnmarshalJSONWithSchema(alone, s.resolved); err != nil {
		return types.Entity{}, fmt.Errorf("%s: %w", uid, err)
	}
	if enum, ok := s.resolved.Enums[uid.Type]; ok && !slices.Contains(enum.Values, uid) {
		return types.Entity{}, fmt.Errorf("%s: not one of the values that the schema lists", uid)
	}
	entity.Parents = parents
	return types.Entity(entity), nil
}

// wrapCalls puts {"fn","arg"} under __extn where t says that it is an extension
// value: the one form that the reference implementation reads and cedar-go
// does not. What is not as t says is left for the validator.
func wrapCalls(text json.RawMessage, t resolved.IsType) json.RawMessage {
	var wrapped any
	switch t := t.(type) {
	case resolved.ExtensionType:
		var call map[string]json.RawMessage
		if json.Unmarshal(text, &call) != nil || len(call) != 2 || call["fn"] == nil || call["arg"] == nil {
			return text
		}
		wrapped = map[string]any{"__extn": call}
	case resolved.SetType:
		var elements []json.RawMessage
		if json.Unmarshal(text, &elements) != nil {
			return text
		}
		for i := range elements {
			elements[i] = wrapCalls(elements[i], t.Element)
		}
		wrapped = elements
	case resolved.RecordType:
		var members map[string]json.RawMessage
		if json.Unmarshal(text, &members) != nil {
			return text
		}
		for name := range members {
			members[name] = wrapCalls(members[name], t[types.String(name)].Type)
		}
		wrapped = members
	default:
		return text
	}
	if encoded, err := json.Marshal(wrapped); err == nil {
		return encoded
	}
	return text
}

// mayBeUnder reports whether the schema lets child be in parent, directly or
// through others.
func (s *Schema) mayBeUnder(child, parent types.EntityUID) bool {
	if _, isAction := s.actions[child]; isAction {
		return slices.Contains(s.groups[child], parent)
	}
	seen := map[types.EntityType]bool{}
	for todo := []types.EntityType{child.Type}; len(todo) > 0; {
		next := todo[0]
		todo = todo[1:]
		if seen[next] {
			continue
		}
		seen[next] = true
		above := s.resolved.Entities[next].ParentTypes
		if slices.Contains(above, parent.Type) {
			return true
		}
		todo = append(todo, above...)
	}
	return false
}

// ReadContext reads a request's context by the schema, as [ReadEntities] reads
// entities. What does not conform is an error that says where.
func ReadContext(s *Schema, action types.EntityUID, data []byte) (types.Record, error) {
	v, err := authz.Parse(data)
	if err != nil {
		return types.Record{}, err
	}
	shape, ok := s.contextOf(action)
	if !ok {
		return types.Record{}, fmt.Errorf("%s: the schema gives this action no context", action)
	}
	if gaps := findGaps(nil, contextRoot, nil, v, shape); len(gaps) > 0 {
		return types.Record{}, fmt.Errorf("%s: not what the schema says", gaps[0].pointer())
	}
	record, _ := read(v, shape)
	return record.(types.Record), nil
}
