package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// ownPath is what the import paths of this repository begin with.
const ownPath = "github.com/xiezhi-project/xiezhi/"

func TestImportsFollowTheTable(t *testing.T) {
	root := repository(t)
	markdown, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := parseTable(string(markdown))
	if err != nil {
		t.Fatal("ARCHITECTURE.md:", err)
	}
	var packages []pkg
	for _, module := range modules(t, root) {
		found, err := list(filepath.Join(root, module))
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, found...)
	}
	// What go list says is what all else rests on, so make sure it says it.
	i := slices.IndexFunc(packages, func(p pkg) bool { return p.path == "pdp" })
	if i < 0 || !slices.Contains(packages[i].code.own, "pep-sdk/authz") || packages[i].doc == "" {
		t.Fatalf("go list does not show that pdp imports pep-sdk/authz: %+v", packages)
	}
	for _, fault := range checkImports(rows, packages) {
		t.Error(fault)
	}
}

func TestSourcesKeepTheHabits(t *testing.T) {
	faults, err := checkSources(os.DirFS(repository(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
}

// modules lists the folders of our Go modules, without those that only hold
// tools and peers.
func modules(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	for _, depth := range []string{"go.mod", "*/go.mod", "*/*/go.mod"} {
		files, err := filepath.Glob(filepath.Join(root, depth))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			module, err := filepath.Rel(root, filepath.Dir(file))
			if err != nil {
				t.Fatal(err)
			}
			if module != "tools" && module != "tests/peers" {
				found = append(found, module)
			}
		}
	}
	if !slices.Contains(found, "bundles") || !slices.Contains(found, "pep-sdk") {
		t.Fatalf("found the modules %v: want bundles and pep-sdk among them", found)
	}
	return found
}

// list reads the packages of the module in a folder.
func list(dir string) ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w\n%s", dir, err, stderr.Bytes())
	}
	var packages []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Doc                             string
			GoFiles, Imports, TestImports, XTestImports []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, pkg{
			path:    strings.TrimPrefix(p.ImportPath, ownPath),
			doc:     p.Doc,
			hasCode: len(p.GoFiles) > 0,
			code:    split(p.Imports),
			tests:   split(slices.Concat(p.TestImports, p.XTestImports)),
		})
	}
}

func split(paths []string) imports {
	var to imports
	for _, path := range paths {
		if own, ok := strings.CutPrefix(path, ownPath); ok {
			to.own = append(to.own, own)
		} else if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			to.outside = append(to.outside, path)
		}
	}
	return to
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

const sound = "Prose.\n\n| package | may import | outside |\n|---|---|---|\n" +
	"| `tests/...` | `pdp/...` | `example.org/quick` |\n" +
	"| `cmd/tool` | `pdp/...`, `pap` | |\n" +
	"| `pap` | `pdp`, `pep-sdk/authz` | |\n" +
	"| `pdp/eval` | `pdp`, `pep-sdk/authz` | `example.org/eval` |\n" +
	"| `pdp` | `pep-sdk/authz` | |\n" +
	"| `pep-sdk/authz` | – | |\n" +
	"| `...` | – | `example.org/yaml` (files) |\n\nMore prose.\n"

// soundPackages returns packages that follow the table above.
func soundPackages() map[string]*pkg {
	code := func(path string, own, outside []string) *pkg {
		return &pkg{path: path, doc: "Package tells.", hasCode: true, code: imports{own, outside}}
	}
	all := map[string]*pkg{}
	for _, p := range []*pkg{
		code("tests/suite", []string{"pdp/eval"}, nil),
		code("cmd/tool", []string{"pdp", "pdp/eval", "pap"}, nil),
		code("pdp/eval", []string{"pdp", "pep-sdk/authz"}, []string{"example.org/eval/v2"}),
		code("pdp", []string{"pep-sdk/authz"}, []string{"example.org/yaml"}),
		code("pap", []string{"pep-sdk/authz"}, nil),
		code("pep-sdk/authz", nil, nil),
	} {
		all[p.path] = p
	}
	all["pdp"].tests = imports{own: []string{"pdp/eval", "tests/suite"}, outside: []string{"example.org/quick"}}
	return all
}

func TestCheckerSeesEveryBreachOfTheTable(t *testing.T) {
	tests := map[string]struct {
		breach func(all map[string]*pkg)
		want   string // empty: nothing is wrong
	}{
		"nothing": {func(map[string]*pkg) {}, ""},
		"an import that its row does not name": {
			func(all map[string]*pkg) { all["cmd/tool"].code.own = []string{"pep-sdk/authz"} },
			"cmd/tool imports pep-sdk/authz: its row",
		},
		"an import that points up": {
			func(all map[string]*pkg) { all["pdp"].code.own = []string{"pdp/eval"} },
			"pdp imports pdp/eval: its row",
		},
		"floors that import each other, whatever the table says": {
			func(all map[string]*pkg) { all["pap"].code.own = []string{"pdp"} },
			"pap imports pdp: these two floors never",
		},
		"tests that reach across floors": {
			func(all map[string]*pkg) { all["pdp"].tests.own = []string{"pap"} },
			"tests of pdp import pap: these two floors never",
		},
		"tests that reach up": {
			func(all map[string]*pkg) {
				all["pep-sdk/authz"].tests.own = []string{"tests/suite"}
				all["pdp"].tests.own = []string{"cmd/tool"}
			},
			"tests of pdp import cmd/tool: it stands above",
		},
		"tests that reach down past their row": {
			func(all map[string]*pkg) { all["cmd/tool"].tests.own = []string{"pep-sdk/authz"} },
			"",
		},
		"a suite that uses what all tests may": {
			func(all map[string]*pkg) { all["tests/suite"].code.outside = []string{"example.org/quick"} },
			"",
		},
		"the SDK importing the server": {
			func(all map[string]*pkg) { all["pep-sdk/authz"].code.own = []string{"pdp"} },
			"pep-sdk/authz imports pdp: the SDK never",
		},
		"the vocabulary using a library, even one that all may": {
			func(all map[string]*pkg) { all["pep-sdk/authz"].code.outside = []string{"example.org/yaml"} },
			"pep-sdk/authz imports example.org/yaml: the vocabulary",
		},
		"a library that another package knows": {
			func(all map[string]*pkg) {
				all["pdp"].code.outside = append(all["pdp"].code.outside, "example.org/eval")
			},
			"pdp imports example.org/eval: its row",
		},
		"a library whose name begins like a known one": {
			func(all map[string]*pkg) {
				all["pdp/eval"].code.outside = []string{"example.org/eval", "example.org/evaluator"}
			},
			"pdp/eval imports example.org/evaluator: its row",
		},
		"a library in tests that tests do not have": {
			func(all map[string]*pkg) {
				all["pdp"].tests.outside = []string{"example.org/quick", "example.org/eval"}
			},
			"tests of pdp import example.org/eval: neither",
		},
		"a package without a row": {
			func(all map[string]*pkg) { all["cmd/other"] = &pkg{path: "cmd/other"} },
			"cmd/other: no row",
		},
		"a package without a comment": {
			func(all map[string]*pkg) { all["pap"].doc = "" },
			"pap: no package comment",
		},
		"a package whose name says nothing": {
			func(all map[string]*pkg) { all["pdp/util"] = &pkg{path: "pdp/util"} },
			"pdp/util: a package is one noun",
		},
		"a row without a package": {
			func(all map[string]*pkg) { delete(all, "cmd/tool") },
			"no package is cmd/tool",
		},
		"a library that nothing imports": {
			func(all map[string]*pkg) { all["pdp/eval"].code.outside = nil },
			"nothing in pdp/eval imports example.org/eval",
		},
		"a library of tests that no test imports": {
			func(all map[string]*pkg) { all["pdp"].tests.outside = nil },
			"nothing in tests/... imports example.org/quick",
		},
	}
	rows, err := parseTable(sound)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			all := soundPackages()
			tt.breach(all)
			var packages []pkg
			for _, p := range all {
				packages = append(packages, *p)
			}
			faults := checkImports(rows, packages)
			if tt.want == "" && len(faults) > 0 {
				t.Errorf("faults %q, want none", faults)
			}
			if tt.want != "" && !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("faults %q, want one that says %q", faults, tt.want)
			}
		})
	}
}

func TestTableThatContradictsItselfIsRefused(t *testing.T) {
	const head = "| package | may import | outside |\n|---|---|---|\n"
	tests := map[string]struct{ table, want string }{
		"no table":             {"| word | meaning |\n|---|---|\n| `pdp` | decides |\n", "there is no table"},
		"a row too narrow":     {head + "| `pdp` | |\n", "2 cells, want 3"},
		"a row of no package":  {head + "| pdp | | |\n", "want one package"},
		"a package twice":      {head + "| `pdp` | | |\n| `pdp` | | |\n", "two rows speak of pdp"},
		"an import that rises": {head + "| `pdp` | | |\n| `authz` | `pdp` | |\n", "imports point down"},
		"a pattern that rises": {head + "| `pdp/eval` | | |\n| `authz` | `pdp/...` | |\n", "imports point down"},
		"a library next door":  {head + "| `pdp/eval` | `pdp/evaluator` | `example.org/a` |\n| `pdp/evaluator` | | `example.org/a` |\n", "both know example.org/a"},
		"a library twice":      {head + "| `pdp` | | `example.org/a` |\n| `pap` | | `example.org/a` |\n", "both know example.org/a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parseTable(tt.table); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that says %q", err, tt.want)
			}
		})
	}
}

func TestCheckerSeesEveryBreachOfTheHabits(t *testing.T) {
	tests := map[string]struct {
		file, source string
		want         string // empty: nothing is wrong
	}{
		"a plain file":           {"a/a.go", "package a\n\nfunc initial() {}\n", ""},
		"a method called init":   {"a/a.go", "package a\n\ntype t int\n\nfunc (t) init() {}\n", ""},
		"an init":                {"a/a.go", "package a\n\nfunc init() {}\n", "a/a.go:3:1: no init"},
		"a note of work to do":   {"a/a.go", "package a\n\n// TO" + "DO: all of it\n", "a/a.go:3: TO" + "DO"},
		"a file too long":        {"a/a.go", "package a\n" + strings.Repeat("\n", maxLines), "at most 600 lines"},
		"a file that isn't Go":   {"a/a.go", "packet a\n", "expected 'package'"},
		"a test's own data":      {"a/testdata/a.go", "packet a\n", ""},
		"what make built":        {"bin/a.go", "packet a\n", ""},
		"another language":       {"a/a.rego", "packet a\n", ""},
		"a hidden folder's file": {".cache/a.go", "packet a\n", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			faults, err := checkSources(fstest.MapFS{tt.file: {Data: []byte(tt.source)}})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(faults, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("faults %q, want %q", got, tt.want)
			}
		})
	}
}
