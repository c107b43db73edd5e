package vm

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// misplaced refuses `with` of functions before `with` of input or data where
// that matters: for the nth of the latter a plan takes the root of the nth of
// all, which is input unless it is data.
func misplaced(node any, c *ast.Compiler) (err error) {
	ast.WalkExprs(node, func(e *ast.Expr) bool {
		n := 0
		for _, w := range e.With {
			target := w.Target.Value.(ast.Ref)
			if !rooted(target) || isFunction(target, c) {
				continue
			}
			if taken := e.With[n].Target.Value.(ast.Ref); target[0].Equal(ast.DefaultRootDocument) != taken[0].Equal(ast.DefaultRootDocument) {
				err = &Unsupported{
					File: e.Location.File, Line: e.Location.Row,
					Why: "`with` replaces a function before input or data; the function goes last",
				}
			}
			n++
		}
		return err != nil
	})
	return err
}

// rooted reports whether the reference is into input or data.
func rooted(ref ast.Ref) bool {
	return ref[0].Equal(ast.DefaultRootDocument) || ref[0].Equal(ast.InputRootDocument)
}

func isFunction(ref ast.Ref, c *ast.Compiler) bool {
	_, ok := c.TypeEnv.GetByRef(ref).(*types.Function)
	return ok
}
