package value

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Authz returns a copy of what a policy computed that owns its memory. A set
// becomes a list in Rego's order, a fraction is rounded to the digits that an
// [authz.Value] has. What JSON, or a request, cannot hold is an error, and so
// are more than that many values, since a value that shares its parts is small
// and endless when it is written out.
func Authz(v Value, most int) (authz.Value, error) {
	w := writer{most: most, left: most}
	return w.value(v, 0)
}

type writer struct{ most, left int }

func (w *writer) value(v Value, depth int) (authz.Value, error) {
	if w.left--; w.left < 0 {
		return authz.Value{}, fmt.Errorf("more than %d values", w.most)
	}
	if depth > authz.MaxDepth {
		return authz.Value{}, fmt.Errorf("nested deeper than %d levels", authz.MaxDepth)
	}
	switch v.kind {
	case Null:
		return authz.Value{}, nil
	case Bool:
		return authz.BoolValue(v.IsTrue()), nil
	case Number:
		return authzNumber(v)
	case String:
		return authz.StringValue(strings.Clone(v.text())), nil
	case Array, Set:
		elems := make([]authz.Value, 0, min(v.Len(), w.left+1))
		for i := range v.Len() {
			_, e := v.At(i)
			elem, err := w.value(e, depth+1)
			if err != nil {
				return authz.Value{}, err
			}
			elems = append(elems, elem)
		}
		return authz.ListValue(elems...), nil
	case Object:
		members := make([]authz.Member, 0, min(v.Len(), w.left+1))
		for i := range v.Len() {
			k, e := v.At(i)
			if k.kind != String {
				return authz.Value{}, fmt.Errorf("a member's name must be a string, not %s", shown(k))
			}
			elem, err := w.value(e, depth+1)
			if err != nil {
				return authz.Value{}, err
			}
			members = append(members, authz.Member{Name: strings.Clone(k.text()), Value: elem})
		}
		return authz.ObjectValue(members...)
	default:
		mustLive(v.kind)
		return authz.Value{}, errors.New("not a JSON value")
	}
}

// authzNumber never rounds an integer.
func authzNumber(v Value) (authz.Value, error) {
	if n, whole := v.Int(); whole && n <= authz.MaxInt && n >= -authz.MaxInt {
		return authz.IntValue(n)
	}
	text := v.Number()
	n, err := authz.ValueOf(json.Number(text))
	if err == nil || !strings.Contains(text, ".") {
		return n, err
	}
	return authz.ValueOf(json.Number(strconv.FormatFloat(v.Float(), 'e', authz.MaxDigits-1, 64)))
}

// maxShown is how much of a number an error shows.
const maxShown = 200

// shown writes a value for an error message: a scalar, or only the type of
// what may be long.
func shown(v Value) string {
	switch v.kind {
	case Null:
		return "null"
	case Bool:
		return strconv.FormatBool(v.IsTrue())
	case Number:
		if text := v.Number(); len(text) > maxShown {
			return text[:maxShown] + "…"
		}
		return v.Number()
	default:
		return "a value of type " + v.kind.String()
	}
}

// manyMembers is from how many members an object of a table is worth an index.
const manyMembers = 64

// Indexed returns the value of a table as [Of] does, but objects of many
// members, wherever they are, get an index, so that finding one takes the same
// time however many there are. It walks all of v: it is for data that are read
// by many evaluations, and any goroutine may read the result.
func Indexed(v authz.Value) Value {
	value := Of(v)
	if !value.Composite() {
		return value
	}
	var made []Value // the elements, once one of them is not read in place
	all := v.Members()
	for i := range all {
		elem := Indexed(all[i].Value)
		if made == nil && elem.Composite() && elem.form != members || i == 0 && len(all) >= manyMembers && value.kind == Object {
			made = make([]Value, len(all))
			for j := range i {
				made[j] = of(&all[j].Value)
			}
		}
		if made != nil {
			made[i] = elem
		}
	}
	if made == nil {
		return value
	}
	if value.kind == Array {
		return ofList(&list{known{fixed: true}, made})
	}
	t := &table{known: known{fixed: true}, keys: make([]Value, len(all)), vals: made}
	for i := range all {
		t.keys[i] = OfString(all[i].Name)
	}
	if len(all) > maxScan {
		t.reindex(nil)
	}
	return ofTable(Object, t)
}
