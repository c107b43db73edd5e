package regoeval

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// TestResult is what came of one test_ rule of a *_test.rego file.
type TestResult struct {
	File    string
	Line    int
	Package string // "xiezhi.platform.network_test"
	Name    string // "test_ssh_is_never_public"
	Passed  bool
	Skipped bool   // its name begins with todo_
	Why     string // it did not pass
}

// Test runs the release's Rego unit tests: each rule test_… must be true. A
// folder's tests see what its policies see, the tables of their tenant
// included; platform tests see the platform's tables and bring those of
// tenants along (`with data.xiezhi.tenants as …`). Built-in errors fail a test.
// hits, unless nil, counts branches as [Program.Cover] does. The error is
// [pdp.Faults] where the tests do not compile, else that ctx ended.
func (p *Program) Test(ctx context.Context, now time.Time, hits []int) ([]TestResult, error) {
	report := &faults{}
	byTenant := map[string][]*module{}
	for _, m := range parse(p.content, p.compiler.capabilities, true, report) {
		m.checkTests(report)
		byTenant[m.tenant] = append(byTenant[m.tenant], m)
	}
	var results []TestResult
	for _, tenant := range slices.Sorted(maps.Keys(byTenant)) {
		u, err := p.compileTests(ctx, tenant, byTenant[tenant], report)
		if ended := context.Cause(ctx); ended != nil {
			return nil, ended
		}
		if err != nil {
			report.addErrors("", err)
			continue
		}
		r := p.start(ctx, tenant, u, nil, now)
		for _, m := range byTenant[tenant] {
			for _, rule := range m.parsed.Rules {
				if name := testName(rule); name != "" {
					results = append(results, r.test(m, rule, name, hits))
				}
			}
		}
		r.close()
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := report.err(); err != nil {
		return nil, err
	}
	return results, nil
}

// compileTests compiles one folder's tests with the modules they may see.
func (p *Program) compileTests(ctx context.Context, tenant string, tests []*module, report *faults) (*unit, error) {
	modules := slices.Clone(tests)
	for _, m := range p.modules {
		if m.tenant == "" || m.tenant == tenant {
			modules = append(modules, m)
		}
	}
	slices.SortFunc(modules, func(a, b *module) int { return cmp.Compare(a.file, b.file) })
	u, err := p.compiler.compileUnit(ctx, modules)
	if err != nil {
		return nil, err
	}
	for _, m := range tests {
		if tenant != "" {
			checkIsolation(m, u.compiler.Modules[m.file], report)
		}
	}
	return u, nil
}

// testName returns the name of a test, "" for any other rule.
func testName(rule *ast.Rule) string {
	name, _ := rule.Head.Ref()[0].Value.(ast.Var)
	if s := string(name); strings.HasPrefix(strings.TrimPrefix(s, "todo_"), "test_") {
		return s
	}
	return ""
}

// checkTests refuses tests that would pass without having been asked: two of
// one name, where one being true is enough, and those whose head makes cases,
// where a case that fails is just not there.
func (m *module) checkTests(report *faults) {
	seen := map[string]int{}
	for _, rule := range m.parsed.Rules {
		name := testName(rule)
		switch {
		case name == "":
		case rule.Default || len(rule.Head.Args) > 0 || len(rule.Head.Ref()) != 1 || rule.Head.RuleKind() == ast.MultiValue:
			report.at(rule.Location, "", "", "write a test as `%s if { … }`; for many cases use `every`", name)
		case seen[name] != 0:
			report.at(rule.Location, "", "", "%s is there already, in line %d", name, seen[name])
		default:
			seen[name] = rule.Location.Row
		}
	}
}

func (r *run) test(m *module, rule *ast.Rule, name string, hits []int) TestResult {
	t := TestResult{File: m.file, Line: rule.Location.Row, Package: packageText(m.parsed.Package.Path), Name: name}
	if strings.HasPrefix(name, "todo_") {
		t.Skipped = true
		return t
	}
	answer := ast.Var("answer")
	ask := ast.Equality.Expr(ast.NewTerm(answer), ast.NewTerm(m.parsed.Package.Path.Append(ast.StringTerm(name))))
	ask.Location = rule.Location
	var result topdown.QueryResult
	err := guard(func() (err error) {
		result, err = r.query(ast.NewBody(ask), func(q *topdown.Query) {
			if hits != nil {
				q.WithQueryTracer(counter{r.program.branchAt, hits})
			}
		})
		return err
	})
	switch {
	case errors.Is(err, errNoAnswer):
		t.Why = "not true: a condition does not hold"
	case err != nil:
		t.Why = err.Error()
	case !result[answer].Equal(ast.InternedTerm(true)):
		t.Why = "not true: " + shown(entryOf(result[answer].Value))
	default:
		t.Passed = true
	}
	return t
}
