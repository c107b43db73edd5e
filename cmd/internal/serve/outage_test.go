package serve

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// patience is until something that must come counts as missing.
const patience = time.Minute

// until polls for what comes by itself.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.Done():
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// follow runs the core's feed until the test ends.
func follow(t *testing.T, core *Core) {
	t.Helper()
	running, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		core.Feed.Run(running)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}

// frozen is a request that asks for review in a change freeze of acme's, and
// is allowed with a grant.
func frozen() authz.Request {
	return authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"},
		Action: authz.Action{Name: "ecs.instance.start"}, Resource: authz.Entity{Type: "ecs.instance", ID: "i-1"}}
}

// A node that loses its database goes on and says so. What it knows of
// credentials and grants counts for grant_stale and no longer; then every
// caller is refused, at once and not after a wait for the database.
func TestNodeThatLosesTheStoreSaysStaleAndRefusesEveryCallerAfterGrantStale(t *testing.T) {
	c := config.Defaults()
	c.Data, c.GrantStale, c.StaleBound = t.TempDir(), 3*time.Second, 4*time.Second
	core, token := openCoreOf(t, c)
	ctx, operator := t.Context(), admin.LocalActor()
	if _, _, err := core.PAP.CreateTenant(ctx, operator, pap.Tenant{ID: "acme"}); err != nil {
		t.Fatal(err)
	}
	follow(t, core)
	if err := core.Store.Close(); err != nil {
		t.Fatal(err)
	}
	decide := func() authz.Decision {
		d, err := core.PDP.Decide(ctx, frozen(), pdp.Caller{Name: "service:shop"})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	until(t, "an answer says stale", func() bool { return decide().Stale })
	if age := core.Feed.Age(); age < staleAfter {
		t.Errorf("stale after %s already", age)
	}
	if _, err := core.guard.Authenticate(ctx, bearer(token)); err != nil && core.Feed.Age() < c.GrantStale {
		t.Errorf("within grant_stale: %v", err)
	}
	var err error
	until(t, "callers are refused", func() bool {
		began := time.Now()
		_, err = core.guard.Authenticate(ctx, bearer(token))
		if took := time.Since(began); took > 4*time.Second { // a read is given 5 s
			t.Fatalf("a caller waited %s for a dead database", took)
		}
		return err != nil
	})
	if !errors.Is(err, access.ErrUnavailable) || core.Feed.Age() < c.GrantStale {
		t.Errorf("%v, %s after the last read", err, core.Feed.Age())
	}
	until(t, "policies are no longer trusted", func() bool { return hasReason(decide(), authz.RuleStaleBound) })
	if age := core.Feed.Age(); age < c.StaleBound {
		t.Errorf("policies are not trusted after %s, want %s", age, c.StaleBound)
	}
	if _, _, err := core.PAP.CreateTenant(ctx, operator, pap.Tenant{ID: "globex"}); err == nil {
		t.Error("a change is taken without a database")
	}
}

func hasReason(d authz.Decision, rule string) bool {
	for _, r := range d.Reasons {
		if r.Rule == rule {
			return true
		}
	}
	return false
}
