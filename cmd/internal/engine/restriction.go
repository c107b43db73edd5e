package engine

import (
	"context"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// CheckRestriction compiles a restriction's conditions. Its error is an
// [*authz.FieldError] whose path begins at the restriction.
func (e *Engine) CheckRestriction(r authz.Restriction) error {
	_, err := e.cel.CompileRestriction(r.ID, r.Tenant, r.Rules)
	return err
}

// Restriction compiles a restriction that passed CheckRestriction before. One
// that does not compile any more, after an upgrade say, denies in its tenant
// while it is live: it was made to close, and nobody can tell what.
func (e *Engine) Restriction(r *authz.Restriction) pdp.Program {
	program, err := e.cel.CompileRestriction(r.ID, r.Tenant, r.Rules)
	if err != nil {
		return newBroken(r, err)
	}
	return program
}

// broken is a restriction that does not compile.
type broken struct {
	policy *pdp.Policy
	err    *pdp.EvaluationError
}

func newBroken(r *authz.Restriction, err error) broken {
	id := "dynamic/" + r.ID
	return broken{
		policy: &pdp.Policy{
			ID: id, Layer: pdp.LayerDynamic, Tenant: r.Tenant, Language: "cel", File: id,
			Title: pdp.Text{EN: "Restriction " + r.ID, ZH: "限制 " + r.ID},
		},
		err: &pdp.EvaluationError{Cause: pdp.CausePolicyError, File: id, Message: "the restriction does not compile: " + err.Error()},
	}
}

// Policies implements [pdp.Program].
func (b broken) Policies() []*pdp.Policy { return []*pdp.Policy{b.policy} }

// Evaluate implements [pdp.Program].
func (b broken) Evaluate(_ context.Context, _ *pdp.Input, policies []*pdp.Policy, out []pdp.Outcome) []pdp.Outcome {
	for _, p := range policies {
		out = append(out, pdp.Outcome{Policy: p, Err: b.err})
	}
	return out
}
