package value

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/open-policy-agent/opa/v1/ast"
)

// MaxNumber is how many characters a computed number may have. OPA has no
// bound: one operation of numbers of millions of digits takes seconds.
const MaxNumber = 4 << 10

// FromAST returns a copy of one of OPA's values, made by h; without a Heap any
// goroutine may read it. What is no plain value (a reference, a comprehension)
// is an error, and so is what the heap has no room for ([ErrMemory]).
func FromAST(h *Heap, v ast.Value) (Value, error) {
	if h.Full() {
		return Value{}, ErrMemory
	}
	switch v := v.(type) {
	case ast.Null:
		return NullValue, nil
	case ast.Boolean:
		return OfBool(bool(v)), nil
	case ast.Number:
		if len(v) > MaxNumber {
			return Value{}, ErrMemory
		}
		return OfNumber(h.Text(string(v)).text()), nil
	case ast.String:
		return h.Text(string(v)), nil
	case *ast.Array:
		a := h.NewArray(v.Len())
		for i := range v.Len() {
			elem, err := FromAST(h, v.Elem(i).Value)
			if err != nil {
				return Value{}, err
			}
			h.Append(a, elem)
		}
		return h.done(a), nil
	case ast.Set:
		s := h.NewSet()
		for _, k := range v.Slice() {
			key, err := FromAST(h, k.Value)
			if err != nil {
				return Value{}, err
			}
			s.table().push(h, key, Value{}, false)
		}
		return h.done(s), nil
	case ast.Object:
		o := h.NewObject()
		err := v.Iter(func(k, e *ast.Term) error {
			key, err := FromAST(h, k.Value)
			if err != nil {
				return err
			}
			elem, err := FromAST(h, e.Value)
			o.table().push(h, key, elem, true)
			return err
		})
		if err != nil {
			return Value{}, err
		}
		return h.done(o), nil
	default:
		return Value{}, fmt.Errorf("%T is no plain value", v)
	}
}

// done returns what was made for good.
func (h *Heap) done(v Value) Value {
	if h == nil {
		return fix(v)
	}
	return v
}

// AST returns a copy of the value as OPA holds it; nil of an undefined one.
// What the value shares is shared in the copy.
func (v Value) AST() ast.Value {
	if !v.Defined() {
		return nil
	}
	var c copier
	return c.term(v).Value
}

// copier makes OPA's terms, one of each composite.
type copier struct{ made map[part]*ast.Term }

type part struct {
	ptr  unsafe.Pointer
	word uint64
	kind Kind
}

func (c *copier) term(v Value) *ast.Term {
	switch v.kind {
	case Null:
		return ast.InternedNullTerm
	case Bool:
		return ast.InternedTerm(v.word == 1)
	case Number:
		if v.form == integer {
			return ast.InternedTerm(int64(v.word))
		}
		return ast.NewTerm(ast.Number(strings.Clone(v.Number())))
	case String:
		return ast.NewTerm(ast.String(strings.Clone(v.text())))
	case Array, Object, Set:
		key := part{v.ptr, v.word, v.kind}
		term := c.made[key]
		if term == nil {
			term = ast.NewTerm(c.composite(v))
			if c.made == nil {
				c.made = make(map[part]*ast.Term)
			}
			c.made[key] = term
		}
		return term
	default:
		panic("no value, or one that is used after its heap was reset")
	}
}

func (c *copier) composite(v Value) ast.Value {
	switch v.kind {
	case Array:
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			terms[i] = c.term(v.Elem(i))
		}
		return ast.NewArray(terms...)
	case Set:
		s := ast.NewSetWithCapacity(v.Len())
		for i := range v.Len() {
			k, _ := v.At(i)
			s.Add(c.term(k))
		}
		return s
	default:
		o := ast.NewObjectWithCapacity(v.Len())
		for i := range v.Len() {
			k, e := v.At(i)
			o.Insert(c.term(k), c.term(e))
		}
		return o
	}
}
