# METADATA
# title: Plugin calls
# description: |
#   Which plugins a tenant may have called for it, with which capability, where,
#   how often, and by which pool. What a table does not list is refused.
# custom:
#   title_zh: 插件调用
#   scope: {actions: ["plugin.*"]}
#   stale_bound: 15m
package xiezhi.platform.plugins

properties := object.get(input.resource, "properties", {})

tables := data.xiezhi.tenants[input.tenant].tables

plugin := tables.tenant_plugins[input.resource.id]

# regions of the capability, each with the environments it may be called in.
regions := plugin[properties.capability]

environments := regions[properties.region]

authorised if {
	properties.environment in environments
	environments_of_region := tables.tenant_region_mapping.regions[properties.region]
	properties.environment in environments_of_region
}

# METADATA
# title: Plugin not authorised
# custom:
#   id: plugin_not_authorised
#   title_zh: 插件未获授权
#   message: {en: "Tenant {tenant} is not authorised for plugin {resource.id}.", zh: "租户 {tenant} 未获授权使用插件 {resource.id}。"}
#   severity: high
#   requirement: [T1, C3]
deny contains {"rule": "plugin_not_authorised", "path": "/resource/id"} if not plugin

# METADATA
# title: Capability not authorised
# custom:
#   id: capability_not_authorised
#   title_zh: 插件能力未获授权
#   message: {en: "Tenant {tenant} is not authorised for {resource.properties.capability} of {resource.id}.", zh: "租户 {tenant} 未获授权使用 {resource.id} 的能力 {resource.properties.capability}。"}
#   severity: high
#   requirement: [T1, C3]
deny contains {"rule": "capability_not_authorised", "path": "/resource/properties/capability"} if {
	plugin
	not regions
}

# METADATA
# title: Region not authorised for the capability
# custom:
#   id: plugin_region_not_authorised
#   title_zh: 该地域未获授权
#   message: {en: "Tenant {tenant} may not call {resource.id} in region {resource.properties.region}.", zh: "租户 {tenant} 不可在地域 {resource.properties.region} 调用 {resource.id}。"}
#   severity: high
#   requirement: [T1, C3]
deny contains {"rule": "plugin_region_not_authorised", "path": "/resource/properties/region"} if {
	regions
	not environments
}

# METADATA
# title: Environment not authorised for the capability
# custom:
#   id: plugin_environment_not_authorised
#   title_zh: 该环境未获授权
#   message: {en: "Tenant {tenant} may not call {resource.id} in environment {resource.properties.environment} there.", zh: "租户 {tenant} 不可在该地域的 {resource.properties.environment} 环境调用 {resource.id}。"}
#   severity: high
#   requirement: [T1, C3]
deny contains {"rule": "plugin_environment_not_authorised", "path": "/resource/properties/environment"} if {
	environments
	not authorised
}

# METADATA
# title: No pool for the call
# description: Without a pool the call could land anywhere.
# custom:
#   id: plugin_route_missing
#   title_zh: 没有可用的实例池
#   message: {en: "No pool is configured for tenant {tenant} in this region and environment.", zh: "租户 {tenant} 在该地域与环境没有配置实例池。"}
#   severity: medium
#   requirement: [T4]
deny contains {"rule": "plugin_route_missing", "path": "/resource/properties/region"} if {
	authorised
	not routed
}

routed if {
	pool.pool
	pool.standby
}

# METADATA
# title: Rate of calls
# description: The tenant's row for the capability, else its row for the plugin, else the platform's default.
# custom:
#   id: plugin_calls_limited
#   title_zh: 插件调用限流
#   message: {en: "Calls are limited per tenant, plugin and capability.", zh: "按租户、插件与能力限流。"}
#   severity: low
#   requirement: [T2, C3]
limits contains {"rule": "plugin_calls_limited", "key": calls, "rate": limit.rate, "burst": limit.burst} if authorised

# METADATA
# title: Quota of calls
# custom:
#   id: plugin_calls_quota
#   title_zh: 插件调用配额
#   message: {en: "Calls count against the tenant's quota for the plugin's capability.", zh: "调用计入租户对该插件能力的配额。"}
#   severity: low
#   requirement: [T2, C3]
limits contains {"rule": "plugin_calls_quota", "key": calls, "quota": limit.quota} if authorised

# calls counts per tenant, plugin and capability.
calls := concat("/", ["plugin.calls", input.tenant, input.resource.id, properties.capability]) if authorised

limit := row if {
	row := tables.tenant_limit_matrix[input.resource.id][properties.capability]
} else := row if {
	row := tables.tenant_limit_matrix[input.resource.id]["*"]
} else := data.xiezhi.platform.tables.tenant_limit_matrix.default

# METADATA
# title: Pool of the tenant
# custom:
#   id: plugin_routed
#   title_zh: 租户实例池路由
#   message: {en: "Calls go to the tenant's pool in the region and environment.", zh: "调用路由到租户在该地域与环境的实例池。"}
#   severity: low
#   requirement: [T4]
route contains {"rule": "plugin_routed", "pool": pool.pool, "standby": pool.standby} if authorised

# pool is the plugin's own in the region and environment, else the tenant's.
pool := row if {
	row := tables.tenant_route_policy[input.resource.id][properties.region][properties.environment]
} else := row if {
	row := tables.tenant_route_policy["*"][properties.region][properties.environment]
}
