# METADATA
# title: Data classification
# description: What the class of the data forces, and who must be asked first.
# custom:
#   title_zh: 数据分级
#   scope: {actions: ["ecs.instance.create", "rds.instance.create", "oss.bucket.create"]}
package xiezhi.platform.classification

class := input.resource.properties.data_classification

# retention_days are kept where the class asks for records at all: half a year
# for sensitive data, five years for regulated data.
retention_days := {"sensitive": 180, "regulated": 1825}

# METADATA
# title: Unknown classification
# custom:
#   id: classification_unknown
#   title_zh: 未知的数据分级
#   message: {en: "data_classification must be public, internal, sensitive or regulated.", zh: "data_classification 只能是 public、internal、sensitive 或 regulated。"}
#   severity: high
#   requirement: [L12]
deny contains {"rule": "classification_unknown", "path": "/resource/properties/data_classification"} if {
	not known
}

# known is a rule of its own because Rego evaluates the operands of a "not"
# before the "not": an absent class would switch the deny off.
known if class in {"public", "internal", "sensitive", "regulated"}

# METADATA
# title: Encryption switched off
# custom:
#   id: encryption_refused
#   title_zh: 不得关闭加密
#   message: {en: "{resource.properties.data_classification} data is encrypted at rest; encrypted must not be switched off.", zh: "{resource.properties.data_classification} 级数据必须静态加密，不得关闭 encrypted。"}
#   severity: high
#   requirement: [L12]
deny contains {"rule": "encryption_refused", "path": "/resource/properties/encrypted"} if {
	class != "public"
	flag := input.resource.properties.encrypted
	flag != true
}

# METADATA
# title: Bucket is not private
# custom:
#   id: bucket_not_private
#   title_zh: 存储桶必须私有
#   message: {en: "A bucket's acl must be private.", zh: "存储桶 acl 必须为 private。"}
#   severity: critical
#   requirement: [L4, L12]
deny contains {"rule": "bucket_not_private", "path": "/resource/properties/acl"} if {
	acl := input.resource.properties.acl
	acl != "private"
}

# METADATA
# title: Sensitive data needs review
# custom:
#   id: sensitive_data_needs_review
#   title_zh: 敏感数据需要审批
#   message: {en: "A place for {resource.properties.data_classification} data needs a review.", zh: "承载 {resource.properties.data_classification} 级数据需要审批。"}
#   severity: high
#   requirement: [L12]
#   template: sensitive-data
review contains {"rule": "sensitive_data_needs_review", "path": "/resource/properties/data_classification"} if retention_days[class]

# METADATA
# title: Encryption at rest
# custom:
#   id: data_encrypted
#   title_zh: 静态加密
#   message: {en: "Data that is not public is encrypted at rest.", zh: "非公开数据必须静态加密。"}
#   severity: high
#   requirement: [L12]
obligations contains {"rule": "data_encrypted", "id": "encrypt_at_rest", "must": true, "params": {}} if class != "public"

# METADATA
# title: Access to the data is recorded
# custom:
#   id: data_audited
#   title_zh: 访问审计
#   message: {en: "Access to sensitive and regulated data is recorded.", zh: "敏感与受监管数据的访问必须审计。"}
#   severity: high
#   requirement: [L12]
obligations contains {"rule": "data_audited", "id": "audit_trail", "must": true, "params": {}} if retention_days[class]

# METADATA
# title: Records are retained
# custom:
#   id: data_retained
#   title_zh: 留存
#   message: {en: "Records about sensitive data are kept for 180 days, about regulated data for 1825.", zh: "敏感数据记录留存 180 天，受监管数据留存 1825 天。"}
#   severity: high
#   requirement: [L12]
obligations contains {"rule": "data_retained", "id": "retention", "must": true, "params": {"days": retention_days[class]}}

# METADATA
# title: Regulated data is not deleted by accident
# custom:
#   id: regulated_protected
#   title_zh: 受监管数据防误删
#   message: {en: "What holds regulated data has deletion protection.", zh: "承载受监管数据的资源必须开启删除保护。"}
#   severity: medium
#   requirement: [L12]
obligations contains {"rule": "regulated_protected", "id": "deletion_protection", "must": true, "params": {}} if {
	class == "regulated"
	input.action.name != "oss.bucket.create"
}
