package serve

import (
	"context"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool"
)

// recorder hands decisions to the spool as audit records (X15).
type recorder struct {
	spool *spool.Spool
}

func (r recorder) Record(ctx context.Context, d *pdp.Record) error {
	record, err := d.Audit()
	if err != nil {
		return err
	}
	return r.spool.Append(ctx, &record, d.Durability == pdp.Strict)
}

// refused records a call that a caller had no right to. It may be lost under
// pressure, and is counted then: refusing does not wait for the disk.
func (r recorder) refused(record *authz.AuditRecord) {
	_ = r.spool.Append(context.Background(), record, false) // buffered: never an error
}
