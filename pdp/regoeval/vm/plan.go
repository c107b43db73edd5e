package vm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/rego"
)

// target is the name under which OPA hands its plans over.
const target = "xiezhi"

// The target is registered before anything runs, since rego reads its list of
// targets without a lock.
var _ = registered()

func registered() bool {
	rego.RegisterPlugin(target, planner{})
	return true
}

// planner receives plans: OPA's own planner is an internal package.
type planner struct{}

type planKey struct{}

func (planner) IsTarget(name string) bool { return name == target }

// PrepareForEval leaves the plan with the [plan] that asked for it.
func (planner) PrepareForEval(ctx context.Context, policy *ir.Policy, _ ...rego.PrepareOption) (rego.TargetPluginEval, error) {
	to, ok := ctx.Value(planKey{}).(**ir.Policy)
	if !ok {
		return nil, errors.New("the target " + target + " only plans")
	}
	*to = policy
	return nothing{}, nil
}

type nothing struct{}

func (nothing) Eval(context.Context, *rego.EvalContext, ast.Value) (ast.Value, error) {
	return nil, errors.New("the target " + target + " only plans")
}

// Plan plans a query over the compiler's modules. Its error is an
// [*Unsupported], or ctx's.
func Plan(ctx context.Context, compiler *ast.Compiler, query ast.Body) (_ *Program, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &Unsupported{Why: fmt.Sprintf("the planner panicked: %v", cause)}
		}
	}()
	policy, err := plan(ctx, compiler, query)
	if ended := context.Cause(ctx); ended != nil {
		return nil, ended
	}
	if err != nil {
		return nil, unsupported(err)
	}
	if err := check(compiler, policy, query); err != nil {
		return nil, err
	}
	return compile(policy)
}

func plan(ctx context.Context, compiler *ast.Compiler, query ast.Body) (*ir.Policy, error) {
	own := *compiler // rego.New changes how it compiles
	var policy *ir.Policy
	_, err := rego.New(
		rego.Compiler(&own), rego.ParsedQuery(sealed(query)), rego.Target(target),
	).PrepareForEval(context.WithValue(ctx, planKey{}, &policy))
	return policy, err
}

// sealed returns the query so that an expression that is false stays a
// failure: of a query of one expression rego would give `false` as the result.
func sealed(query ast.Body) ast.Body {
	if len(query) != 1 {
		return query
	}
	yes := ast.NewExpr(ast.BooleanTerm(true))
	yes.Location = query[0].Location
	return append(slices.Clone(query), yes)
}

// dropCaptured leaves the variables that rego added to the query out of its
// results.
func dropCaptured(policy *ir.Policy, blocks []*ir.Block) {
	for _, b := range blocks {
		for _, s := range b.Stmts {
			dropCaptured(policy, blocksOf(s))
		}
		if len(b.Stmts) == 0 {
			continue
		}
		if result, ok := b.Stmts[len(b.Stmts)-1].(*ir.ResultSetAddStmt); ok {
			b.Stmts = slices.DeleteFunc(b.Stmts, func(s ir.Stmt) bool {
				insert, ok := s.(*ir.ObjectInsertStmt)
				if !ok || insert.Object != result.Value {
					return false
				}
				name, ok := insert.Key.Value.(ir.StringIndex)
				return ok && strings.HasPrefix(policy.Static.Strings[name].Value, "^term")
			})
		}
	}
}

func unsupported(err error) *Unsupported {
	var u *Unsupported
	if errors.As(err, &u) {
		return u
	}
	var all ast.Errors
	if errors.As(err, &all) && len(all) > 0 && all[0].Location != nil {
		return &Unsupported{File: all[0].Location.File, Line: all[0].Location.Row, Why: all[0].Message}
	}
	return &Unsupported{Why: err.Error()}
}
