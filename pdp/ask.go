package pdp

import (
	"context"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Needs names what a decision lacks that only a server has.
type Needs string

const (
	NeedsNothing   Needs = ""
	NeedsAttribute Needs = "attribute" // an applicable policy reads one whose source is not here
	NeedsUses      Needs = "uses"      // a counted grant would open, and only the server counts
	NeedsApproval  Needs = "approval"  // people must be asked
)

// Answer is a decision that nobody has recorded yet.
type Answer struct {
	authz.Decision
	// Needs says why a server might answer otherwise. The decision stands
	// without: it is never more open than the server's.
	Needs Needs

	q *question
}

// Ask decides on the active snapshot as far as this process can: it counts no
// uses and records nothing. A PEP that decides in-process records the answer
// itself, or asks a server for what the answer Needs.
func (p *PDP) Ask(ctx context.Context, req authz.Request, f authz.Freshness) (Answer, error) {
	q, err := p.question(ctx, p.active.Load(), req, f, false)
	if err != nil {
		return Answer{}, err
	}
	d := q.combine()
	a := Answer{q: q}
	if d.Effect == authz.Allow && len(d.counted) > 0 {
		q.spent = grantIDs(d.counted)
		d = q.combine()
		a.Needs = NeedsUses
	}
	switch {
	case q.sourceless:
		a.Needs = NeedsAttribute
	case d.Effect == authz.Review && a.Needs == NeedsNothing:
		a.Needs = NeedsApproval
	}
	a.Decision = d.Decision
	a.ID = p.config.NewID()
	return a, nil
}

// Record is the answer as it is written down, with what policies call
// sensitive masked.
func (a *Answer) Record(caller Caller) Record { return a.q.record(&a.Decision, caller) }

// Audit is the record as audit stores keep it (X15).
func (r *Record) Audit() (authz.AuditRecord, error) {
	if r.Data != nil {
		return r.auditData()
	}
	text := r.Decision.AppendJSON(nil)
	answer, err := authz.Parse(text)
	if err != nil { // a policy's limit with more digits than a request may have
		answer = authz.StringValue(string(text))
	}
	body, err := authz.ObjectValue(
		authz.Member{Name: "request", Value: r.Request.Value()},
		authz.Member{Name: "decision", Value: answer},
	)
	if err != nil {
		return authz.AuditRecord{}, err
	}
	return authz.AuditRecord{
		ID: r.Decision.ID, Time: r.Time.UTC(), Kind: authz.AuditDecision,
		Tenant: r.Request.Tenant, Actor: r.Caller.Name,
		Subject:  r.Request.Subject.Type + ":" + r.Request.Subject.ID,
		Action:   r.Request.Action.Name,
		Resource: r.Request.Resource.Type + ":" + r.Request.Resource.ID,
		Effect:   r.Decision.Effect.String(), Revision: r.Decision.Revision.String(), Body: body,
	}, nil
}
