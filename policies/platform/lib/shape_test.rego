package xiezhi.platform.lib.shape_test

import data.xiezhi.platform.lib.shape

cpu := {"type": "integer", "min": 1, "max": 1024}

test_integers_within_both_bounds_fit if {
	every n in [1, 2, 1024, 2.0] { shape.fits("integer", n, cpu) }
}

test_integers_beyond_a_bound_do_not_fit if {
	every n in [0, -1, 1025, 9007199254740991, -9007199254740991] { not shape.fits("integer", n, cpu) }
}

test_what_only_looks_like_an_integer_does_not_fit if {
	every n in [2.5, "2", true, null, [2], {"cpu": 2}] { not shape.fits("integer", n, cpu) }
}

test_text_has_at_least_one_and_at_most_max_characters if {
	form := {"type": "text", "max": 3}
	every s in ["a", "abc", "杭州区"] { shape.fits("text", s, form) }
	every s in ["", "abcd", 3, null, ["a"], true] { not shape.fits("text", s, form) }
}

test_flags_are_booleans_only if {
	form := {"type": "flag"}
	every b in [true, false] { shape.fits("flag", b, form) }
	every b in ["true", 1, 0, null, []] { not shape.fits("flag", b, form) }
}

test_lists_and_objects_are_bounded_and_not_mixed_up if {
	form := {"max": 1}
	shape.fits("list", [], form)
	shape.fits("list", [1], form)
	shape.fits("object", {}, form)
	shape.fits("object", {"a": 1}, form)
	every v in [[1, 2], {"a": 1}, "a", 1, null] { not shape.fits("list", v, form) }
	every v in [{"a": 1, "b": 2}, ["a"], "a", 1, null] { not shape.fits("object", v, form) }
}

test_an_unknown_type_fits_nothing if not shape.fits("Integer", 2, cpu)

test_forms_are_said_in_words if {
	shape.wanted(cpu) == "integer 1–1024"
	shape.wanted({"type": "text", "max": 64}) == "text ≤ 64"
	shape.wanted({"type": "list", "max": 10}) == "list ≤ 10"
	shape.wanted({"type": "flag"}) == "true | false"
}
