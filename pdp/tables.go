package pdp

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ReadTables reads tables/*.yaml: per table an object with "platform" and
// "tenants". What is wrong is [Faults].
func ReadTables(content *bundles.Content) (*Tables, error) {
	tables := &Tables{Tenants: map[string]authz.Value{}}
	var faults Faults
	for _, f := range content.Files() {
		name, ok := strings.CutPrefix(f.Path, "tables/")
		if ext := path.Ext(name); !ok || ext != ".yaml" && ext != ".yml" {
			continue
		}
		name = strings.TrimSuffix(name, path.Ext(name))
		if err := tables.add(name, f.Data); err != nil {
			faults = append(faults, Fault{File: f.Path, Message: err.Error()})
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return tables, nil
}

func (t *Tables) add(name string, data []byte) error {
	if strings.ContainsAny(name, "/.") {
		return fmt.Errorf("table name %q: want one plain name", name)
	}
	var file struct {
		Platform any            `yaml:"platform"`
		Tenants  map[string]any `yaml:"tenants"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if file.Platform != nil {
		v, err := authz.ValueOf(file.Platform)
		if err != nil {
			return authz.Under(err, "/platform")
		}
		t.Platform = t.Platform.With(name, v)
	}
	for tenant, content := range file.Tenants {
		if err := authz.ValidTenant(tenant); err != nil {
			return fmt.Errorf("/tenants: %w", err)
		}
		v, err := authz.ValueOf(content)
		if err != nil {
			return authz.Under(err, "/tenants/"+tenant)
		}
		t.Tenants[tenant] = t.Tenants[tenant].With(name, v)
	}
	return nil
}
