package xiezhi.platform.lib.pointer_test

import data.xiezhi.platform.lib.pointer

test_plain_names_stay if {
	pointer.property("cpu") == "/resource/properties/cpu"
	pointer.tag("itsm:owner") == "/resource/properties/tags/itsm:owner"
}

test_reserved_characters_are_escaped_once if {
	pointer.property("a/b~c~1") == "/resource/properties/a~1b~0c~01"
}
