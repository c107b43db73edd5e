package regoeval_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
)

func results(t *testing.T, p *regoeval.Program, hits []int) string {
	t.Helper()
	all, err := p.Test(t.Context(), clock, hits)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range all {
		lines = append(lines, fmt.Sprintf("%s:%d %s.%s passed=%v skipped=%v %s", r.File, r.Line, r.Package, r.Name, r.Passed, r.Skipped, r.Why))
	}
	return strings.Join(lines, "\n")
}

func TestUnitTestsSeeWhatTheirPoliciesSee(t *testing.T) {
	p := compile(t, twoTenants.with("platform/p.rego", "package xiezhi.platform.p\n"+declared("r")+
		`deny contains {"rule": "r"} if data.xiezhi.tenants[input.tenant].tables.secrets.of == "mine"
own := input.tenant
never := 1`).with("platform/p_test.rego", `package xiezhi.platform.p_test

import data.xiezhi.platform.p

test_input if p.own == "x" with input.tenant as "x"
test_clock if time.now_ns() == time.parse_rfc3339_ns("2026-06-01T08:00:00Z")
test_tables if data.xiezhi.platform.tables.secrets.of == "platform"
test_no_tenant if not data.xiezhi.tenants.acme
test_brought if count(p.deny) == 1 with input.tenant as "acme" with data.xiezhi.tenants as {"acme": {"tables": {"secrets": {"of": "mine"}}}}
test_fails if p.own == "y" with input.tenant as "x"
test_number := 1
test_error if 1 / 0 == 1
todo_test_later if false
helper := 1
`).with("tenants/acme/q.rego", "package xiezhi.tenants.acme.q\nx := data.xiezhi.tenants.acme.tables.secrets.of").
		with("tenants/acme/q_test.rego", `package xiezhi.tenants.acme.q
test_own if x == "acme"
test_only_own if [t | data.xiezhi.tenants[t].tables] == ["acme"]
`))
	hits := make([]int, len(p.Branches()))
	want := `platform/p_test.rego:5 xiezhi.platform.p_test.test_input passed=true skipped=false 
platform/p_test.rego:6 xiezhi.platform.p_test.test_clock passed=true skipped=false 
platform/p_test.rego:7 xiezhi.platform.p_test.test_tables passed=true skipped=false 
platform/p_test.rego:8 xiezhi.platform.p_test.test_no_tenant passed=true skipped=false 
platform/p_test.rego:9 xiezhi.platform.p_test.test_brought passed=true skipped=false 
platform/p_test.rego:10 xiezhi.platform.p_test.test_fails passed=false skipped=false not true: a condition does not hold
platform/p_test.rego:11 xiezhi.platform.p_test.test_number passed=false skipped=false not true: 1
platform/p_test.rego:12 xiezhi.platform.p_test.test_error passed=false skipped=false platform/p_test.rego:12: eval_builtin_error: div: divide by zero
platform/p_test.rego:13 xiezhi.platform.p_test.todo_test_later passed=false skipped=true 
tenants/acme/q_test.rego:2 xiezhi.tenants.acme.q.test_own passed=true skipped=false 
tenants/acme/q_test.rego:3 xiezhi.tenants.acme.q.test_only_own passed=true skipped=false `
	if got := results(t, p, hits); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	want = `platform/p.rego:4 body "r" 1
platform/p.rego:5 body "" 2
platform/p.rego:6 body "" 0
tenants/acme/q.rego:2 body "" 1`
	if got := covered(p.Branches(), hits); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUnitTestsThatProveNothingAreFaults(t *testing.T) {
	for name, c := range map[string]struct{ path, text, place, want string }{
		"one name twice":     {"platform/p_test.rego", "package xiezhi.platform.p_test\ntest_a if true\ntest_a if false", "platform/p_test.rego:3", "in line 2"},
		"cases in the head":  {"platform/p_test.rego", "package xiezhi.platform.p_test\ntest_a[x] if some x in [1]", "platform/p_test.rego:2", "use `every`"},
		"a default":          {"platform/p_test.rego", "package xiezhi.platform.p_test\ndefault test_a := true", "platform/p_test.rego:2", "write a test as"},
		"another package":    {"platform/p_test.rego", "package xiezhi.platform.q_test\ntest_a if true", "platform/p_test.rego:1", "the package xiezhi.platform.p or xiezhi.platform.p_test"},
		"a refused built-in": {"platform/p_test.rego", "package xiezhi.platform.p_test\ntest_a if opa.runtime()", "platform/p_test.rego:2", "refused"},
		"another tenant":     {"tenants/acme/p_test.rego", "package xiezhi.tenants.acme.p_test\ntest_a if data.xiezhi.tenants.globex", "tenants/acme/p_test.rego:2", "another tenant"},
		"does not compile":   {"platform/p_test.rego", "package xiezhi.platform.p_test\ntest_a if nope(1)", "platform/p_test.rego:2", "undefined function"},
		"in self":            {"self/p_test.rego", "package xiezhi.self.p_test", "self/p_test.rego", "in Cedar"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compile(t, policy("x := 1").with(c.path, c.text)).Test(t.Context(), clock, nil)
			var faults pdp.Faults
			if !errors.As(err, &faults) || len(faults) != 1 || !strings.HasPrefix(err.Error(), c.place+":") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant one fault at %s with %q", err, c.place, c.want)
			}
		})
	}
}

func TestFormatIsOPAs(t *testing.T) {
	got, err := regoeval.Format("platform/p.rego", []byte("package xiezhi.platform.p\ndeny   contains {\"rule\":\"r\"}   if {input.tenant==\"acme\"}\n"))
	want := "package xiezhi.platform.p\n\ndeny contains {\"rule\": \"r\"} if input.tenant == \"acme\"\n"
	if err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	_, err = regoeval.Format("platform/p.rego", []byte("package xiezhi.platform.p\ndeny {"))
	var faults pdp.Faults
	if !errors.As(err, &faults) || faults[0].File != "platform/p.rego" || faults[0].Line != 2 {
		t.Errorf("%v", err)
	}
}
