package httpd

import (
	"fmt"
	"sync"

	"github.com/xiezhi-project/xiezhi/pap"
)

// waitLimits is how many calls may wait at one time, and for what.
type waitLimits struct {
	token, tenant, all int // the platform is one tenant
	what               string
}

// How many calls may wait for PEPs: each reads the store ten times a second.
var pepWaits = waitLimits{token: 8, tenant: 32, all: 256, what: "PEPs"}

// waits are the calls that wait, safe for concurrent use.
type waits struct {
	limits waitLimits

	mu      sync.Mutex
	all     int
	tokens  map[string]int
	tenants map[string]int
}

// begin takes a place, which end gives back, or refuses with [pap.ErrBusy].
func (w *waits) begin(token, tenant string) (end func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tokens == nil {
		w.tokens, w.tenants = map[string]int{}, map[string]int{}
	}
	for _, bound := range []struct {
		is, most int
		of       string
	}{{w.tokens[token], w.limits.token, "credential"}, {w.tenants[tenant], w.limits.tenant, "tenant"}, {w.all, w.limits.all, "node"}} {
		if bound.is >= bound.most {
			return nil, fmt.Errorf("%d calls of this %s wait for %s, as many as may: %w", bound.is, bound.of, w.limits.what, pap.ErrBusy)
		}
	}
	w.add(token, tenant, 1)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.add(token, tenant, -1)
	}, nil
}

// add counts a place taken or given back. The lock is held.
func (w *waits) add(token, tenant string, n int) {
	w.all += n
	for _, count := range []struct {
		of   map[string]int
		name string
	}{{w.tokens, token}, {w.tenants, tenant}} {
		if count.of[count.name] += n; count.of[count.name] == 0 {
			delete(count.of, count.name)
		}
	}
}
