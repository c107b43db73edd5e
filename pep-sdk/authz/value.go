package authz

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind says which JSON type a [Value] holds.
type Kind uint8

// Integers and fractions are two kinds, since Cedar and CEL tell them apart.
// A number that is mathematically an integer (2, 2.0, 2e0) is always KindInt.
const (
	KindNull Kind = iota
	KindBool
	KindInt
	KindFloat
	KindString
	KindList
	KindObject
)

// String names the kind as an error message does.
func (k Kind) String() string {
	return [...]string{"null", "boolean", "integer", "number", "string", "list", "object"}[k]
}

// MaxInt is the largest integer that a request may carry, 2^53−1: beyond it
// JSON readers disagree about the value (RFC 8785 §3.2.2.3). The smallest is
// −MaxInt.
const MaxInt = 1<<53 - 1

// MaxDigits is the largest number of significant digits of a fraction: up to
// here decimal text and binary64 correspond one to one.
const MaxDigits = 15

// BoolValue returns the value of b.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: KindBool, word: 1}
	}
	return Value{kind: KindBool}
}

// StringValue returns the value of s, which must be valid UTF-8: text that is
// not is repaired with U+FFFD here and refused by [Parse] and [ValueOf].
func StringValue(s string) Value {
	if utf8.ValidString(s) {
		return textValue(s)
	}
	return textValue(strings.ToValidUTF8(s, "\uFFFD"))
}

// IntValue returns the value of n, or an error outside ±[MaxInt].
func IntValue(n int64) (Value, error) {
	if n > MaxInt || n < -MaxInt {
		return Value{}, fmt.Errorf("integer %d is outside ±(2^53−1); send it as a string", n)
	}
	return Value{kind: KindInt, word: uint64(n)}, nil
}

// FloatValue returns the value of f; one without a fraction becomes an
// integer. It refuses NaN, infinities and more than [MaxDigits] digits.
func FloatValue(f float64) (Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}, fmt.Errorf("number %v has no JSON form", f)
	}
	if f == math.Trunc(f) {
		if math.Abs(f) > MaxInt {
			return Value{}, fmt.Errorf("integer %v is outside ±(2^53−1); send it as a string", f)
		}
		return IntValue(int64(f))
	}
	mantissa, _, _ := strings.Cut(strconv.FormatFloat(math.Abs(f), 'e', -1, 64), "e")
	if digits := len(mantissa) - 1; digits > MaxDigits {
		return Value{}, fmt.Errorf("number %v has more than %d significant digits; send it as a string", f, MaxDigits)
	}
	return Value{kind: KindFloat, word: math.Float64bits(f)}, nil
}

// ListValue returns a list of elems, in order.
func ListValue(elems ...Value) Value {
	members := make([]Member, len(elems))
	for i, e := range elems {
		members[i].Value = e
	}
	return membersValue(KindList, members)
}

// Strings returns a list of strings.
func Strings(texts ...string) Value {
	members := make([]Member, len(texts))
	for i, t := range texts {
		members[i].Value = StringValue(t)
	}
	return membersValue(KindList, members)
}

// ObjectValue returns an object with the given members, in any order. It
// takes ownership of the slice. A name given twice is an error.
func ObjectValue(members ...Member) (Value, error) {
	if areSorted(members) {
		return membersValue(KindObject, members), nil
	}
	sortMembers(members)
	for i := 1; i < len(members); i++ {
		if members[i].Name == members[i-1].Name {
			return Value{}, fmt.Errorf("member %q is given twice", members[i].Name)
		}
	}
	return membersValue(KindObject, members), nil
}

// areSorted reports whether each name comes after the one before.
func areSorted(members []Member) bool {
	for i := 1; i < len(members); i++ {
		if members[i].Name <= members[i-1].Name {
			return false
		}
	}
	return true
}

// sortMembers is quick on the few members that most objects have.
func sortMembers(members []Member) {
	if len(members) <= 12 {
		for i := range members {
			m, j := members[i], i
			for ; j > 0 && m.Name < members[j-1].Name; j-- {
				members[j] = members[j-1]
			}
			members[j] = m
		}
		return
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
}

// ValueOf converts Go data as encoding/json would decode it: nil, bool,
// integers, floats, json.Number, string, slices and maps of these, and Value.
// Errors are [*FieldError]s whose path leads to the offending element.
func ValueOf(data any) (Value, error) { return valueOf(data, "", 0) }

func valueOf(data any, path string, depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, &FieldError{Path: path, Detail: fmt.Sprintf("nested deeper than %d levels", MaxDepth)}
	}
	var v Value
	var err error
	switch data := data.(type) {
	case nil:
	case Value:
		return data, nil
	case bool:
		v = BoolValue(data)
	case int:
		v, err = IntValue(int64(data))
	case int64:
		v, err = IntValue(data)
	case int32:
		v, err = IntValue(int64(data))
	case uint64:
		v, err = uintValue(data)
	case uint:
		v, err = uintValue(uint64(data))
	case uint32:
		v, err = IntValue(int64(data))
	case float64:
		v, err = FloatValue(data)
	case json.Number:
		v, err = parseNumber(data.String())
	case string:
		if !utf8.ValidString(data) {
			return Value{}, &FieldError{Path: path, Detail: "not valid UTF-8"}
		}
		v = textValue(data)
	case []string:
		return valueOfSlice(data, path, depth)
	case []any:
		return valueOfSlice(data, path, depth)
	case []map[string]any:
		return valueOfSlice(data, path, depth)
	case map[string]string:
		return valueOfMap(data, path, depth)
	case map[string]any:
		return valueOfMap(data, path, depth)
	default:
		err = fmt.Errorf("type %T has no JSON form here", data)
	}
	if err != nil {
		return Value{}, &FieldError{Path: path, Detail: err.Error()}
	}
	return v, nil
}

func uintValue(n uint64) (Value, error) {
	if n > MaxInt {
		return Value{}, fmt.Errorf("integer %d is outside ±(2^53−1); send it as a string", n)
	}
	return IntValue(int64(n))
}

func valueOfSlice[T any](data []T, path string, depth int) (Value, error) {
	elems := make([]Member, len(data))
	for i, e := range data {
		v, err := valueOf(e, "", depth+1)
		if err != nil {
			return Value{}, Under(err, path+"/"+strconv.Itoa(i))
		}
		elems[i].Value = v
	}
	return membersValue(KindList, elems), nil
}

func valueOfMap[T any](data map[string]T, path string, depth int) (Value, error) {
	members := make([]Member, 0, len(data))
	for name, e := range data {
		if !utf8.ValidString(name) {
			return Value{}, &FieldError{Path: path, Detail: "a member name is not valid UTF-8"}
		}
		v, err := valueOf(e, "", depth+1)
		if err != nil {
			return Value{}, Under(err, path+"/"+escapePointer(name))
		}
		members = append(members, Member{name, v})
	}
	sortMembers(members)
	return membersValue(KindObject, members), nil
}

// MustValue is [ValueOf] for literals in tests and examples; it panics on error.
func MustValue(data any) Value {
	v, err := ValueOf(data)
	if err != nil {
		panic(err)
	}
	return v
}

// Kind returns the JSON type.
func (v Value) Kind() Kind { return v.kind }

// Bool returns the boolean, false for other kinds.
func (v Value) Bool() bool { return v.kind == KindBool && v.word == 1 }

// Int returns the integer, 0 for other kinds.
func (v Value) Int() int64 {
	if v.kind != KindInt {
		return 0
	}
	return int64(v.word)
}

// Float returns the number as binary64, 0 for other kinds.
func (v Value) Float() float64 {
	switch v.kind {
	case KindInt:
		return float64(int64(v.word))
	case KindFloat:
		return math.Float64frombits(v.word)
	default:
		return 0
	}
}

// Number returns a number's shortest decimal text, "" for other kinds. It is
// plain (no exponent) for integers.
func (v Value) Number() string {
	switch v.kind {
	case KindInt:
		return strconv.FormatInt(int64(v.word), 10)
	case KindFloat:
		return string(appendFloat(nil, v.Float()))
	default:
		return ""
	}
}

// Text returns the string, "" for other kinds.
func (v Value) Text() string { return v.text() }

// Len returns the number of elements of a list or members of an object, 0 for
// other kinds.
func (v Value) Len() int {
	if v.kind < KindList {
		return 0
	}
	return int(v.word)
}

// Index returns element i of a list, or the value of member i of an object.
func (v Value) Index(i int) Value { return v.members()[i].Value }

// Name returns the name of member i of an object.
func (v Value) Name(i int) string { return v.members()[i].Name }

// Members returns the members of an object, sorted by name, or the elements of
// a list, whose names are empty. They are the value's own: they must not be
// changed.
func (v Value) Members() []Member { return v.members() }

// Get returns the named member of an object.
func (v Value) Get(name string) (Value, bool) {
	if v.kind != KindObject {
		return Value{}, false
	}
	members := v.members()
	if len(members) > few {
		i, ok := find(members, name)
		if !ok {
			return Value{}, false
		}
		return members[i].Value, true
	}
	for i := range members {
		if members[i].Name == name {
			return members[i].Value, true
		}
	}
	return Value{}, false
}

// few is how many names are found faster one after the other.
const few = 8

// find returns where the member is, or would be.
func find(members []Member, name string) (int, bool) {
	return slices.BinarySearchFunc(members, name, func(m Member, n string) int { return strings.Compare(m.Name, n) })
}

// Lookup follows an RFC 6901 JSON pointer. The empty pointer is v itself.
func (v Value) Lookup(pointer string) (Value, bool) {
	if pointer == "" {
		return v, true
	}
	if pointer[0] != '/' {
		return Value{}, false
	}
	for step := range strings.SplitSeq(pointer[1:], "/") {
		next, ok := v.child(unescapePointer(step))
		if !ok {
			return Value{}, false
		}
		v = next
	}
	return v, true
}

func (v Value) child(name string) (Value, bool) {
	if v.kind != KindList {
		return v.Get(name)
	}
	i, err := strconv.Atoi(name)
	if err != nil || i < 0 || i >= v.Len() || strconv.Itoa(i) != name {
		return Value{}, false
	}
	return v.Index(i), true
}

// With returns an object like v with one member set; v is an object or null.
func (v Value) With(name string, value Value) Value {
	members := v.members()
	i, found := find(members, name)
	changed := make([]Member, len(members), len(members)+1)
	copy(changed, members)
	if found {
		changed[i].Value = value
	} else {
		changed = slices.Insert(changed, i, Member{name, value})
	}
	return membersValue(KindObject, changed)
}

// Without returns an object like v that lacks the named member.
func (v Value) Without(name string) Value {
	i, found := find(v.members(), name)
	if !found {
		return v
	}
	return membersValue(KindObject, slices.Delete(slices.Clone(v.members()), i, i+1))
}

// Map returns a list or object like v with every element replaced by what fn
// returns for it; fn gets the member's name, or the index as text. Other kinds
// are returned as they are.
func (v Value) Map(fn func(name string, elem Value) Value) Value {
	if v.kind != KindList && v.kind != KindObject {
		return v
	}
	changed := make([]Member, v.Len())
	for i, e := range v.members() {
		name := e.Name
		if v.kind == KindList {
			name = strconv.Itoa(i)
		}
		changed[i] = Member{e.Name, fn(name, e.Value)}
	}
	return membersValue(v.kind, changed)
}

// Equal reports whether both hold the same JSON value.
func (v Value) Equal(other Value) bool {
	if v.kind != other.kind || v.word != other.word {
		return false
	}
	if v.ptr == other.ptr {
		return true
	}
	if v.kind == KindString {
		return v.text() == other.text()
	}
	others := other.members()
	for i, m := range v.members() {
		if m.Name != others[i].Name || !m.Value.Equal(others[i].Value) {
			return false
		}
	}
	return true
}

// Any returns the value as encoding/json would decode it, with int64 for
// integers. The result is fresh and may be changed.
func (v Value) Any() any {
	switch v.kind {
	case KindBool:
		return v.Bool()
	case KindInt:
		return v.Int()
	case KindFloat:
		return v.Float()
	case KindString:
		return v.text()
	case KindList:
		list := make([]any, v.Len())
		for i, m := range v.members() {
			list[i] = m.Value.Any()
		}
		return list
	case KindObject:
		object := make(map[string]any, v.Len())
		for _, m := range v.members() {
			object[m.Name] = m.Value.Any()
		}
		return object
	default:
		return nil
	}
}

func escapePointer(name string) string {
	if !strings.ContainsAny(name, "~/") {
		return name
	}
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

func unescapePointer(step string) string {
	if !strings.Contains(step, "~") {
		return step
	}
	return strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
}
