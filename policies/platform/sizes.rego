# METADATA
# title: Instance sizes
# description: |
#   2C4G, 4C8G and 8C16G, decided on vCPUs and memory. A type's name says
#   little: ecs.g7.xlarge has four vCPUs too, and sixteen gibibytes.
# custom:
#   title_zh: 实例规格
#   scope: {actions: ["ecs.instance.create", "ecs.instance.resize", "rds.instance.create", "rds.instance.resize"]}
package xiezhi.platform.sizes

# memory_of is the memory in GiB that goes with each number of vCPUs.
memory_of := {2: 4, 4: 8, 8: 16}

# offered_memory is a rule of its own, as every look-up below a "not" must be:
# Rego evaluates the key before the "not", and a missing key would switch the
# deny off instead of on.
offered_memory := memory_of[input.resource.properties.cpu]

# METADATA
# title: vCPUs not offered
# custom:
#   id: cpu_not_offered
#   title_zh: CPU 数不在白名单
#   message: {en: "{resource.properties.cpu} vCPUs are not offered: the sizes are 2C4G, 4C8G and 8C16G.", zh: "不提供 {resource.properties.cpu} 核：规格仅限 2C4G、4C8G、8C16G。"}
#   severity: medium
#   requirement: [L4, L11, C3]
#   waivable: true
#   template: guardrail-waiver
deny contains {"rule": "cpu_not_offered", "path": "/resource/properties/cpu"} if {
	not offered_memory
}

# METADATA
# title: Memory not offered
# custom:
#   id: memory_not_offered
#   title_zh: 内存不在白名单
#   message: {en: "{resource.properties.cpu} vCPUs come with {offered} GiB, not with {resource.properties.memory_gib}.", zh: "{resource.properties.cpu} 核只配 {offered} GiB 内存，不能是 {resource.properties.memory_gib}。"}
#   severity: medium
#   requirement: [L4, L11, C3]
#   waivable: true
#   template: guardrail-waiver
deny contains {"rule": "memory_not_offered", "path": "/resource/properties/memory_gib", "args": {"offered": offered_memory}} if {
	not offered_memory == input.resource.properties.memory_gib
}

# METADATA
# title: Named type has another size
# description: A type may be named only where its known size is the one asked for.
# custom:
#   id: type_disagrees
#   title_zh: 规格族与申请大小不符
#   message: {en: "{type} is not known as a type with the vCPUs and memory asked for.", zh: "{type} 不是所申请 CPU 与内存对应的已知规格。"}
#   severity: high
#   requirement: [L4, L11]
deny contains {"rule": "type_disagrees", "path": concat("", ["/resource/properties/", property]), "args": {"type": type}} if {
	some property in ["instance_type", "instance_class"]
	type := input.resource.properties[property]
	not agrees(type)
}

agrees(type) if {
	known := data.xiezhi.platform.tables.instance_types[type]
	known.cpu == input.resource.properties.cpu
	known.memory_gib == input.resource.properties.memory_gib
}
