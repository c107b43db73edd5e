# METADATA
# title: Regions per tenant
# custom:
#   title_zh: 租户可用地域
#   scope: {actions: ["ecs.*", "rds.*", "oss.*", "vpc.*"]}
package xiezhi.platform.regions

# METADATA
# title: Region not allowed
# description: A tenant without an entry in the table has no region at all.
# custom:
#   id: region_not_allowed
#   title_zh: 地域未获授权
#   message: {en: "Tenant {tenant} may not use region {resource.properties.region}.", zh: "租户 {tenant} 不可使用地域 {resource.properties.region}。"}
#   severity: high
#   requirement: [L4, C3]
deny contains {"rule": "region_not_allowed", "path": "/resource/properties/region"} if {
	not allowed
}

allowed if data.xiezhi.tenants[input.tenant].tables.tenant_region_mapping.regions[input.resource.properties.region]
