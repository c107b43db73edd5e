# METADATA
# title: Identities from templates
# description: |
#   RAM users, roles and policies come from the platform's templates. A plan may
#   show the document it would create, which gives nothing that the template
#   does not. Neither may give a wildcard action on a wildcard resource.
# custom:
#   title_zh: 身份仅限模板
#   scope: {actions: ["ram.*"]}
#   audit: strict
#   stale_bound: 5m
package xiezhi.platform.iam

properties := object.get(input.resource, "properties", {})

# template is undefined for a name that the platform does not offer to this type.
template := known if {
	known := data.xiezhi.platform.tables.iam_templates[properties.template]
	input.resource.type in known.types
}

# gives_rights holds for the actions by which somebody obtains rights.
gives_rights if input.action.name in {"ram.user.create", "ram.role.create", "ram.policy.create", "ram.policy.attach"}

gives_rights if _ = properties.policy_document

# METADATA
# title: Not from a template
# custom:
#   id: template_required
#   title_zh: 必须来自模板
#   message: {en: "{resource.properties.template} is not a template for {resource.type}.", zh: "{resource.properties.template} 不是 {resource.type} 可用的模板。"}
#   severity: critical
#   requirement: [L4, L6]
deny contains {"rule": "template_required", "path": "/resource/properties/template"} if {
	gives_rights
	not template
}

# METADATA
# title: Malformed policy document
# custom:
#   id: document_malformed
#   title_zh: 策略文档格式错误
#   message: {en: "A policy document has Version and at most 20 entries of Statement, each with Effect, Action, Resource and at most Condition.", zh: "策略文档应含 Version 与最多 20 条 Statement，每条含 Effect、Action、Resource，可含 Condition。"}
#   severity: high
#   requirement: [L4]
deny contains {"rule": "document_malformed", "path": "/resource/properties/policy_document"} if {
	document := properties.policy_document
	not readable(document)
}

# readable leaves out NotAction and NotResource, wildcards under another name.
readable(document) if {
	is_object(document)
	object.keys(document) == {"Version", "Statement"}
	is_array(document.Statement)
	count(document.Statement) <= 20
	every statement in document.Statement { readable_statement(statement) }
}

readable_statement(statement) if {
	is_object(statement)
	count(object.keys(statement) - {"Effect", "Action", "Resource", "Condition"}) == 0
	statement.Effect in {"Allow", "Deny"}
	texts(statement.Action)
	texts(statement.Resource)
}

# texts holds for a text or a non-empty list of texts, RAM's two spellings.
texts(value) if is_string(value)

texts(value) if {
	is_array(value)
	count(value) >= 1
	every text in value { is_string(text) }
}

# METADATA
# title: Document beyond its template
# description: |
#   Each action and resource that is allowed stands together in the template,
#   letter for letter, save the names in braces, which are filled in.
# custom:
#   id: document_beyond_template
#   title_zh: 策略文档超出模板
#   message: {en: "The template {resource.properties.template} does not allow {action} on {resource}.", zh: "模板 {resource.properties.template} 未允许对 {resource} 执行 {action}。"}
#   severity: critical
#   requirement: [L4, L6]
deny contains {"rule": "document_beyond_template", "path": statement.path, "args": {"action": action, "resource": resource}} if {
	template
	some statement in shown
	statement.body.Effect != "Deny"
	some action in as_list(statement.body.Action)
	some resource in as_list(statement.body.Resource)
	not from_template(action, resource)
}

from_template(action, resource) if {
	some given in template.statements
	given.Effect == "Allow"
	action in as_list(given.Action)
	some pattern in as_list(given.Resource)
	fills(pattern, resource)
}

# fills reads {bucket} in a pattern as a name and everything else as itself.
fills(pattern, resource) if {
	itself := regex.replace(pattern, `[.*+?^$()|\[\]\\]`, `\$0`)
	names_filled := regex.replace(itself, `\{[a-z_]+\}`, `[A-Za-z0-9][A-Za-z0-9._-]*`)
	regex.match(concat("", ["^", names_filled, "$"]), resource)
}

# METADATA
# title: Wildcard action on a wildcard resource
# custom:
#   id: wildcard_on_wildcard
#   title_zh: 通配操作不得作用于通配资源
#   message: {en: "A statement must not allow the wildcard action {action} on every resource.", zh: "语句不得允许对所有资源执行通配操作 {action}。"}
#   severity: critical
#   requirement: [L4]
deny contains {"rule": "wildcard_on_wildcard", "path": statement.path, "args": {"action": action}} if {
	some statement in statements
	statement.body.Effect != "Deny"
	some action in as_list(statement.body.Action)
	some resource in as_list(statement.body.Resource)
	too_much(action, resource)
}

# too_much holds for any wildcard in the action where the resource's name says
# nothing, and for all actions of a service where the name has any wildcard.
# The name follows the fourth colon: acs:<service>:<region>:<account>:<name>.
too_much(action, resource) if {
	regex.match(`[*?]`, action)
	regex.match(`^([^:]*:){0,4}[*?/]*$`, resource)
}

too_much(action, resource) if {
	regex.match(`^([^:]*:)?[*?]+$`, action)
	regex.match(`^([^:]*:){4}.*[*?]`, resource)
}

statements := shown | {{"path": "/resource/properties/template", "body": body} | some body in template.statements}

# shown are the statements that the plan shows.
shown contains {"path": sprintf("/resource/properties/policy_document/Statement/%d", [i]), "body": body} if {
	is_array(properties.policy_document.Statement)
	some i, body in properties.policy_document.Statement
	readable_statement(body)
}

as_list(value) := value if is_array(value)

as_list(value) := [value] if is_string(value)
