# METADATA
# title: Address ranges
# description: |
#   Only the canonical spelling of a range is read (RFC 4632 and RFC 5952, no
#   host bits set). Everything else, a bare address, "any", spaces, upper case,
#   leading zeros, an IPv4-mapped range, is not a range at all: a spelling
#   that readers could disagree about never reaches a comparison.
package xiezhi.platform.lib.cidr

# The shortest prefix of a public source. With at most 10 ingress entries of
# at most 20 ranges each, no list reaches more than 0.31 % of the IPv4 space
# (200 × 2^16 of 2^32), so no split of the internet passes. An IPv6 /32 is
# what one provider is given.
shortest_v4 := 16

shortest_v6 := 32

# canonical holds for a range that reads back as it was written.
canonical(range) if {
	is_string(range)
	net.cidr_is_valid(range)
	net.cidr_merge([range]) == {range}
}

# private holds for a range inside RFC 1918 or RFC 4193. 100.64.0.0/10 is not
# private: at Alibaba Cloud all customers share it.
private(range) if {
	canonical(range)
	some home in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]
	net.cidr_contains(home, range)
}

# narrow holds for a range small enough to be named as a public source.
narrow(range) if {
	canonical(range)
	not contains(range, ":")
	prefix(range) >= shortest_v4
}

narrow(range) if {
	canonical(range)
	contains(range, ":")
	prefix(range) >= shortest_v6
	net.cidr_contains("2000::/3", range)
	not embeds_v4(range)
}

# embeds_v4 holds for what carries IPv4 addresses inside IPv6 ones, Teredo and
# 6to4: a long IPv6 prefix there is a short IPv4 prefix. NAT64 and the mapped
# and compatible forms lie outside 2000::/3.
embeds_v4(range) if {
	some tunnel in ["2001::/32", "2002::/16"]
	net.cidr_contains(tunnel, range)
}

# within holds for a canonical range inside one of the homes, which are ours.
within(range, homes) if {
	canonical(range)
	some home in homes
	net.cidr_contains(home, range)
}

prefix(range) := to_number(split(range, "/")[1])
