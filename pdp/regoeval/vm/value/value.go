package value

import (
	"math"
	"unsafe"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Kind is a Rego type, in Rego's order.
type Kind uint8

// Undefined is the kind of the zero Value: no value at all.
const (
	Undefined Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
	Set
)

// String names the kind as OPA's error messages do.
func (k Kind) String() string {
	return [...]string{"undefined", "null", "boolean", "number", "string", "array", "object", "set"}[k]
}

// form is how a value of a kind is held.
type form uint8

const (
	plain   form = iota
	integer      // a number: word is an int64
	binary       // a number: word is a float64 of at most authz.MaxDigits digits
	decimal      // a number: its text, as a string is held
	members      // an array or object of a request or table: ptr is the first of word authz.Members
)

// Value is one Rego value; the zero Value is undefined. So that it is three
// words and a request is read in place, ptr stands for a text, authz.Members, a
// list or a table, as kind and form say: that is what unsafe is for here.
type Value struct {
	ptr  unsafe.Pointer
	word uint64 // a boolean, an integer, a float64's bits, or how many bytes or members there are at ptr
	kind Kind
	form form
}

// The values that need no heap.
var (
	NullValue = Value{kind: Null}
	True      = Value{kind: Bool, word: 1}
	False     = Value{kind: Bool}
)

// OfBool returns the boolean.
func OfBool(b bool) Value {
	if b {
		return True
	}
	return False
}

// OfInt returns the integer.
func OfInt(n int64) Value { return Value{kind: Number, form: integer, word: uint64(n)} }

// OfString returns the text, which must be valid UTF-8.
func OfString(s string) Value {
	return Value{kind: String, ptr: unsafe.Pointer(unsafe.StringData(s)), word: uint64(len(s))}
}

// Of returns the value of a request or a table; it is read where it is.
func Of(v authz.Value) Value { return of(&v) }

func of(v *authz.Value) Value {
	switch v.Kind() {
	case authz.KindNull:
		return NullValue
	case authz.KindBool:
		return OfBool(v.Bool())
	case authz.KindInt:
		return OfInt(v.Int())
	case authz.KindFloat:
		return Value{kind: Number, form: binary, word: math.Float64bits(v.Float())}
	case authz.KindString:
		return OfString(v.Text())
	case authz.KindList:
		return ofMembers(Array, v.Members())
	case authz.KindObject:
		return ofMembers(Object, v.Members())
	default:
		return Value{}
	}
}

func ofMembers(k Kind, m []authz.Member) Value {
	return Value{kind: k, form: members, ptr: unsafe.Pointer(unsafe.SliceData(m)), word: uint64(len(m))}
}

// Kind returns the type.
func (v Value) Kind() Kind { return v.kind }

// Defined reports whether there is a value.
func (v Value) Defined() bool { return v.kind != Undefined }

// IsTrue reports whether the value is the boolean true.
func (v Value) IsTrue() bool { return v.kind == Bool && v.word == 1 }

// IsFalse reports whether the value is the boolean false.
func (v Value) IsFalse() bool { return v.kind == Bool && v.word == 0 }

// Text returns the text of a string, "" for other kinds.
func (v Value) Text() string {
	if v.kind != String {
		return ""
	}
	return v.text()
}

func (v Value) text() string { return unsafe.String((*byte)(v.ptr), int(v.word)) }

func (v Value) members() []authz.Member {
	return unsafe.Slice((*authz.Member)(v.ptr), int(v.word))
}

// Composite reports whether the value is an array, an object or a set.
func (v Value) Composite() bool { return v.kind >= Array }
