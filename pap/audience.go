package pap

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

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

// Subsets cuts one release for many audiences: an audience costs what it gets,
// and a table that holds many tenants in one file is parsed once. It is safe
// for concurrent use.
type Subsets struct {
	content *bundles.Content
	shared  []bundles.File // what every audience gets
	tables  []*wholeTable  // those of one file, sorted by path
	split   []string       // "tables/plugins/", of those with a file a tenant

	before *Subsets // of another release, until all is cut; nil: there is none
	mu     sync.Mutex
	all    *bundles.Content // for all tenants, once it was asked for
}

// NewSubsets sorts the files of a release by who gets them, whole folders at
// once.
func NewSubsets(content *bundles.Content) *Subsets { return new(Subsets).Next(content) }

// Next is [NewSubsets] for another release. What is the same in both is not
// read again, which makes the release after a small change cheap.
func (s *Subsets) Next(content *bundles.Content) *Subsets {
	next := &Subsets{content: content}
	if s.content != nil {
		s.mu.Lock()
		if s.all != nil {
			next.before = &Subsets{content: s.content, all: s.all}
		}
		s.mu.Unlock()
	}
	files := content.Files()
	for i := 0; i < len(files); {
		p := files[i].Path
		folder, rest, nested := strings.Cut(p, "/")
		switch folder += "/"; {
		case !nested:
			next.share(files[i : i+1])
			i++
		case folder == tablesFolder && !strings.Contains(rest, "/"):
			if ext := path.Ext(p); ext != ".md" {
				next.tables = append(next.tables, s.table(files[i]))
			}
			i++
		default:
			if folder == tablesFolder {
				table, _, _ := strings.Cut(rest, "/")
				folder += table + "/"
				next.split = append(next.split, folder)
			}
			below := content.Under(folder)
			if folder == "platform/" || folder == "approvals/" {
				next.share(below)
			}
			i += len(below)
		}
	}
	return next
}

// tablesFolder holds the tables.
const tablesFolder = "tables/"

// table returns the file's table, the one that is known where it is the same.
func (s *Subsets) table(f bundles.File) *wholeTable {
	for _, t := range s.tables {
		if t.file.Path == f.Path && len(t.file.Data) == len(f.Data) && (len(f.Data) == 0 || &t.file.Data[0] == &f.Data[0]) {
			return t
		}
	}
	return &wholeTable{file: f}
}

func (s *Subsets) share(files []bundles.File) {
	for _, f := range files {
		if decides(f.Path) {
			s.shared = append(s.shared, f)
		}
	}
}

// decides reports whether a decision reads the file, whoever's it is.
func decides(p string) bool {
	switch {
	case path.Ext(p) == ".md", strings.HasSuffix(p, "_cases.yaml"), strings.HasSuffix(p, "_test.rego"):
		return false
	}
	folder, _, nested := strings.Cut(p, "/")
	return !nested && p != "LICENSE" || nested && (folder == "platform" || folder == "approvals" || folder == "tables" || folder == "tenants")
}

// For returns the subset of an audience, as [Subset].
func (s *Subsets) For(tenants []string) (*bundles.Content, error) {
	if slices.Contains(tenants, bundles.AllTenants) {
		return s.whole()
	}
	files := slices.Clone(s.shared)
	tenants = bundles.Audience(tenants)
	for _, tenant := range tenants {
		for _, f := range s.content.Under("tenants/" + tenant + "/") {
			if decides(f.Path) {
				files = append(files, f)
			}
		}
	}
	for _, folder := range s.split {
		for _, part := range bundles.Audience(append([]string{Platform}, tenants...)) {
			for _, ext := range []string{".json", ".yaml", ".yml"} {
				if data, err := s.content.File(folder + part + ext); err == nil { // else this part has no such file
					files = append(files, bundles.File{Path: folder + part + ext, Data: data})
				}
			}
		}
	}
	for _, t := range s.tables {
		data, err := t.only(tenants)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.file.Path, err)
		}
		if data != nil {
			files = append(files, bundles.File{Path: t.file.Path, Data: data})
		}
	}
	return bundles.NewContent(files)
}

// whole is the subset of all tenants.
func (s *Subsets) whole() (*bundles.Content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil && s.before != nil {
		changes := slices.DeleteFunc(s.before.content.Diff(s.content), func(c bundles.Change) bool { return !decides(c.Path) })
		all, err := s.before.all.Apply(changes)
		if err != nil {
			return nil, err
		}
		s.all = all
	} else if s.all == nil {
		s.all = s.content.Select(decides)
	}
	s.before = nil
	return s.all, nil
}
