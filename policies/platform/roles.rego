# METADATA
# title: Who may ask for what
# description: |
#   The roles of a tenant. These are the ALLOWs; what they may not be used for
#   is said by the guardrails beside this file.
# custom:
#   title_zh: 角色与可申请的操作
#   scope: {actions: ["ecs.*", "rds.*", "oss.*", "ram.*", "vpc.*", "plugin.call"]}
#   reads: ["subject.roles"]
package xiezhi.platform.roles

has(role) if {
	is_array(input.subject.properties.roles)
	role in input.subject.properties.roles
}

describing := {
	"ecs.instance.describe", "ecs.security_group.describe", "rds.instance.describe", "oss.bucket.describe",
	"vpc.eip.describe", "vpc.vpc.describe", "vpc.vswitch.describe",
	"ram.user.describe", "ram.role.describe", "ram.policy.describe",
}

# duties are the changes each role may ask for.
duties := {
	"engineer": {
		"ecs.instance.create", "ecs.instance.resize", "ecs.instance.start", "ecs.instance.stop", "ecs.instance.delete",
		"ecs.security_group.create", "ecs.security_group.authorize", "ecs.security_group.revoke", "ecs.security_group.delete",
		"oss.bucket.create", "oss.bucket.delete",
	},
	"dba": {"rds.instance.create", "rds.instance.resize", "rds.instance.authorize", "rds.instance.delete"},
	"network_admin": {
		"ecs.security_group.create", "ecs.security_group.authorize", "ecs.security_group.revoke", "ecs.security_group.delete",
		"vpc.eip.allocate", "vpc.eip.associate", "vpc.eip.release",
	},
	"security_admin": {
		"ram.user.create", "ram.user.delete", "ram.role.create", "ram.role.delete",
		"ram.policy.create", "ram.policy.attach", "ram.policy.detach", "ram.policy.delete",
		"ecs.security_group.revoke",
	},
	"landing_zone_operator": {"vpc.vpc.create", "vpc.vswitch.create", "ecs.security_group.create"},
	"plugin_operator": {"plugin.call"},
}

# METADATA
# title: Everybody with a duty may look
# custom:
#   id: members_look
#   title_zh: 成员可查看
#   message: {en: "Members of the tenant may look at its resources.", zh: "租户成员可查看本租户资源。"}
#   severity: low
#   requirement: [L1, C3]
allow contains {"rule": "members_look"} if {
	input.action.name in describing
	some role in ["viewer", "engineer", "dba", "network_admin", "security_admin", "landing_zone_operator", "tenant_admin"]
	has(role)
}

# METADATA
# title: Engineers run compute and storage
# custom:
#   id: engineers_run_compute
#   title_zh: 工程师可管理计算与存储
#   message: {en: "Engineers may ask for instances, security groups and buckets.", zh: "工程师可申请实例、安全组与存储桶。"}
#   severity: low
#   requirement: [L6, C3]
allow contains {"rule": "engineers_run_compute"} if {
	input.action.name in duties.engineer
	has("engineer")
}

# METADATA
# title: Database administrators run databases
# custom:
#   id: dbas_run_databases
#   title_zh: DBA 可管理数据库
#   message: {en: "Database administrators may ask for database instances.", zh: "DBA 可申请数据库实例。"}
#   severity: low
#   requirement: [L6, C3]
allow contains {"rule": "dbas_run_databases"} if {
	input.action.name in duties.dba
	has("dba")
}

# METADATA
# title: Network administrators run exposure
# custom:
#   id: network_admins_run_exposure
#   title_zh: 网络管理员可管理网络暴露
#   message: {en: "Network administrators may ask for public addresses and security groups.", zh: "网络管理员可申请公网地址与安全组。"}
#   severity: low
#   requirement: [L6, C3]
allow contains {"rule": "network_admins_run_exposure"} if {
	input.action.name in duties.network_admin
	has("network_admin")
}

# METADATA
# title: Security administrators run identities
# custom:
#   id: security_admins_run_identities
#   title_zh: 安全管理员可管理身份
#   message: {en: "Security administrators may ask for identities from templates, and may close ingress.", zh: "安全管理员可按模板申请身份，并可关闭入站规则。"}
#   severity: low
#   requirement: [L6, C3]
allow contains {"rule": "security_admins_run_identities"} if {
	input.action.name in duties.security_admin
	has("security_admin")
}

# METADATA
# title: Landing-zone operators build networks
# custom:
#   id: operators_build_landing_zones
#   title_zh: 落地区操作员可创建网络
#   message: {en: "Landing-zone operators may make a tenant's network.", zh: "落地区操作员可创建租户网络。"}
#   severity: low
#   requirement: [L3, L6]
allow contains {"rule": "operators_build_landing_zones"} if {
	input.action.name in duties.landing_zone_operator
	has("landing_zone_operator")
}

# METADATA
# title: Plugin operators call plugins
# custom:
#   id: plugin_operators_call
#   title_zh: 插件操作员可调用插件
#   message: {en: "Plugin operators may have plugins called.", zh: "插件操作员可发起插件调用。"}
#   severity: low
#   requirement: [T1, C3]
allow contains {"rule": "plugin_operators_call"} if {
	input.action.name in duties.plugin_operator
	has("plugin_operator")
}

# METADATA
# title: Tenant administrators stand in for every duty
# description: For every duty but the landing zone's, which is the platform's.
# custom:
#   id: tenant_admins_stand_in
#   title_zh: 租户管理员可代行各角色
#   message: {en: "Tenant administrators may ask for what any role of the tenant may.", zh: "租户管理员可申请本租户任一角色可申请的操作。"}
#   severity: low
#   requirement: [L1, C3]
allow contains {"rule": "tenant_admins_stand_in"} if {
	has("tenant_admin")
	some role in ["engineer", "dba", "network_admin", "security_admin", "plugin_operator"]
	input.action.name in duties[role]
}
