package regoeval_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
)

// FuzzCompile holds that a document either has faults or is a program that
// answers for every policy: nothing an author writes panics.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		"package xiezhi.platform.p\n" + declared("r") + `deny contains {"rule": "r"} if input.tenant == "acme"`,
		guardrails["platform/network.rego"],
		"# METADATA\n# title: T\n# custom:\n#   scope: {actions: [\"a.*\"]}\n#   reads: [context.x]\n#   unbound: [x]\n#   masks: [/a~0b]\n#   audit: strict\n#   stale_bound: 1h\npackage xiezhi.platform.p\n" +
			declared("r") + `review contains {"rule": "r", "args": {"x": input.context.x}}`,
		"package xiezhi.platform.p\n# METADATA\n# custom: {id: l, message: {en: \"{x}\"}, requirement: [L1]}\n" +
			`limits contains {"rule": "l", "key": "k", "rate": 1e300, "quota": {"max": 1, "reset": "day"}}` + "\n" + `route contains {"rule": "l", "pool": "p"}`,
		"package xiezhi.platform.p\nx if data.xiezhi.tenants[input.tenant].tables.y[_] == walk(input)",
		"package xiezhi.platform.p\n" + declared("r") + `deny contains {"rule": "r"} if { x := numbers.range(1, 1000000); some y in x; y / 0 == 1 }`,
		"package xiezhi.platform.p\n" + declared("r") + `deny contains {"rule": "r", "path": p} if some p in {input.subject.id: 1, f(1): 2}` + "\nf(x) := x if x > 1 else := {\"a\": {1, 2}}\ndefault f(_) := 0",
		"package xiezhi.platform.p\n# METADATA\n# custom: &a\n#   id: *a\n#   <<: *a\ndeny contains {\"rule\": \"r\"}",
		"package xiezhi.platform.p\n# METADATA\n# scope: document\n# title: 1\n# METADATA\ndeny contains {\"rule\": $\"r{1}\"}",
		"package xiezhi.platform.p\na := b\nb := a",
		"package xiezhi.platform.p\nimport data.xiezhi.tenants.acme as x\nimport input.context as y\nz := [x, y] with input as {} with data.q as 1",
		"package xiezhi.platform.p\nx := [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
		"package xiezhi[\"platform\"][\"p\"]\n\xff\x00",
		"package xiezhi.platform.p_test\ntest_a if true\ntest_b[x] if some x in [1]\ntodo_test_c if false",
	} {
		f.Add(seed)
	}
	compiler := newCompiler(f)
	in := input(f, request)
	in.Explain = true
	f.Fuzz(func(t *testing.T, text string) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		for _, path := range []string{"platform/p.rego", "tenants/acme/p.rego", "platform/lib/p.rego", "platform/p_test.rego"} {
			content, err := bundles.NewContent([]bundles.File{{Path: path, Data: []byte(text)}})
			if err != nil {
				t.Fatal(err)
			}
			release, err := pdp.Compile(context.Background(), 1, content, compiler)
			if err != nil {
				var faults pdp.Faults
				if !errors.As(err, &faults) || len(faults) == 0 || faults[0].Message == "" {
					t.Fatalf("failed without faults: %v", err)
				}
				continue
			}
			p := release.Programs()[0].(*regoeval.Program)
			if outcomes := p.Evaluate(ctx, in, p.Policies(), nil); len(outcomes) != len(p.Policies()) {
				t.Fatalf("%d outcomes for %d policies", len(outcomes), len(p.Policies()))
			}
			if s := compiler.Stats(); s.Differences > 0 || s.Panics > 0 {
				t.Fatalf("the engines differ, or one panicked: %+v", s)
			}
			p.Cover(ctx, in, p.Policies(), make([]int, len(p.Branches())))
			p.Test(ctx, clock, nil)
		}
		regoeval.Format("platform/p.rego", []byte(text))
	})
}
