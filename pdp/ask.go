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

// readable reports whether a record that holds the answer can be read again: a
// policy's limit may have more digits than a value can.
func readable(answer []byte) bool {
	_, err := authz.Parse(answer)
	return err == nil
}

// Record is the answer as it is written down, with what policies call
// sensitive masked. It gives back the memory that the answer was found in, and
// is not for two goroutines at once.
func (a *Answer) Record(caller Caller) Record {
	if a.q.lent != nil {
		a.q.written = a.q.record(&a.Decision, caller)
		a.q.release()
	}
	r := a.q.written
	r.Caller = caller
	return r
}

// usualBody is the room, in bytes, that most records' bodies need.
const usualBody = 1536

// Audit is the record as audit stores keep it (X15).
func (r *Record) Audit() (authz.AuditRecord, error) { return r.AuditIn(make([]byte, 0, usualBody)) }

// AuditIn is Audit with the body written into room, as far as that reaches: who
// gives the same room again must be done with the record before.
func (r *Record) AuditIn(room []byte) (authz.AuditRecord, error) {
	if r.Data != nil {
		return r.auditData()
	}
	body := append(room[:0], `{"request":`...)
	body = append(r.Request.AppendJSON(body), `,"decision":`...)
	before := len(body)
	body = r.Decision.AppendJSON(body)
	if answer := body[before:]; len(r.Decision.Limits) > 0 && !readable(answer) {
		body = authz.AppendQuoted(body[:before], string(answer))
	}
	body = append(body, '}')
	return authz.AuditRecord{
		ID: r.Decision.ID, Time: r.Time.UTC(), Kind: authz.AuditDecision,
		Tenant: r.Request.Tenant, Actor: r.Caller.Name,
		Subject:  r.Request.Subject.Type + ":" + r.Request.Subject.ID,
		Action:   r.Request.Action.Name,
		Resource: r.Request.Resource.Type + ":" + r.Request.Resource.ID,
		Effect:   r.Decision.Effect.String(), Revision: r.Decision.Revision.String(), BodyJSON: body,
	}, nil
}
