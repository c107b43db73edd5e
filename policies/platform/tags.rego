# METADATA
# title: Required tags
# description: |
#   What is created carries the tags by which it is charged, owned and
#   reclaimed. itsm: belongs to the platform, in any case of its letters.
# custom:
#   title_zh: 必需标签
#   scope:
#     actions:
#       - ecs.instance.create
#       - ecs.security_group.create
#       - rds.instance.create
#       - oss.bucket.create
#       - vpc.eip.allocate
#       - vpc.vpc.create
#       - vpc.vswitch.create
#       - ram.user.create
#       - ram.role.create
#       - ram.policy.create
package xiezhi.platform.tags

import data.xiezhi.platform.lib.pointer

# tags is empty for anything but an object, so that every tag is then missing.
tags := input.resource.properties.tags if {
	is_object(input.resource.properties.tags)
} else := {}

required := {"itsm:tenant_code", "itsm:request_id", "itsm:expire_at", "itsm:cost_center", "itsm:data_classification", "itsm:owner"}

# forms are the tags of the platform and what their values look like. The time
# is RFC 3339 with a real calendar day of this century: what matches, the
# parser of times reads.
forms := {
	"itsm:tenant_code": `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`,
	"itsm:request_id": `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`,
	"itsm:expire_at": `^20([0-9]{2}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|([02468][048]|[13579][26])-02-29)T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`,
	"itsm:cost_center": `^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`,
	"itsm:data_classification": `^[a-z]{1,32}$`,
	"itsm:owner": `^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$`,
	"itsm:managed": `^true$`,
	"itsm:landing_zone": `^true$`,
}

# own are the tags that are not the platform's.
own := object.remove(tags, forms)

reserved(name) if {
	some prefix in ["itsm", "acs:", "aliyun"]
	startswith(trim_space(lower(name)), prefix)
}

# METADATA
# title: Missing tag
# custom:
#   id: tag_missing
#   title_zh: 缺少标签
#   message: {en: "The tag {tag} is required.", zh: "缺少必需标签 {tag}。"}
#   severity: medium
#   requirement: [L7, L13]
deny contains {"rule": "tag_missing", "path": pointer.tag(name), "args": {"tag": name}} if {
	some name in (required - object.keys(tags))
}

# METADATA
# title: Malformed tag
# description: |
#   Own tags are text of at most 128 characters. itsm:owner is a subject's id,
#   itsm:cost_center a code of at most 32 letters, digits and ._-
# custom:
#   id: tag_malformed
#   title_zh: 标签格式错误
#   message: {en: "The value of the tag {tag} is malformed.", zh: "标签 {tag} 的值格式错误。"}
#   severity: medium
#   requirement: [L13]
deny contains {"rule": "tag_malformed", "path": pointer.tag(name), "args": {"tag": name}} if {
	some name, value in tags
	name != "itsm:expire_at"
	form := forms[name]
	not matches(form, value)
}

deny contains {"rule": "tag_malformed", "path": pointer.tag(name), "args": {"tag": name}} if {
	some name, value in own
	not short(value)
}

matches(form, value) if {
	short(value)
	regex.match(form, value)
}

short(value) if {
	is_string(value)
	count(value) <= 128
}

# METADATA
# title: Reserved tag
# custom:
#   id: tag_reserved
#   title_zh: 保留标签
#   message: {en: "The tag {tag} is reserved: itsm:, acs: and aliyun belong to the platform and the cloud.", zh: "标签 {tag} 为保留名：itsm:、acs: 与 aliyun 前缀归平台与云厂商使用。"}
#   severity: medium
#   requirement: [L2, L13]
deny contains {"rule": "tag_reserved", "path": pointer.tag(name), "args": {"tag": name}} if {
	some name, _ in own
	reserved(name)
}

# METADATA
# title: Tag of another tenant
# custom:
#   id: tag_tenant_differs
#   title_zh: 标签中的租户不符
#   message: {en: "itsm:tenant_code is {tag}; the request is {tenant}'s.", zh: "itsm:tenant_code 为 {tag}，而请求属于租户 {tenant}。"}
#   severity: critical
#   requirement: [L1, L2, L13]
deny contains {"rule": "tag_tenant_differs", "path": "/resource/properties/tags/itsm:tenant_code", "args": {"tag": code}} if {
	code := tags["itsm:tenant_code"]
	code != input.tenant
}

# METADATA
# title: Malformed expiry
# custom:
#   id: expiry_malformed
#   title_zh: 到期时间格式错误
#   message: {en: "itsm:expire_at must be a time in RFC 3339, such as 2026-12-31T00:00:00Z.", zh: "itsm:expire_at 必须是 RFC 3339 时间，例如 2026-12-31T00:00:00Z。"}
#   severity: high
#   requirement: [L13]
deny contains {"rule": "expiry_malformed", "path": "/resource/properties/tags/itsm:expire_at"} if {
	value := tags["itsm:expire_at"]
	not matches(forms["itsm:expire_at"], value)
}

# METADATA
# title: Expiry is past
# custom:
#   id: expiry_past
#   title_zh: 到期时间已过
#   message: {en: "itsm:expire_at is {tag}, which is not in the future.", zh: "itsm:expire_at 为 {tag}，不在将来。"}
#   severity: high
#   requirement: [L13]
deny contains {"rule": "expiry_past", "path": "/resource/properties/tags/itsm:expire_at", "args": {"tag": value}} if {
	value := tags["itsm:expire_at"]
	matches(forms["itsm:expire_at"], value)
	time.parse_rfc3339_ns(value) <= time.now_ns()
}

# METADATA
# title: Two classifications
# custom:
#   id: tag_classification_differs
#   title_zh: 数据分级不一致
#   message: {en: "itsm:data_classification is {tag}; the request says {resource.properties.data_classification}.", zh: "itsm:data_classification 为 {tag}，而请求中为 {resource.properties.data_classification}。"}
#   severity: high
#   requirement: [L12, L13]
deny contains {"rule": "tag_classification_differs", "path": "/resource/properties/tags/itsm:data_classification", "args": {"tag": tag}} if {
	tag := tags["itsm:data_classification"]
	tag != input.resource.properties.data_classification
}
