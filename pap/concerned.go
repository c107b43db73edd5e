package pap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// concernedTenants are the tenants whose own part of a release differs: a file
// of theirs, or their part of a table. They come sorted.
func concernedTenants(base, next *bundles.Content) ([]string, error) {
	concerned := map[string]bool{}
	for _, change := range base.Diff(next) {
		if _, tenant, err := Place(change.Path); err == nil && tenant != "" {
			concerned[tenant] = true
		}
		rest, isTable := strings.CutPrefix(change.Path, tablesFolder)
		if !isTable {
			continue
		}
		if _, file, split := strings.Cut(rest, "/"); split { // a file a tenant
			if part := strings.TrimSuffix(file, path.Ext(file)); part != Platform {
				concerned[part] = true
			}
			continue
		}
		before, err := partsOf(base, change.Path)
		if err != nil {
			return nil, err
		}
		after, err := partsOf(next, change.Path)
		if err != nil {
			return nil, err
		}
		for _, parts := range []map[string]any{before, after} {
			for tenant := range parts {
				// Of JSON text is compared: what is written anew concerns the tenant too.
				if !reflect.DeepEqual(before[tenant], after[tenant]) {
					concerned[tenant] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(concerned)), nil
}

// partsOf are the tenants' parts of a table, none where there is no such file.
func partsOf(content *bundles.Content, p string) (map[string]any, error) {
	data, err := content.File(p)
	if err != nil {
		return nil, nil //nolint:nilerr // the release removes it, or adds it
	}
	if path.Ext(p) == ".json" {
		var t struct {
			Tenants map[string]json.RawMessage `json:"tenants"`
		}
		if err := json.Unmarshal(data, &t); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		parts := make(map[string]any, len(t.Tenants))
		for tenant, part := range t.Tenants {
			parts[tenant] = part
		}
		return parts, nil
	}
	var t table
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&t); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return t.Tenants, nil
}
