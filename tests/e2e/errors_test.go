//go:build unix

package e2e

import (
	"testing"
)

// failing are policies of three languages that cannot answer some requests,
// beside one that always answers.
func failing() files {
	return files{
		"platform/witness.policy.yaml": `id: witness
name: Witness
scope: {actions: ["vault.*"]}
rules:
  - {id: opens, condition: "true", effect: ALLOW, message: {en: It may open., zh: 可。}}
  - {id: seen, condition: "has(resource.properties.seen)", effect: DENY, message: {en: It was seen., zh: 已见。}}
`,
		"platform/strong.cedar": `// @policy({"title":{"en":"Strong","zh":"强"},"scope":{"actions":["vault.cedar"]}})

@id("strong_enough")
@title("Strong enough")
@title_zh("足够强")
@message("It opens.")
@message_zh("可。")
@severity("low")
permit (principal, action, resource);

@id("too_strong")
@title("Too strong")
@title_zh("过强")
@message("Too strong.")
@message_zh("过强。")
@severity("high")
forbid (principal, action, resource)
when { resource.strength > 3 };
`,
		"tenants/acme/dated.rego": `# METADATA
# title: Dated
# custom:
#   title_zh: 日期
#   scope: {actions: ["vault.rego"]}
package xiezhi.tenants.acme.dated

# METADATA
# title: Over
# custom:
#   id: over
#   title_zh: 已过
#   message: {en: "It is over.", zh: "已过。"}
#   severity: high
deny contains {"rule": "over"} if {
	time.parse_rfc3339_ns(input.resource.properties.end) < time.now_ns()
}

# METADATA
# title: Early
# custom:
#   id: early
#   title_zh: 过早
#   message: {en: "It is early.", zh: "过早。"}
#   severity: high
deny contains {"rule": "early"} if input.resource.properties.early == true
`,
		"tenants/acme/counted.policy.yaml": `id: counted
name: Counted
scope: {actions: [vault.cel]}
rules:
  - {id: fine, condition: "true", effect: ALLOW, message: {en: Fine., zh: 可。}}
  - {id: too_many, condition: "resource.properties.count > 3", effect: DENY, message: {en: Too many., zh: 过多。}}
`,
	}
}

// That an attribute source which hangs denies in the same way is shown where
// one can be made to hang: TestSourceThatHangsDeniesOnlyWhatReadsIt in pdp.
func TestAPolicyThatCannotAnswerDeniesAndTheOthersStand(t *testing.T) {
	t.Parallel()
	s := start(t, failing())
	for _, row := range []struct {
		name, action string
		properties   object
		// What is well, so that the errors below are the properties' doing.
		well                     object
		policy, location, failed string
	}{
		{
			name: "a Cedar forbid over a missing attribute", action: "vault.cedar", properties: object{}, well: object{"strength": 2},
			policy: "platform/strong", location: "platform/strong.cedar:18", failed: "too_strong",
		},
		{
			name: "a Cedar forbid over an attribute of another type", action: "vault.cedar", properties: object{"strength": "9"}, well: object{"strength": 3},
			policy: "platform/strong", location: "platform/strong.cedar:18", failed: "too_strong",
		},
		{
			name: "a Rego built-in error inside a deny", action: "vault.rego", properties: object{"end": "tomorrow"}, well: object{"end": "2099-01-01T00:00:00Z"},
			policy: "tenants/acme/dated", location: "tenants/acme/dated.rego:16", failed: "over",
		},
		{
			name: "a CEL condition over a missing property", action: "vault.cel", properties: object{"number": 1}, well: object{"count": 1},
			policy: "tenants/acme/counted", location: "tenants/acme/counted.policy.yaml:6", failed: "too_many",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			ask := func(properties, more object) decision {
				all := object{}
				for _, from := range []object{properties, more} {
					for name, value := range from {
						all[name] = value
					}
				}
				return s.decide("pep", object{
					"subject": object{"type": "user", "id": "li.wei"}, "action": row.action,
					"resource": object{"type": "vault", "id": "v", "properties": all},
				})
			}
			if d := ask(row.well, nil); d.Effect != "ALLOW" {
				t.Fatalf("a request that all can answer: %+v", d)
			}
			d := ask(row.properties, object{"seen": true})
			r, ok := d.reason(row.policy + "/evaluation_error")
			if d.Effect != "DENY" || !ok {
				t.Fatalf("no evaluation_error of %s: %+v", row.policy, d)
			}
			if r.Effect != "DENY" || r.Location != row.location || r.FailedRule != row.failed || r.Cause == "" || r.Message == "" {
				t.Errorf("got %+v, want it at %s, rule %q", r, row.location, row.failed)
			}
			if !d.has("platform/witness/opens") || !d.has("platform/witness/seen") {
				t.Errorf("what the other policy found is gone: %+v", d.Reasons)
			}
			if d := ask(row.properties, nil); d.Effect != "DENY" {
				t.Errorf("with nobody else's DENY: %+v", d)
			}
		})
	}
}
