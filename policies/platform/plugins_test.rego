package xiezhi.platform.plugins_test

import data.xiezhi.platform.plugins

call := {
	"tenant": "acme",
	"action": {"name": "plugin.call"},
	"resource": {"type": "plugin", "id": "ocr", "properties": {"capability": "extract", "region": "cn-hangzhou", "environment": "test"}},
}

# tenants gives acme everything the call needs, but for the row of its route.
tenants(row) := {"acme": {"tables": {
	"tenant_plugins": {"ocr": {"extract": {"cn-hangzhou": ["test"]}}},
	"tenant_region_mapping": {"regions": {"cn-hangzhou": ["test"]}},
	"tenant_route_policy": {"*": {"cn-hangzhou": {"test": row}}},
}}}

test_a_whole_route_serves_the_call if {
	plugins.route == {{"rule": "plugin_routed", "pool": "a", "standby": "b"}} with input as call
		with data.xiezhi.tenants as tenants({"pool": "a", "standby": "b"})
	count(plugins.deny) == 0 with input as call
		with data.xiezhi.tenants as tenants({"pool": "a", "standby": "b"})
}

test_half_a_route_is_none if {
	every row in [{"pool": "a"}, {"standby": "b"}, {}] {
		denied := {finding.rule | some finding in plugins.deny} with input as call
			with data.xiezhi.tenants as tenants(row)
		denied == {"plugin_route_missing"}
	}
}
