package serve

import (
	"context"

	"github.com/xiezhi-project/xiezhi/pep-sdk/spool"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// recorder hands decisions to the spool as audit records (X15).
type recorder struct {
	spool *spool.Spool
}

func (r recorder) Record(ctx context.Context, d *pdp.Record) error {
	text := d.Decision.AppendJSON(nil)
	answer, err := authz.Parse(text)
	if err != nil { // a policy's limit with more digits than a request may have
		answer = authz.StringValue(string(text))
	}
	body, err := authz.ObjectValue(
		authz.Member{Name: "request", Value: d.Request.Value()},
		authz.Member{Name: "decision", Value: answer},
	)
	if err != nil {
		return err
	}
	return r.spool.Append(ctx, &authz.AuditRecord{
		ID: d.Decision.ID, Time: d.Time.UTC(), Kind: authz.AuditDecision,
		Tenant: d.Request.Tenant, Actor: d.Caller.Name,
		Subject:  pap.SubjectName(d.Request.Subject.Type, d.Request.Subject.ID),
		Action:   d.Request.Action.Name,
		Resource: d.Request.Resource.Type + ":" + d.Request.Resource.ID,
		Effect:   d.Decision.Effect.String(), Revision: d.Decision.Revision.String(), Body: body,
	}, d.Durability == pdp.Strict)
}

// refused records a call that a caller had no right to. It may be lost under
// pressure, and is counted then: refusing does not wait for the disk.
func (r recorder) refused(record *authz.AuditRecord) {
	_ = r.spool.Append(context.Background(), record, false) // buffered: never an error
}
