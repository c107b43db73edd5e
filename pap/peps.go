package pap

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const (
	// PEPSilence is how long nobody has seen a PEP before it counts as stale
	// and not connected: its node says it more often, and ended if it does not.
	PEPSilence = 30 * time.Second
	// PEPsKept is how long a PEP that is gone stays listed.
	PEPsKept = 24 * time.Hour
	// GrantStale is the longest that any PEP counts grants after the last
	// signed heartbeat that vouches for them (DESIGN §4).
	GrantStale = 30 * time.Second
)

// ErrAmbiguous means that several PEPs have the id that was named.
var ErrAmbiguous = errors.New("several PEPs have this id")

// PEPState is a PEP as readers see it.
type PEPState struct {
	PEP
	Connected bool `json:"connected"` // and seen lately
	Stale     bool `json:"stale"`     // it says so, or was not seen lately
	// Target is the release that it should hold: in a rollout not always the newest.
	Target uint64 `json:"target"`
	Lag    Lag    `json:"lag"`
}

// Lag is what a PEP lacks to the newest release and log position.
type Lag struct {
	Releases  uint64 `json:"releases"`
	Positions uint64 `json:"positions"`
}

// PEPs lists PEPs by Key. Needs pep.read; a tenant's readers see those whose
// credential is the tenant's.
func (s *Service) PEPs(ctx context.Context, actor Actor, filter PEPFilter, after string, limit int) (Page[PEPState], error) {
	if err := actor.May(ctx, "pep.read", rightsTenant(actor.Tenant)); err != nil {
		return Page[PEPState]{}, err
	}
	if actor.Tenant != "" {
		filter.Tenant = actor.Tenant
	}
	if filter.Connected {
		filter.SeenSince = s.Now().Add(-PEPSilence)
	}
	peps, err := s.PEPStore.PEPs(ctx, filter, after, limit+1)
	if err != nil {
		return Page[PEPState]{}, err
	}
	page := Page[PEPState]{}
	if len(peps) > limit {
		peps = peps[:limit]
		page.Next = peps[limit-1].Key
	}
	page.Items, err = s.states(ctx, peps)
	return page, err
}

// PEP returns one PEP by its key, or by its id where only one of those that
// the actor may see has it ([ErrAmbiguous] otherwise).
func (s *Service) PEP(ctx context.Context, actor Actor, name string) (PEPState, error) {
	filter := PEPFilter{IDs: []string{name}}
	if strings.Count(name, "/") > 1 { // tenant/subject/id
		filter = PEPFilter{Key: name}
	}
	page, err := s.PEPs(ctx, actor, filter, "", maxNamed)
	switch {
	case err != nil:
		return PEPState{}, err
	case len(page.Items) == 0:
		return PEPState{}, fmt.Errorf("PEP %q: %w", name, ErrNotFound)
	case len(page.Items) == 1:
		return page.Items[0], nil
	}
	keys := make([]string, len(page.Items))
	for i, p := range page.Items {
		keys[i] = p.Key
	}
	return PEPState{}, fmt.Errorf("PEP %q: %w; name one by its key: %s", name, ErrAmbiguous, strings.Join(keys, ", "))
}

// maxNamed bounds how many PEPs of one id an error lists.
const maxNamed = 20

// states adds what follows from the newest release and position, and the time.
func (s *Service) states(ctx context.Context, peps []PEP) ([]PEPState, error) {
	rollout, head, err := s.rolloutNow(ctx)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	list := make([]PEPState, len(peps))
	for i, p := range peps {
		seen := now.Sub(p.SeenAt) <= PEPSilence
		list[i] = PEPState{
			PEP: p, Connected: p.Connected && seen, Stale: p.Stale || !seen,
			Target: rollout.Target(head.Release, p.ID, p.Labels), Lag: lag(head, p.Revision),
		}
	}
	return list, nil
}

func lag(head, held authz.Revision) Lag {
	var l Lag
	if head.Release > held.Release {
		l.Releases = head.Release - held.Release
	}
	if head.Position > held.Position {
		l.Positions = head.Position - held.Position
	}
	return l
}

// PEPKey names a PEP by the tenant ("" for the platform) and the subject of its
// credential and the id that it gives itself. No two share a key.
func PEPKey(tenant, subject, id string) string {
	return rightsTenant(tenant) + "/" + url.PathEscape(subject) + "/" + id
}

// ForgetPEPs drops PEPs that nobody has seen for [PEPsKept]. Every node may
// call it, now and then.
func (s *Service) ForgetPEPs(ctx context.Context) error {
	return s.PEPStore.ForgetPEPs(ctx, s.Now().Add(-PEPsKept))
}

// Push sends the chosen PEPs everything again (X11). Needs policy.push; a
// tenant's actor reaches the PEPs whose credential is the tenant's. It returns
// how many of the chosen ones are connected now.
func (s *Service) Push(ctx context.Context, actor Actor, chosen Selector) (int, authz.Revision, error) {
	if err := actor.May(ctx, "policy.push", rightsTenant(actor.Tenant)); err != nil {
		return 0, authz.Revision{}, err
	}
	if err := chosen.check(""); err != nil {
		return 0, authz.Revision{}, err
	}
	connected, err := s.PEPStore.CountPEPs(ctx, PEPFilter{
		Tenant: actor.Tenant, Select: chosen, Connected: true, SeenSince: s.Now().Add(-PEPSilence),
	})
	if err != nil {
		return 0, authz.Revision{}, err
	}
	push := Push{Selector: chosen, Tenant: actor.Tenant, By: actor.Name}
	revision, err := s.change(ctx, actor, auditEntry{"policy.push", actor.Tenant, "peps", push}, func(tx Tx) error {
		return put(tx, KindPush, "push", actor.Tenant, s.Now().UTC(), push)
	})
	return connected, revision, err
}
