package builtin

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

var comparisons = table{
	ast.Equal.Name:    func(_ *Call, args []value.Value) (value.Value, error) { return ofBool(value.Equal(args[0], args[1])) },
	ast.NotEqual.Name: func(_ *Call, args []value.Value) (value.Value, error) { return ofBool(!value.Equal(args[0], args[1])) },
	ast.LessThan.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		return ofBool(value.Compare(args[0], args[1]) < 0)
	},
	ast.LessThanEq.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		return ofBool(value.Compare(args[0], args[1]) <= 0)
	},
	ast.GreaterThan.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		return ofBool(value.Compare(args[0], args[1]) > 0)
	},
	ast.GreaterThanEq.Name: func(_ *Call, args []value.Value) (value.Value, error) {
		return ofBool(value.Compare(args[0], args[1]) >= 0)
	},
}

var memberships = table{
	ast.Member.Name:        member,
	ast.MemberWithKey.Name: memberWithKey,
}

func member(_ *Call, args []value.Value) (value.Value, error) {
	return ofBool(args[1].Composite() && args[1].Has(args[0]))
}

func memberWithKey(_ *Call, args []value.Value) (value.Value, error) {
	key, elem, in := args[0], args[1], args[2]
	if in.Kind() == value.Set {
		return ofBool(value.Equal(key, elem) && in.Has(key))
	}
	found := in.Get(key)
	return ofBool(found.Defined() && value.Equal(found, elem))
}
