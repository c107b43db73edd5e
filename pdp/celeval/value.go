package celeval

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// celValue shows v to CEL without copying it. Objects and lists are pointers,
// since CEL uses values as the keys of Go maps.
func celValue(v authz.Value) ref.Val {
	switch v.Kind() {
	case authz.KindBool:
		return types.Bool(v.Bool())
	case authz.KindInt:
		return types.Int(v.Int())
	case authz.KindFloat:
		return types.Double(v.Float())
	case authz.KindString:
		return types.String(v.Text())
	case authz.KindList:
		return &list{v}
	case authz.KindObject:
		return &object{v}
	default:
		return types.NullValue
	}
}

// object is an authz object as a CEL map with string keys.
type object struct{ v authz.Value }

var _ traits.Mapper = (*object)(nil)

// Find implements traits.Mapper. A key of another type is not in the map.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	member, ok := o.v.Get(string(name))
	if !ok {
		return nil, false
	}
	return celValue(member), true
}

// Get implements traits.Indexer.
func (o *object) Get(key ref.Val) ref.Val {
	v, ok := o.Find(key)
	switch {
	case ok:
		return v
	case v != nil:
		return v // the error
	default:
		return types.NewErr("no such key: %v", key)
	}
}

// Contains implements traits.Container.
func (o *object) Contains(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	_, found := o.v.Get(string(name))
	return types.Bool(found)
}

// Size implements traits.Sizer.
func (o *object) Size() ref.Val { return types.Int(o.v.Len()) }

// IsZeroValue implements traits.Zeroer.
func (o *object) IsZeroValue() bool { return o.v.Len() == 0 }

// Iterator implements traits.Iterable: the names, sorted.
func (o *object) Iterator() traits.Iterator {
	return &iterator{n: o.v.Len(), at: func(i int) ref.Val { return types.String(o.v.Name(i)) }}
}

// Equal implements ref.Val.
func (o *object) Equal(other ref.Val) ref.Val {
	switch other := other.(type) {
	case *object:
		return types.Bool(o.v.Equal(other.v))
	case traits.Mapper:
		if other.Size() != o.Size() {
			return types.False
		}
		for i := range o.v.Len() {
			theirs, ok := other.Find(types.String(o.v.Name(i)))
			if !ok || types.Equal(celValue(o.v.Index(i)), theirs) != types.True {
				return types.False
			}
		}
		return types.True
	default:
		return types.False
	}
}

// Type implements ref.Val.
func (o *object) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (o *object) Value() any { return o.v }

// ConvertToType implements ref.Val.
func (o *object) ConvertToType(t ref.Type) ref.Val { return convertTo(o, types.MapType, t) }

// ConvertToNative implements ref.Val, by copying.
func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return types.DefaultTypeAdapter.NativeToValue(o.v.Any()).ConvertToNative(t)
}

// list is an authz list as a CEL list.
type list struct{ v authz.Value }

var _ traits.Lister = (*list)(nil)

// Add implements traits.Adder.
func (l *list) Add(other ref.Val) ref.Val {
	more, ok := other.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	elems := make([]ref.Val, l.v.Len())
	for i := range elems {
		elems[i] = celValue(l.v.Index(i))
	}
	return types.NewRefValList(types.DefaultTypeAdapter, elems).Add(more)
}

// Contains implements traits.Container.
func (l *list) Contains(elem ref.Val) ref.Val {
	for i := range l.v.Len() {
		if types.Equal(celValue(l.v.Index(i)), elem) == types.True {
			return types.True
		}
	}
	return types.False
}

// Get implements traits.Indexer.
func (l *list) Get(index ref.Val) ref.Val {
	i, err := types.GetOrError(index)
	if err != nil {
		return types.WrapErr(err)
	}
	if i < 0 || i >= l.v.Len() {
		return types.NewErr("index %d out of range in a list of %d", i, l.v.Len())
	}
	return celValue(l.v.Index(i))
}

// Size implements traits.Sizer.
func (l *list) Size() ref.Val { return types.Int(l.v.Len()) }

// IsZeroValue implements traits.Zeroer.
func (l *list) IsZeroValue() bool { return l.v.Len() == 0 }

// Iterator implements traits.Iterable.
func (l *list) Iterator() traits.Iterator {
	return &iterator{n: l.v.Len(), at: func(i int) ref.Val { return celValue(l.v.Index(i)) }}
}

// Equal implements ref.Val.
func (l *list) Equal(other ref.Val) ref.Val {
	switch other := other.(type) {
	case *list:
		return types.Bool(l.v.Equal(other.v))
	case traits.Lister:
		if other.Size() != l.Size() {
			return types.False
		}
		for i := range l.v.Len() {
			if types.Equal(celValue(l.v.Index(i)), other.Get(types.Int(i))) != types.True {
				return types.False
			}
		}
		return types.True
	default:
		return types.False
	}
}

// Type implements ref.Val.
func (l *list) Type() ref.Type { return types.ListType }

// Value implements ref.Val.
func (l *list) Value() any { return l.v }

// ConvertToType implements ref.Val.
func (l *list) ConvertToType(t ref.Type) ref.Val { return convertTo(l, types.ListType, t) }

// ConvertToNative implements ref.Val, by copying.
func (l *list) ConvertToNative(t reflect.Type) (any, error) {
	return types.DefaultTypeAdapter.NativeToValue(l.v.Any()).ConvertToNative(t)
}

func convertTo(v ref.Val, own *types.Type, t ref.Type) ref.Val {
	switch t {
	case own:
		return v
	case types.TypeType:
		return own
	default:
		return types.NewErr("type conversion error from '%s' to '%s'", own, t)
	}
}

// iterator walks the elements at 0 to n-1.
type iterator struct {
	n, next int
	at      func(int) ref.Val
}

var _ traits.Iterator = (*iterator)(nil)

// HasNext implements traits.Iterator.
func (it *iterator) HasNext() ref.Val { return types.Bool(it.next < it.n) }

// Next implements traits.Iterator.
func (it *iterator) Next() ref.Val {
	if it.next >= it.n {
		return nil
	}
	it.next++
	return it.at(it.next - 1)
}

// An iterator is a ref.Val for the interpreter's sake only; no expression can
// name one.

func (it *iterator) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("an iterator has no native form")
}
func (it *iterator) ConvertToType(ref.Type) ref.Val { return types.NoSuchOverloadErr() }
func (it *iterator) Equal(ref.Val) ref.Val          { return types.NoSuchOverloadErr() }
func (it *iterator) Type() ref.Type                 { return types.IteratorType }
func (it *iterator) Value() any                     { return nil }
