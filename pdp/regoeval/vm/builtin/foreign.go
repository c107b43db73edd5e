package builtin

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/xiezhi-project/xiezhi/pdp/regoeval/vm/value"
)

// foreign calls OPA's function of that name. It is nil where OPA has none.
func foreign(name string) Func {
	call := topdown.GetBuiltin(name)
	if call == nil {
		return nil
	}
	relation := ast.BuiltinMap[name] != nil && ast.BuiltinMap[name].Relation
	return func(c *Call, args []value.Value) (value.Value, error) {
		operands := make([]*ast.Term, len(args))
		for i, a := range args {
			operands[i] = ast.NewTerm(a.AST())
		}
		var result value.Value
		if relation {
			result = c.Heap.NewArray(0)
		}
		err := call(c.opa(), operands, func(t *ast.Term) error {
			v, err := value.FromAST(c.Heap, t.Value)
			if relation {
				c.Heap.Append(result, v)
			} else {
				result = v
			}
			return err
		})
		if err == nil {
			return result, nil
		}
		var failed *topdown.Error
		if _, halt := err.(topdown.Halt); !halt && errors.As(err, &failed) {
			err = &Error{failed.Code, failed.Message}
		}
		return value.Value{}, err
	}
}

func (c *Call) opa() topdown.BuiltinContext {
	return topdown.BuiltinContext{
		Context: c.Context, Metrics: metrics.NoOp(), Cancel: c.Cancel, Cache: c.Cache,
		Time:                        ast.NumberTerm(json.Number(strconv.FormatInt(c.Now.UnixNano(), 10))),
		InterQueryBuiltinValueCache: c.Values,
	}
}
