# METADATA
# title: Port ranges
# description: |
#   Reads every spelling in which a port or a range of ports reaches a security
#   group: 443, "443", "443/443" (Alibaba Cloud), "8000-8100", and those that
#   mean all of them: -1, "-1", "-1/-1", "all", "any", "*".
package xiezhi.platform.lib.ports

# range is {"from", "to"}, 1 to 65535. It is undefined for anything else,
# which callers must treat as malformed.
range(port) := {"from": port, "to": port} if {
	is_number(port)
	valid(port)
}

range(port) := {"from": number, "to": number} if {
	is_string(port)
	regex.match(`^[1-9][0-9]{0,4}$`, port)
	number := to_number(port)
	valid(number)
}

range(port) := {"from": from, "to": to} if {
	is_string(port)
	regex.match(`^[1-9][0-9]{0,4}[/-][1-9][0-9]{0,4}$`, port)
	ends := split(replace(port, "-", "/"), "/")
	from := to_number(ends[0])
	to := to_number(ends[1])
	valid(to)
	from <= to
}

range(port) := {"from": 1, "to": 65535} if port in {-1, "-1", "-1/-1", "all", "any", "*"}

valid(number) if {
	number >= 1
	number <= 65535
	floor(number) == number
}
