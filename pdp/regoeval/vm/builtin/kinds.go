package builtin

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var kinds = table{
	ast.IsNull.Name:    is(value.Null),
	ast.IsBoolean.Name: is(value.Bool),
	ast.IsNumber.Name:  is(value.Number),
	ast.IsString.Name:  is(value.String),
	ast.IsArray.Name:   is(value.Array),
	ast.IsObject.Name:  is(value.Object),
	ast.IsSet.Name:     is(value.Set),
	ast.TypeNameBuiltin.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		return value.OfString(args[0].Kind().String()), nil
	},
	ast.CastNull.Name:    same(value.Null),
	ast.CastBoolean.Name: same(value.Bool),
	ast.CastString.Name:  same(value.String),
	ast.CastObject.Name:  same(value.Object),
	ast.CastArray.Name: func(c *Call, args []value.Value) (value.Value, error) {
		if args[0].Kind() == value.Set {
			return sorted(c, args)
		}
		return same(value.Array)(c, args)
	},
	ast.CastSet.Name: func(c *Call, args []value.Value) (value.Value, error) {
		if args[0].Kind() == value.Array {
			return c.setOf(args[0]), nil
		}
		return same(value.Set)(c, args)
	},
}

func is(k value.Kind) Func {
	return func(_ *Call, args []value.Value) (value.Value, error) { return ofBool(args[0].Kind() == k) }
}

// same is a cast, which is of one kind and changes nothing.
func same(k value.Kind) Func {
	return func(_ *Call, args []value.Value) (value.Value, error) {
		if args[0].Kind() != k {
			return ask()
		}
		return args[0], nil
	}
}
