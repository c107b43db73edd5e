package stream

import (
	"context"
	"errors"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// recheck ends the connections of those who may not receive any more what they
// do. It asks the self policies again when what they answer by has changed,
// and for each connection with its heartbeats, since a policy may read the clock.
func (h *Hub) recheck(ctx context.Context, now time.Time) {
	if now.Sub(h.recheckedAt) < recheckEvery {
		return
	}
	h.recheckedAt = now
	ground := h.config.Guard.Ground()
	changed := ground != h.ground
	h.ground = ground
	round := uint64(now.Sub(h.startedAt)/recheckEvery) % uint64(wire.HeartbeatEvery/recheckEvery)
	h.mu.RLock()
	all := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		all = append(all, c)
	}
	h.mu.RUnlock()
	type asked struct{ token, audience string }
	verdicts := map[asked]error{}
	for _, c := range all {
		err := h.config.Guard.Standing(c.caller)
		if err == nil && (changed || c.serial%uint64(wire.HeartbeatEvery/recheckEvery) == round) {
			question := asked{c.caller.TokenID, c.audience.name}
			known := false
			if err, known = verdicts[question]; !known {
				err = h.mayReceive(ctx, c.caller, c.hello.Tenants)
				verdicts[question] = err
			}
		}
		if errors.Is(err, access.ErrUnauthenticated) || errors.Is(err, pap.ErrForbidden) {
			h.expel(c, err)
		}
	}
}

func (h *Hub) expel(c *conn, why error) {
	if !c.leave("the credential may not receive this any more", 5*time.Second) {
		return
	}
	h.stats.expelled.Add(1)
	h.config.Log.Info("a PEP lost its right", "pep", c.key, "reason", why)
	h.queue.mark([]*conn{c}, laneFast)
}

// mayReceive asks for the right in every tenant that is served.
func (h *Hub) mayReceive(ctx context.Context, caller access.Caller, tenants []string) error {
	for _, tenant := range tenants {
		if tenant == wire.AllTenants {
			tenant = pap.Platform
		}
		if err := h.config.Guard.Allow(ctx, caller, Right, tenant); err != nil {
			return err
		}
	}
	return nil
}
