package serve

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// seed is a folder that was bootstrapped, in memory, with its administrator's
// token. Tests begin with copies of it: a bootstrap holds the shipped policies
// to all of their cases.
var seed struct {
	once  sync.Once
	data  fstest.MapFS
	token string
}

// openCore opens a core on a folder with the shipped policies and an
// administrator, whose token it returns. The folder is new, or was opened so
// before.
func openCore(t *testing.T, dir string) (*Core, string) {
	t.Helper()
	c := config.Defaults()
	c.Data = dir
	return openCoreOf(t, c)
}

func openCoreOf(t *testing.T, c config.Server) (*Core, string) {
	t.Helper()
	seed.once.Do(func() {
		c := config.Defaults()
		c.Data = t.TempDir()
		core, token := bootstrap(t, c)
		if err := core.Store.Close(); err != nil {
			t.Fatal(err)
		}
		data := fstest.MapFS{}
		entries, err := os.ReadDir(c.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			text, err := os.ReadFile(filepath.Join(c.Data, entry.Name()))
			if err != nil {
				t.Fatal(err)
			}
			data[entry.Name()] = &fstest.MapFile{Data: text, Mode: 0o600}
		}
		seed.data, seed.token = data, token
	})
	if seed.data == nil {
		t.Fatal("the test before could not bootstrap")
	}
	if there, err := os.ReadDir(c.Data); err != nil {
		t.Fatal(err)
	} else if len(there) == 0 {
		if err := os.CopyFS(c.Data, seed.data); err != nil {
			t.Fatal(err)
		}
	}
	return openBare(t, c), seed.token
}

// bootstrap opens a core on a folder and bootstraps it.
func bootstrap(t *testing.T, c config.Server) (*Core, string) {
	t.Helper()
	core := openBare(t, c)
	shipped, err := engine.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	made, err := admin.Bootstrap(t.Context(), core.PAP, "root", time.Hour, shipped, false)
	if err != nil {
		t.Fatal(err)
	}
	return core, made.Token
}

// openBare opens a core that holds what its store does.
func openBare(t *testing.T, c config.Server) *Core {
	t.Helper()
	return openLogging(t, c, slog.New(slog.DiscardHandler))
}

// openLogging is openBare with a log of the test's.
func openLogging(t *testing.T, c config.Server, log *slog.Logger) *Core {
	t.Helper()
	store, err := OpenStore(t.Context(), c, false, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	core, err := OpenCore(t.Context(), c, store, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	return core
}

func bearer(token string) string { return "Bearer " + token }

func TestBootstrapMakesAnAdministratorAndPublishesOnce(t *testing.T) {
	settings := config.Defaults()
	settings.Data = t.TempDir()
	core, token := openCoreOf(t, settings)
	c, err := core.guard.Authenticate(t.Context(), bearer(token))
	if err != nil || c.Name() != "user:root" || c.Tenant != "" {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := core.guard.Allow(t.Context(), c, "release.publish.self", pap.Platform); err != nil {
		t.Error(err)
	}
	again, second := bootstrap(t, settings)
	if got := again.PDP.Active().Release.Number; got != 1 {
		t.Errorf("a second bootstrap published release %d", got)
	}
	for _, token := range []string{token, second} {
		if _, err := again.guard.Authenticate(t.Context(), bearer(token)); err != nil {
			t.Error(err)
		}
	}
}

func TestChangesOfTheDirectoryHoldAtOnceOnThisNodeAndWithinASecondOnOthers(t *testing.T) {
	if pollEvery > time.Second/2 {
		t.Errorf("others look every %s only", pollEvery)
	}
	dir := t.TempDir()
	here, token := openCore(t, dir)
	there, _ := openCore(t, dir)
	running, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		there.Feed.Run(running)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})

	c, err := here.guard.Authenticate(t.Context(), bearer(token))
	if err != nil {
		t.Fatal(err)
	}
	actor := here.guard.Actor(c)
	if _, _, err := here.PAP.CreateTenant(t.Context(), actor, pap.Tenant{ID: "acme"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := here.PAP.CreateSubject(t.Context(), actor, pap.Subject{Tenant: "acme", Type: "service", ID: "shop"}); err != nil {
		t.Fatal(err)
	}
	b, _, err := here.PAP.CreateBinding(t.Context(), actor, pap.Binding{Tenant: "acme", Subject: "service:shop", Role: "service"})
	if err != nil {
		t.Fatal(err)
	}
	shop, text, revision, err := here.PAP.CreateToken(t.Context(), actor, pap.Token{Tenant: "acme", Subject: "service:shop", Rights: []string{"decide"}, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	caller := func(core *Core) access.Caller {
		t.Helper()
		c, err := core.guard.Authenticate(t.Context(), bearer(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	within := func(revision authz.Revision) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := there.PDP.Await(ctx, revision); err != nil {
			t.Fatalf("the other node: %v", err)
		}
	}
	within(revision)
	for name, core := range map[string]*Core{"here": here, "there": there} {
		if err := core.guard.Allow(t.Context(), caller(core), "decide", "acme"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for right, tenant := range map[string]string{"evaluate": "acme", "decide.on_behalf": "acme", "decide": "globex"} {
			var denied *access.DeniedError
			if err := core.guard.Allow(t.Context(), caller(core), right, tenant); !errors.As(err, &denied) || !errors.Is(err, pap.ErrForbidden) {
				t.Errorf("%s: %s in %s: %v, want a refusal", name, right, tenant, err)
			}
		}
	}

	if _, revision, err = here.PAP.DisableBinding(t.Context(), actor, b.ID); err != nil {
		t.Fatal(err)
	}
	if here.guard.Allow(t.Context(), caller(here), "decide", "acme") == nil {
		t.Error("here: a right that was found before outlives the role")
	}
	within(revision)
	if there.guard.Allow(t.Context(), caller(there), "decide", "acme") == nil {
		t.Error("there: a right that was found before outlives the role")
	}

	if _, revision, err = here.PAP.RevokeToken(t.Context(), actor, shop.ID); err != nil {
		t.Fatal(err)
	}
	within(revision)
	for name, core := range map[string]*Core{"here": here, "there": there} {
		if _, err := core.guard.Authenticate(t.Context(), bearer(text)); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%s: a revoked token: %v", name, err)
		}
	}
}

func TestCredentialsThatAreNotGoodAreRefused(t *testing.T) {
	core, token := openCore(t, t.TempDir())
	id, secret, _ := strings.Cut(strings.TrimPrefix(token, pap.TokenPrefix), "_")
	for name, header := range map[string]string{
		"none": "", "another scheme": "Basic " + token, "no token": "Bearer", "not ours": "Bearer abc",
		"an unknown id":    bearer(pap.TokenPrefix + "01zzzzzzzzzzzzzzzzzzzzzzzz_" + secret),
		"a wrong secret":   bearer(pap.TokenPrefix + id + "_" + strings.Repeat("A", 43)),
		"a shorter secret": bearer(token[:len(token)-1]),
		"a longer secret":  bearer(token + "A"),
		"two tokens":       bearer(token + " " + token),
	} {
		_, err := core.guard.Authenticate(t.Context(), header)
		if !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), id)) {
			t.Errorf("%s: the error repeats the credential: %v", name, err)
		}
	}
}

func TestSelfPolicyUnderWhichNoAdministratorRemainsIsRefusedAndBootstrapMends(t *testing.T) {
	core, _ := openCore(t, t.TempDir())
	actor := admin.LocalActor()
	content, err := core.PAP.NewestContent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	self, err := content.File("self/rights.cedar")
	if err != nil {
		t.Fatal(err)
	}
	locked := strings.Replace(string(self), `principal in role::"platform:admin"`, `principal in role::"platform:nobody"`, 1)
	next, err := content.Apply([]bundles.Change{{Path: "self/rights.cedar", Data: []byte(locked)}, {Path: "self/rights_cases.yaml", Removed: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := core.PAP.PublishContent(t.Context(), actor, next, "", false); !errors.Is(err, access.ErrLockout) {
		t.Fatalf("got %v, want ErrLockout", err)
	}
	if got := core.PDP.Active().Release.Number; got != 1 {
		t.Errorf("release %d is active", got)
	}
}

// A rollback must not revive a grant whose rule has changed in between, nor
// one that was minted by a node which had not met the change yet.
func TestGrantIsNotMintedByAReleaseThatIsOver(t *testing.T) {
	dir := t.TempDir()
	here, _ := openCore(t, dir)
	behind, _ := openCore(t, dir) // its feed does not run
	ctx, operator := t.Context(), admin.LocalActor()
	if _, _, err := here.PAP.CreateTenant(ctx, operator, pap.Tenant{ID: "acme"}); err != nil {
		t.Fatal(err)
	}
	if err := behind.Feed.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	content, err := here.PAP.NewestContent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const file = "tenants/acme/change_freeze.policy.yaml"
	before, err := content.File(file)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := content.Apply([]bundles.Change{{Path: file, Data: append([]byte("# stricter\n"), before...)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := here.PAP.PublishContent(ctx, operator, changed, "", false); err != nil {
		t.Fatal(err)
	}
	minter := operator
	minter.Could = func(context.Context, string, string) error { return pap.ErrForbidden }
	spec := pap.GrantSpec{
		Tenant: "acme", Satisfies: []string{"tenants/acme/change_freeze/frozen"}, Reason: "a test",
		Validity: authz.Validity{End: time.Now().Add(time.Hour)},
		Request: authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"},
			Action:   authz.Action{Name: "ecs.instance.resize"},
			Resource: authz.Entity{Type: "ecs.instance", ID: "i-1", Properties: authz.MustValue(map[string]any{"user_data": "hunter2"})}},
	}
	if g, _, err := behind.PAP.MintGrant(ctx, minter, spec); !errors.Is(err, pap.ErrVersion) {
		t.Fatalf("minted %+v by release %d: %v", g.Satisfies, behind.PDP.Active().Release.Number, err)
	}
	if err := behind.Feed.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	g, _, err := behind.PAP.MintGrant(ctx, minter, spec)
	if err != nil {
		t.Fatal(err)
	}

	// What policies call sensitive is not in the grant, nor in the audit of it.
	changes, err := behind.Store.QueryAudit(ctx, pap.AuditFilter{Action: "grant.mint"}, 10)
	if err != nil || len(changes) != 1 {
		t.Fatalf("%+v, %v", changes, err)
	}
	kept, _ := json.Marshal([]any{g, changes})
	if strings.Contains(string(kept), "hunter2") || !strings.Contains(string(kept), pdp.Masked) {
		t.Errorf("kept %s", kept)
	}
	// And yet it is bound to what was asked for.
	if digest, err := behind.PDP.Active().RequestDigest(spec.Request, time.Now()); err != nil || digest.String() != g.Requests[0] {
		t.Errorf("bound to %v, want %s: %v", g.Requests, digest, err)
	}
}
