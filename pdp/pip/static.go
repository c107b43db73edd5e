package pip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// StaticSource is the name that attributes.yaml uses for [Static].
const StaticSource = "static"

// MaxStatic bounds the file, in bytes.
const MaxStatic = 16 << 20

// Static answers from a file read once:
//
//	tenants:
//	  acme:
//	    subject:
//	      "user:li.wei": {department: finance, clearance: 2}
//	    resource:
//	      "ecs.instance:i-1": {environment: production}
//
// It is immutable and safe for concurrent use; the zero value knows nothing.
type Static struct {
	known map[key]authz.Value
}

// key is one attribute of one entity.
type key struct {
	tenant, attribute, entity string
}

// ReadStatic reads the file, strictly. Errors are [*authz.FieldError]s or those
// of the YAML reader, which name the line.
func ReadStatic(r io.Reader) (*Static, error) {
	var file struct {
		Tenants map[string]map[string]map[string]map[string]any `yaml:"tenants"`
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxStatic+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxStatic {
		return nil, fmt.Errorf("longer than %d bytes", MaxStatic)
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	s := &Static{known: map[key]authz.Value{}}
	for tenant, sides := range file.Tenants {
		if err := authz.ValidTenant(tenant); err != nil {
			return nil, &authz.FieldError{Path: "/tenants/" + tenant, Detail: err.Error()}
		}
		for side, entities := range sides {
			if side != "subject" && side != "resource" {
				return nil, &authz.FieldError{Path: "/tenants/" + tenant + "/" + side, Detail: "want subject or resource"}
			}
			if err := s.add(tenant, side, entities); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *Static) add(tenant, side string, entities map[string]map[string]any) error {
	for entity, properties := range entities {
		at := "/tenants/" + tenant + "/" + side + "/" + entity
		if typ, id, ok := strings.Cut(entity, ":"); !ok || typ == "" || id == "" {
			return &authz.FieldError{Path: at, Detail: "want <type>:<id>, such as user:li.wei"}
		}
		for name, data := range properties {
			v, err := authz.ValueOf(data)
			if err != nil {
				return authz.Under(err, at+"/"+name)
			}
			s.known[key{tenant, side + "." + name, entity}] = v
		}
	}
	return nil
}

// Attribute returns what the file says of the entity; ok is false where it
// says nothing.
func (s *Static) Attribute(_ context.Context, q pdp.AttributeQuery) (v authz.Value, ok bool, err error) {
	v, ok = s.known[key{q.Tenant, q.Name, q.Entity.Type + ":" + q.Entity.ID}]
	return v, ok, nil
}

// Local reports that answers come from memory.
func (*Static) Local() bool { return true }

var _ pdp.AttributeSource = (*Static)(nil)
