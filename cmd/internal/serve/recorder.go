package serve

import (
	"context"
	"sync"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool"
)

// recorder hands decisions to the spool as audit records (X15).
type recorder struct {
	spool *spool.Spool
}

func (r recorder) Record(ctx context.Context, d *pdp.Record) error {
	room := bodies.Get().(*[]byte)
	defer bodies.Put(room)
	record, err := d.AuditIn(*room)
	if err != nil {
		return err
	}
	if body := record.BodyJSON; cap(body) <= largestBody {
		*room = body[:0]
	}
	return r.spool.Append(ctx, &record, d.Durability == pdp.Strict) // which keeps nothing of it
}

// largestBody is the largest body whose memory is kept for the next one.
const largestBody = 64 << 10

// bodies saves the memory of bodies, of which a decision needs one for a moment.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// refused records a call that a caller had no right to. It may be lost under
// pressure, and is counted then: refusing does not wait for the disk.
func (r recorder) refused(record *authz.AuditRecord) {
	_ = r.spool.Append(context.Background(), record, false) // buffered: never an error
}
