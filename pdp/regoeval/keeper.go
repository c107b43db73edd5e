package regoeval

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// keeper copies what policies computed for a decision to memory that nothing
// else uses: texts, and members of objects, one after the other, since a
// decision that refuses has several of each.
type keeper struct {
	terms   terms // what policies mention need not be copied
	texts   strings.Builder
	members []authz.Member // room for the next ones
}

var keepers = sync.Pool{New: func() any { return &keeper{} }}

// Room is made for so many at once.
const (
	keptText    = 256 // bytes
	keptMembers = 8
)

// text returns a text in memory of its own, or the policies' where they mention
// it.
func (k *keeper) text(s string) string {
	if term := k.terms[s]; term != nil {
		return string(term.Value.(ast.String))
	}
	if k.texts.Cap()-k.texts.Len() < len(s) {
		if len(s) > keptText/4 {
			return strings.Clone(s)
		}
		k.texts.Reset() // what was written stays with who has it
		k.texts.Grow(keptText)
	}
	k.texts.WriteString(s)
	return k.texts.String()[k.texts.Len()-len(s):]
}

// room returns an empty list for so many members.
func (k *keeper) room(n int) []authz.Member {
	if n > len(k.members) {
		if n > keptMembers/2 {
			return make([]authz.Member, 0, n)
		}
		k.members = make([]authz.Member, keptMembers)
	}
	list := k.members[:0:n]
	k.members = k.members[n:]
	return list
}

// value converts what a policy computed. A set becomes a list in Rego's order,
// a fraction is rounded to the digits that a value has. What JSON, or a
// request, cannot hold is an error.
func (k *keeper) value(v value.Value) (authz.Value, error) {
	w := writer{keep: k, left: maxValues}
	return w.value(v, 0)
}

type writer struct {
	keep *keeper
	left int
}

func (w *writer) value(v value.Value, depth int) (authz.Value, error) {
	if w.left--; w.left < 0 {
		return authz.Value{}, fmt.Errorf("more than %d values", maxValues)
	}
	if depth > authz.MaxDepth {
		return authz.Value{}, fmt.Errorf("nested deeper than %d levels", authz.MaxDepth)
	}
	switch v.Kind() {
	case value.Null:
		return authz.Value{}, nil
	case value.Bool:
		return authz.BoolValue(v.IsTrue()), nil
	case value.Number:
		return numberOf(v)
	case value.String:
		return authz.StringValue(w.keep.text(v.Text())), nil
	case value.Array, value.Set:
		elems := make([]authz.Value, 0, min(v.Len(), maxValues))
		for i := range v.Len() {
			_, elem := v.At(i)
			kept, err := w.value(elem, depth+1)
			if err != nil {
				return authz.Value{}, err
			}
			elems = append(elems, kept)
		}
		return authz.ListValue(elems...), nil
	case value.Object:
		members := w.keep.room(min(v.Len(), maxValues))
		for i := range v.Len() {
			key, elem := v.At(i)
			if key.Kind() != value.String {
				return authz.Value{}, fmt.Errorf("a member's name must be a string, not %s", shown(key))
			}
			kept, err := w.value(elem, depth+1)
			if err != nil {
				return authz.Value{}, err
			}
			members = append(members, authz.Member{Name: w.keep.text(key.Text()), Value: kept})
		}
		return authz.ObjectValue(members...)
	default:
		return authz.Value{}, errors.New("not a JSON value")
	}
}
