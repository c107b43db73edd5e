//go:build unix

package e2e

import (
	"encoding/json"
	"testing"
)

// guarded is a permit with forbids that an asker would like to switch off. The
// guarded ones ask first whether the attribute is there.
const guarded = `// @policy({"title":{"en":"Vault","zh":"金库"},"scope":{"actions":["vault.*"]},"reads":["context.alarm"]})

@id("opens")
@title("Opens")
@title_zh("可开")
@message("It opens.")
@message_zh("可。")
@severity("low")
permit (principal, action, resource);

@id("too_deep")
@title("Too deep")
@title_zh("过深")
@message("Too deep.")
@message_zh("过深。")
@severity("high")
forbid (principal, action == Action::"vault.has", resource)
when { resource has level && resource.level > 3 };

@id("too_deep_or_unknown")
@title("Too deep, or not said")
@title_zh("过深或未说明")
@message("Too deep.")
@message_zh("过深。")
@severity("high")
forbid (principal, action == Action::"vault.plain", resource)
when { resource.level > 3 };

@id("too_dear")
@title("Too dear")
@title_zh("过贵")
@message("Too dear.")
@message_zh("过贵。")
@severity("high")
forbid (principal, action == Action::"vault.decimal", resource)
when { resource has price && resource.price.greaterThan(decimal("9.5")) };

@id("marked")
@title("Marked")
@title_zh("有标记")
@message("Marked.")
@message_zh("有标记。")
@severity("high")
forbid (principal, action == Action::"vault.inner", resource)
when { resource has marks && resource.marks has colour && resource.marks.colour == "red" };

@id("alarm")
@title("The alarm is on")
@title_zh("警报")
@message("The alarm is on.")
@message_zh("警报。")
@severity("high")
forbid (principal, action == Action::"vault.context", resource)
when { context has alarm && context.alarm };

@id("stranger")
@title("A stranger")
@title_zh("外人")
@message("A stranger.")
@message_zh("外人。")
@severity("high")
forbid (principal, action == Action::"vault.subject", resource)
when { principal has guest && principal.guest };
`

func TestACedarForbidIsNotDodged(t *testing.T) {
	t.Parallel()
	s := start(t, files{"platform/vault.cedar": guarded})
	for _, row := range []struct {
		name, action     string
		resource         string
		context, subject string
		want             string
		rule             string // that closes; "" for none, evaluation_error where it cannot tell
	}{
		{name: "what it lets pass", action: "vault.has", resource: `{"level":3}`, want: "ALLOW"},
		{name: "what it stops", action: "vault.has", resource: `{"level":4}`, want: "DENY", rule: "too_deep"},
		{name: "absent where it asks", action: "vault.has", resource: `{}`, want: "ALLOW"},
		{name: "null", action: "vault.has", resource: `{"level":null}`, want: "DENY", rule: "evaluation_error"},
		{name: "a fraction", action: "vault.has", resource: `{"level":4.5}`, want: "DENY", rule: "evaluation_error"},
		{name: "a long fraction", action: "vault.has", resource: `{"level":4.00001}`, want: "DENY", rule: "evaluation_error"},
		{name: "a tiny fraction", action: "vault.has", resource: `{"level":1e-9}`, want: "DENY", rule: "evaluation_error"},
		{name: "an integer written as a fraction", action: "vault.has", resource: `{"level":4.0}`, want: "DENY", rule: "too_deep"},
		{name: "an integer with an exponent", action: "vault.has", resource: `{"level":0.4e1}`, want: "DENY", rule: "too_deep"},
		{name: "a text", action: "vault.has", resource: `{"level":"4"}`, want: "DENY", rule: "evaluation_error"},
		{name: "a list", action: "vault.has", resource: `{"level":[4]}`, want: "DENY", rule: "evaluation_error"},
		{name: "a list with null", action: "vault.has", resource: `{"level":[null]}`, want: "DENY", rule: "evaluation_error"},
		{name: "another spelling", action: "vault.has", resource: `{"Level":9,"level":4}`, want: "DENY", rule: "too_deep"},
		{name: "an escape of a value", action: "vault.has", resource: `{"level":{"__entity":{"type":"x","id":"y"}}}`, want: "DENY", rule: "evaluation_error"},
		{name: "an escape of an extension", action: "vault.has", resource: `{"level":{"__extn":{"fn":"decimal","arg":"1.0"}}}`, want: "DENY", rule: "evaluation_error"},

		{name: "present where it must be", action: "vault.plain", resource: `{"level":3}`, want: "ALLOW"},
		{name: "missing", action: "vault.plain", resource: `{}`, want: "DENY", rule: "evaluation_error"},
		{name: "missing by a null", action: "vault.plain", resource: `{"level":null}`, want: "DENY", rule: "evaluation_error"},

		{name: "a decimal that passes", action: "vault.decimal", resource: `{"price":9.4999}`, want: "ALLOW"},
		{name: "a decimal that is stopped", action: "vault.decimal", resource: `{"price":9.5001}`, want: "DENY", rule: "too_dear"},
		{name: "a decimal too long", action: "vault.decimal", resource: `{"price":9.50001}`, want: "DENY", rule: "evaluation_error"},
		{name: "a decimal without fraction", action: "vault.decimal", resource: `{"price":10}`, want: "DENY", rule: "evaluation_error"},

		{name: "inside, what passes", action: "vault.inner", resource: `{"marks":{"colour":"blue"}}`, want: "ALLOW"},
		{name: "inside, what is stopped", action: "vault.inner", resource: `{"marks":{"colour":"red"}}`, want: "DENY", rule: "marked"},
		{name: "inside, null", action: "vault.inner", resource: `{"marks":{"colour":null}}`, want: "DENY", rule: "evaluation_error"},
		{name: "around, null", action: "vault.inner", resource: `{"marks":null}`, want: "DENY", rule: "evaluation_error"},
		{name: "around, a text", action: "vault.inner", resource: `{"marks":"red"}`, want: "DENY", rule: "evaluation_error"},

		{name: "of the context, null", action: "vault.context", resource: `{}`, context: `{"alarm":null}`, want: "DENY", rule: "evaluation_error"},
		{name: "of the context, no truth", action: "vault.context", resource: `{}`, context: `{"alarm":1}`, want: "DENY", rule: "evaluation_error"},
		{name: "of the context", action: "vault.context", resource: `{}`, context: `{"alarm":true}`, want: "DENY", rule: "alarm"},
		{name: "of the subject, null", action: "vault.subject", resource: `{}`, subject: `{"guest":null}`, want: "DENY", rule: "evaluation_error"},
		{name: "of the subject", action: "vault.subject", resource: `{}`, subject: `{"guest":true}`, want: "DENY", rule: "stranger"},
	} {
		t.Run(row.name, func(t *testing.T) {
			request := object{
				"subject": object{"type": "user", "id": "li.wei"}, "action": row.action,
				"resource": object{"type": "vault", "id": "v", "properties": json.RawMessage(row.resource)},
			}
			if row.context != "" {
				request["context"] = json.RawMessage(row.context)
			}
			if row.subject != "" {
				request = changed(request, "subject.properties", json.RawMessage(row.subject))
			}
			d := s.in(t).decide("pep", request)
			if d.Effect != row.want || row.rule != "" && !d.has("platform/vault/"+row.rule) {
				t.Errorf("%s, want %s by %q: %+v", d.Effect, row.want, row.rule, d.Reasons)
			}
		})
	}

	// The shipped guardrails are Cedar too.
	for name, tenant := range map[string]string{"another tenant": `"globex"`, "null": "null", "a number": "1", "a long fraction": "0.123456", "a list": `["acme"]`, "capitals": `"ACME"`} {
		request := instance(engineer())
		properties := request["resource"].(object)["properties"].(object)
		properties["tenant"] = json.RawMessage(tenant)
		if d := s.decide("pep", request); d.Effect != "DENY" || !d.has("platform/isolation/resource_of_another_tenant") && !d.has("platform/isolation/evaluation_error") {
			t.Errorf("isolation with tenant %s (%s): %+v", tenant, name, d)
		}
	}
}
