# METADATA
# title: Only what the catalogue offers
# description: |
#   Every request that names one of the platform's families must be for an
#   offered action on an offered type, with known, complete and well-formed
#   properties. The other guardrails still refuse what they cannot read; this
#   one says why in the caller's words. It applies to every request, so that
#   an oddly-cased action name does not slip past the guardrails' scopes.
# custom:
#   title_zh: 仅限目录所列
#   masks: ["/resource/properties/user_data"]
package xiezhi.platform.catalogue

import data.xiezhi.platform.lib.catalogue
import data.xiezhi.platform.lib.pointer
import data.xiezhi.platform.lib.shape

# offer is undefined for a type that the catalogue does not list.
offer := catalogue.types[input.resource.type]

properties := object.get(input.resource, "properties", {})

# ours holds for every name whose first word is one of our families, in any case.
ours(name) if lower(regex.split(`[._:/-]`, name)[0]) in catalogue.families

governed if ours(input.action.name)

governed if ours(input.resource.type)

# METADATA
# title: Unknown resource type
# custom:
#   id: unknown_resource_type
#   title_zh: 未知的资源类型
#   message: {en: "{resource.type} is not a resource type that is offered. Names are case-sensitive.", zh: "{resource.type} 不在可申请的资源类型之列，名称区分大小写。"}
#   severity: medium
#   requirement: [L6, C3]
deny contains {"rule": "unknown_resource_type", "path": "/resource/type"} if {
	not offer
	governed
}

# METADATA
# title: Unknown action
# custom:
#   id: unknown_action
#   title_zh: 未知的操作
#   message: {en: "{action.name} is not an action that {resource.type} offers. Names are case-sensitive.", zh: "{resource.type} 不提供操作 {action.name}，名称区分大小写。"}
#   severity: medium
#   requirement: [L6, C3]
deny contains {"rule": "unknown_action", "path": "/action/name"} if {
	offer
	not offer.actions[input.action.name]
}

# METADATA
# title: Unknown property
# custom:
#   id: unknown_property
#   title_zh: 未知的属性
#   message: {en: "{resource.type} has no property {property}. Names are case-sensitive.", zh: "{resource.type} 没有属性 {property}，名称区分大小写。"}
#   severity: medium
#   requirement: [L4, C3]
deny contains {"rule": "unknown_property", "path": pointer.property(name), "args": {"property": name}} if {
	some name, _ in object.remove(properties, offer.properties)
}

# METADATA
# title: Missing property
# custom:
#   id: missing_property
#   title_zh: 缺少属性
#   message: {en: "{action.name} needs the property {property}.", zh: "{action.name} 必须给出属性 {property}。"}
#   severity: medium
#   requirement: [L4, C3]
deny contains {"rule": "missing_property", "path": pointer.property(name), "args": {"property": name}} if {
	some name in (offer.actions[input.action.name] - object.keys(properties))
}

# METADATA
# title: Malformed property
# custom:
#   id: malformed_property
#   title_zh: 属性格式错误
#   message: {en: "{property} must be: {wanted}.", zh: "{property} 的取值应为：{wanted}。"}
#   severity: medium
#   requirement: [L4, C3]
deny contains {"rule": "malformed_property", "path": pointer.property(name), "args": {"property": name, "wanted": shape.wanted(form)}} if {
	forms := offer.properties
	some name, value in properties
	form := forms[name]
	not shape.fits(form.type, value, form)
}

# METADATA
# title: Resource name of another tenant
# description: Names with the common prefix tenants/<tenant>/ say whose they are.
# custom:
#   id: name_of_another_tenant
#   title_zh: 资源名属于其他租户
#   message: {en: "The name {resource.id} is not below tenants/{tenant}/.", zh: "资源名 {resource.id} 不在 tenants/{tenant}/ 之下。"}
#   severity: critical
#   requirement: [L1, M3]
deny contains {"rule": "name_of_another_tenant", "path": "/resource/id"} if {
	startswith(lower(input.resource.id), "tenants/")
	not own_name
}

own_name if {
	startswith(input.resource.id, concat("", ["tenants/", input.tenant, "/"]))
	not contains(input.resource.id, "/../")
	not endswith(input.resource.id, "/..")
}
