package regoeval

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// The heads of a compiled policy cannot hold these; the check stands behind
// the compiler's.
func TestEntriesThatNoHeadDeclaresAreErrors(t *testing.T) {
	policy := &pdp.Policy{ID: "platform/p", Rules: []*pdp.Rule{{ID: "d", Kind: pdp.KindDeny}, {ID: "a", Kind: pdp.KindAllow}}}
	for entries, want := range map[string]string{
		`{{"rule": "d"}, {"rule": "x"}}`:    `deny: the rule "x" is not declared`,
		`{{"path": "/a"}}`:                  `deny: the rule "" is not declared`,
		`{{"rule": "a"}}`:                   "deny: the rule is declared in allow",
		`{{"rule": "d", "pool": "p"}}`:      `deny: no member "pool" is known here`,
		`{{"rule": "d", ["x"]: 1}}`:         "deny: no member a value of type array is known here",
		`{"d"}`:                             `deny: want an object, not "d"`,
		`{"rule": "d"}`:                     "deny: not a set",
		`{{"rule": "d", "args": {"b": 1}}}`: "",
	} {
		e := entry{module: &module{policy: policy, sets: []pdp.RuleKind{pdp.KindDeny}}, vars: []ast.Var{"v"}, rules: map[string]*pdp.Rule{"d": policy.Rules[0], "a": policy.Rules[1]}}
		out, err := e.outcome(topdown.QueryResult{"v": ast.MustParseTerm(entries)})
		if want == "" && (err != nil || len(out.Findings) != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want) || len(out.Findings) != 0) {
			t.Errorf("%s: %+v, %v, want %q", entries, out, err, want)
		}
	}
}
