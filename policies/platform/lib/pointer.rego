# METADATA
# title: JSON pointers into the request
package xiezhi.platform.lib.pointer

# property is the RFC 6901 pointer of one of the resource's properties. Names
# come from the caller, so both reserved characters are escaped.
property(name) := concat("", ["/resource/properties/", step(name)])

# tag is the pointer of one of the resource's tags.
tag(name) := concat("", ["/resource/properties/tags/", step(name)])

step(name) := replace(replace(name, "~", "~0"), "/", "~1")
