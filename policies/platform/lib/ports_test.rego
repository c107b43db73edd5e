package xiezhi.platform.lib.ports_test

import data.xiezhi.platform.lib.ports

test_one_port_in_every_spelling if {
	every p in [443, "443", "443/443", "443-443"] { ports.range(p) == {"from": 443, "to": 443} }
}

test_the_ends_of_the_port_space if {
	ports.range(1) == {"from": 1, "to": 1}
	ports.range(65535) == {"from": 65535, "to": 65535}
	ports.range("1/65535") == {"from": 1, "to": 65535}
}

test_all_ports_in_every_spelling if {
	every p in [-1, "-1", "-1/-1", "all", "any", "*"] { ports.range(p) == {"from": 1, "to": 65535} }
}

test_ranges_keep_both_ends if {
	ports.range("20/25") == {"from": 20, "to": 25}
	ports.range("8000-8100") == {"from": 8000, "to": 8100}
}

test_what_is_no_port_is_undefined if {
	malformed := [
		0, -2, 65536, 443.5, 9007199254740991, "0", "65536", "99999", "0443", " 443", "443 ", "443\n", "+443", "4e2", "0x1bb",
		"443,22", "443/", "/443", "443/22", "443/65536", "1/2/3", "-1/443", "ALL", "https", "", true, null, [443], {"from": 443},
		"４４３",
	]
	every p in malformed { not ports.range(p) }
}
