# METADATA
# title: Types and ranges of properties
# description: |
#   A form says what a property may hold: {"type": "integer", "min", "max"},
#   {"type": "text", "max"} (characters, at least one), {"type": "flag"},
#   {"type": "list", "max"}, {"type": "object", "max"} (elements, none is fine).
package xiezhi.platform.lib.shape

# fits reports whether a value has the form. The type comes first so that the
# rule index picks the one body. An unknown type fits nothing.
fits("integer", value, form) if {
	is_number(value)
	value >= form.min
	value <= form.max
	floor(value) == value
}

fits("text", value, form) if {
	is_string(value)
	value != ""
	count(value) <= form.max
}

fits("flag", value, _) if is_boolean(value)

fits("list", value, form) if {
	is_array(value)
	count(value) <= form.max
}

fits("object", value, form) if {
	is_object(value)
	count(value) <= form.max
}

# wanted says a form in words that read in English and in Chinese.
wanted(form) := sprintf("integer %d–%d", [form.min, form.max]) if form.type == "integer"

wanted(form) := sprintf("%s ≤ %d", [form.type, form.max]) if form.type in {"text", "list", "object"}

wanted(form) := "true | false" if form.type == "flag"
