package preview

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// node is a store with everything that writes to it and reads from it.
type node struct {
	t       *testing.T
	store   *sqlite.Store
	pdp     *pdp.PDP
	pap     *pap.Service
	preview *Preview
}

type gate struct{ engine *engine.Engine }

func (g gate) Check(ctx context.Context, content *bundles.Content, _ []string) (pap.Candidate, error) {
	release, err := g.engine.Compile(ctx, content)
	return candidate{release}, err
}

type candidate struct{ release *pdp.Release }

func (candidate) Number() uint64                              { return 0 }
func (candidate) Rule(string) (pap.RuleInfo, bool)            { return pap.RuleInfo{}, false }
func (candidate) RequestDigest(authz.Request) (string, error) { return "", nil }
func (candidate) Masked(r authz.Request) authz.Request        { return r }

func newNode(t *testing.T) *node {
	t.Helper()
	store, err := sqlite.Open(context.Background(), t.TempDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	newID := func() string { return ulid.Make().String() }
	compiler := engine.New()
	n := &node{t: t, store: store, pdp: pdp.New(pdp.Config{Now: time.Now, NewID: newID})}
	reader := feed.New(feed.Config{
		Store: store, PDP: n.pdp, Directory: &pap.Directory{}, Compile: compiler.Compile, CompileRestriction: compiler.Restriction,
		Poll: time.Minute, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	n.pap = pap.New(pap.Config{
		Store: store, PEPStore: store, Decisions: store, Gate: gate{compiler}, Active: func() pap.Candidate { return candidate{} },
		CheckRestriction: compiler.CheckRestriction, CatchUp: reader.Sync, Now: time.Now, NewID: newID,
	})
	n.preview = New(Config{Store: store, Compile: compiler.Compile, CompileRestriction: compiler.Restriction, Now: time.Now})
	return n
}

// publish puts one tenant policy with this effect in force.
func (n *node) publish(effect string) authz.Revision {
	n.t.Helper()
	content, err := bundles.NewContent([]bundles.File{document(effect)})
	if err != nil {
		n.t.Fatal(err)
	}
	_, revision, err := n.pap.PublishContent(context.Background(), admin.LocalActor(), content, "test", false)
	if err != nil {
		n.t.Fatal(err)
	}
	return revision
}

func document(effect string) bundles.File {
	return bundles.File{Path: "platform/p.policy.json", Data: []byte(
		`{"id":"p","name":"P","rules":[{"condition":"true","effect":"` + effect + `","message":{"en":"x","zh":"x"}}]}`)}
}

func (n *node) effect(s *pdp.Snapshot) authz.Effect {
	n.t.Helper()
	entity := authz.Entity{Type: "t", ID: "i"}
	d, _, err := n.pdp.Evaluate(context.Background(), s, authz.Request{
		Tenant: "acme", Subject: entity, Action: authz.Action{Name: "a"}, Resource: entity}, false)
	if err != nil {
		n.t.Fatal(err)
	}
	return d.Effect
}

func TestAnOldRevisionAnswersAsItDid(t *testing.T) {
	n := newNode(t)
	ctx, actor := context.Background(), admin.LocalActor()
	if _, _, err := n.pap.CreateTenant(ctx, actor, pap.Tenant{ID: "acme"}); err != nil {
		t.Fatal(err)
	}
	open := n.publish("ALLOW")
	r, frozen, err := n.pap.CreateRestriction(ctx, actor, pap.RestrictionSpec{
		Tenant: "acme", Rules: []authz.RestrictionRule{{Condition: "true", Effect: authz.Deny}},
		Validity: authz.Validity{End: time.Now().Add(time.Hour)}, Reason: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	_, lifted, err := n.pap.EndDynamic(ctx, actor, r.ID, "over", 0)
	if err != nil {
		t.Fatal(err)
	}
	closed := n.publish("DENY")
	for _, row := range []struct {
		at   authz.Revision
		want authz.Effect
	}{
		{open, authz.Allow}, {frozen, authz.Deny}, {lifted, authz.Allow}, {closed, authz.Deny},
		{authz.Revision{Release: closed.Release, Position: open.Position}, authz.Deny}, // never in force, and yet well defined
	} {
		s, err := n.preview.At(ctx, row.at)
		if err != nil {
			t.Fatalf("%s: %v", row.at, err)
		}
		if s.Revision() != row.at || n.effect(s) != row.want {
			t.Errorf("%s: %s at %s, want %s", row.at, n.effect(s), s.Revision(), row.want)
		}
	}
	for _, unknown := range []authz.Revision{
		{}, {Release: closed.Release + 1, Position: 1}, {Release: 1, Position: closed.Position + 1},
	} {
		if _, err := n.preview.At(ctx, unknown); !errors.Is(err, pap.ErrNotFound) {
			t.Errorf("%s: %v", unknown, err)
		}
	}
}

func TestACandidateStandsOnTopAndLeavesNoTrace(t *testing.T) {
	n := newNode(t)
	revision := n.publish("ALLOW")
	base := n.pdp.Active()
	s, err := n.preview.With(context.Background(), base, []bundles.File{document("DENY")})
	if err != nil {
		t.Fatal(err)
	}
	if n.effect(s) != authz.Deny || s.Revision() != revision {
		t.Errorf("the candidate: %s at %s", n.effect(s), s.Revision())
	}
	if n.pdp.Active() != base || n.effect(base) != authz.Allow {
		t.Error("the base changed")
	}
	wrong := bundles.File{Path: "platform/p.policy.json", Data: []byte("{")}
	if _, err := n.preview.With(context.Background(), base, []bundles.File{wrong}); !errors.As(err, new(pdp.Faults)) {
		t.Errorf("a wrong candidate: %v", err)
	}
}

func TestCompilationsTakeTurns(t *testing.T) {
	n := newNode(t)
	n.publish("ALLOW")
	n.preview.turn <- struct{}{} // another one is under way
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := n.preview.With(ctx, n.pdp.Active(), []bundles.File{document("DENY")}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
