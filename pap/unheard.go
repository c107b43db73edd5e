package pap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ending is the end of a grant or restriction.
type ending struct {
	kind   Kind
	tenant string
	at     time.Time // when it ended
	end    time.Time // when it would have ended
	// revision is the first that includes it.
	revision authz.Revision
}

// unheard waits, at most so long, for the connected PEPs that serve the tenant,
// and lists those that may count what ended.
//
// A grant counts only while a heartbeat vouches for it that the PEP may take,
// and after the end it takes none before it has taken the end itself. So a
// connected PEP honours it until [GrantStale] after the end at most, one that is
// not connected until its HonoursUntil, and nobody beyond the grant's own end.
// A restriction holds at a PEP until it hears of the end, or its own.
func (s *Service) unheard(ctx context.Context, actor Actor, e ending, wait time.Duration) (Ended, error) {
	behind := PEPFilter{Serves: e.tenant, Below: authz.Revision{Position: e.revision.Position}, Without: KindOPA}
	connected := behind
	connected.Connected = true
	err := s.poll(ctx, wait, func() (bool, error) {
		connected.SeenSince = s.Now().Add(-PEPSilence)
		n, err := s.PEPStore.CountPEPs(ctx, connected)
		return n == 0, err
	})
	if err != nil && !errors.Is(err, errLate) {
		return Ended{}, err
	}
	now := s.Now()
	if !now.Before(e.end) {
		return Ended{Unacknowledged: []Missing{}}, nil
	}
	if e.kind == KindGrant {
		behind.Counting = now
	}
	var ended Ended
	if ended.Unacknowledged, ended.More, err = s.missing(ctx, actor, behind); err != nil {
		return Ended{}, err
	}
	for i := range ended.Unacknowledged {
		m := &ended.Unacknowledged[i]
		m.HonoursUntil = e.honoursUntil(m)
	}
	return ended, nil
}

// honoursUntil is the latest time at which a PEP counts what ended.
func (e *ending) honoursUntil(m *Missing) time.Time {
	if e.kind != KindGrant {
		return e.end
	}
	until := e.at.Add(GrantStale)
	if !m.Connected && m.HonoursUntil.Before(until) {
		until = m.HonoursUntil
	}
	if e.end.Before(until) {
		until = e.end
	}
	return until.UTC()
}

// EndedGrant says of a grant that was ended by an approval's revoke what
// EndDynamic says of one that it ends, and the first revision that includes
// the end. Who may know is the caller's to ask.
func (s *Service) EndedGrant(ctx context.Context, actor Actor, id string, wait time.Duration) (Ended, authz.Revision, error) {
	var g authz.Grant
	var revision authz.Revision
	err := s.Store.View(ctx, func(tx Tx) error {
		record, err := tx.Record(KindGrant, id)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(record.Body, &g); err != nil {
			return fmt.Errorf("decode grant %s: %w", id, err)
		}
		if revision, err = tx.Head(); err != nil {
			return err
		}
		revision.Position = record.Position
		return nil
	})
	switch {
	case err != nil:
		return Ended{}, authz.Revision{}, err
	case g.Ended == nil:
		return Ended{}, authz.Revision{}, fmt.Errorf("grant %s has not ended: %w", id, ErrNotFound)
	}
	ended, err := s.unheard(ctx, actor, ending{KindGrant, g.Tenant, *g.Ended, g.Validity.End, revision}, wait)
	ended.ID = id
	return ended, revision, err
}
