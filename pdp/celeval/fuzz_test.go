package celeval_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// FuzzCondition holds the compiler to "an error or a program", and a program
// to "an answer, twice the same, within its cost".
func FuzzCondition(f *testing.F) {
	for _, condition := range []string{
		"action == 'agent.register'", "has(resource.properties.tags.`a-b`) && context.run_id != ''",
		"resource.properties.ingress.exists(i, i.port == 22 && i.cidrs.exists(c, cidr('0.0.0.0/0').containsCIDR(c)))",
		"resource.properties.ingress.map(i, i.cidrs.map(c, c + c)).size() > 1 / 0", "tables.regions.filter(r, r.matches('^[a-z]+$')) == [1.5, 2u, b'x', null]",
		"now.getHours('Asia/Shanghai') > int('8') || now - duration('1h') < timestamp('2026-01-01T00:00:00Z')",
		"math.greatest([1, 2.5]) > 2 ? {'a': 1}.a == 1 : type(subject.id) == string", "google.protobuf.Struct{fields: {'a': null}}.a == dyn(1)",
		"[1, 2, 3].all(x, [1, 2, 3].exists_one(y, x == y))", "action.split('.').size() == 2 && action.substring(1, 99) == ''", "((((true))))", "!!!true", "'\\ud800' == \"\"\"x\"\"\"", "0x7fffffffffffffff + 1 > -0",
	} {
		f.Add(condition)
	}
	compiler, in := celeval.New(), input(f, request)
	f.Fuzz(func(t *testing.T, condition string) {
		p, err := compiler.CompileRestriction("a", "acme", []authz.RestrictionRule{{Condition: condition}})
		if err != nil {
			if !errors.As(err, new(*authz.FieldError)) {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		first, second := evaluate(t, p, in)[0], evaluate(t, p, in)[0]
		if (first.Err == nil) != (second.Err == nil) || len(first.Findings) != len(second.Findings) {
			t.Fatalf("%v, %v, then %v, %v", first.Findings, first.Err, second.Findings, second.Err)
		}
		if first.Err != nil && len(first.Findings) > 0 {
			t.Fatalf("one rule both failed and held: %v", first.Err)
		}
	})
}

// FuzzDocument does the same for whole files, as JSON and as YAML.
func FuzzDocument(f *testing.F) {
	f.Add(seed)
	f.Add(whole)
	seeds, err := filepath.Glob("testdata/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range seeds {
		if text, err := os.ReadFile(path); err == nil {
			f.Add(string(text))
		}
	}
	compiler, in := celeval.New(), input(f, request)
	f.Fuzz(func(t *testing.T, text string) {
		for _, path := range []string{"platform/a.policy.json", "tenants/acme/a.policy.yaml"} {
			content, err := bundles.NewContent([]bundles.File{{Path: path, Data: []byte(text)}})
			if err != nil {
				t.Fatal(err)
			}
			p, err := compiler.Compile(context.Background(), &pdp.Source{Content: content, Templates: map[string]bundles.File{"owner": {}}})
			if err == nil {
				evaluate(t, p, in)
				continue
			}
			var faults pdp.Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("error without faults: %v", err)
			}
			for _, fault := range faults {
				if fault.File != path || fault.Message == "" {
					t.Fatalf("fault without its place: %+v", fault)
				}
			}
		}
	})
}
