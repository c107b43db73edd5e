package pap

import (
	"bytes"
	"errors"
	"io"
	"path"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// wholeTable is a table of one file, parsed when it is first cut.
type wholeTable struct {
	file bundles.File

	once sync.Once
	json authz.Value // of a JSON file
	yaml table       // of any other
	err  error
}

// table is one table file in parts.
type table struct {
	Platform any            `yaml:"platform,omitempty"`
	Tenants  map[string]any `yaml:"tenants,omitempty"`
}

func (t *wholeTable) parse() {
	if path.Ext(t.file.Path) == ".json" {
		t.json, t.err = authz.Parse(t.file.Data)
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(t.file.Data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&t.yaml); err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
}

// only writes the platform's part and those of the tenants anew, members
// sorted: comments may speak of other tenants. It is nil where nothing is left.
func (t *wholeTable) only(tenants []string) ([]byte, error) {
	t.once.Do(t.parse)
	switch {
	case t.err != nil:
		return nil, t.err
	case path.Ext(t.file.Path) == ".json":
		return onlyOf(t.json, tenants), nil
	}
	left := table{Platform: t.yaml.Platform}
	for _, tenant := range tenants {
		if part, ok := t.yaml.Tenants[tenant]; ok {
			if left.Tenants == nil {
				left.Tenants = make(map[string]any, len(tenants))
			}
			left.Tenants[tenant] = part
		}
	}
	if left.Platform == nil && left.Tenants == nil {
		return nil, nil
	}
	return yaml.Marshal(left)
}

func onlyOf(table authz.Value, tenants []string) []byte {
	var left, own authz.Value
	if platform, _ := table.Get("platform"); platform.Kind() != authz.KindNull {
		left = left.With("platform", platform)
	}
	all, _ := table.Get("tenants")
	for _, tenant := range tenants {
		if part, ok := all.Get(tenant); ok {
			own = own.With(tenant, part)
		}
	}
	if own.Len() > 0 {
		left = left.With("tenants", own)
	}
	if left.Len() == 0 {
		return nil
	}
	return left.AppendJSON(nil)
}
