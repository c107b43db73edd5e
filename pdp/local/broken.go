package local

import (
	"context"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

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
