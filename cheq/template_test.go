package cheq

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const waiver = `title: {en: Exception, zh: 例外}
decide_by: 72h
grant_for: {default: 24h, ceiling: 720h}
all_of:
  - {title: {en: Tenant, zh: 租户}, role: tenant_admin, approvals: 1}
  - {title: {en: Platform, zh: 平台}, role: "platform:admin", approvals: 2, denials: 2}
any_of:
  - {name: owners, title: {en: Owners, zh: 所有者}, lookup: {source: cmdb, attribute: resource.owners}, approvals: 1}
escalate:
  - {after: 1h, remind: true}
  - {after: 2h, group: tenant, add: {users: ["user:wang"]}}
  - {after: 4h, group: tenant, switch: {role: ciso}}
offers:
  - {path: /resource/properties/region, values: [cn-hangzhou, cn-shanghai]}
`

func template(t *testing.T, text string) *Template {
	t.Helper()
	parsed, err := ParseTemplate("approvals/waiver.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestATemplateReadsAsWritten(t *testing.T) {
	got := template(t, waiver)
	if got.Name != "waiver" || got.Kind != Ordinary || got.DecideBy != 72*time.Hour || got.GrantFor != 24*time.Hour || got.GrantMost != 720*time.Hour {
		t.Errorf("got %+v", got)
	}
	tenant, platform := got.AllOf[0], got.AllOf[1]
	if tenant.Name != "tenant" || tenant.Denials != 1 || platform.Approvals != 2 || platform.Denials != 2 || got.AnyOf[0].People[0].Lookup.Attribute != "resource.owners" {
		t.Errorf("got %+v and %+v", got.AllOf, got.AnyOf)
	}
}

func TestStepsChangeWhoMayAnswerInTheirTime(t *testing.T) {
	tmpl := template(t, waiver)
	for _, row := range []struct {
		waited time.Duration
		roles  string
	}{
		{0, "tenant_admin"},
		{2*time.Hour - 1, "tenant_admin"},
		{2 * time.Hour, "tenant_admin user:wang"},
		{4 * time.Hour, "ciso"},
	} {
		var got []string
		for _, p := range tmpl.After(row.waited).AllOf[0].People {
			got = append(append(got, p.Users...), p.Role)
		}
		if text := strings.Join(strings.Fields(strings.Join(got, " ")), " "); text != row.roles {
			t.Errorf("after %s: %q, want %q", row.waited, text, row.roles)
		}
		if other := tmpl.After(row.waited).AllOf[1].People; len(other) != 1 || other[0].Role != "platform:admin" {
			t.Errorf("after %s: the other group is %v", row.waited, other)
		}
	}
	if len(tmpl.AllOf[0].People) != 1 {
		t.Error("the template itself was changed")
	}
}

func TestTemplatesThatCouldNotBeAnsweredAreRefused(t *testing.T) {
	for _, row := range []struct{ name, from, to, want string }{
		{"unknown member", "decide_by: 72h", "decide_by: 72h\nauto_approve: true", ":3: field auto_approve not found"},
		{"twice", "decide_by: 72h", "decide_by: 72h\ndecide_by: 1h", `:3: mapping key "decide_by" already defined`},
		{"second document", "offers:", "---\noffers:", "want one YAML document"},
		{"duration", "decide_by: 72h", "decide_by: 3 days", `:2: "3 days": want a duration`},
		{"no time", "decide_by: 72h", "decide_by: 0s", ":2: decide_by: want"},
		{"too long", "decide_by: 72h", "decide_by: 8760h", "decide_by: want"},
		{"grant above its ceiling", "default: 24h", "default: 721h", "grant_for: want"},
		{"ceiling above all", "ceiling: 720h", "ceiling: 87600h", "grant_for: want"},
		{"kind", "decide_by: 72h", "decide_by: 72h\nkind: automatic", `kind "automatic"`},
		{"uses", "decide_by: 72h", "decide_by: 72h\nuses: -1", "uses: want"},
		{"break-glass without review", "decide_by: 72h", "decide_by: 72h\nkind: break_glass", "review_within"},
		{"review without break-glass", "decide_by: 72h", "decide_by: 72h\nreview_within: 24h", "review_within"},
		{"title", "title: {en: Exception, zh: 例外}", "title: {en: Exception}", "title: want both"},
		{"group's title", "{en: Tenant, zh: 租户}", "{en: Tenant}", "title: want both"},
		{"nobody", "role: tenant_admin, ", "", "want exactly one of role, users and lookup"},
		{"two ways", "role: tenant_admin, ", `role: tenant_admin, users: ["user:a"], `, "want exactly one of role, users and lookup"},
		{"no approvals", "role: tenant_admin, approvals: 1", "role: tenant_admin, approvals: 0", "want at least 1"},
		{"negative denials", "denials: 2", "denials: -1", "want at least 1"},
		{"too few users", "role: tenant_admin, approvals: 1", `users: ["user:a"], approvals: 2`, "can never say"},
		{"a user twice", "role: tenant_admin, approvals: 1", `users: ["user:a", "user:a"], approvals: 2`, "named twice"},
		{"a user without type", "role: tenant_admin, approvals: 1", `users: [li.wei], approvals: 1`, "want <type>:<id>"},
		{"two groups of a name", "{en: Platform, zh: 平台}", "{en: Tenant, zh: 平台}", `:6: all_of/1: two groups have the name "tenant"`},
		{"lookup", "source: cmdb, ", "", "lookup: want source and attribute"},
		{"step out of order", "after: 2h", "after: 1h", "escalate/1: after"},
		{"step after the end", "after: 4h", "after: 72h", ":12: escalate/2: after"},
		{"step that does nothing", "remind: true", "remind: false", "escalate/0: want exactly one"},
		{"step about nobody", "group: tenant, add", "group: nobody, add", "escalate/1: group"},
		{"too many combinations", "[cn-hangzhou, cn-shanghai]", "[" + strings.Repeat("a, ", 200) + "b]", "more than 200 combinations"},
		{"offer without pointer", "path: /resource", "path: resource", "want a JSON pointer"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.Replace(waiver, row.from, row.to, 1)
			if text == waiver {
				t.Fatal("the row changes nothing")
			}
			_, err := ParseTemplate("approvals/waiver.yaml", []byte(text))
			if err == nil || !strings.HasPrefix(err.Error(), "approvals/waiver.yaml:") || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestShippedTemplatesParse(t *testing.T) {
	paths, err := filepath.Glob("../policies/approvals/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d templates: %v", len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTemplate(path, data); err != nil {
			t.Error(err)
		}
	}
}
