package policies_test

import (
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/policies"
)

// rights are all that Xiezhi asks about.
var rights = []string{
	"decide", "decide.on_behalf", "evaluate", "evaluate.on_behalf", "evaluate.candidate", "policy.read", "policy.write", "release.read",
	"release.publish", "release.publish.platform", "release.publish.self", "grant.mint", "platform.grant.mint", "restriction.create", "dynamic.read",
	"dynamic.revoke", "directory.read", "directory.write", "tenant.read", "tenant.write", "token.create", "token.read", "token.revoke",
	"audit.read", "audit.report", "metrics.read", "data.read", "pep.read",
	"audit.ship", "stream.subscribe", "policy.push", "policy.load", "release.rollout",
	"cheq.open", "cheq.open.on_behalf", "cheq.read", "cheq.answer", "cheq.comment", "cheq.revoke",
	"identity.read", "identity.write",
}

// rightsOf is the whole matrix of the self policies, from the roles' side. Who
// mints grants asks in nobody else's name.
var rightsOf = map[string][]string{
	"platform:admin": {
		"decide", "evaluate", "evaluate.on_behalf", "evaluate.candidate", "policy.read", "policy.write", "release.read", "release.publish",
		"release.publish.platform", "release.publish.self", "grant.mint", "platform.grant.mint", "restriction.create", "dynamic.read",
		"dynamic.revoke", "directory.read", "directory.write", "tenant.read", "tenant.write", "token.create", "token.read", "token.revoke",
		"audit.read", "audit.report", "metrics.read", "data.read", "pep.read",
		"audit.ship", "stream.subscribe", "policy.push", "policy.load", "release.rollout",
		"cheq.open", "cheq.read", "cheq.answer", "cheq.comment", "cheq.revoke", "identity.read", "identity.write",
	},
	"platform:auditor": {
		"cheq.read", "cheq.answer", "identity.read", "policy.read", "release.read", "dynamic.read", "directory.read", "tenant.read", "token.read", "audit.read", "metrics.read", "data.read", "pep.read",
	},
	"admin": {
		"decide", "evaluate", "evaluate.on_behalf", "evaluate.candidate", "policy.read", "policy.write", "release.read", "release.publish",
		"grant.mint", "restriction.create", "dynamic.read", "dynamic.revoke", "directory.read", "directory.write", "tenant.read",
		"token.create", "token.read", "token.revoke", "audit.read", "audit.report", "data.read", "pep.read", "policy.push",
		"cheq.open", "cheq.read", "cheq.answer", "cheq.comment", "cheq.revoke", "identity.read", "identity.write",
	},
	"author":  {"cheq.answer", "evaluate", "evaluate.on_behalf", "evaluate.candidate", "policy.read", "policy.write", "release.read", "release.publish", "data.read", "pep.read"},
	"service": {"cheq.open", "cheq.answer", "decide", "evaluate", "stream.subscribe", "audit.ship"},
	"pep":     {"cheq.open", "cheq.open.on_behalf", "cheq.answer", "decide", "decide.on_behalf", "evaluate", "evaluate.on_behalf", "audit.report", "audit.ship", "stream.subscribe"},
	"auditor": {"cheq.read", "cheq.answer", "identity.read", "audit.read", "release.read", "policy.read", "dynamic.read", "directory.read", "pep.read"},

	"platform:pep":                 {"cheq.open", "cheq.open.on_behalf", "cheq.answer", "decide", "decide.on_behalf", "evaluate", "evaluate.on_behalf", "audit.report", "audit.ship", "stream.subscribe"},
	"platform:publisher":           {"cheq.answer", "release.publish", "release.read"},
	"platform:guardrail_publisher": {"cheq.answer", "release.publish.platform"},
}

type caller struct {
	role   string
	target string
	right  string
	token  []string
	self   bool
}

// may asks the self policies as the server does.
func may(t *testing.T, p *pdp.PDP, c caller) bool {
	t.Helper()
	text := func(list []string) authz.Value { return authz.Strings(list...) }
	d, err := p.MaySelf(t.Context(), authz.Request{
		Tenant: c.target,
		Subject: authz.Entity{Type: "xiezhi.caller", ID: "user:x", Properties: authz.MustValue(map[string]any{
			"roles": text(slices.DeleteFunc([]string{c.role}, func(r string) bool { return r == "" })), "platform": strings.HasPrefix(c.role, "platform:"),
		})},
		Action:   authz.Action{Name: c.right},
		Resource: authz.Entity{Type: "xiezhi.tenant", ID: c.target},
		Context:  authz.MustValue(map[string]any{"token_rights": text(c.token), "self": c.self}),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range d.Reasons {
		if r.Rule == authz.RuleEvaluationError {
			t.Errorf("%+v: %s", c, r.Message)
		}
	}
	return d.Effect == authz.Allow
}

func selfPDP(t *testing.T) *pdp.PDP {
	t.Helper()
	p := pdp.New(pdp.Config{Budget: time.Minute, Now: func() time.Time { return now }, NewID: func() string { return "id" }})
	p.Activate(&pdp.Snapshot{Release: compile(t), Dynamic: &pdp.Dynamic{}})
	return p
}

func TestRolesHaveTheirRightsAndNoOthers(t *testing.T) {
	p := selfPDP(t)
	for role, held := range rightsOf {
		for _, right := range rights {
			c := caller{role, "acme", right, []string{"*"}, !slices.Contains(casesRights, right)}
			if want, got := slices.Contains(held, right), may(t, p, c); got != want {
				t.Errorf("%s may %s in its tenant: want %v, got %v", role, right, want, got)
			}
			c.target = "platform"
			want := slices.Contains(held, right) && strings.HasPrefix(role, "platform:")
			if got := may(t, p, c); got != want {
				t.Errorf("%s may %s on the platform: want %v, got %v", role, right, want, got)
			}
		}
	}
}

func TestTokensAreGoodForTheirRightsOnly(t *testing.T) {
	p := selfPDP(t)
	for _, right := range rights {
		role, target := "platform:admin", "platform"
		if right == "decide.on_behalf" || right == "cheq.open.on_behalf" {
			role, target = "pep", "acme"
		}
		for _, listed := range rights {
			c := caller{role, target, right, []string{listed}, !slices.Contains(casesRights, right)}
			if want, got := right == listed, may(t, p, c); got != want {
				t.Errorf("a token for %s is good for %s: want %v, got %v", listed, right, want, got)
			}
		}
	}
}

func TestAskingForSomebodyElseIsARightOfItsOwn(t *testing.T) {
	p := selfPDP(t)
	for role := range rightsOf {
		for _, right := range []string{"decide", "evaluate", "cheq.open"} {
			if may(t, p, caller{role, "acme", right, []string{"*"}, false}) {
				t.Errorf("%s asks for somebody else by the right %s", role, right)
			}
		}
	}
}

// casesRights are about somebody else's case unless context.self says that it
// is the caller's business.
var casesRights = []string{"cheq.read", "cheq.answer", "cheq.comment", "cheq.revoke"}

func TestACaseThatConcernsTheCallerIsReadAndClosedByIt(t *testing.T) {
	p := selfPDP(t)
	for _, role := range append(slices.Collect(maps.Keys(rightsOf)), "engineer", "security_admin", "platform:ciso") {
		for _, right := range casesRights {
			if want, got := right != "cheq.answer", may(t, p, caller{role, "acme", right, []string{"*"}, true}); got != want {
				t.Errorf("%s may %s where the case is its own: want %v, got %v", role, right, want, got)
			}
			if may(t, p, caller{role, "acme", right, []string{"decide"}, true}) {
				t.Errorf("%s may %s with a token that was not made for it", role, right)
			}
		}
	}
}

func TestWhoeverHasARoleMayTryToAnswerAndNobodyElse(t *testing.T) {
	p := selfPDP(t)
	for _, role := range []string{"engineer", "security_admin", "platform:ciso"} {
		for _, right := range rights {
			c := caller{role, "acme", right, []string{"*"}, !slices.Contains(casesRights, right)}
			if want, got := right == "cheq.answer", may(t, p, c); got != want {
				t.Errorf("%s may %s: want %v, got %v", role, right, want, got)
			}
		}
	}
	for _, self := range []bool{true, false} {
		for _, right := range casesRights {
			if may(t, p, caller{"", "acme", right, []string{"*"}, self}) {
				t.Errorf("who has no role may %s, self %v", right, self)
			}
		}
	}
}

func TestTheMatrixKnowsEveryRightOfTheSchema(t *testing.T) {
	text, err := fs.ReadFile(policies.FS(), "self/schema.cedarschema")
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	for _, m := range regexp.MustCompile(`"([a-z_.]+)"`).FindAllStringSubmatch(withoutComments(string(text)), -1) {
		if m[1] != "release.change" { // nobody's right: a question about a release
			declared = append(declared, m[1])
		}
	}
	slices.Sort(declared)
	want := slices.Sorted(slices.Values(rights))
	if !slices.Equal(declared, want) {
		t.Errorf("the schema's actions are %v, the matrix has %v", declared, want)
	}
}

func withoutComments(text string) string {
	return regexp.MustCompile(`//.*`).ReplaceAllString(text, "")
}
