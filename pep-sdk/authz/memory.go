package authz

import "unsafe"

// This file is the one place of the package that knows how a value lies in
// memory. A table is mostly values, so three words and not seven make it less
// than half as large, and a value is passed in registers. Three words need
// unsafe: a string and a slice in one struct are five. An interface would hold
// both in two, but would allocate for each slice.
//
// What makes it sound:
//   - ptr is an unsafe.Pointer, so the collector sees it as it sees any other
//     and keeps all of what it points into, a text or an array of members.
//   - ptr comes from a string or slice of word elements and is turned back by
//     kind into one of word elements. Kind and word are set with it, in one
//     literal, and never after; so the length is always that of what is there.
//   - Texts and members are not written to once a value holds them: their
//     makers own them, see [ObjectValue], or keep no other reference.
//   - Nothing empty is pointed to, so no pointer stands behind an object's end.

// Value is an immutable JSON value within the number rules above. The zero
// Value is null. Members of an object are sorted by name as bytes and unique.
type Value struct {
	_    [0]func()      // == would compare addresses; use Equal
	ptr  unsafe.Pointer // of a string its first byte, of a list or object its first Member
	word uint64         // bool, int64 or float64; else how many bytes or members
	kind Kind
}

// Member is one name and value of an object.
type Member struct {
	Name  string
	Value Value
}

// textValue takes s, which is valid UTF-8.
func textValue(s string) Value {
	if s == "" {
		return Value{kind: KindString}
	}
	return Value{kind: KindString, ptr: unsafe.Pointer(unsafe.StringData(s)), word: uint64(len(s))}
}

// membersValue takes members: the elements of a list, or the sorted members of
// an object.
func membersValue(kind Kind, members []Member) Value {
	if len(members) == 0 {
		return Value{kind: kind}
	}
	return Value{kind: kind, ptr: unsafe.Pointer(unsafe.SliceData(members)), word: uint64(len(members))}
}

// text is "" for other kinds.
func (v Value) text() string {
	if v.kind != KindString {
		return ""
	}
	return unsafe.String((*byte)(v.ptr), int(v.word))
}

// members is nil for other kinds. Its capacity is its length, so appending to
// it copies.
func (v Value) members() []Member {
	if v.kind < KindList {
		return nil
	}
	return unsafe.Slice((*Member)(v.ptr), int(v.word))
}

// same reports whether both are one value in one place. Equal values may lie
// in two.
func (v Value) same(other Value) bool {
	return v.kind == other.kind && v.word == other.word && v.ptr == other.ptr
}

// borrow reads data as a string without a copy. Who calls it lets no part of
// the string outlive the call that it was handed data in.
func borrow(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }
