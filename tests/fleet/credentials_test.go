//go:build unix

package fleet

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// loses is in how long who lost its credential or right loses the stream, on a
// busy machine: less than the 5 s between heartbeats.
const loses = 4 * time.Second

// TestWhoLosesItsCredentialLosesTheStreamAtOnceAndItsGrantsInTime takes from
// PEPs what lets them subscribe. The stream ends before a heartbeat is due, their grants
// stop counting within grant_stale, and nobody else notices.
func TestWhoLosesItsCredentialLosesTheStreamAtOnceAndItsGrantsInTime(t *testing.T) {
	leavesNothing(t)
	s := start(t, "acme", "globex", "initech", "umbrella")
	others := s.muster(t, 10, []*road{s.build(t)}, "umbrella")
	others.each(t, func(m *member) error { return m.start(t.Context()) })
	others.await(t, authz.Revision{Release: 1})

	var rows sync.WaitGroup
	for _, c := range []struct {
		name, tenant string
		take, give   call
	}{
		{
			"a token that is revoked", "acme",
			call{method: http.MethodDelete, path: "/api/v1/tokens/" + s.tokens["acme"].ID}, call{},
		},
		{
			"a role that is taken", "globex",
			call{method: http.MethodDelete, path: "/api/v1/bindings/" + s.binding["globex"]},
			call{path: "/api/v1/bindings", body: object{"tenant": "globex", "subject": "service:shop", "role": "pep"}},
		},
		{
			"a tenant that is disabled", "initech",
			call{method: http.MethodPatch, path: "/api/v1/tenants/initech", body: object{"disabled": true}},
			call{method: http.MethodPatch, path: "/api/v1/tenants/initech", body: object{"disabled": false}},
		},
	} {
		rows.Go(func() {
			t.Run(c.name, func(t *testing.T) {
				p := s.privileged(t, c.tenant)
				s.admin.must(t, http.StatusOK, c.take)
				p.loses(t)
				if c.give.path == "" {
					return // its tokens do not come back
				}
				if a, err := s.admin.try(t.Context(), c.give); err != nil || a.status/100 != 2 {
					t.Fatalf("%v: %d %s", err, a.status, a.body)
				}
				began := time.Now()
				p.fleet.enforce(t, p.steady, true)
				t.Logf("with it back, all count their grants again after %s", since(began))
			})
		})
	}
	rows.Wait()
	for _, m := range others.members {
		if s, _ := m.look(); !s.Connected || s.Stale || s.LastError != "" {
			t.Errorf("%s, which lost nothing: %+v", m.id, s)
		}
	}
}

// privileged is some PEPs with a grant that counts in all of them.
type privileged struct {
	fleet  *fleet
	steady *mintedGrant
	taken  atomic.Pointer[time.Time]
}

// privileged starts PEPs, which are asked without a break until the test ends.
func (s *site) privileged(t *testing.T, tenant string) *privileged {
	t.Helper()
	p := &privileged{fleet: s.muster(t, 10, []*road{s.build(t)}, tenant)}
	f := p.fleet
	for _, m := range f.members {
		m.id = tenant + "-" + m.id
	}
	f.each(t, func(m *member) error { return m.start(t.Context()) })
	f.await(t, authz.Revision{Release: 1})
	var err error
	if p.steady, err = s.mint(t.Context(), tenant, "steady", time.Hour); err != nil {
		t.Fatal(err)
	}
	f.enforce(t, p.steady, true)
	ctx, over := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		for ticker := time.NewTicker(20 * time.Millisecond); ; {
			for _, m := range f.members {
				p.ask(m)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				ticker.Stop()
				return
			}
		}
	})
	t.Cleanup(func() {
		over()
		asking.Wait()
		f.report(t)
	})
	return p
}

// ask faults an ALLOW that comes too late: later than grant_stale after the
// last heartbeat, which may come until the stream is lost.
func (p *privileged) ask(m *member) {
	taken, began := p.taken.Load(), time.Now()
	if allowed, _ := m.try(p.steady); allowed && taken != nil && began.Sub(*taken) > loses+grantStale+slack {
		p.fleet.fault("%s allows %s after its right was taken", m.id, began.Sub(*taken))
	}
}

// loses is called when what they had was taken.
func (p *privileged) loses(t *testing.T) {
	t.Helper()
	taken := time.Now()
	p.taken.Store(&taken)
	await(t, loses, func() string {
		for _, m := range p.fleet.members {
			if s, _ := m.look(); s.Connected || s.Polling {
				return fmt.Sprintf("%s is served: %+v", m.id, s)
			}
		}
		return ""
	})
	t.Logf("the stream is lost after %s", since(taken))
	await(t, loses, func() string {
		if n := len(list[object](t, p.fleet.site.admin, "/api/v1/peps", url.Values{"connected": {"true"}, "serves": {p.steady.tenant}})); n > 0 {
			return fmt.Sprintf("%d are listed as connected", n)
		}
		return ""
	})
	p.fleet.enforce(t, p.steady, false)
	t.Logf("no grant counts after %s", since(taken))
	pause(t.Context(), time.Until(taken.Add(loses+grantStale+time.Second)))
	p.taken.Store(nil) // what follows may be right again
}
