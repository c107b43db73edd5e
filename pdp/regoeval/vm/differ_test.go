package vm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm"
)

// FuzzAgainstTopdown holds runs of random programs to topdown: the same answer
// with the same order everywhere, or an error.
func FuzzAgainstTopdown(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		answered, left := differ(t, seed)
		t.Logf("%d answered, %d left to topdown", answered, left)
	})
}

func differ(t *testing.T, seed uint64) (answered, left int) {
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 1))}
	module := "package pkg\n\nsub.p := 1\n\nsub.a.q contains 2\n"
	const mix = "package mix\n\nv := {\"k\": 1}\n\nw.x := 2\n"
	data := map[string]any{"base": w.document(3), "mix": w.document(2), "pkg": w.document(1)}
	compile := func(text string) (*ast.Compiler, error) {
		return ast.CompileModulesWithOpt(map[string]string{"pkg.rego": text, "mix.rego": mix},
			ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	}
	for range 12 {
		text, name, function := w.rule()
		if _, err := compile(module + text); err != nil {
			continue
		}
		module += text
		if function {
			w.funcs = append(w.funcs, name)
		} else {
			w.rules = append(w.rules, name)
		}
	}
	compiler, err := compile(module)
	if err != nil {
		t.Fatal(err)
	}
	input := ast.MustInterfaceToValue(w.document(4))
	for _, name := range append([]string{"sub", ""}, w.rules...) {
		ref := strings.TrimSuffix("data.pkg."+name, ".")
		for _, strict := range []bool{true, false} {
			q := &question{compiler: compiler, query: ast.MustParseBody("x = " + ref), data: data, input: input, strict: strict}
			ours, err := q.run(t.Context())
			if err != nil {
				if !understood(err) {
					t.Fatalf("%s: %v\n%s", ref, err, module)
				}
				left++
				continue
			}
			theirs, err := q.topdown(t.Context())
			if err != nil {
				t.Errorf("%s (strict: %t): topdown fails: %v\nours: %v\n%s\ninput: %v\ndata: %v", ref, strict, err, ours, module, input, data)
				continue
			}
			if got, want := fmt.Sprint(ours), fmt.Sprint(theirs); got != want {
				t.Errorf("%s (strict: %t)\ngot  %s\nwant %s\n%s\ninput: %v\ndata: %v", ref, strict, got, want, module, input, data)
			}
			answered++
		}
	}
	return answered, left
}

// understood reports whether the error is one that leaves the query to topdown.
func understood(err error) bool {
	var refused *vm.Unsupported
	var failed *vm.Error
	return errors.As(err, &refused) || errors.As(err, &failed) && len(failed.Stack) == 0
}
