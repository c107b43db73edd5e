package cedareval

import (
	"context"
	"fmt"
	"iter"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
)

// environment is a request as cedar-go evaluates it.
type environment struct {
	entities types.EntityGetter
	request  cedar.Request
}

// requestEntities are the few entities of one request.
type requestEntities struct {
	principal, resource types.Entity
	actions             types.EntityMap // the schema's, with their groups
}

// Get implements [types.EntityGetter].
func (e *requestEntities) Get(uid types.EntityUID) (types.Entity, bool) {
	switch uid {
	case e.principal.UID:
		return e.principal, true
	case e.resource.UID:
		return e.resource, true
	}
	action, ok := e.actions[uid]
	return action, ok
}

// test evaluates one condition, true or false.
func (env *environment) test(body ast.IsNode) (holds bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cedar-go panicked: %v", r)
		}
	}()
	v, err := eval.Eval(body, eval.Env{
		Entities: env.entities, Principal: env.request.Principal, Action: env.request.Action,
		Resource: env.request.Resource, Context: env.request.Context,
	})
	if err != nil {
		return false, err
	}
	result, ok := v.(types.Boolean)
	if !ok {
		return false, fmt.Errorf("%w: expected bool, got %s", eval.ErrType, eval.TypeName(v))
	}
	return bool(result), nil
}

// batch lets cedar-go evaluate the compiled conditions of several statements:
// its Authorize, over an iterator, is the one door to them.
type batch struct {
	ctx        context.Context
	statements []*statement
	next       int // how far it has come
}

// All implements [cedar.PolicyIterator]. It ends early when the budget does.
func (b *batch) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for ; b.next < len(b.statements); b.next++ {
			if b.ctx.Err() != nil || !yield("", b.statements[b.next].compiled) {
				return
			}
		}
	}
}

// authorize evaluates the batch and returns what was satisfied and what
// failed. It returns a panic as an error; next is then the statement at fault.
func (b *batch) authorize(env *environment) (diagnostic cedar.Diagnostic, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cedar-go panicked: %v", r)
		}
	}()
	_, diagnostic = cedar.Authorize(b, env.entities, env.request)
	return diagnostic, nil
}
