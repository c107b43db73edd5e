package opadoor_test

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/opadoor"
	"github.com/xiezhi-project/xiezhi/pap"
)

// everybody lets in whoever names a tenant.
type everybody struct{}

func (everybody) Authenticate(_ context.Context, header string) (access.Caller, error) {
	return access.Caller{Type: "service", ID: "agent", Tenant: header, TokenID: header}, nil
}

func (everybody) AuthenticateCertificate(context.Context, *x509.Certificate) (access.Caller, error) {
	return access.Caller{}, access.ErrUnauthenticated
}

func (everybody) Allow(context.Context, access.Caller, string, string) error { return nil }

// crowd sends reports whose bodies come when the test says so. It lives in a
// bubble of its own time.
type crowd struct {
	t       *testing.T
	door    *opadoor.Door
	running sync.WaitGroup
}

// upload is one report under way.
type upload struct {
	body   *io.PipeWriter
	answer *httptest.ResponseRecorder
	done   chan struct{}
	took   time.Duration // when done
}

func (u *upload) isDone() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

func (c *crowd) send(tenant string, n int) []*upload {
	all := make([]*upload, n)
	for i := range all {
		body, w := io.Pipe()
		u := &upload{body: w, answer: httptest.NewRecorder(), done: make(chan struct{})}
		all[i] = u
		r := httptest.NewRequestWithContext(c.t.Context(), http.MethodPost, "/status", body)
		r.Header.Set("Authorization", tenant)
		began := time.Now()
		c.running.Go(func() {
			c.door.Handler().ServeHTTP(u.answer, r)
			u.took = time.Since(began)
			_ = body.Close()
			close(u.done)
		})
	}
	synctest.Wait()
	return all
}

func (u *upload) finish(t *testing.T) {
	t.Helper()
	_, err := io.Copy(u.body, strings.NewReader(`{"labels":{"id":"agent"},"bundles":{}}`))
	if err := u.body.Close(); err != nil {
		t.Error(err)
	}
	synctest.Wait()
	if err != nil || u.answer.Code != http.StatusNoContent {
		t.Errorf("%v: %d %s", err, u.answer.Code, u.answer.Body)
	}
}

func isCrowded(t *testing.T, what string, u *upload, after time.Duration) {
	t.Helper()
	if !u.isDone() {
		t.Fatalf("%s: it is not answered after %s", what, after)
	}
	if u.answer.Code != http.StatusServiceUnavailable || u.answer.Header().Get("Retry-After") == "" || !strings.Contains(u.answer.Body.String(), "overloaded") || u.took != after {
		t.Errorf("%s: %d %s after %s, want 503 after %s", what, u.answer.Code, u.answer.Body, u.took, after)
	}
}

func newCrowd(t *testing.T) *crowd {
	report := func(context.Context, pap.PEP) error { return nil }
	return &crowd{t: t, door: opadoor.New(opadoor.Config{Guard: everybody{}, Report: report, Now: time.Now, Log: quiet()})}
}

func TestAnUploadWaitsForAPlaceForAWhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		slow := c.send("acme", 8)
		waiting := c.send("acme", 32)
		for _, u := range c.send("acme", 3) {
			isCrowded(t, "more than may wait", u, 0)
		}
		c.send("globex", 1)[0].finish(t)
		slow[0].finish(t) // its place is for one of those that wait
		time.Sleep(10 * time.Second)
		synctest.Wait()
		crowded := 0
		for _, u := range waiting {
			if u.isDone() {
				crowded++
				isCrowded(t, "one that waited", u, 10*time.Second)
				continue
			}
			u.finish(t)
		}
		if crowded != len(waiting)-1 {
			t.Errorf("%d of %d are turned away", crowded, len(waiting))
		}
		for _, u := range slow[1:] {
			u.finish(t)
		}
		for _, u := range c.send("acme", 8) { // every place was given back
			u.finish(t)
		}
		c.running.Wait()
	})
}

func TestAllTenantsTogetherDoNotWaitWithoutBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		tenants := strings.Fields("a b c d e f g h i j k l")
		var all []*upload
		for _, tenant := range tenants {
			all = append(all, c.send(tenant, 8+32)...)
		}
		answered := 0
		for _, u := range all {
			if u.isDone() {
				answered++
				isCrowded(t, "one too many", u, 0)
			}
		}
		if want := len(all) - 32 - 256; answered != want {
			t.Errorf("%d are turned away at once, want %d", answered, want)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, u := range all {
			if !u.isDone() {
				u.finish(t)
			}
		}
		for _, tenant := range tenants { // every place was given back
			for _, u := range c.send(tenant, 8) {
				u.finish(t)
			}
		}
		c.running.Wait()
	})
}
