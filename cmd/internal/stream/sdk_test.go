package stream

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp/local"
	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// sdk starts a PEP of the SDK with the engine that services embed.
func (r *real) sdk(address string, token string) *pep.PEP {
	r.t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(map[string]string{"stream_url": address + Path}); err != nil {
			r.t.Error(err)
		}
	}))
	r.t.Cleanup(api.Close)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := pep.New(ctx, pep.Config{
		Server: api.URL, Token: func() (string, error) { return token, nil }, ID: "sdk", Tenants: []string{"acme"},
		Engine: local.New(local.Options{}), Trust: r.keys.root, Dir: r.t.TempDir(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.Close(ctx) // its records have nowhere to go here
	})
	if err := p.WaitReady(ctx); err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *real) decides(p *pep.PEP, want authz.Effect) {
	r.t.Helper()
	var answer pep.Answer
	eventually(r.t, "the PEP decides "+want.String(), func() bool {
		var err error
		answer, err = p.Decide(context.Background(), authz.Request{
			Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "a"}, Action: authz.Action{Name: "x"}, Resource: authz.Entity{Type: "x", ID: "x"},
		})
		return err == nil && answer.Effect == want && !answer.Remote && !answer.Stale
	})
}

// restrict puts a restriction that denies everything, or ends it.
func (r *real) restrict(ended bool) {
	r.t.Helper()
	now := time.Now().UTC()
	restriction := authz.Restriction{
		ID: "rst-1", Tenant: "acme", Validity: authz.Validity{Start: now.Add(-time.Minute), End: now.Add(time.Hour)},
		Rules: []authz.RestrictionRule{{ID: "all", Condition: "true", Effect: authz.Deny, Message: "Closed.", MessageZH: "已关闭。"}},
	}
	if ended {
		restriction.Ended = &now
	}
	r.update(func(tx pap.Tx) error { return put(tx, pap.KindRestriction, "acme", "rst-1", restriction) })
}

func TestTheSDKFollowsANode(t *testing.T) {
	r := newReal(t, Options{})
	p := r.sdk(r.url, r.token("acme", "service:shop", "shop1", false))
	r.decides(p, authz.Allow)
	r.restrict(false)
	r.decides(p, authz.Deny)
	r.restrict(true)
	r.decides(p, authz.Allow)
	keys := r.keys.ring.Set().Keys()
	for i := range keys {
		if keys[i].Purpose != trust.PurposeReleases {
			continue
		}
		if _, err := trust.Revoke(r.keys.dir, filepath.Join(r.keys.dir, trust.RootKeyFile), keys[i].ID, "stolen", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	ring, err := trust.OpenRing(r.keys.dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.hub.SetKeys(ring.Set(), func(kind trust.Kind, body any) (string, error) { return ring.Sign(kind, body, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	var seen []pap.PEP
	eventually(t, "it acknowledges the revocation", func() bool {
		seen = r.hub.Peers()
		r.hub.mu.RLock()
		defer r.hub.mu.RUnlock()
		for c := range r.hub.conns {
			c.mu.Lock()
			held := c.held
			c.mu.Unlock()
			if held.Keys == ring.Set().Version() {
				key, ok := ring.Set().Key(held.KeyID)
				return ok && key.RevokedAt.IsZero()
			}
		}
		return false
	})
	r.decides(p, authz.Allow)
	if len(seen) != 1 || seen[0].Rejects != 0 || r.hub.Stats().Dropped != 0 {
		t.Errorf("PEPs %+v, counts %+v", seen, r.hub.Stats())
	}
}

func TestTheSDKPollsANodeWhereItsSocketIsBarred(t *testing.T) {
	r := newReal(t, Options{})
	target, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	barred := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == Path {
			http.Error(w, "no upgrades here", http.StatusBadGateway)
			return
		}
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(barred.Close)
	p := r.sdk(barred.URL, r.token("acme", "service:shop", "shop1", false))
	r.decides(p, authz.Allow)
	r.restrict(false)
	r.decides(p, authz.Deny)
	r.restrict(true)
	r.decides(p, authz.Allow)
	if s := p.Status(); !s.Polling || s.Connected {
		t.Errorf("status %+v", s)
	}
	if s := r.hub.Stats(); s.Refused != 0 || s.Rejects != 0 {
		t.Errorf("counts %+v", s)
	}
}
