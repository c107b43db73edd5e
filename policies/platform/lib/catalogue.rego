# METADATA
# title: What may be asked for
# description: |
#   Per resource type: the actions with the properties each of them needs, and
#   every property with its form (lib/shape). What is not here is not offered.
#   One literal on purpose: it is ground, so reading it costs a look-up.
package xiezhi.platform.lib.catalogue

# families are the first words of the names that the platform owns. A tenant
# may name its own actions and types as it likes outside them.
families := {"ecs", "rds", "oss", "ram", "vpc", "plugin"}

types := {
	"ecs.instance": {
		"actions": {
			"ecs.instance.create": {"region", "cpu", "memory_gib", "vpc_id", "vswitch_id", "data_classification", "tags"},
			"ecs.instance.describe": {"region"},
			"ecs.instance.resize": {"region", "tenant", "cpu", "memory_gib"},
			"ecs.instance.start": {"region", "tenant"},
			"ecs.instance.stop": {"region", "tenant"},
			"ecs.instance.delete": {"region", "tenant"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"region": {"type": "text", "max": 64},
			"zone_id": {"type": "text", "max": 64},
			"name": {"type": "text", "max": 128},
			"cpu": {"type": "integer", "min": 1, "max": 1024},
			"memory_gib": {"type": "integer", "min": 1, "max": 16384},
			"instance_type": {"type": "text", "max": 64},
			"image_id": {"type": "text", "max": 128},
			"disk_gib": {"type": "integer", "min": 20, "max": 32768},
			"encrypted": {"type": "flag"},
			"deletion_protection": {"type": "flag"},
			"user_data": {"type": "text", "max": 32768},
			"vpc_id": {"type": "text", "max": 64},
			"vswitch_id": {"type": "text", "max": 64},
			"ingress": {"type": "list", "max": 10},
			"public_ip": {"type": "flag"},
			"bandwidth_mbps": {"type": "integer", "min": 1, "max": 200},
			"data_classification": {"type": "text", "max": 32},
			"tags": {"type": "object", "max": 20},
		},
	},
	"ecs.security_group": {
		"actions": {
			"ecs.security_group.create": {"region", "vpc_id", "tags"},
			"ecs.security_group.describe": {"region"},
			"ecs.security_group.authorize": {"region", "tenant", "ingress"},
			"ecs.security_group.revoke": {"region", "tenant"},
			"ecs.security_group.delete": {"region", "tenant"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"region": {"type": "text", "max": 64},
			"name": {"type": "text", "max": 128},
			"vpc_id": {"type": "text", "max": 64},
			"ingress": {"type": "list", "max": 10},
			"tags": {"type": "object", "max": 20},
		},
	},
	"rds.instance": {
		"actions": {
			"rds.instance.create": {"region", "cpu", "memory_gib", "engine", "vpc_id", "vswitch_id", "data_classification", "tags"},
			"rds.instance.describe": {"region"},
			"rds.instance.resize": {"region", "tenant", "cpu", "memory_gib"},
			"rds.instance.authorize": {"region", "tenant", "ingress"},
			"rds.instance.delete": {"region", "tenant"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"region": {"type": "text", "max": 64},
			"zone_id": {"type": "text", "max": 64},
			"name": {"type": "text", "max": 128},
			"engine": {"type": "text", "max": 32},
			"engine_version": {"type": "text", "max": 32},
			"cpu": {"type": "integer", "min": 1, "max": 1024},
			"memory_gib": {"type": "integer", "min": 1, "max": 16384},
			"instance_class": {"type": "text", "max": 64},
			"storage_gib": {"type": "integer", "min": 20, "max": 32768},
			"encrypted": {"type": "flag"},
			"deletion_protection": {"type": "flag"},
			"vpc_id": {"type": "text", "max": 64},
			"vswitch_id": {"type": "text", "max": 64},
			"ingress": {"type": "list", "max": 10},
			"data_classification": {"type": "text", "max": 32},
			"tags": {"type": "object", "max": 20},
		},
	},
	"oss.bucket": {
		"actions": {
			"oss.bucket.create": {"region", "data_classification", "tags"},
			"oss.bucket.describe": {"region"},
			"oss.bucket.delete": {"region", "tenant"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"region": {"type": "text", "max": 64},
			"name": {"type": "text", "max": 63},
			"acl": {"type": "text", "max": 32},
			"storage_class": {"type": "text", "max": 32},
			"versioning": {"type": "flag"},
			"encrypted": {"type": "flag"},
			"data_classification": {"type": "text", "max": 32},
			"tags": {"type": "object", "max": 20},
		},
	},
	"vpc.eip": {
		"actions": {
			"vpc.eip.allocate": {"region", "ingress", "tags"},
			"vpc.eip.associate": {"region", "tenant", "ingress"},
			"vpc.eip.describe": {"region"},
			"vpc.eip.release": {"region", "tenant"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"region": {"type": "text", "max": 64},
			"name": {"type": "text", "max": 128},
			"instance_id": {"type": "text", "max": 64},
			"bandwidth_mbps": {"type": "integer", "min": 1, "max": 200},
			"ingress": {"type": "list", "max": 10},
			"tags": {"type": "object", "max": 20},
		},
	},
	"vpc.vpc": {
		"actions": {
			"vpc.vpc.create": {"region", "cidr", "tags"},
			"vpc.vpc.describe": {"region"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"region": {"type": "text", "max": 64},
			"name": {"type": "text", "max": 128},
			"cidr": {"type": "text", "max": 18},
			"tags": {"type": "object", "max": 20},
		},
	},
	"vpc.vswitch": {
		"actions": {
			"vpc.vswitch.create": {"region", "vpc_id", "cidr", "tags"},
			"vpc.vswitch.describe": {"region"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"region": {"type": "text", "max": 64},
			"zone_id": {"type": "text", "max": 64},
			"name": {"type": "text", "max": 128},
			"vpc_id": {"type": "text", "max": 64},
			"cidr": {"type": "text", "max": 18},
			"tags": {"type": "object", "max": 20},
		},
	},
	"ram.user": {
		"actions": {
			"ram.user.create": {"template", "tags"},
			"ram.user.describe": set(),
			"ram.user.delete": {"tenant"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"name": {"type": "text", "max": 64},
			"template": {"type": "text", "max": 64},
			"policy_document": {"type": "object", "max": 2},
			"tags": {"type": "object", "max": 20},
		},
	},
	"ram.role": {
		"actions": {
			"ram.role.create": {"template", "tags"},
			"ram.role.describe": set(),
			"ram.role.delete": {"tenant"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"name": {"type": "text", "max": 64},
			"template": {"type": "text", "max": 64},
			"policy_document": {"type": "object", "max": 2},
			"tags": {"type": "object", "max": 20},
		},
	},
	"ram.policy": {
		"actions": {
			"ram.policy.create": {"template", "tags"},
			"ram.policy.describe": set(),
			"ram.policy.attach": {"template", "tenant"},
			"ram.policy.detach": {"tenant"},
			"ram.policy.delete": {"tenant"},
		},
		"properties": {
			"tenant": {"type": "text", "max": 63},
			"name": {"type": "text", "max": 64},
			"template": {"type": "text", "max": 64},
			"policy_document": {"type": "object", "max": 2},
			"principal": {"type": "text", "max": 128},
			"tags": {"type": "object", "max": 20},
		},
	},
	"plugin": {
		"actions": {"plugin.call": {"capability", "region", "environment"}},
		"properties": {
			"capability": {"type": "text", "max": 64},
			"region": {"type": "text", "max": 64},
			"environment": {"type": "text", "max": 32},
		},
	},
}
