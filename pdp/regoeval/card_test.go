package regoeval_test

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// BenchmarkCard evaluates the guardrails of sizes, regions and network and the
// roles, the policies that tests/bench bounds on their own, for the examples.
func BenchmarkCard(b *testing.B) {
	own := []string{"sizes.rego", "regions.rego", "network.rego", "roles.rego"}
	content, err := bundles.ReadFS(os.DirFS("../../policies"), func(p string) bool {
		folder, name := path.Split(p)
		switch {
		case folder == "platform/":
			return slices.Contains(own, name)
		case strings.HasPrefix(folder, "tenants/"):
			return false
		}
		return path.Ext(p) != ".go" && !strings.HasSuffix(p, "_test.rego")
	})
	if err != nil {
		b.Fatal(err)
	}
	release, err := pdp.Compile(b.Context(), 1, content, newCompiler(b))
	if err != nil {
		b.Fatal(err)
	}
	program := release.Programs()[0]
	asked := slices.DeleteFunc(policiesFor(program, "acme"), func(p *pdp.Policy) bool { return !strings.HasPrefix(p.ID, "platform/") })
	for _, name := range []string{"allow", "deny", "review"} {
		text, err := os.ReadFile("../../policies/examples/" + name + ".json")
		if err != nil {
			b.Fatal(err)
		}
		in, ok := inputOf([]byte(strings.Replace(string(text), `"id": "li.wei"`, `"id": "li.wei", "properties": {"roles": ["engineer"]}`, 1)))
		if !ok {
			b.Fatal(name)
		}
		b.Run(name, func(b *testing.B) {
			var out []pdp.Outcome
			b.ReportAllocs()
			for b.Loop() {
				out = program.Evaluate(b.Context(), in, asked, out[:0])
			}
			if said := spoke(out); !strings.Contains(said, "engineers_run_compute") || strings.Contains(said, "!") {
				b.Fatal(said)
			}
		})
	}
}
