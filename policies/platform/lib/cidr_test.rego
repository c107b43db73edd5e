package xiezhi.platform.lib.cidr_test

import data.xiezhi.platform.lib.cidr

test_canonical_ranges_are_read if {
	ranges := ["203.0.113.0/24", "198.51.100.7/32", "10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "fd00:1::/64", "128.0.0.0/1"]
	every r in ranges { cidr.canonical(r) }
}

test_other_spellings_are_not_ranges if {
	spellings := [
		"203.0.113.5/24", " 203.0.113.0/24", "203.0.113.0/24 ", "203.0.113.0/24\n", "203.000.113.0/24", "203.0.113.0/024",
		"203.0.113.0/+24", "203.0.113.0/33", "203.0.113.0/-1", "203.0.113.0/255.255.255.0", "203.0.113.0", "203.0.113/24",
		"0xcb.0.113.0/24", "0/0", "0.0.0.0", "any", "*", "ANY", "internet", "", "/", "/0", "2001:DB8::/32", "2001:0db8::/32",
		"2001:db8:0:0::/32", "2001:db8::1/32", "::0/0", "0::/0", "0000:0000::/0", "::ffff:0:0/96", "::FFFF:0:0/96",
		"::ffff:0.0.0.0/96", "0000:0000:0000:0000:0000:ffff:0000:0000/96", "::ffff:203.0.113.0/120", "fe80::%eth0/64",
		"203.0.113.0/24,0.0.0.0/0", 0, true, null, ["203.0.113.0/24"], {"cidr": "203.0.113.0/24"}, "２０３.0.113.0/24",
	]
	every s in spellings { not cidr.canonical(s) }
}

test_private_ranges_lie_wholly_inside if {
	every r in ["10.0.0.0/8", "10.8.0.0/16", "172.16.0.0/12", "172.31.255.255/32", "192.168.0.0/16", "fd12:3456::/32"] { cidr.class(r) == "private" }
	outside := ["11.0.0.0/8", "8.0.0.0/6", "10.0.0.0/7", "172.0.0.0/8", "172.32.0.0/16", "192.0.0.0/8", "0.0.0.0/0", "100.64.0.0/10", "203.0.113.0/24", "::/0", "f000::/4", "any"]
	every r in outside { cidr.class(r) != "private" }
}

test_public_sources_have_a_long_prefix if {
	every r in ["203.0.0.0/16", "203.0.113.0/24", "203.0.113.9/32", "2400:3200::/32", "2400:3200::1/128"] { cidr.class(r) == "narrow" }
	wide := ["203.0.0.0/15", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "2000::/3", "2400::/16", "2400:3200::/31"]
	every r in wide { cidr.class(r) == "wide" }
}

test_the_ipv4_internet_in_ipv6_clothes_is_never_narrow if {
	clothes := ["::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2001:0:4136::/48", "2002::/16", "2002:cb00::/32"]
	every r in clothes { cidr.class(r) in {"wide", "malformed"} }
	every r in ["::ffff:0:0/96", "::ffff:0.0.0.0/96"] { cidr.class(r) == "malformed" }
}

test_everything_has_a_class if {
	every r in [null, true, 7, "", "/", [], {}, ["10.0.0.0/8"]] { cidr.class(r) == "malformed" }
}

test_within_needs_one_home_that_holds_all_of_it if {
	homes := ["10.8.255.0/28", "10.9.255.0/28"]
	cidr.within("10.8.255.4/32", homes)
	cidr.within("10.9.255.0/28", homes)
	not cidr.within("10.8.255.0/27", homes)
	not cidr.within("10.8.255.4", homes)
	not cidr.within("10.8.255.4/32", [])
}
