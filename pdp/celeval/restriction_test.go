package celeval_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestARestrictionIsOneDynamicPolicy(t *testing.T) {
	p, err := celeval.New().CompileRestriction("01K", "acme", []authz.RestrictionRule{
		{Condition: "'engineer' in subject.properties.roles && context.run_id == 'run-7'", Effect: authz.Deny, Message: "Frozen for {subject.id}.", MessageZH: "已冻结。"},
		{ID: "ask", Condition: "resource.properties.cpu > 1", Effect: authz.Review},
	})
	if err != nil {
		t.Fatal(err)
	}
	policy := p.Policies()[0]
	if policy.ID != "dynamic/01K" || policy.Layer != pdp.LayerDynamic || policy.Tenant != "acme" || len(p.Policies()) != 1 {
		t.Errorf("policy %+v", policy)
	}
	// It cannot know which properties will be attributes while it lives.
	if want := []string{"context.run_id", "resource.cpu", "subject.roles"}; !slices.Equal(policy.Reads, want) {
		t.Errorf("reads %v, want %v", policy.Reads, want)
	}
	if got := found(evaluate(t, p, input(t, request))[0]); !slices.Equal(got, []string{"deny rule_1", "review ask"}) {
		t.Errorf("findings %v", got)
	}
	if r := policy.Rules[0]; r.Message.EN != "Frozen for {subject.id}." || r.Waivable || policy.Rules[1].Admits || policy.Rules[1].Message.EN == "" {
		t.Errorf("rules %+v %+v", r, policy.Rules[1])
	}
}

func TestARestrictionThatIsWrongNamesThePlace(t *testing.T) {
	good := authz.RestrictionRule{Condition: "true", Effect: authz.Deny}
	for _, test := range []struct {
		name, id, tenant string
		rules            []authz.RestrictionRule
		path, detail     string
	}{
		{"it never allows", "a", "acme", []authz.RestrictionRule{good, {Condition: "true", Effect: authz.Allow}}, "/rules/1/effect", "never allows"},
		{"an effect nobody knows", "a", "acme", []authz.RestrictionRule{{Condition: "true", Effect: 9}}, "/rules/0/effect", "never allows"},
		{"no condition", "a", "acme", []authz.RestrictionRule{{Condition: " "}}, "/rules/0/condition", "required"},
		{"a wrong condition", "a", "acme", []authz.RestrictionRule{good, {Condition: "true &&\n nobody"}}, "/rules/1/condition", "line 2: condition: undeclared reference"},
		{"no tables", "a", "acme", []authz.RestrictionRule{{Condition: "tables.regions.allowed == []"}}, "/rules/0/condition", "undeclared reference to 'tables'"},
		{"no rules", "a", "acme", nil, "/rules", "0 rules"},
		{"too many rules", "a", "acme", make([]authz.RestrictionRule, 101), "/rules", "101 rules"},
		{"two rules of one id", "a", "acme", []authz.RestrictionRule{good, {ID: "rule_1", Condition: "true"}}, "/rules/1/id", "already another rule's"},
		{"a name of the core", "a", "acme", []authz.RestrictionRule{{ID: "no_allow", Condition: "true"}}, "/rules/0/id", "decision core"},
		{"a rule id with a slash", "a", "acme", []authz.RestrictionRule{{ID: "a/b", Condition: "true"}}, "/rules/0/id", "want letters"},
		{"a message that leads nowhere", "a", "acme", []authz.RestrictionRule{{Condition: "true", Message: "{who}"}}, "/rules/0/message", "{who}"},
		{"an id with a slash", "a/b", "acme", []authz.RestrictionRule{good}, "/id", "want letters"},
		{"no id", "", "acme", []authz.RestrictionRule{good}, "/id", "want letters"},
		{"no tenant", "a", "", []authz.RestrictionRule{good}, "/tenant", "required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := celeval.New().CompileRestriction(test.id, test.tenant, test.rules)
			var field *authz.FieldError
			if !errors.As(err, &field) || field.Path != test.path || !strings.Contains(field.Detail, test.detail) {
				t.Errorf("got %v, want %s: …%s…", err, test.path, test.detail)
			}
		})
	}
}

func TestARestrictionsDigestFollowsItsText(t *testing.T) {
	digest := func(id, condition string) string {
		p, err := celeval.New().CompileRestriction(id, "acme", []authz.RestrictionRule{{Condition: condition, Effect: authz.Review}})
		if err != nil {
			t.Fatal(err)
		}
		return p.Policies()[0].Rules[0].Digest.String()
	}
	again := digest("a", "true")
	if first := digest("a", "true"); first != again || first == digest("a", "false") || first == digest("b", "true") {
		t.Error("the digest does not follow the restriction")
	}
}
