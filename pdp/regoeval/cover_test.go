package regoeval_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// covered lists the branches as "file:line what rule hits".
func covered(branches []pdp.Branch, hits []int) string {
	var lines []string
	for i, b := range branches {
		lines = append(lines, fmt.Sprintf("%s:%d %s %q %d", b.File, b.Line, b.What, b.Rule, hits[i]))
	}
	return strings.Join(lines, "\n")
}

func TestEveryBodyAndElseIsABranchThatCountsWhenItSucceeds(t *testing.T) {
	p := compile(t, files{
		"platform/lib/l.rego": `package xiezhi.platform.lib.l

level(n) := "small" if {
	n <= 2
} else := "middle" if {
	n <= 4
} else := "large"

unused := 1`,
		"platform/p.rego": `package xiezhi.platform.p

import data.xiezhi.platform.lib.l

default known := false

known if input.tenant == "acme"

` + declared("r") + `deny contains {"rule": "r"} if l.level(input.resource.properties.cpu) == "small"

deny contains {"rule": "r"} if input.tenant == "globex"

` + declared("s") + `review contains {"rule": "s"} if known
`,
		// Its unit compiles the platform's modules once more.
		"tenants/acme/q.rego": "package xiezhi.tenants.acme.q\n" + declared("t") + `allow contains {"rule": "t"}`,
	})
	branches := p.Branches()
	hits := make([]int, len(branches))
	outcomes := p.Cover(t.Context(), input(t, request), p.Policies(), hits)
	if got := spoke(outcomes); got != "platform/p/r platform/p/s tenants/acme/q/t" {
		t.Errorf("spoke: %s", got)
	}
	want := `platform/lib/l.rego:3 body "" 1
platform/lib/l.rego:5 else "" 0
platform/lib/l.rego:7 else "" 0
platform/lib/l.rego:9 body "" 0
platform/p.rego:7 body "" 1
platform/p.rego:11 body "r" 1
platform/p.rego:13 body "r" 0
platform/p.rego:17 body "s" 1
tenants/acme/q.rego:4 body "t" 1`
	if got := covered(branches, hits); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p.Cover(t.Context(), input(t, strings.Replace(request, `"cpu":2`, `"cpu":9`, 1)), p.Policies(), hits)
	if hits[2] != 1 || hits[1] != 0 {
		t.Errorf("the last else was reached:\n%s", covered(branches, hits))
	}
	for _, b := range p.Branches() {
		if b.Hits != 0 {
			t.Errorf("%+v has hits of its own", b)
		}
	}
}

func TestCoverageAnswersLikeEvaluation(t *testing.T) {
	p := compile(t, files{
		"platform/a.rego": "package xiezhi.platform.a\n" + declared("r") + `deny contains {"rule": "r"}`,
		"platform/b.rego": "package xiezhi.platform.b\n" + declared("r") + `deny contains {"rule": "r"} if 1 / 0 == 1`,
	})
	hits := make([]int, len(p.Branches()))
	if got := spoke(p.Cover(t.Context(), input(t, request), p.Policies(), hits)); got != "platform/a/r platform/b!policy_error" {
		t.Errorf("spoke: %s", got)
	}
	if hits[0] != 1 || hits[1] != 0 {
		t.Errorf("hits %v", hits)
	}
}
