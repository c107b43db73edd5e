//go:build unix

package main

import (
	"fmt"
	"strings"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// cedarForm is one way to load about ten Cedar policies that can apply to any
// input, and others that cannot.
type cedarForm struct {
	name  string
	build func(others int) (*bundles.Content, error)
}

func cedarForms() []cedarForm {
	return []cedarForm{{"statements", cedarStatements}, {"files", cedarFiles}}
}

// applying are ten Cedar statements that can apply to every input: nine narrow
// nothing in their scope clause, and one names a role that only some have.
// Comparing with == never fails, whatever the types.
func applying() []string {
	statements := []string{`permit (principal, action, resource)`}
	for _, region := range []string{"us-east-1", "eu-central-1", "cn-beijing", "ap-south-1"} {
		statements = append(statements, fmt.Sprintf(`forbid (principal, action, resource) when { resource has region && resource.region == %q }`, region))
	}
	for _, class := range []string{"regulated", "secret", "unknown"} {
		statements = append(statements, fmt.Sprintf(`forbid (principal, action, resource) when { resource has data_classification && resource.data_classification == %q }`, class))
	}
	return append(statements,
		`forbid (principal, action, resource) when { context has source_ip && context.source_ip == "192.0.2.1" }`,
		`forbid (principal in role::"viewer", action, resource) when { resource has acl && resource.acl != "private" }`)
}

// narrow is a statement that its scope clause keeps from every input, in one
// of the forms that clauses have.
func narrow(n int) string {
	when := fmt.Sprintf(`when { resource has region && resource.region == "region-%d" }`, n)
	switch n % 5 {
	case 0:
		return fmt.Sprintf(`forbid (principal == user::"somebody-%d", action, resource) %s`, n, when)
	case 1:
		return fmt.Sprintf(`forbid (principal in role::"role-%d", action, resource) %s`, n, when)
	case 2:
		return fmt.Sprintf(`forbid (principal, action == Action::"service%d.read", resource) %s`, n, when)
	case 3:
		return fmt.Sprintf(`forbid (principal, action, resource == ecs::instance::"i-%d") %s`, n, when)
	default:
		return fmt.Sprintf(`forbid (principal, action, resource is service%d::thing) %s`, n, when)
	}
}

// cedarStatements is a release of ten files that share the statements, whose
// declared scopes let everything through.
func cedarStatements(others int) (*bundles.Content, error) {
	const files = 10
	var texts [files]strings.Builder
	for i := range texts {
		texts[i].WriteString(policyLine("*"))
	}
	n := 0
	add := func(statement string) {
		writeStatement(&texts[n%files], n, statement)
		n++
	}
	for _, statement := range applying() {
		add(statement)
	}
	for i := range others {
		add(narrow(i))
	}
	content := declarations()
	for i := range texts {
		content = append(content, bundles.File{Path: fmt.Sprintf("platform/bench%d.cedar", i), Data: []byte(texts[i].String())})
	}
	return bundles.NewContent(content)
}

// cedarFiles is a release of one statement a file. The others' declared scopes
// name actions that no input has.
func cedarFiles(others int) (*bundles.Content, error) {
	content := declarations()
	add := func(scope, statement string) {
		var text strings.Builder
		text.WriteString(policyLine(scope))
		writeStatement(&text, 0, statement)
		content = append(content, bundles.File{Path: fmt.Sprintf("platform/bench%d.cedar", len(content)), Data: []byte(text.String())})
	}
	for _, statement := range applying() {
		add("*", statement)
	}
	for i := range others {
		add(fmt.Sprintf("service%d.*", i), narrow(i))
	}
	return bundles.NewContent(content)
}

// declarations is what both releases need beside their policies.
func declarations() []bundles.File {
	return []bundles.File{{Path: "attributes.yaml", Data: []byte("attributes:\n  subject.roles: {trusted: true, source: directory}\n")}}
}

func policyLine(action string) string {
	return fmt.Sprintf("// @policy({\"title\":{\"en\":\"Bench\",\"zh\":\"基准\"},\"scope\":{\"actions\":[%q]},\"reads\":[\"subject.roles\",\"context.source_ip\"]})\n", action)
}

func writeStatement(w *strings.Builder, n int, statement string) {
	fmt.Fprintf(w, "@id(\"rule%d\")\n@title(\"Rule\")\n@title_zh(\"规则\")\n@message(\"No.\")\n@message_zh(\"否。\")\n@severity(\"low\")\n@requirement(\"C3\")\n%s;\n", n, statement)
}
