package cedareval

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// corpusFraction is how many of the corpus' cases an ordinary run takes: one
// in this many. XIEZHI_TEST_LONG=1 takes all.
const corpusFraction = 10

type corpusCase struct {
	Schema   string `json:"schema"`
	Policies string `json:"policies"`
	Entities string `json:"entities"`
	Requests []struct {
		Description string          `json:"description"`
		Principal   types.EntityUID `json:"principal"`
		Action      types.EntityUID `json:"action"`
		Resource    types.EntityUID `json:"resource"`
		Context     types.Record    `json:"context"`
		Decision    cedar.Decision  `json:"decision"`
		Reasons     []string        `json:"reason"`
		Errors      []string        `json:"errors"`
	} `json:"requests"`
}

// TestCorpusIsDecidedAsByTheReferenceImplementation runs the corpus that
// Cedar's authors publish: for each request the reference implementation's
// decision, the policies that made it, and those that failed.
func TestCorpusIsDecidedAsByTheReferenceImplementation(t *testing.T) {
	files := readCorpus(t)
	var names []string
	for name := range files {
		if strings.HasSuffix(name, ".json") && !strings.HasSuffix(name, ".entities.json") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) < 5000 {
		t.Fatalf("the corpus has %d cases; its form must have changed", len(names))
	}
	cases, requests := 0, 0
	for i, name := range names {
		if i%corpusFraction != 0 && os.Getenv("XIEZHI_TEST_LONG") == "" {
			continue
		}
		cases++
		requests += runCorpusCase(t, files, name)
	}
	t.Logf("%d cases, %d requests", cases, requests)
}

func runCorpusCase(t *testing.T, files map[string][]byte, name string) int {
	t.Helper()
	var c corpusCase
	if err := json.Unmarshal(files[name], &c); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	schema, err := ReadSchema(c.Schema, files[c.Schema])
	if err != nil && !strings.Contains(err.Error(), "reserved") {
		t.Fatalf("%s: %v", name, err)
	}
	entities, err := ReadEntities(schema, files[c.Entities])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	policies := parseAll(t, name, string(files[c.Policies]))
	for _, r := range c.Requests {
		env := &environment{entities: entities, request: cedar.Request{Principal: r.Principal, Action: r.Action, Resource: r.Resource, Context: r.Context}}
		decision, reasons, errors := policies.authorize(t, env)
		if decision != r.Decision || !slices.Equal(reasons, r.Reasons) || !slices.Equal(errors, r.Errors) {
			t.Errorf("%s, %s: %v because of %v, errors %v; want %v because of %v, errors %v",
				name, r.Description, decision, reasons, errors, r.Decision, r.Reasons, r.Errors)
		}
	}
	return len(c.Requests)
}

// statementSet is statements without what makes them rules.
type statementSet struct {
	index      *index
	statements []*statement
	forbids    []bool
}

func parseAll(t *testing.T, name, text string) *statementSet {
	t.Helper()
	set := &statementSet{index: newIndex()}
	shape, err := outlineFile(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for i := range shape.statements {
		parsed, err := parseStatement(text, &shape.statements[i])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s := newStatement(parsed, text, &shape.statements[i])
		s.compile(i)
		set.index.add(s.scope, int32(i))
		set.statements = append(set.statements, s)
		set.forbids = append(set.forbids, !bool(parsed.Effect))
	}
	return set
}

// authorize combines as Cedar does: the reasons are those of the decision, and
// what fails is skipped.
func (set *statementSet) authorize(t *testing.T, env *environment) (decision cedar.Decision, reasons, errors []string) {
	t.Helper()
	p := parties{principal: party{uid: env.request.Principal}, action: party{uid: env.request.Action}, resource: party{uid: env.request.Resource}}
	for _, who := range []*party{&p.principal, &p.action, &p.resource} {
		who.ancestors = ancestors(env.entities, who.uid)
	}
	b := batch{ctx: t.Context()}
	for _, number := range set.index.find(nil, &p) {
		b.statements = append(b.statements, set.statements[number])
	}
	diagnostic, err := b.authorize(env)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range diagnostic.Errors {
		errors = append(errors, fmt.Sprintf("policy%d", e.Position.Offset))
	}
	var permits, forbids []string
	for _, r := range diagnostic.Reasons {
		id := fmt.Sprintf("policy%d", r.Position.Offset)
		if set.forbids[r.Position.Offset] {
			forbids = append(forbids, id)
		} else {
			permits = append(permits, id)
		}
	}
	if len(forbids) > 0 || len(permits) == 0 {
		return cedar.Deny, forbids, errors
	}
	return cedar.Allow, permits, errors
}

// readCorpus unpacks the archive that lies in cedar-go's module.
func readCorpus(t *testing.T) map[string][]byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cedar-policy/cedar-go").Output()
	if err != nil {
		t.Fatalf("find cedar-go's module: %v", err)
	}
	archive, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "corpus-tests.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for reader := tar.NewReader(unpacked); ; {
		header, err := reader.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}
