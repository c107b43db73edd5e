package pdp

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// AttributesFile is where a release declares its attributes.
const AttributesFile = "attributes.yaml"

// Attribute is a property of the subject or the resource that something other
// than the caller may supply.
type Attribute struct {
	Name    string // "subject.roles", "resource.landing_zone"
	Trusted bool   // a request that supplies it is refused
	Source  string // name of an [AttributeSource]; empty: nobody but the caller
}

// AttributeSchema is the release's attributes by name. The zero value has none.
type AttributeSchema struct {
	byName map[string]Attribute
	sorted []Attribute
}

// Get returns the named attribute.
func (s *AttributeSchema) Get(name string) (Attribute, bool) {
	a, ok := s.byName[name]
	return a, ok
}

// All returns the attributes sorted by name.
func (s *AttributeSchema) All() []Attribute { return s.sorted }

// property splits "subject.roles" into the entity and the property.
func (a Attribute) property() (entity, property string) {
	entity, property, _ = strings.Cut(a.Name, ".")
	return entity, property
}

func readAttributes(content *bundles.Content) (*AttributeSchema, error) {
	schema := &AttributeSchema{byName: map[string]Attribute{}}
	data, err := content.File(AttributesFile)
	if err != nil {
		return schema, nil //nolint:nilerr // a release without the file has no attributes
	}
	var file struct {
		Attributes map[string]struct {
			Trusted     bool   `yaml:"trusted"`
			Source      string `yaml:"source"`
			Description string `yaml:"description"`
		} `yaml:"attributes"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, Faults{{File: AttributesFile, Message: err.Error()}}
	}
	for name, a := range file.Attributes {
		entity, property, ok := strings.Cut(name, ".")
		if !ok || property == "" || strings.Contains(property, ".") || entity != "subject" && entity != "resource" {
			return nil, Faults{{File: AttributesFile, Message: fmt.Sprintf("attribute %q: want subject.<property> or resource.<property>", name)}}
		}
		schema.byName[name] = Attribute{Name: name, Trusted: a.Trusted, Source: a.Source}
	}
	for _, a := range schema.byName {
		schema.sorted = append(schema.sorted, a)
	}
	slices.SortFunc(schema.sorted, func(a, b Attribute) int { return cmp.Compare(a.Name, b.Name) })
	return schema, nil
}

// AttributeSource is a PIP: it knows attributes of entities (X1).
type AttributeSource interface {
	// Attribute returns the value, or ok false where the source answers that
	// there is none. An error means it could not answer.
	Attribute(ctx context.Context, q AttributeQuery) (value authz.Value, ok bool, err error)
	// Local reports whether Attribute answers from memory; such a source is
	// asked inline, others at once, each under its own deadline.
	Local() bool
}

// AttributeQuery asks for one attribute of the subject or resource of a request.
type AttributeQuery struct {
	Name   string // as the schema has it
	Tenant string
	// Entity is the question's own where the source is local: it must not be
	// kept.
	Entity *authz.Entity
}

// attributeTimeout bounds one look-up of a source that is not local.
const attributeTimeout = 200 * time.Millisecond
