package cedareval

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	schemaast "github.com/cedar-policy/cedar-go/x/exp/schema/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

// Schema is a Cedar schema. It is immutable. A nil Schema knows no types.
type Schema struct {
	text      []byte
	resolved  *resolved.Schema
	validator *validate.Validator
	// actions are the schema's actions and action groups as entities.
	actions types.EntityMap
	groups  map[types.EntityUID][]types.EntityUID // all groups above an action
	// shapes are the records in which a path from each root may begin.
	shapes map[root][]resolved.RecordType
}

// The context members that every request has.
const (
	tenantMember = "tenant"
	nowMember    = "now"
)

// reservedMembers are their types.
func reservedMembers() resolved.RecordType {
	return resolved.RecordType{
		tenantMember: {Type: resolved.StringType{}},
		nowMember:    {Type: resolved.ExtensionType("datetime")},
	}
}

// maxSchemaTypes bounds a schema with its common types written out. Cedar lets
// thirty short lines stand for a billion types.
const maxSchemaTypes = 100_000

// ReadSchema reads a schema in Cedar's own syntax. Errors say where in the file.
func ReadSchema(file string, text []byte) (*Schema, error) {
	// The parser is recursive; the outline holds its input to the same limits as a policy's.
	if err := checkNesting(string(text)); err != nil {
		return nil, err
	}
	var source schema.Schema
	source.SetFilename(file)
	if err := source.UnmarshalCedar(text); err != nil {
		return nil, err
	}
	if size := (&expansion{schema: source.AST(), done: map[types.Path]int{}}).size(); size > maxSchemaTypes {
		return nil, fmt.Errorf("more than %d types once common types are written out", maxSchemaTypes)
	}
	known, err := source.Resolve()
	if err != nil {
		return nil, err
	}
	s := &Schema{text: text, resolved: known, validator: validate.New(known, validate.WithStrict()),
		actions: types.EntityMap{}, groups: map[types.EntityUID][]types.EntityUID{}, shapes: map[root][]resolved.RecordType{}}
	for uid, action := range known.Actions {
		s.actions[uid] = action.Entity
		if action.AppliesTo != nil {
			s.shapes[contextRoot] = append(s.shapes[contextRoot], action.AppliesTo.Context)
		}
	}
	for uid := range s.actions {
		s.groups[uid] = ancestors(s.actions, uid)
	}
	for _, entity := range known.Entities {
		s.shapes[principalRoot] = append(s.shapes[principalRoot], entity.Shape)
	}
	s.shapes[resourceRoot] = s.shapes[principalRoot]
	return s, nil
}

// reserve adds the reserved context members to every action. It is part of
// making a Schema: afterwards nobody changes one.
func (s *Schema) reserve() error {
	for uid, action := range s.resolved.Actions {
		if action.AppliesTo == nil {
			continue
		}
		for name, reserved := range reservedMembers() {
			if declared, ok := action.AppliesTo.Context[name]; ok && (typeName(declared.Type) != typeName(reserved.Type) || declared.Optional) {
				return fmt.Errorf("%s: context.%s is reserved; leave it out or declare it as the required %s", uid, name, typeName(reserved.Type))
			}
			action.AppliesTo.Context[name] = reserved
		}
	}
	return nil
}

func typeName(t resolved.IsType) string {
	if extension, ok := t.(resolved.ExtensionType); ok {
		return string(extension)
	}
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", t), "resolved."), "Type")
}

// checkNesting holds a schema to maxNesting brackets of any kind.
func checkNesting(text string) error {
	lex, depth := lexer{text: text, line: 1}, 0
	for {
		t, err := lex.next()
		if err != nil || t.kind == endToken {
			return err
		}
		if t.kind != signToken {
			continue
		}
		switch sign := t.of(text); {
		case strings.Contains("([{<", sign):
			if depth++; depth > maxNesting {
				return &placedError{t.line, fmt.Sprintf("nested deeper than %d brackets", maxNesting)}
			}
		case strings.Contains(")]}>", sign):
			depth--
		}
	}
}

// expansion counts the types of a schema as they will be once every common
// type is written out where it is used. It stops counting beyond the limit.
type expansion struct {
	schema *schemaast.Schema
	done   map[types.Path]int // −1: being counted
}

func (x *expansion) size() int {
	total := x.declarations("", x.schema.Entities, x.schema.Actions)
	for name, ns := range x.schema.Namespaces {
		total += x.declarations(name, ns.Entities, ns.Actions)
	}
	return total
}

func (x *expansion) declarations(ns types.Path, entities schemaast.Entities, actions schemaast.Actions) int {
	total := 0
	for _, e := range entities {
		total = x.sum(total, x.types(ns, e.Shape), x.types(ns, e.Tags))
	}
	for _, a := range actions {
		if a.AppliesTo != nil {
			total = x.sum(total, x.types(ns, a.AppliesTo.Context))
		}
	}
	return total
}

func (x *expansion) sum(counts ...int) int {
	total := 0
	for _, n := range counts {
		total = min(total+n, maxSchemaTypes+1)
	}
	return total
}

func (x *expansion) types(ns types.Path, t schemaast.IsType) int {
	switch t := t.(type) {
	case schemaast.SetType:
		return x.sum(1, x.types(ns, t.Element))
	case schemaast.RecordType:
		total := 1
		for _, attribute := range t {
			total = x.sum(total, x.types(ns, attribute.Type))
		}
		return total
	case schemaast.TypeRef:
		return x.common(ns, types.Path(t))
	default:
		return 1
	}
}

// common counts the common type that name means in ns, if it is one.
func (x *expansion) common(ns, name types.Path) int {
	candidates := []types.Path{name}
	if ns != "" {
		candidates = []types.Path{ns + "::" + name, name}
	}
	for _, full := range candidates {
		if n, ok := x.done[full]; ok {
			return max(n, 1) // a cycle is the resolver's to report
		}
		home, short := types.Path(""), full
		if i := strings.LastIndex(string(full), "::"); i >= 0 {
			home, short = full[:i], full[i+2:]
		}
		declared := x.schema.CommonTypes
		if home != "" {
			declared = x.schema.Namespaces[home].CommonTypes
		}
		if ct, ok := declared[schemaast.Ident(short)]; ok {
			x.done[full] = -1
			x.done[full] = x.types(home, ct.Type)
			return x.done[full]
		}
	}
	return 1
}

// shapeOf returns the attributes of an entity type, or false where the schema
// does not know it.
func (s *Schema) shapeOf(t types.EntityType) (resolved.RecordType, bool) {
	if s == nil {
		return nil, false
	}
	if entity, ok := s.resolved.Entities[t]; ok {
		return entity.Shape, true
	}
	_, isEnum := s.resolved.Enums[t]
	return nil, isEnum
}

// contextOf returns the context of an action, or false where the schema does
// not know it or gives it none.
func (s *Schema) contextOf(action types.EntityUID) (resolved.RecordType, bool) {
	if s == nil {
		return nil, false
	}
	a, ok := s.resolved.Actions[action]
	if !ok || a.AppliesTo == nil {
		return nil, false
	}
	return a.AppliesTo.Context, true
}

// mayHoldEntity reports whether the value at p can be an entity: whether some
// type or action of the schema says so.
func (s *Schema) mayHoldEntity(p place) bool {
	return slices.ContainsFunc(s.typesAt(p), func(t resolved.IsType) bool {
		_, ok := t.(resolved.EntityType)
		return ok
	})
}

// needsSchema reports whether the value at p may have to be read by a type:
// whether an entity or an extension value may stand there or below.
func (s *Schema) needsSchema(p place) bool { return slices.ContainsFunc(s.typesAt(p), isSpecial) }

// typesAt lists the types that the schema anywhere gives to p.
func (s *Schema) typesAt(p place) []resolved.IsType {
	if s == nil || len(p.steps) == 0 {
		return nil
	}
	var found []resolved.IsType
	for _, shape := range s.shapes[p.root] {
		var t resolved.IsType = shape
		for _, step := range p.steps {
			record, _ := t.(resolved.RecordType)
			t = record[types.String(step)].Type
		}
		if t != nil {
			found = append(found, t)
		}
	}
	return found
}

func isSpecial(t resolved.IsType) bool {
	switch t := t.(type) {
	case resolved.EntityType, resolved.ExtensionType:
		return true
	case resolved.SetType:
		return isSpecial(t.Element)
	case resolved.RecordType:
		for _, attribute := range t {
			if isSpecial(attribute.Type) {
				return true
			}
		}
	}
	return false
}

// groupsOf lists the groups that an action is in, directly or not.
func (s *Schema) groupsOf(action types.EntityUID) []types.EntityUID {
	if s == nil {
		return nil
	}
	return s.groups[action]
}

// actionEntities returns the schema's actions; nil for a nil schema.
func (s *Schema) actionEntities() types.EntityMap {
	if s == nil {
		return nil
	}
	return s.actions
}

// schemaErrorPlace takes the line out of an error of [ReadSchema].
func schemaErrorPlace(file string, err error) (line int, message string) {
	var placed *placedError
	if errors.As(err, &placed) {
		return placed.line, placed.message
	}
	message = err.Error()
	rest, ok := strings.CutPrefix(message, file+":")
	if !ok {
		return 0, message
	}
	number, after, _ := strings.Cut(rest, ":")
	_, after, _ = strings.Cut(after, ":")
	line, atoiErr := strconv.Atoi(number)
	if atoiErr != nil {
		return 0, message
	}
	return line, strings.TrimSpace(after)
}

// joined returns the errors that err joins, or err alone.
func joined(err error) []error {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		return several.Unwrap()
	}
	return []error{err}
}
