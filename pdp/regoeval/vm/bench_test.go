package vm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const policies = "../../../policies"

// shipped compiles the policies that ship and names the sets that a decision
// asks for.
func shipped(t testing.TB) (*ast.Compiler, []ast.Ref) {
	t.Helper()
	modules := map[string]string{}
	files := os.DirFS(policies)
	err := fs.WalkDir(files, "platform", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".rego") && !strings.HasSuffix(path, "_test.rego") {
			text, err := fs.ReadFile(files, path)
			modules[path] = string(text)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	compiler, err := ast.CompileModulesWithOpt(modules, ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	if err != nil {
		t.Fatal(err)
	}
	var asked []ast.Ref
	for _, m := range compiler.Modules {
		for _, r := range m.Rules {
			name := strings.Split(r.Ref().String(), ".")
			if slices.Contains([]string{"allow", "deny", "review", "obligations", "advice", "limits", "route"}, name[len(name)-1]) && !slices.ContainsFunc(asked, func(ref ast.Ref) bool { return ref.Equal(r.Ref()) }) {
				asked = append(asked, r.Ref())
			}
		}
	}
	slices.SortFunc(asked, func(a, b ast.Ref) int { return a.Compare(b) })
	return compiler, asked
}

// tables is `data` for acme, as a decision sees it.
func tables(t testing.TB) any {
	t.Helper()
	of := map[string]map[string]any{"platform": {}, "acme": {}}
	files, err := os.ReadDir(policies + "/tables")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(policies + "/tables/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		var table struct {
			Platform any            `json:"platform"`
			Tenants  map[string]any `json:"tenants"`
		}
		if err := util.Unmarshal(text, &table); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(f.Name(), ".yaml")
		if table.Platform != nil {
			of["platform"][name] = table.Platform
		}
		if own := table.Tenants["acme"]; own != nil {
			of["acme"][name] = own
		}
	}
	return map[string]any{"xiezhi": map[string]any{
		"platform": map[string]any{"tables": of["platform"]},
		"tenants":  map[string]any{"acme": map[string]any{"tables": of["acme"]}},
	}}
}

func document(t testing.TB, v any) authz.Value {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out authz.Value
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func jointQuery(refs []ast.Ref) ast.Body {
	var body ast.Body
	for i, ref := range refs {
		e := ast.Equality.Expr(ast.VarTerm(fmt.Sprintf("x%d", i)), ast.NewTerm(ref))
		e.Location = &ast.Location{File: "query", Row: 1, Col: 1}
		body = append(body, e)
	}
	return body
}

// BenchmarkShipped compares with topdown on the shipped policies and examples,
// in turns, both from a value that is ready: "x-opa" is its time by ours.
func BenchmarkShipped(b *testing.B) {
	compiler, asked := shipped(b)
	body := jointQuery(asked)
	program, err := vm.Plan(b.Context(), compiler, body)
	if err != nil {
		b.Fatal(err)
	}
	b.Log(program.Foreign())
	var entries []vm.Entry
	for _, ref := range asked {
		e, ok := program.Entry(ref)
		if !ok {
			b.Fatal(ref)
		}
		entries = append(entries, e)
	}
	compiled, err := compiler.QueryCompiler().Compile(body)
	if err != nil {
		b.Fatal(err)
	}
	base := tables(b)
	data := value.Of(document(b, base))
	store := inmem.NewFromObjectWithOpts(base.(map[string]any), inmem.OptReturnASTValuesOnRead(true))
	now := time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC)
	for _, name := range []string{"allow", "deny", "review"} {
		text, err := os.ReadFile(policies + "/examples/" + name + ".json")
		if err != nil {
			b.Fatal(err)
		}
		var request any
		if err := util.Unmarshal(text, &request); err != nil {
			b.Fatal(err)
		}
		input := value.Of(document(b, request))
		term := ast.NewTerm(ast.MustInterfaceToValue(request))
		ours := func(ctx context.Context) (spoke int) {
			r := program.Begin(ctx, vm.Input{Value: input, Data: data, Now: now})
			defer r.End()
			for _, e := range entries {
				v, err := r.Call(e)
				if err != nil {
					b.Fatal(err)
				}
				spoke += v.Len()
			}
			return spoke
		}
		theirs := func(ctx context.Context) (spoke int) {
			q := topdown.NewQuery(compiled).WithCompiler(compiler).WithStore(store).
				WithTransaction(storage.NewTransactionOrDie(ctx, store)).
				WithInput(term).WithTime(now).WithStrictBuiltinErrors(true)
			err := q.Iter(ctx, func(found topdown.QueryResult) error {
				for _, v := range found {
					spoke += v.Value.(ast.Set).Len()
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			return spoke
		}
		b.Run(name, func(b *testing.B) {
			if a, t := ours(b.Context()), theirs(b.Context()); a != t {
				b.Fatalf("%d findings, topdown has %d", a, t)
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			compareTurns(b, func() { ours(ctx) }, func() { theirs(ctx) })
		})
	}
}

// compareTurns takes the best turn of each side, since others use the machine.
func compareTurns(b *testing.B, ours, theirs func()) {
	const turn, theirTurn = 50, 5
	best := func(a, b time.Duration) time.Duration {
		if a == 0 || b < a {
			return b
		}
		return a
	}
	var a, t time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range turn {
			ours()
		}
		a = best(a, time.Since(start)/turn)
		b.StopTimer()
		start = time.Now()
		for range theirTurn {
			theirs()
		}
		t = best(t, time.Since(start)/theirTurn)
		b.StartTimer()
	}
	b.ReportMetric(float64(t)/float64(a), "x-opa")
	b.ReportMetric(float64(a), "ns/run")
}
