package regoeval

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// terms are the strings that policies mention, as terms that are made once:
// the names and values of a request are mostly among them. Immutable, and so
// are the terms.
type terms map[string]*ast.Term

// addAll adds every string of a module, and must not run beside text or of.
func (t terms) addAll(parsed *ast.Module) {
	ast.WalkTerms(parsed, func(term *ast.Term) bool {
		if s, ok := term.Value.(ast.String); ok && t[string(s)] == nil {
			t[string(s)] = ast.NewTerm(s)
		}
		return false
	})
}

func (t terms) text(s string) *ast.Term {
	if term := t[s]; term != nil {
		return term
	}
	return ast.NewTerm(ast.String(s))
}

// of converts a value of a request or a table. Numbers keep their decimal
// text, so no precision is lost on the way.
func (t terms) of(v authz.Value) *ast.Term {
	switch v.Kind() {
	case authz.KindBool:
		return ast.InternedTerm(v.Bool())
	case authz.KindInt:
		return ast.InternedTerm(v.Int())
	case authz.KindFloat:
		return ast.NewTerm(ast.Number(v.Number()))
	case authz.KindString:
		return t.text(v.Text())
	case authz.KindList:
		if v.Len() == 0 {
			return ast.InternedEmptyArray
		}
		elems := make([]*ast.Term, v.Len())
		for i := range elems {
			elems[i] = t.of(v.Index(i))
		}
		return ast.NewTerm(ast.NewArray(elems...))
	case authz.KindObject:
		if v.Len() == 0 {
			return ast.InternedEmptyObject
		}
		object := ast.NewObjectWithCapacity(v.Len())
		for i := range v.Len() {
			object.Insert(t.text(v.Name(i)), t.of(v.Index(i)))
		}
		return ast.NewTerm(object)
	default:
		return ast.InternedNullTerm
	}
}

// maxValues is how many values one member of an entry may hold. A policy can
// compute a value that shares its parts, and is small in memory and endless
// when it is written out.
const maxValues = 10_000

func numberOf(number value.Value) (authz.Value, error) {
	if n, ok := number.Int(); ok {
		if v, err := authz.IntValue(n); err == nil {
			return v, nil
		}
	}
	n := json.Number(number.Number())
	v, err := authz.ValueOf(n)
	if err == nil || !strings.Contains(string(n), ".") {
		return v, err // integers are never rounded
	}
	f, _ := n.Float64() // what does not fit is refused below
	return authz.ValueOf(json.Number(strconv.FormatFloat(f, 'e', authz.MaxDigits-1, 64)))
}

// shown writes a value for an error message: a scalar, or only the type of
// what may be long.
func shown(v value.Value) string {
	if v.Composite() || !v.Defined() {
		return "a value of type " + v.Kind().String()
	}
	return oneLine([]byte(v.AST().String()))
}

// entryOf copies an entry that topdown computed.
func entryOf(v ast.Value) value.Value {
	object, ok := v.(ast.Object)
	if !ok {
		return copied(v)
	}
	var heap *value.Heap
	entry := heap.NewObject()
	object.Foreach(func(key, member *ast.Term) { heap.Insert(entry, copied(key.Value), copied(member.Value)) })
	return entry
}

// copied copies a value. In place of one that holds too much for [valueOf] it
// returns another that does.
func copied(v ast.Value) value.Value {
	c := copier{left: maxValues}
	whole := c.value(v)
	if c.left >= 0 {
		return whole
	}
	tooMuch := c.heap.NewArray(maxValues)
	for range maxValues {
		c.heap.Append(tooMuch, value.NullValue)
	}
	return tooMuch
}

// copier copies values until there are none left.
type copier struct {
	left int
	heap *value.Heap // nil: the values are the garbage collector's
}

func (c *copier) value(v ast.Value) value.Value {
	c.left--
	switch v := v.(type) {
	case *ast.Array:
		array := c.heap.NewArray(min(v.Len(), 16))
		_ = v.Iter(func(elem *ast.Term) error {
			if c.left < 0 {
				return errFull
			}
			c.heap.Append(array, c.value(elem.Value))
			return nil
		})
		return array
	case ast.Set:
		set := c.heap.NewSet()
		_ = v.Iter(func(elem *ast.Term) error {
			if c.left < 0 {
				return errFull
			}
			c.heap.Add(set, c.value(elem.Value))
			return nil
		})
		return set
	case ast.Object:
		object := c.heap.NewObject()
		_ = v.Iter(func(key, elem *ast.Term) error {
			if c.left < 0 {
				return errFull
			}
			name := c.value(key.Value)
			c.left++ // a name is none
			c.heap.Insert(object, name, c.value(elem.Value))
			return nil
		})
		return object
	default:
		scalar, _ := value.FromAST(c.heap, v) // what is no plain value stays undefined
		return scalar
	}
}

var errFull = errors.New("enough")
