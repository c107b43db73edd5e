# METADATA
# title: Landing zone
# description: |
#   Resources live in the tenant's own VPC and subnets, and a VPC exists only
#   as a landing zone.
# custom:
#   title_zh: 落地区
#   scope: {actions: ["ecs.*", "rds.*", "vpc.*"]}
#   reads: ["subject.roles"]
package xiezhi.platform.landing_zone

properties := object.get(input.resource, "properties", {})

# zone is undefined where the tenant has no landing zone in the region.
zone := data.xiezhi.tenants[input.tenant].tables.landing_zones[properties.region]

names(property) if _ = properties[property]

must_name_vpc if input.action.name in {"ecs.instance.create", "ecs.security_group.create", "rds.instance.create"}

must_name_vpc if names("vpc_id")

must_name_vswitch if input.action.name in {"ecs.instance.create", "rds.instance.create"}

must_name_vswitch if names("vswitch_id")

# builder holds for the one identity that makes landing zones. While it does,
# the new VPC is not in the table yet.
builder if {
	is_array(input.subject.properties.roles)
	"landing_zone_operator" in input.subject.properties.roles
}

building if {
	input.action.name in {"vpc.vswitch.create", "ecs.security_group.create"}
	builder
	not zone
	properties.tags["itsm:landing_zone"] == "true"
}

# METADATA
# title: VPC is not the tenant's landing zone
# custom:
#   id: vpc_outside_landing_zone
#   title_zh: VPC 不是租户的落地区
#   message: {en: "{resource.properties.vpc_id} is not the landing zone of {tenant} in this region.", zh: "{resource.properties.vpc_id} 不是租户 {tenant} 在该地域的落地区。"}
#   severity: critical
#   requirement: [L2, L4, L6]
deny contains {"rule": "vpc_outside_landing_zone", "path": "/resource/properties/vpc_id"} if {
	must_name_vpc
	not building
	not own_vpc
}

own_vpc if zone.vpc_id == properties.vpc_id

# METADATA
# title: Subnet is not the tenant's
# custom:
#   id: vswitch_outside_landing_zone
#   title_zh: 交换机不属于租户
#   message: {en: "{resource.properties.vswitch_id} is not a subnet of {tenant}'s landing zone in this region.", zh: "{resource.properties.vswitch_id} 不是租户 {tenant} 在该地域落地区的交换机。"}
#   severity: critical
#   requirement: [L2, L4, L6]
deny contains {"rule": "vswitch_outside_landing_zone", "path": "/resource/properties/vswitch_id"} if {
	must_name_vswitch
	not own_vswitch
}

own_vswitch if zone.vswitches[properties.vswitch_id]

# METADATA
# title: Networks only as a landing zone
# custom:
#   id: network_only_as_landing_zone
#   title_zh: 仅可作为落地区创建网络
#   message: {en: "A VPC or subnet is made only by the landing-zone operator, with the tag itsm:landing_zone=true.", zh: "VPC 与交换机仅可由落地区操作员创建，并带标签 itsm:landing_zone=true。"}
#   severity: high
#   requirement: [L2, L6]
deny contains {"rule": "network_only_as_landing_zone", "path": "/resource/properties/tags/itsm:landing_zone"} if {
	input.action.name in {"vpc.vpc.create", "vpc.vswitch.create"}
	not network_for_landing_zone
}

network_for_landing_zone if {
	builder
	properties.tags["itsm:landing_zone"] == "true"
}

# METADATA
# title: One landing zone per region
# custom:
#   id: landing_zone_exists
#   title_zh: 该地域已有落地区
#   message: {en: "{tenant} already has its landing zone {vpc_id} in this region.", zh: "租户 {tenant} 在该地域已有落地区 {vpc_id}。"}
#   severity: medium
#   requirement: [L2, L6, L7]
deny contains {"rule": "landing_zone_exists", "path": "/resource/properties/region", "args": {"vpc_id": zone.vpc_id}} if {
	input.action.name == "vpc.vpc.create"
}
