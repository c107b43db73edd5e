package stream

import (
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

// A PEP that cannot be listed is not served: who has not heard of a revocation
// would otherwise be missing where people look.

// unlistedFor is how long the store's refusal of a PEP holds here.
const unlistedFor = time.Minute

// maxUnlisted bounds the refusals that are remembered.
const maxUnlisted = 10_000

// errUnlisted turns a PEP away whose tenant has as many as it may.
var errUnlisted = fmt.Errorf("%w: its tenant has as many connected PEPs as one may have", errFull)

// unlisted has the PEPs leave that the store refused. What else failed it
// returns.
func (h *Hub) unlisted(failed error, conns map[string]*conn, now time.Time) error {
	var many *pap.TooManyPEPsError
	if !errors.As(failed, &many) {
		return failed
	}
	h.config.Log.Warn("PEPs are turned away", "reason", many)
	h.view.turnAway(many.Keys, now)
	for _, key := range many.Keys {
		if c := conns[key]; c != nil && c.leave(errUnlisted.Error(), unlistedFor) {
			h.queue.mark([]*conn{c}, laneFast)
		}
	}
	return nil
}

func (v *view) turnAway(keys []string, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, at := range v.unlisted {
		if now.Sub(at) >= unlistedFor {
			delete(v.unlisted, key)
		}
	}
	for _, key := range keys {
		if len(v.unlisted) < maxUnlisted {
			v.unlisted[key] = now
		}
	}
}

// refuses reports whether the store refused this PEP a short time ago.
func (v *view) refuses(key string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	at, known := v.unlisted[key]
	return known && now.Sub(at) < unlistedFor
}
