package regoeval

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

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

// valueOf converts what a policy computed. A set becomes a list in Rego's
// order, a fraction is rounded to the digits that a value has. What JSON, or a
// request, cannot hold is an error.
func valueOf(v ast.Value) (authz.Value, error) {
	w := writer{left: maxValues}
	return w.value(v, 0)
}

type writer struct{ left int }

func (w *writer) value(v ast.Value, depth int) (authz.Value, error) {
	if w.left--; w.left < 0 {
		return authz.Value{}, fmt.Errorf("more than %d values", maxValues)
	}
	if depth > authz.MaxDepth {
		return authz.Value{}, fmt.Errorf("nested deeper than %d levels", authz.MaxDepth)
	}
	switch v := v.(type) {
	case ast.Null:
		return authz.Value{}, nil
	case ast.Boolean:
		return authz.BoolValue(bool(v)), nil
	case ast.Number:
		return numberOf(v)
	case ast.String:
		return authz.StringValue(string(v)), nil
	case *ast.Array:
		elems := make([]authz.Value, 0, v.Len())
		err := v.Iter(func(t *ast.Term) error { return w.elem(&elems, t, depth) })
		return authz.ListValue(elems...), err
	case ast.Set:
		elems := make([]authz.Value, 0, v.Len())
		err := v.Iter(func(t *ast.Term) error { return w.elem(&elems, t, depth) })
		return authz.ListValue(elems...), err
	case ast.Object:
		members := make([]authz.Member, 0, v.Len())
		err := v.Iter(func(key, t *ast.Term) error {
			name, ok := key.Value.(ast.String)
			if !ok {
				return fmt.Errorf("a member's name must be a string, not %s", shown(key.Value))
			}
			value, err := w.value(t.Value, depth+1)
			members = append(members, authz.Member{Name: string(name), Value: value})
			return err
		})
		if err != nil {
			return authz.Value{}, err
		}
		return authz.ObjectValue(members...)
	default:
		return authz.Value{}, errors.New("not a JSON value")
	}
}

func (w *writer) elem(elems *[]authz.Value, t *ast.Term, depth int) error {
	v, err := w.value(t.Value, depth+1)
	*elems = append(*elems, v)
	return err
}

func numberOf(n ast.Number) (authz.Value, error) {
	v, err := authz.ValueOf(json.Number(n))
	if err == nil || !strings.Contains(string(n), ".") {
		return v, err // integers are never rounded
	}
	f, _ := n.Float64() // what does not fit is refused below
	return authz.ValueOf(json.Number(strconv.FormatFloat(f, 'e', authz.MaxDigits-1, 64)))
}

// shown writes a value for an error message: a scalar, or only the type of
// what may be long.
func shown(v ast.Value) string {
	switch v.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String:
		return oneLine([]byte(v.String()))
	default:
		return "a value of type " + ast.ValueName(v)
	}
}
