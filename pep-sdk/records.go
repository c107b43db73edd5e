package pep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
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

	mu      sync.Mutex
	sent    uint64
	dropped uint64
	refused uint64 // decisions denied, since their record could not be made or kept
	lost    uint64 // records that could not be made, of buffered decisions
}

func openRecords(dir string, config *Config, server *url.URL) (*records, error) {
	r := &records{config: config, log: config.Log, door: server.JoinPath("/api/v1/audit/decisions").String(), caller: "pep:" + config.ID}
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

// shipment is what became of some records.
type shipment struct {
	taken   uint64
	dropped []refusedRecord
}

type refusedRecord struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// ship is the spool's sink. It counts only when all of a batch is settled:
// the spool hands over the whole batch again after an error, and the server
// knows records by id.
func (r *records) ship(ctx context.Context, batch []authz.AuditRecord) error {
	var all shipment
	for len(batch) > 0 {
		body, n := encodeRecords(batch)
		if err := r.shipSome(ctx, batch[:n], body, &all); err != nil {
			return err
		}
		batch = batch[n:]
	}
	for _, d := range all.dropped {
		r.log.Error("the server does not take a decision record", "id", d.ID, "reason", d.Reason)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent += all.taken
	r.dropped += uint64(len(all.dropped))
	return nil
}

// encodeRecords writes the beginning of a batch as one body, and says how many
// records it holds: at least one.
func encodeRecords(batch []authz.AuditRecord) (body []byte, n int) {
	body = append(body, `{"records":[`...)
	for n < len(batch) && n < shipRecords && (n == 0 || len(body) < shipBytes) {
		if n > 0 {
			body = append(body, ',')
		}
		body = batch[n].AppendJSON(body)
		n++
	}
	return append(body, `]}`...), n
}

// shipSome ships records in one call. What the server cannot read is halved
// until the one record that it cannot read is found and dropped: nothing else
// must wait behind it for ever.
func (r *records) shipSome(ctx context.Context, some []authz.AuditRecord, body []byte, all *shipment) error {
	bounded, cancel := context.WithTimeout(ctx, shipWithin)
	defer cancel()
	data, err := post(bounded, r.config, r.door, body)
	var refused *RemoteError
	unreadable := errors.As(err, &refused) && (refused.Status == http.StatusBadRequest ||
		refused.Status == http.StatusRequestEntityTooLarge || refused.Status == http.StatusUnprocessableEntity)
	switch {
	case unreadable && len(some) == 1:
		all.dropped = append(all.dropped, refusedRecord{some[0].ID, refused.Error()})
		return nil
	case unreadable:
		for _, half := range [][]authz.AuditRecord{some[:len(some)/2], some[len(some)/2:]} {
			body, _ := encodeRecords(half)
			if err := r.shipSome(ctx, half, body, all); err != nil {
				return err
			}
		}
		return nil
	case err != nil:
		return fmt.Errorf("ship decision records: %w", err)
	}
	var answer struct {
		Accepted   uint64          `json:"accepted"`
		Duplicates uint64          `json:"duplicates"`
		Refused    []refusedRecord `json:"refused"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("ship decision records: the answer: %w", err)
	}
	if answer.Accepted+answer.Duplicates+uint64(len(answer.Refused)) != uint64(len(some)) {
		return fmt.Errorf("ship decision records: %d sent, and %d accepted, %d known, %d refused", len(some), answer.Accepted, answer.Duplicates, len(answer.Refused))
	}
	all.taken += answer.Accepted + answer.Duplicates
	all.dropped = append(all.dropped, answer.Refused...)
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
