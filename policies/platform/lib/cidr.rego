# METADATA
# title: Address ranges
# description: |
#   Only the canonical spelling of a range is read (RFC 4632 and RFC 5952, no
#   host bits set). Everything else, a bare address, "any", spaces, upper case,
#   leading zeros, an IPv4-mapped range, is not a range at all: a spelling
#   that readers could disagree about never reaches a comparison. Private is
#   what lies in RFC 1918 or RFC 4193; 100.64.0.0/10 is not, since all customers
#   of Alibaba Cloud share it.
package xiezhi.platform.lib.cidr

# class says what a source is: "malformed", "private", "narrow" (may be named
# as a public source) or "wide". It is total.
#
# A narrow source has a prefix of at least /16 (IPv4) or /32 (IPv6, what one
# provider is given). With at most 10 ingress entries of at most 20 ranges
# each, no list reaches more than 0.31 % of the IPv4 space (200 × 2^16 of
# 2^32), so no split of the internet passes.
class(range) := "malformed" if {
	not canonical(range)
} else := "private" if {
	count(net.cidr_contains_matches(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"], range)) > 0
} else := "narrow" if {
	regex.match(`^[0-9.]+/(1[6-9]|2[0-9]|3[0-2])$`, range)
} else := "narrow" if {
	regex.match(`^[0-9a-f:]+/(3[2-9]|[4-9][0-9]|1[0-2][0-9])$`, range)
	net.cidr_contains("2000::/3", range)
	not embeds_v4(range)
} else := "wide"

# canonical holds for a range that reads back as it was written. What is no
# text is not valid.
canonical(range) if {
	net.cidr_is_valid(range)
	net.cidr_merge([range]) == {range}
}

# embeds_v4 holds for what carries IPv4 addresses inside IPv6 ones, Teredo and
# 6to4: a long IPv6 prefix there is a short IPv4 prefix. NAT64 and the mapped
# and compatible forms lie outside 2000::/3.
embeds_v4(range) if {
	count(net.cidr_contains_matches(["2001::/32", "2002::/16"], range)) > 0
}

# within holds for a canonical range inside one of the homes, which are ours.
within(range, homes) if {
	canonical(range)
	count(net.cidr_contains_matches(homes, range)) > 0
}
