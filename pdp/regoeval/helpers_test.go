package regoeval_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// engine is what the tests' compilers evaluate with.
var engine regoeval.Engine

// TestMain runs all tests and benchmarks on each engine.
func TestMain(m *testing.M) {
	flag.Parse()
	engines := []regoeval.Engine{regoeval.Topdown, regoeval.Both, regoeval.Compiled}
	if fuzzing := flag.Lookup("test.fuzz").Value.String() != ""; fuzzing {
		engines = engines[1:2]
	}
	code := 0
	for _, engine = range engines {
		fmt.Fprintln(os.Stderr, "engine:", engine)
		code = max(code, m.Run())
	}
	os.Exit(code)
}

// newCompiler returns a compiler of the engine under test. With both engines,
// the test fails where they differ.
func newCompiler(t testing.TB) *regoeval.Compiler {
	t.Helper()
	c := regoeval.NewWith(regoeval.Options{Engine: engine, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(func() {
		if s := c.Stats(); s.Differences > 0 || s.Panics > 0 {
			t.Errorf("the engines differ %d times, and one panicked %d times", s.Differences, s.Panics)
		}
	})
	return c
}

// files are a release by path.
type files map[string]string

// with returns the files with one more, or another text for one.
func (f files) with(path, text string) files {
	more := files{path: text}
	for p, t := range f {
		if p != path {
			more[p] = t
		}
	}
	return more
}

// load compiles a whole release as the server does, with Rego only.
func load(t testing.TB, f files) (*pdp.Release, error) {
	t.Helper()
	return loadWith(t, newCompiler(t), f)
}

func loadWith(t testing.TB, compiler *regoeval.Compiler, f files) (*pdp.Release, error) {
	t.Helper()
	var all []bundles.File
	for path, text := range f {
		all = append(all, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(all)
	if err != nil {
		t.Fatal(err)
	}
	return pdp.Compile(context.Background(), 1, content, compiler)
}

func compile(t testing.TB, f files) *regoeval.Program {
	t.Helper()
	release, err := load(t, f)
	if err != nil {
		t.Fatal(err)
	}
	return release.Programs()[0].(*regoeval.Program)
}

// faultsOf compiles what must not compile.
func faultsOf(t testing.TB, f files) pdp.Faults {
	t.Helper()
	_, err := load(t, f)
	var faults pdp.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("compiled, or failed without faults: %v", err)
	}
	return faults
}

// wantFault requires exactly one fault, at the place (file:line) and with the
// text.
func wantFault(t testing.TB, f files, place, text string) {
	t.Helper()
	faults := faultsOf(t, f)
	if len(faults) != 1 || !strings.HasPrefix(faults[0].String(), place+":") || !strings.Contains(faults[0].String(), text) {
		t.Errorf("faults:\n%v\nwant one at %s with %q", faults, place, text)
	}
}

// policy is the platform policy `p`: its text begins in line 2.
func policy(text string) files {
	return files{"platform/p.rego": "package xiezhi.platform.p\n" + text}
}

// declared writes the least metadata that declares an id.
func declared(id string) string { return "# METADATA\n# custom: {id: " + id + "}\n" }

// deny is the platform policy `p` with one rule `r` of this condition, whose
// metadata is in lines 2 and 3, and the helpers.
func deny(condition, helpers string) files {
	return policy(declared("r") + `deny contains {"rule": "r"} if { ` + condition + " }\n" + helpers)
}

// clock is when requests of tests are asked.
var clock = time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)

func input(t testing.TB, request string) *pdp.Input {
	t.Helper()
	v, err := authz.Parse([]byte(request))
	if err != nil {
		t.Fatal(err)
	}
	r, err := authz.RequestOf(v)
	if err != nil {
		t.Fatal(err)
	}
	return &pdp.Input{Request: &r, Value: r.Value(), Now: clock}
}

// ask evaluates all policies that hold for the request's tenant.
func ask(t testing.TB, p pdp.Program, request string) []pdp.Outcome {
	t.Helper()
	in := input(t, request)
	return p.Evaluate(context.Background(), in, policiesFor(p, in.Request.Tenant), nil)
}

func policiesFor(p pdp.Program, tenant string) []*pdp.Policy {
	return slices.DeleteFunc(slices.Clone(p.Policies()), func(policy *pdp.Policy) bool {
		return policy.Tenant != "" && policy.Tenant != tenant
	})
}

// spoke lists what the outcomes say, as "policy/rule", "policy!cause".
func spoke(outcomes []pdp.Outcome) string {
	var all []string
	for _, o := range outcomes {
		if o.Err != nil {
			all = append(all, o.Policy.ID+"!"+string(o.Err.Cause))
		}
		for _, f := range o.Findings {
			all = append(all, o.Policy.ID+"/"+f.Rule.ID)
		}
	}
	return strings.Join(all, " ")
}

const request = `{"tenant":"acme","subject":{"type":"user","id":"li.wei","properties":{"roles":["engineer"]}},
	"action":"ecs.instance.create",
	"resource":{"type":"ecs.instance","id":"req-42/web","properties":{"cpu":2,"memory_gib":4.5,"nothing":null,
		"ingress":[{"port":443,"cidrs":["203.0.113.0/24"]},{"port":22,"cidrs":["0.0.0.0/0"]}],"empty":[],"none":{}}},
	"context":{"source_ip":"198.51.100.7","run_id":"run-7"}}`
