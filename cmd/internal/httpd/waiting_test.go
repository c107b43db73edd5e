package httpd

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

func TestCallsThatWaitHavePlacesByCredentialAndTenant(t *testing.T) {
	w := waits{limits: pepWaits}
	var ends []func()
	take := func(token, tenant string, times int) (err error) {
		for range times {
			end, busy := w.begin(token, tenant)
			if busy != nil {
				return busy
			}
			ends = append(ends, end)
		}
		return nil
	}
	if err := take("t0", "acme", pepWaits.token); err != nil {
		t.Fatal(err)
	}
	if err := take("t0", "acme", 1); !errors.Is(err, pap.ErrBusy) {
		t.Errorf("one more of a credential: %v", err)
	}
	for i := 1; i < pepWaits.tenant/pepWaits.token; i++ {
		if err := take(fmt.Sprint("t", i), "acme", pepWaits.token); err != nil {
			t.Fatal(err)
		}
	}
	if err := take("another", "acme", 1); !errors.Is(err, pap.ErrBusy) {
		t.Errorf("one more of a tenant: %v", err)
	}
	for i := range 100 {
		if err := take(fmt.Sprint("o", i), fmt.Sprint("tenant", i/4), pepWaits.token); errors.Is(err, pap.ErrBusy) {
			break
		} else if i == 99 {
			t.Error("there is no bound in all")
		}
	}
	for _, end := range ends {
		end()
	}
	if w.all != 0 || len(w.tokens) != 0 || len(w.tenants) != 0 {
		t.Errorf("left behind: %d, %v, %v", w.all, w.tokens, w.tenants)
	}
}

func TestTooManyWaitsAreRefusedAndRevocationsAreNot(t *testing.T) {
	r := newRig(t, testPolicies())
	r.putPEPs(pap.PEP{ID: "c", Tenant: "acme", Tenants: []string{"acme"}, Connected: true})
	body := `{"type":"DYNAMIC","kind":"restriction","tenant":"acme","rules":[{"condition":"true","effect":"DENY","message":"No."}],"validity":{"end":"` +
		time.Now().Add(time.Hour).Format(time.RFC3339) + `"},"reason":"test"}`
	made := r.do(ask{as: "admin", path: "/api/v1/policy/dynamic", body: body})
	var waiting sync.WaitGroup
	for range pepWaits.token {
		waiting.Go(func() {
			if g := r.do(ask{as: "admin", method: http.MethodPost, path: "/api/v1/releases/1/await?quorum=all&wait=60s"}); g.status != 200 {
				t.Errorf("waiting: %d %s", g.status, g.text)
			}
		})
	}
	for began := time.Now(); ; {
		r.waits.mu.Lock()
		all := r.waits.all
		r.waits.mu.Unlock()
		if all == pepWaits.token {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%d wait", all)
		}
	}
	if g := r.do(ask{as: "admin", method: http.MethodPost, path: "/api/v1/releases/1/await?wait=60s"}); g.status != 429 || g.code() != "too_many_calls" || g.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "author", method: http.MethodPost, path: "/api/v1/releases/1/await?wait=1ms"}); g.status != 504 {
		t.Errorf("another credential: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "admin", method: http.MethodPost, path: "/api/v1/releases/1/await?wait=0s"}); g.status != 504 {
		t.Errorf("without waiting: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "admin", method: http.MethodDelete, path: "/api/v1/policy/dynamic/" + made.at("/id").(string) + "?wait=30s&reason=over"}); g.status != 200 || g.at("/unacknowledged/0/id") != "c" {
		t.Errorf("a revocation: %d %s", g.status, g.text)
	}
	r.putPEPs(pap.PEP{ID: "c", Tenant: "acme", Tenants: []string{"acme"}, Connected: true, Revision: r.head()})
	waiting.Wait()
}
