# METADATA
# title: Public network exposure
# description: |
#   Ingress entries are {"port", "cidrs", "protocol"?, "description"?}. An entry
#   whose sources are not all provably private is public: what cannot be read
#   counts as the internet.
# custom:
#   title_zh: 公网暴露
#   scope: {actions: ["ecs.*", "rds.*", "vpc.*"]}
package xiezhi.platform.network

import data.xiezhi.platform.lib.cidr
import data.xiezhi.platform.lib.pointer
import data.xiezhi.platform.lib.ports

# bastion is undefined where the tenant has none in the region.
bastion := data.xiezhi.tenants[input.tenant].tables.landing_zones[input.resource.properties.region].bastion

# entries are the ingress entries that would open something and can be read
# at all, by position.
entries[i] := entry if {
	input.action.name != "ecs.security_group.revoke"
	is_array(input.resource.properties.ingress)
	some i, entry in input.resource.properties.ingress
	is_object(entry)
}

# sources are the classes of an entry's sources (lib/cidr), in order, where the
# entry has a list of 1 to 20 of them: lib/cidr counts on the bound.
sources[i] := [cidr.class(range) | some range in entry.cidrs] if {
	some i, entry in entries
	is_array(entry.cidrs)
	count(entry.cidrs) >= 1
	count(entry.cidrs) <= 20
}

private contains i if {
	some i, classes in sources
	every class in classes { class == "private" }
}

# public are the entries that somebody outside private networks could use.
public[i] := entry if {
	some i, entry in entries
	not i in private
}

# plain are entries that open TCP 443 and nothing else, to sources that may be
# named. Most are, and no DENY but one about their members is about them, so
# the rules below look only at the others.
plain contains i if {
	some i, classes in sources
	entries[i].port == 443
	object.get(entries[i], "protocol", "tcp") == "tcp"
	every class in classes { class in {"private", "narrow"} }
}

odd[i] := entry if {
	some i, entry in entries
	not i in plain
}

protocol[i] := object.get(entry, "protocol", "tcp") if some i, entry in odd

# range is undefined for an entry whose port cannot be read.
range[i] := ports.range(entry.port) if some i, entry in odd

# opens_admin holds the entries that let traffic to 22 or 3389 pass. With an
# unknown protocol, such as -1 or "all", the cloud ignores the ports.
opens_admin contains i if {
	some i, r in range
	protocol[i] in {"tcp", "udp"}
	some port in [22, 3389]
	r.from <= port
	port <= r.to
}

opens_admin contains i if {
	some i, name in protocol
	not name in {"tcp", "udp", "icmp"}
}

at(i) := sprintf("/resource/properties/ingress/%d", [i])

# METADATA
# title: Malformed ingress
# description: The list, an entry, or a member of an entry that no rule here reads.
# custom:
#   id: ingress_malformed
#   title_zh: 入站规则格式错误
#   message: {en: "Ingress is a list of at most 10 entries, each an object with port, cidrs, protocol and description only.", zh: "ingress 应为最多 10 条的列表，每条只含 port、cidrs、protocol、description。"}
#   severity: high
#   requirement: [L2, L11]
deny contains {"rule": "ingress_malformed", "path": "/resource/properties/ingress"} if {
	_ = input.resource.properties.ingress
	not short_list(input.resource.properties.ingress)
}

deny contains {"rule": "ingress_malformed", "path": at(i)} if {
	is_array(input.resource.properties.ingress)
	some i, entry in input.resource.properties.ingress
	not is_object(entry)
}

deny contains {"rule": "ingress_malformed", "path": concat("/", [at(i), pointer.step(name)])} if {
	some i, entry in entries
	some name in (object.keys(entry) - {"port", "cidrs", "protocol", "description"})
}

short_list(list) if {
	is_array(list)
	count(list) <= 10
}

# METADATA
# title: Malformed ingress port
# custom:
#   id: ingress_port_malformed
#   title_zh: 入站端口格式错误
#   message: {en: "The port must be a number from 1 to 65535 or a range such as 8000/8100.", zh: "端口应为 1 至 65535 的数字，或形如 8000/8100 的范围。"}
#   severity: high
#   requirement: [L2, L11]
deny contains {"rule": "ingress_port_malformed", "path": concat("", [at(i), "/port"])} if {
	some i, _ in odd
	not range[i]
}

# METADATA
# title: Ingress protocol not allowed
# description: No protocol numbers and nothing that means all of them (-1, all).
# custom:
#   id: ingress_protocol_not_allowed
#   title_zh: 入站协议不允许
#   message: {en: "The protocol must be tcp, udp or icmp.", zh: "协议只能是 tcp、udp 或 icmp。"}
#   severity: high
#   requirement: [L2, L11]
deny contains {"rule": "ingress_protocol_not_allowed", "path": concat("", [at(i), "/protocol"])} if {
	some i, name in protocol
	not name in {"tcp", "udp", "icmp"}
}

# METADATA
# title: Ingress without sources
# custom:
#   id: ingress_source_missing
#   title_zh: 入站规则缺少源地址
#   message: {en: "An ingress entry needs a list of 1 to 20 source CIDRs; absent sources would mean everybody.", zh: "入站规则必须列出 1 至 20 个源 CIDR；缺省等于对所有人开放。"}
#   severity: critical
#   requirement: [L2, L11]
deny contains {"rule": "ingress_source_missing", "path": concat("", [at(i), "/cidrs"])} if {
	some i, _ in odd
	not sources[i]
}

# METADATA
# title: Malformed ingress source
# custom:
#   id: ingress_source_malformed
#   title_zh: 入站源地址格式错误
#   message: {en: "A source must be a CIDR in its canonical spelling, such as 203.0.113.0/24.", zh: "源地址必须是规范写法的 CIDR，例如 203.0.113.0/24。"}
#   severity: critical
#   requirement: [L2, L11]
deny contains {"rule": "ingress_source_malformed", "path": sprintf("%s/cidrs/%d", [at(i), j])} if {
	some i, _ in odd
	some j, "malformed" in sources[i]
}

# METADATA
# title: Ingress source too wide
# description: The whole internet, a half of it, or any range shorter than /16 (IPv4) or /32 (IPv6).
# custom:
#   id: ingress_source_too_wide
#   title_zh: 入站源地址范围过大
#   message: {en: "{cidr} is too wide for a public source: at least /16 for IPv4, /32 for IPv6, and no tunnel of IPv4 in IPv6.", zh: "公网源地址 {cidr} 过宽：IPv4 至少 /16，IPv6 至少 /32，且不得为 IPv4 的 IPv6 隧道地址。"}
#   severity: critical
#   requirement: [L2, L11]
deny contains {"rule": "ingress_source_too_wide", "path": sprintf("%s/cidrs/%d", [at(i), j]), "args": {"cidr": entry.cidrs[j]}} if {
	some i, entry in odd
	some j, "wide" in sources[i]
}

# METADATA
# title: Public ingress only on 443
# description: A range that merely contains 443 opens more than 443.
# custom:
#   id: public_ingress_only_443
#   title_zh: 公网入站仅限 443
#   message: {en: "Public ingress is TCP 443 only, not port {port}.", zh: "公网入站仅允许 TCP 443，不允许端口 {port}。"}
#   severity: critical
#   requirement: [L2, L9, L11, C3]
deny contains {"rule": "public_ingress_only_443", "path": at(i), "args": {"port": object.get(entry, "port", "?")}} if {
	some i, entry in odd
	public[i]
	not https(i)
}

https(i) if {
	protocol[i] == "tcp"
	range[i] == {"from": 443, "to": 443}
}

# METADATA
# title: 22 and 3389 are never public
# custom:
#   id: public_admin_port
#   title_zh: 22 与 3389 禁止对公网开放
#   message: {en: "Ports 22 and 3389, alone or inside a range, are never public. Use the bastion.", zh: "22 与 3389 端口（含范围内）禁止对公网开放，请使用堡垒机。"}
#   severity: critical
#   requirement: [L2, L9, L14]
deny contains {"rule": "public_admin_port", "path": at(i)} if {
	some i in opens_admin
	public[i]
}

# METADATA
# title: Operations only from the bastion
# custom:
#   id: admin_port_not_from_bastion
#   title_zh: 运维端口仅限堡垒机访问
#   message: {en: "Ports 22 and 3389 open only towards the tenant's bastion.", zh: "22 与 3389 端口仅可对租户的堡垒机开放。"}
#   severity: high
#   requirement: [L11, L14]
deny contains {"rule": "admin_port_not_from_bastion", "path": concat("", [at(i), "/cidrs"])} if {
	some i in opens_admin
	i in private
	not from_bastion(i)
}

from_bastion(i) if {
	every source in entries[i].cidrs { cidr.within(source, bastion.cidrs) }
}

# METADATA
# title: Public ingress needs review
# custom:
#   id: public_ingress_needs_review
#   title_zh: 公网入站需要审批
#   message: {en: "Public ingress from {cidrs} needs a review.", zh: "来自 {cidrs} 的公网入站需要审批。"}
#   severity: high
#   requirement: [L2, L11]
#   template: public-exposure
review contains {"rule": "public_ingress_needs_review", "path": at(i), "args": {"cidrs": object.get(entry, "cidrs", "?")}} if {
	some i, entry in public
}

# asks_for_public_ip holds for anything but false: what is mistyped asks.
asks_for_public_ip if {
	flag := input.resource.properties.public_ip
	flag != false
}

makes_public_ip if input.action.name in {"vpc.eip.allocate", "vpc.eip.associate"}

wants_public_ip if asks_for_public_ip

wants_public_ip if makes_public_ip

# METADATA
# title: A public IP needs review
# custom:
#   id: public_ip_needs_review
#   title_zh: 公网 IP 需要审批
#   message: {en: "A public IP needs a review.", zh: "公网 IP 需要审批。"}
#   severity: high
#   requirement: [L11]
#   template: public-exposure
review contains {"rule": "public_ip_needs_review", "path": "/resource/properties/public_ip"} if asks_for_public_ip

review contains {"rule": "public_ip_needs_review", "path": "/action/name"} if makes_public_ip

# METADATA
# title: A public IP only with 443 ingress
# custom:
#   id: public_ip_without_ingress
#   title_zh: 公网 IP 必须配 443 入站与源地址
#   message: {en: "A public IP comes only with ingress on 443 from named sources.", zh: "公网 IP 必须同时给出 443 入站规则与源 CIDR 列表。"}
#   severity: high
#   requirement: [L11]
deny contains {"rule": "public_ip_without_ingress", "path": "/resource/properties/ingress"} if {
	wants_public_ip
	count(public) == 0
}

# METADATA
# title: Operations through the bastion
# description: Whoever asks for 22 or 3389 is told the way in, also beside a refusal.
# custom:
#   id: operations_through_bastion
#   title_zh: 运维必须经堡垒机
#   message: {en: "Operations go through the tenant's bastion.", zh: "运维访问必须经租户的堡垒机。"}
#   severity: medium
#   requirement: [L11, L14]
obligations contains {"rule": "operations_through_bastion", "id": "bastion_access", "must": true, "params": {"instance": bastion.instance}} if count(opens_admin) > 0
