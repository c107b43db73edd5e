package pap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// Subset returns what the PEPs of an audience get of a release: what they need
// to decide for the platform and these tenants, and nothing of any other
// tenant. Policies decide and have the digests that they have in the whole
// release. For [bundles.AllTenants] no tenant's part is left out.
//
// Left out for everybody is what no decision reads: self/, test cases, unit
// tests, examples and prose.
func Subset(content *bundles.Content, tenants []string) (*bundles.Content, error) {
	return NewSubsets(content).For(tenants)
}

// Subsets cuts one release for many audiences: tables are parsed once, and an
// audience costs what it gets. It is safe for concurrent use.
type Subsets struct {
	shared []bundles.File            // what every audience gets
	tables []bundles.File            // sorted by path
	own    map[string][]bundles.File // tenant → files of its folder

	once   sync.Once
	parsed []table // as tables
	err    error
}

// table is one table file in parts.
type table struct {
	Platform any            `yaml:"platform,omitempty"`
	Tenants  map[string]any `yaml:"tenants,omitempty"`
}

// NewSubsets sorts the files of a release by who gets them.
func NewSubsets(content *bundles.Content) *Subsets {
	s := &Subsets{own: map[string][]bundles.File{}}
	for _, f := range content.Files() {
		folder, rest, nested := strings.Cut(f.Path, "/")
		ext := path.Ext(f.Path)
		switch {
		case ext == ".md" || strings.HasSuffix(f.Path, "_cases.yaml") || strings.HasSuffix(f.Path, "_test.rego"):
		case !nested && f.Path != "LICENSE", folder == "platform", folder == "approvals":
			s.shared = append(s.shared, f)
		case folder == "tables":
			s.tables = append(s.tables, f)
		case folder == "tenants":
			if tenant, _, ok := strings.Cut(rest, "/"); ok {
				s.own[tenant] = append(s.own[tenant], f)
			}
		}
	}
	return s
}

// For returns the subset of an audience, as [Subset].
func (s *Subsets) For(tenants []string) (*bundles.Content, error) {
	files := slices.Clone(s.shared)
	if slices.Contains(tenants, bundles.AllTenants) {
		files = append(files, s.tables...)
		for _, own := range s.own {
			files = append(files, own...)
		}
		return bundles.NewContent(files)
	}
	tenants = bundles.Audience(tenants)
	for _, tenant := range tenants {
		files = append(files, s.own[tenant]...)
	}
	s.once.Do(s.parse)
	if s.err != nil {
		return nil, s.err
	}
	for i := range s.parsed {
		data, err := s.parsed[i].only(tenants)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.tables[i].Path, err)
		}
		if data != nil {
			files = append(files, bundles.File{Path: s.tables[i].Path, Data: data})
		}
	}
	return bundles.NewContent(files)
}

func (s *Subsets) parse() {
	s.parsed = make([]table, len(s.tables))
	for i, f := range s.tables {
		decoder := yaml.NewDecoder(bytes.NewReader(f.Data))
		decoder.KnownFields(true)
		if err := decoder.Decode(&s.parsed[i]); err != nil && !errors.Is(err, io.EOF) {
			s.err = fmt.Errorf("%s: %w", f.Path, err)
			return
		}
	}
}

// only writes the platform's part and those of the tenants anew, members
// sorted: comments may speak of other tenants. It is nil where nothing is left.
func (t *table) only(tenants []string) ([]byte, error) {
	left := table{Platform: t.Platform}
	for _, tenant := range tenants {
		if part, ok := t.Tenants[tenant]; ok {
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
