package vm_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var update = flag.Bool("update", false, "rewrite testdata")

const fallbackFile = "testdata/fallback.txt"

// TestOfficialCases holds runs to OPA's own cases of Rego v1: a tenth of them,
// all with XIEZHI_TEST_LONG=1. The cases that are left to topdown are listed in
// testdata/fallback.txt.
func TestOfficialCases(t *testing.T) {
	all := os.Getenv("XIEZHI_TEST_LONG") == "1" || *update
	var passed, failed int
	var left []string
	known := listed(t)
	for i, tc := range officialCases(t) {
		if !all && i%10 != 0 {
			continue
		}
		for name, v := range tc.Env {
			t.Setenv(name, v)
		}
		if strings.Contains(strings.Join(tc.Modules, ""), "test.sleep") {
			continue // a function of OPA's own test
		}
		switch why, err := conform(t.Context(), tc); {
		case err != nil:
			failed++
			t.Errorf("%s: %v", tc.Note, err)
		case why != "":
			line := tc.Note + "\t" + why
			left = append(left, line)
			if !*update && !slices.Contains(known, line) {
				t.Errorf("left to topdown, and not in %s:\n%s", fallbackFile, line)
			}
		default:
			passed++
		}
	}
	t.Logf("%d passed by the engine, %d left to topdown, %d failed", passed, len(left), failed)
	if *update {
		if err := os.WriteFile(fallbackFile, []byte(strings.Join(left, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if all && len(left) != len(known) {
		t.Errorf("%s lists %d cases; are fewer left to topdown now? Then run the test with -update", fallbackFile, len(known))
	}
}

func listed(t *testing.T) []string {
	text, err := os.ReadFile(fallbackFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func officialCases(t testing.TB) []cases.TestCase {
	t.Helper()
	home, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa").Output()
	if err != nil {
		t.Fatal(err)
	}
	set, err := cases.Load(filepath.Join(strings.TrimSpace(string(home)), "v1/test/cases/testdata/v1"))
	if err != nil {
		t.Fatal(err)
	}
	return set.Sorted().Cases
}

// question is a case made ready.
type question struct {
	compiler *ast.Compiler
	query    ast.Body
	data     map[string]any
	input    ast.Value // nil: none
	strict   bool
}

func ready(tc cases.TestCase) (*question, error) {
	options := ast.ParserOptions{RegoVersion: ast.RegoV1}
	if tc.ExperimentalKeywords {
		options.Capabilities = ast.CapabilitiesForThisVersion(ast.CapabilitiesExperimentalKeywords(true))
	}
	modules := map[string]string{}
	for i, text := range tc.Modules {
		modules[fmt.Sprintf("test-%d.rego", i)] = text
	}
	compiler, err := ast.CompileModulesWithOpt(modules, ast.CompileOpts{ParserOptions: options})
	if err != nil {
		return nil, err
	}
	q := &question{compiler: compiler, query: ast.MustParseBody(tc.Query), data: map[string]any{}, strict: tc.StrictError}
	if tc.Data != nil {
		q.data = *tc.Data
	}
	switch {
	case tc.InputTerm != nil:
		q.input = ast.MustParseTerm(*tc.InputTerm).Value
	case tc.Input != nil:
		q.input = ast.MustInterfaceToValue(*tc.Input)
	}
	return q, nil
}

// conform runs one case. It says why it is left to topdown, if it is, and is an
// error if a run answers something else than the case wants.
func conform(ctx context.Context, tc cases.TestCase) (why string, err error) {
	q, err := ready(tc)
	if err != nil {
		return "", err
	}
	results, err := q.run(ctx)
	if err == nil {
		if tc.WantErrorCode != nil || tc.WantError != nil {
			return "", fmt.Errorf("want an error, got %v", results)
		}
		return "", compare(tc, results)
	}
	var refused *vm.Unsupported
	var failed *vm.Error
	switch {
	case errors.As(err, &refused):
		why = refused.Why
	case !errors.As(err, &failed) || len(failed.Stack) > 0:
		return "", fmt.Errorf("%w\n%s", err, failed.Stack)
	case tc.WantErrorCode != nil && *tc.WantErrorCode == failed.Code && tc.WantError == nil,
		tc.WantError != nil && strings.Contains(fmt.Sprintf("%s:%d: %s: %s", failed.File, failed.Line, failed.Code, failed.Message), *tc.WantError):
		return "", nil
	default:
		why = failed.Code + ": " + failed.Message
	}
	// What is left to topdown must be what topdown can do here.
	results, err = q.topdown(ctx)
	switch {
	case tc.WantErrorCode != nil || tc.WantError != nil:
		if err == nil {
			return "", fmt.Errorf("topdown has no error; %s", why)
		}
	case err != nil:
		return "", err
	default:
		if err := compare(tc, results); err != nil {
			return "", fmt.Errorf("topdown: %w", err)
		}
	}
	return strings.ReplaceAll(why, "\n", " "), nil
}

// run asks the engine.
func (q *question) run(ctx context.Context) ([]ast.Object, error) {
	program, err := vm.Plan(ctx, q.compiler, q.query)
	if err != nil {
		return nil, err
	}
	in := vm.Input{Now: time.Now(), Lenient: !q.strict}
	if in.Data, err = value.FromAST(nil, ast.MustInterfaceToValue(q.data)); err != nil {
		return nil, err
	}
	if q.input != nil {
		if in.Value, err = value.FromAST(nil, q.input); err != nil {
			return nil, err
		}
	}
	r := program.Begin(ctx, in)
	defer r.End()
	found, err := r.Query()
	if err != nil {
		return nil, err
	}
	results := make([]ast.Object, len(found))
	for i, v := range found {
		results[i] = v.AST().(ast.Object)
	}
	return results, nil
}

// topdown asks OPA's evaluator.
func (q *question) topdown(ctx context.Context) ([]ast.Object, error) {
	compiled, err := q.compiler.QueryCompiler().Compile(q.query)
	if err != nil {
		return nil, err
	}
	store := inmem.NewFromObject(q.data)
	query := topdown.NewQuery(compiled).WithCompiler(q.compiler).WithStore(store).
		WithTransaction(storage.NewTransactionOrDie(ctx, store)).
		WithStrictBuiltinErrors(q.strict).WithCancel(topdown.NewCancel())
	if q.input != nil {
		query = query.WithInput(ast.NewTerm(q.input))
	}
	found, err := query.Run(ctx)
	if err != nil {
		return nil, err
	}
	var results []ast.Object
	for _, bindings := range found {
		o := ast.NewObject()
		for name, term := range bindings {
			o.Insert(ast.StringTerm(string(name)), term)
		}
		results = append(results, o)
	}
	return results, nil
}

// compare holds results to the case as OPA's own test does.
func compare(tc cases.TestCase, results []ast.Object) error {
	if tc.WantResult == nil {
		return nil
	}
	want, got := ast.NewSet(), ast.NewSet()
	for _, bindings := range *tc.WantResult {
		o := ast.NewObject()
		for name, v := range bindings {
			if !generated(name) {
				o.Insert(ast.StringTerm(name), ast.NewTerm(ast.MustInterfaceToValue(v)))
			}
		}
		want.Add(ast.NewTerm(o))
	}
	for _, bindings := range results {
		o := ast.NewObject()
		err := bindings.Iter(func(name, term *ast.Term) error {
			v, err := ast.JSON(term.Value)
			if err != nil || generated(string(name.Value.(ast.String))) {
				return err
			}
			if tc.SortBindings {
				slices.SortFunc(v.([]any), util.Compare)
			}
			o.Insert(name, ast.NewTerm(ast.MustInterfaceToValue(v)))
			return nil
		})
		if err != nil {
			return err
		}
		got.Add(ast.NewTerm(o))
	}
	if want.Compare(got) != 0 {
		return fmt.Errorf("want %v\ngot  %v", want, got)
	}
	return nil
}

// generated reports whether OPA made the variable up.
func generated(name string) bool { return strings.HasPrefix(name, "__localq") }
