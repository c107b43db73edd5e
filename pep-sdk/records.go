package pep

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool"
)

const (
	shipRecords = 500
	shipBytes   = 512 << 10
	shipWithin  = 30 * time.Second
)

// records keeps decision records in the spool and ships them to the server.
type records struct {
	config *Config
	log    *slog.Logger
	door   string
	caller string
	spool  *spool.Spool

	// Of the spool's goroutine alone: records of the batch under way that the
	// server has settled, and why it dropped one; "" where it took it.
	settled map[string]string
	most    int // records of the next call

	mu      sync.Mutex
	sent    uint64
	dropped uint64
	refused uint64 // decisions denied, since their record could not be made or kept
	lost    uint64 // records that could not be made, of buffered decisions
}

func openRecords(dir string, config *Config, server *url.URL) (*records, error) {
	r := &records{config: config, log: config.Log, door: server.JoinPath("/api/v1/audit/decisions").String(), caller: "pep:" + config.ID, settled: map[string]string{}, most: shipRecords}
	var err error
	r.spool, err = spool.Open(dir, spool.Options{MaxBytes: config.SpoolMaxBytes, Log: config.Log}, r.ship)
	return r, err
}

// keep records an outcome; a strict one is on disk when it returns nil.
func (r *records) keep(ctx context.Context, o *Outcome) error {
	if o.Record == nil {
		return nil
	}
	record, strict, err := o.Record(r.caller)
	if err != nil {
		if !strict {
			r.count(&r.lost, 1)
			r.log.Error("a decision record could not be made", "decision_id", o.Decision.ID, "error", err)
			return nil
		}
		err = fmt.Errorf("make the decision record: %w", err)
	} else {
		err = r.spool.Append(ctx, &record, strict)
	}
	if err != nil {
		r.count(&r.refused, 1)
		return fmt.Errorf("%w: %w", ErrAuditUnavailable, err)
	}
	return nil
}

func (r *records) count(to *uint64, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*to += n
}

type refusedRecord struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// ship is the spool's sink. After an error the spool hands over the same
// records again, so it counts when all of a batch is settled, and remembers
// until then what already was.
func (r *records) ship(ctx context.Context, batch []authz.AuditRecord) error {
	left := slices.DeleteFunc(slices.Clone(batch), func(record authz.AuditRecord) bool {
		_, settled := r.settled[record.ID]
		return settled
	})
	for len(left) > 0 {
		body, n := encodeRecords(left, r.most)
		settled, err := r.shipSome(ctx, left[:n], body)
		if err != nil {
			return err
		}
		left = left[settled:]
	}
	var sent, dropped uint64
	for i := range batch {
		if why := r.settled[batch[i].ID]; why == "" {
			sent++
		} else {
			dropped++
			r.log.Error("the server does not take a decision record", "id", batch[i].ID, "reason", why)
		}
	}
	clear(r.settled)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent += sent
	r.dropped += dropped
	return nil
}

// encodeRecords writes the beginning of a batch as one body, and says how many
// records it holds: at least one.
func encodeRecords(batch []authz.AuditRecord, most int) (body []byte, n int) {
	body = append(body, `{"records":[`...)
	for n < len(batch) && n < most && (n == 0 || len(body) < shipBytes) {
		if n > 0 {
			body = append(body, ',')
		}
		body = batch[n].AppendJSON(body)
		n++
	}
	return append(body, `]}`...), n
}

// shipSome ships records in one call and says how many are settled. What the
// server cannot read is tried in smaller parts until the one record that it
// cannot read is found and dropped: nothing else must wait behind it for ever.
func (r *records) shipSome(ctx context.Context, some []authz.AuditRecord, body []byte) (settled int, err error) {
	bounded, cancel := context.WithTimeout(ctx, shipWithin)
	defer cancel()
	data, err := post(bounded, r.config, r.door, body)
	var refused *RemoteError
	unreadable := errors.As(err, &refused) && (refused.Status == http.StatusBadRequest ||
		refused.Status == http.StatusRequestEntityTooLarge || refused.Status == http.StatusUnprocessableEntity)
	switch {
	case unreadable && len(some) > 1:
		r.most = len(some) / 2
		return 0, nil
	case unreadable:
		r.settled[some[0].ID] = refused.Error()
	case err != nil:
		return 0, fmt.Errorf("ship decision records: %w", err)
	default:
		err = r.settle(some, data)
	}
	r.most = min(2*r.most, shipRecords)
	return len(some), err
}

// settle notes what the server says of records.
func (r *records) settle(some []authz.AuditRecord, data []byte) error {
	var answer struct {
		Accepted   int             `json:"accepted"`
		Duplicates int             `json:"duplicates"`
		Refused    []refusedRecord `json:"refused"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("ship decision records: the answer: %w", err)
	}
	if answer.Accepted+answer.Duplicates+len(answer.Refused) != len(some) {
		return fmt.Errorf("ship decision records: %d sent, and %d accepted, %d known, %d refused", len(some), answer.Accepted, answer.Duplicates, len(answer.Refused))
	}
	for i := range some {
		r.settled[some[i].ID] = ""
	}
	for _, refused := range answer.Refused {
		if _, ours := r.settled[refused.ID]; ours {
			r.settled[refused.ID] = cmp.Or(refused.Reason, "without a reason")
		}
	}
	return nil
}

func (r *records) counts() Records {
	s := r.spool.Stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	return Records{
		Written: s.Synced, Sent: r.sent, Lost: s.Lost + r.lost + s.Damaged, Refused: r.refused, Dropped: r.dropped, Waiting: s.UnshippedBytes,
	}
}

func (r *records) close(ctx context.Context) error { return r.spool.Close(ctx) }
