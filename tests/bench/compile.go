//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
)

// compile compares making Rego ready to decide, from its text to closures, with
// OPA's parsing and compiling of the same: of the shipped policies, and of many
// modules. The bound on the shipped ones is stated in time, since people wait.
func (b *bench) compile(ctx context.Context) error {
	many, err := manyModules(b.modules)
	if err != nil {
		return err
	}
	for _, of := range []struct {
		name    string
		content *bundles.Content
	}{{"compile the shipped policies", b.content}, {fmt.Sprintf("compile %d modules", b.modules), many}} {
		c, err := contest(ctx, of.name, b.rounds, 0, [2]side{
			{"xiezhi", once(func() error { return compileOurs(ctx, of.content) })},
			{"opa ast", once(func() error { return compileOPA(of.content) })},
		})
		if err != nil {
			return err
		}
		if of.content == many {
			b.compared(c, atMost(1.5, c))
			continue
		}
		b.compared(c, bound(100, of.name+": ms", c.Sides[0].WallPerOp/1e6))
	}
	return nil
}

func once(do func() error) func(time.Duration) (sample, error) {
	return func(time.Duration) (sample, error) { return passes(1, 1, do) }
}

// compileOurs makes a release with a compiler that has seen nothing before.
func compileOurs(ctx context.Context, content *bundles.Content) error {
	release, err := pdp.Compile(ctx, 1, content.Without("self/"), regoeval.New())
	if err == nil && len(release.Policies()) == 0 {
		err = fmt.Errorf("a release without policies")
	}
	return err
}

func compileOPA(content *bundles.Content) error {
	modules := map[string]*ast.Module{}
	for _, f := range content.Files() {
		if !isModule(f.Path) {
			continue
		}
		module, err := ast.ParseModuleWithOpts(f.Path, string(f.Data), ast.ParserOptions{ProcessAnnotation: true})
		if err != nil {
			return err
		}
		modules[f.Path] = module
	}
	compiler := ast.NewCompiler()
	if compiler.Compile(modules); compiler.Failed() {
		return compiler.Errors
	}
	return nil
}

// manyModules are n policies of three rules each.
func manyModules(n int) (*bundles.Content, error) {
	files := declarations()
	for i := range n {
		text := fmt.Sprintf("# METADATA\n# title: Bench\n# custom:\n#   title_zh: 基准\n#   scope: {actions: [\"service%d.*\"]}\npackage xiezhi.platform.bench%d\n", i, i)
		for r := range 3 {
			text += fmt.Sprintf(`
# METADATA
# title: Rule
# custom:
#   id: rule%d
#   title_zh: 规则
#   message: {en: "No.", zh: "否。"}
#   severity: low
#   requirement: [C3]
deny contains {"rule": "rule%d", "path": "/resource/properties/region"} if {
	input.resource.properties.size > %d
	some entry in input.resource.properties.list
	entry.port == %d
	not offered%d
}

offered%d if input.resource.properties.region in {"region-%d", "cn-hangzhou"}
`, r, r, i+r, i, r, r, i)
		}
		files = append(files, bundles.File{Path: fmt.Sprintf("platform/bench%d.rego", i), Data: []byte(text)})
	}
	return bundles.NewContent(files)
}
