package pdp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// tablesFolder holds the tables.
const tablesFolder = "tables/"

// platformFile is the name, without its extension, of the platform's part of a
// table that is split by tenant. No tenant may be called so.
const platformFile = "platform"

// ReadTables reads the tables of a release. A table is one file, tables/<table>
// with .json, .yaml or .yml, an object with "platform" and "tenants"; or it is
// split by tenant: tables/<table>/<tenant> with one of these holds what is that
// tenant's alone, tables/<table>/platform what is the platform's. What is wrong
// is [Faults].
func ReadTables(content *bundles.Content) (*Tables, error) {
	return readTables(nil, nil, content)
}

// readTables reads the tables of content from those of another, or of none: it
// reads the files that differ and shares all others' values.
func readTables(before *Tables, of, content *bundles.Content) (*Tables, error) {
	var changes []bundles.Change
	if before == nil {
		before = &Tables{}
		for _, f := range content.Under(tablesFolder) {
			changes = append(changes, bundles.Change{Path: f.Path, Data: f.Data})
		}
	} else {
		changes = slices.DeleteFunc(of.Diff(content), func(c bundles.Change) bool { return !strings.HasPrefix(c.Path, tablesFolder) })
	}
	if len(changes) == 0 {
		return before, nil
	}
	bytes := 0
	for _, c := range changes {
		bytes += len(c.Data)
	}
	w := newTableWriter(before, bytes)
	var faults Faults
	for _, c := range changes { // first, since a file may take another's place
		if f, err := tableFileOf(c.Path); err == nil && f.table != "" {
			w.remove(f)
		}
	}
	files := content.Under(tablesFolder)
	at := 0
	for _, c := range changes {
		if c.Removed {
			continue
		}
		for files[at].Path != c.Path {
			at += advance(files[at:], c.Path)
		}
		if err := w.read(files, at); err != nil {
			faults = append(faults, Fault{File: c.Path, Message: err.Error()})
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return w.done(), nil
}

// advance is how far the path lies ahead, or less: it is sought in steps that
// double, so that the next file is found at once.
func advance(files []bundles.File, p string) int {
	step := 1
	for step < len(files) && files[step].Path < p {
		step *= 2
	}
	i, _ := slices.BinarySearchFunc(files[:min(step+1, len(files))], p, func(f bundles.File, p string) int { return strings.Compare(f.Path, p) })
	return i
}

// tableFile is what a path below tables/ says.
type tableFile struct {
	table string // "" for prose
	part  string // whose part of a split table: a tenant or platformFile; "" for a whole table
}

func tableFileOf(p string) (tableFile, error) {
	ext := path.Ext(p)
	if ext == ".md" {
		return tableFile{}, nil
	}
	if !isTableExtension(ext) {
		return tableFile{}, errors.New("a table is a .json, .yaml or .yml file")
	}
	name := strings.TrimSuffix(strings.TrimPrefix(p, tablesFolder), ext)
	table, part, split := strings.Cut(name, "/")
	if table == "" || strings.Contains(table, ".") {
		return tableFile{}, fmt.Errorf("table name %q: want one plain name", table)
	}
	if split && part != platformFile {
		if err := authz.ValidTenant(part); err != nil {
			return tableFile{}, fmt.Errorf("part of table %s: want <tenant> or %s: %w", table, platformFile, err)
		}
	}
	return tableFile{table, part}, nil
}

func isTableExtension(ext string) bool { return ext == ".json" || ext == ".yaml" || ext == ".yml" }

// read takes in one file.
func (w *tableWriter) read(files []bundles.File, at int) error {
	f, err := tableFileOf(files[at].Path)
	if err != nil || f.table == "" {
		return err
	}
	if err := alone(files, at, f); err != nil {
		return err
	}
	content, err := parseTable(files[at])
	if err != nil {
		return err
	}
	content = w.share.value(content)
	if f.part != "" {
		w.set(f.part, f.table, content)
		return nil
	}
	return w.whole(f.table, content)
}

// alone refuses a second file of one table, or of one part of it. All that are
// of one table stand together, and what is whole stands first.
func alone(files []bundles.File, at int, f tableFile) error {
	for _, step := range []int{-1, 1} {
		for i := at + step; i >= 0 && i < len(files); i += step {
			other, err := tableFileOf(files[i].Path)
			if err == nil && other.table == "" {
				continue
			}
			if err == nil && other.table == f.table && (other.part == f.part || other.part == "" || f.part == "") {
				return fmt.Errorf("%s is of the same table: want one file, or one folder with one file a tenant", files[i].Path)
			}
			break
		}
	}
	return nil
}

// parseTable reads one file as JSON or YAML; an empty YAML file is null.
func parseTable(f bundles.File) (authz.Value, error) {
	if path.Ext(f.Path) == ".json" {
		return authz.Parse(f.Data)
	}
	var content any
	if err := yaml.NewDecoder(bytes.NewReader(f.Data)).Decode(&content); err != nil && !errors.Is(err, io.EOF) {
		return authz.Value{}, err
	}
	return authz.ValueOf(content)
}

// whole takes in a table of one file.
func (w *tableWriter) whole(table string, content authz.Value) error {
	if k := content.Kind(); k != authz.KindObject && k != authz.KindNull {
		return fmt.Errorf("want an object with platform and tenants, got %s", k)
	}
	for _, m := range content.Members() {
		switch m.Name {
		case "platform":
			if m.Value.Kind() != authz.KindNull {
				w.set(platformFile, table, m.Value)
			}
		case "tenants":
			if err := w.tenants(table, m.Value); err != nil {
				return authz.Under(err, "/tenants")
			}
		default:
			return fmt.Errorf("/%s: unknown member; a table has platform and tenants", m.Name)
		}
	}
	return nil
}

func (w *tableWriter) tenants(table string, tenants authz.Value) error {
	if k := tenants.Kind(); k != authz.KindObject && k != authz.KindNull {
		return fmt.Errorf("want an object, got %s", k)
	}
	for _, m := range tenants.Members() {
		if err := authz.ValidTenant(m.Name); err != nil {
			return err
		}
		if m.Name == platformFile {
			return fmt.Errorf("no tenant may be called %q; the platform's part stands beside tenants", platformFile)
		}
		w.set(m.Name, table, m.Value)
	}
	return nil
}
