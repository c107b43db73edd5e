package pip_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/celeval"
	"github.com/xiezhi-project/xiezhi/pdp/pip"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const file = `tenants:
  acme:
    subject:
      "user:li.wei": {clearance: 2}
      "user:bo": {clearance: 1}
    resource:
      "door:vault": {level: 2}
  globex:
    subject:
      "user:bo": {clearance: 9}
`

// Deciding by the file: whoever has the clearance of the door's level may open
// it. Both come from the file, and from nobody else.
func TestDecisionsReadWhatTheFileSays(t *testing.T) {
	content, err := bundles.NewContent([]bundles.File{
		{Path: "attributes.yaml", Data: []byte("attributes:\n  subject.clearance: {trusted: true, source: static}\n  resource.level: {trusted: true, source: static}\n")},
		{Path: "platform/doors.policy.json", Data: []byte(`{"id":"doors","name":"Doors","version":"1","rules":[{"id":"cleared","condition":"subject.properties.clearance >= resource.properties.level","effect":"ALLOW"}]}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	release, err := pdp.Compile(t.Context(), 1, content, celeval.New())
	if err != nil {
		t.Fatal(err)
	}
	source, err := pip.ReadStatic(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	p := pdp.New(pdp.Config{Sources: map[string]pdp.AttributeSource{pip.StaticSource: source}, Now: time.Now, NewID: func() string { return "d" }})
	p.Activate(&pdp.Snapshot{Release: release})
	for _, row := range []struct {
		tenant, subject, resource string
		want                      authz.Effect
		rule                      string
	}{
		{"acme", "li.wei", "vault", authz.Allow, "cleared"},
		{"acme", "bo", "vault", authz.Deny, authz.RuleNoAllow},
		{"acme", "stranger", "vault", authz.Deny, authz.RuleEvaluationError}, // the file says nothing of it
		{"acme", "li.wei", "cellar", authz.Deny, authz.RuleEvaluationError},
		{"globex", "bo", "vault", authz.Deny, authz.RuleEvaluationError}, // the vault is acme's
	} {
		d, err := p.Decide(t.Context(), authz.Request{
			Tenant: row.tenant, Subject: authz.Entity{Type: "user", ID: row.subject},
			Action: authz.Action{Name: "open"}, Resource: authz.Entity{Type: "door", ID: row.resource},
		}, pdp.Caller{})
		if err != nil || d.Effect != row.want || !slices.ContainsFunc(d.Reasons, func(r authz.Reason) bool { return r.Rule == row.rule }) {
			t.Errorf("%s: %s opens %s: %s %v %v, want %s by %s", row.tenant, row.subject, row.resource, d.Effect, d.Reasons, err, row.want, row.rule)
		}
	}
}

func TestAFileThatIsWrongIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"tenant: {}":                                                       "tenant",
		"tenants: {ACME: {}}":                                              "/tenants/ACME",
		"tenants: {acme: {object: {}}}":                                    "/tenants/acme/object",
		"tenants: {acme: {subject: {li.wei: {a: 1}}}}":                     "/tenants/acme/subject/li.wei",
		"tenants: {acme: {subject: {'user:x': {a: .inf}}}}":                "/tenants/acme/subject/user:x/a",
		"tenants: {acme: {subject: {'user:x': {a: 1}, 'user:x': {a: 2}}}}": "already defined",
		"tenants: [": "line",
	} {
		if _, err := pip.ReadStatic(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that names %s", text, err, want)
		}
	}
	if _, err := pip.ReadStatic(strings.NewReader("")); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	if _, err := pip.ReadStatic(strings.NewReader(strings.Repeat("#", pip.MaxStatic+1))); err == nil {
		t.Error("a file over the limit passes")
	}
}
