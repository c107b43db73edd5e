//go:build unix

package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// mintedGrant is one grant, and when what happened to it was answered.
type mintedGrant struct {
	id, tenant string
	request    authz.Request
	end        time.Time
	minted     written
	revoked    atomic.Pointer[written]
}

// written is the answer to a write.
type written struct {
	position uint64
	at       time.Time
	// Of a revocation: until when PEPs may count the grant yet, by id, as the
	// server says; nil where it names only some of them.
	honour map[string]time.Time
}

// mint mints a grant for one request.
func (s *site) mint(ctx context.Context, tenant, name string, validity time.Duration) (*mintedGrant, error) {
	g := &mintedGrant{tenant: tenant, request: order(tenant, name), end: time.Now().Add(validity)}
	what := call{path: "/api/v1/policy/dynamic", body: object{
		"type": "DYNAMIC", "kind": "grant", "tenant": tenant, "satisfies": []string{"platform/orders/large"}, "request": object{
			"tenant":   tenant,
			"subject":  object{"type": "user", "id": g.request.Subject.ID},
			"action":   object{"name": g.request.Action.Name},
			"resource": object{"type": "order", "id": name, "properties": object{"amount": 2000}},
		},
		"validity": object{"end": g.end.Format(time.RFC3339Nano)}, "reason": "a test",
	}}
	a, err := s.admin.try(ctx, what)
	for err == nil && a.status == http.StatusConflict { // a release came between: it says to try again
		a, err = s.admin.try(ctx, what)
	}
	if err == nil && a.status != http.StatusCreated {
		err = fmt.Errorf("mint: %d %s", a.status, a.body)
	}
	if err != nil {
		return nil, err
	}
	revision, err := a.revision()
	if err != nil {
		return nil, err
	}
	var made struct{ ID string }
	if err := json.Unmarshal(a.body, &made); err != nil || made.ID == "" {
		return nil, fmt.Errorf("mint: %v: %s", err, a.body)
	}
	g.id, g.minted = made.ID, written{position: revision.Position, at: a.answered}
	return g, nil
}

// revoke revokes it; the server waits for PEPs to acknowledge as long. What
// holds from the answer on is noted then.
func (s *site) revoke(ctx context.Context, g *mintedGrant, wait time.Duration) error {
	a, err := s.admin.want(ctx, http.StatusOK, call{method: http.MethodDelete, path: "/api/v1/policy/dynamic/" + g.id + "?wait=" + wait.String()})
	if err != nil {
		return err
	}
	revision, err := a.revision()
	if err != nil {
		return err
	}
	var ended struct {
		Unacknowledged []struct {
			ID     string
			Honour time.Time `json:"honours_until"`
		}
		More int `json:"unacknowledged_more"`
	}
	if err := json.Unmarshal(a.body, &ended); err != nil || ended.Unacknowledged == nil {
		return fmt.Errorf("revoke: %v: %s", err, a.body)
	}
	w := written{position: revision.Position, at: a.answered}
	if ended.More == 0 {
		w.honour = map[string]time.Time{}
		for _, m := range ended.Unacknowledged {
			w.honour[m.ID] = m.Honour
		}
	}
	g.revoked.Store(&w)
	return nil
}

// slack is what the measuring itself may be off by: the test's clock against
// the server's, on one machine.
const slack = 50 * time.Millisecond

// unknown is for how long after it connected the server may not know of a PEP
// yet, and so not name it where a revocation is answered.
const unknown = 2 * time.Second

// try asks a member for what the grant allows, and faults an ALLOW that may
// not be. It reports whether it was an ALLOW.
func (m *member) try(g *mintedGrant) (allowed, answered bool) {
	held := m.position.Load()
	revoked := g.revoked.Load()
	began := time.Now()
	a, ok := m.decide(g.request)
	if !ok {
		return false, false
	}
	switch {
	case a.Effect == authz.Review:
		return false, true
	case a.Effect != authz.Allow:
		m.fleet.fault("%s: %s at %s for %s: %+v", m.id, a.Effect, a.Revision, g.request.Resource.ID, a.Reasons)
		return false, true
	}
	fault := func(why string) {
		m.fleet.fault("%s allows %s (%s) %s: it answers from %s, stale %v", m.id, g.request.Resource.ID, g.id, why, a.Revision, a.Stale)
	}
	if began.After(g.end.Add(slack)) {
		fault(fmt.Sprintf("%s after the grant's end", began.Sub(g.end)))
	}
	if revoked == nil {
		if revoked = g.revoked.Load(); revoked != nil && a.Revision.Position >= revoked.position {
			fault(fmt.Sprintf("at or above g%d, where it was revoked", revoked.position))
		}
		return true, true
	}
	if held >= revoked.position || a.Revision.Position >= revoked.position {
		fault(fmt.Sprintf("after it acknowledged g%d; it was revoked at g%d", held, revoked.position))
	}
	if late := began.Sub(revoked.at); late > grantStale+slack {
		fault(fmt.Sprintf("%s after it was revoked", late))
	}
	until, listed := revoked.honour[m.id]
	if !listed {
		until = revoked.at.Add(unknown)
	}
	if revoked.honour != nil && began.After(until.Add(slack)) {
		fault(fmt.Sprintf("%s after it was revoked, and the server said that it counts it until %v", began.Sub(revoked.at), until))
	}
	return true, true
}
