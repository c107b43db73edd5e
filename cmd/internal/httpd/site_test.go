package httpd

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/postgres"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

// site is one database, which any number of nodes administer.
type site struct {
	t       *testing.T
	open    func() storetest.Store
	ahead   atomic.Int64 // of the clock, in nanoseconds
	nodes   []*pap.Service
	store   storetest.Store // of the first node
	content map[string]string
}

// onEveryDatabase runs a test on SQLite and on PostgreSQL.
func onEveryDatabase(t *testing.T, test func(t *testing.T, s *site)) {
	for name, place := range map[string]func(t *testing.T) func() (storetest.Store, error){
		"SQLite": func(t *testing.T) func() (storetest.Store, error) {
			dir := t.TempDir()
			return func() (storetest.Store, error) { return sqlite.Open(t.Context(), dir, sqlite.Options{}) }
		},
		"PostgreSQL": func(t *testing.T) func() (storetest.Store, error) {
			schema := storetest.PostgresSchema(t)
			return func() (storetest.Store, error) { return postgres.Open(t.Context(), schema, postgres.Options{}) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connect := place(t)
			s := &site{t: t, open: func() storetest.Store {
				store, err := connect()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := store.Close(); err != nil {
						t.Error(err)
					}
				})
				return store
			}}
			s.begin()
			test(t, s)
		})
	}
}

func (s *site) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// node joins one more node.
func (s *site) node() *pap.Service {
	s.t.Helper()
	store := s.open()
	if s.store == nil {
		s.store = store
	}
	compiler := engine.New()
	decider := pdp.New(pdp.Config{Recorder: &recorder{}, Uses: &useCounter{}, Now: s.now, NewID: newTestID})
	reader := feed.New(feed.Config{
		Store: store, PDP: decider, Directory: &pap.Directory{}, Compile: compiler.Compile, CompileRestriction: compiler.Restriction,
		Poll: time.Minute, Now: s.now, Log: slog.New(slog.DiscardHandler),
	})
	n := pap.New(pap.Config{
		Store: store, PEPStore: store, Decisions: store, Gate: gate{compiler}, CheckRestriction: compiler.CheckRestriction,
		Active: func() pap.Candidate {
			if active := decider.Active(); active != nil {
				return candidate{active}
			}
			return nil
		},
		CatchUp: reader.Sync, Now: s.now, NewID: newTestID,
	})
	s.nodes = append(s.nodes, n)
	return n
}

func newTestID() string { return ulid.Make().String() }

// begin publishes releases 1 and 2 and makes the tenants acme and globex.
func (s *site) begin() {
	n := s.node()
	s.must(admin.EnsureRoles(s.t.Context(), n, admin.LocalActor()))
	for _, id := range []string{"acme", "globex"} {
		_, _, err := n.CreateTenant(s.t.Context(), admin.LocalActor(), pap.Tenant{ID: id, Name: id})
		s.must(err)
	}
	s.content = testPolicies()
	var files []bundles.File
	for path, text := range s.content {
		files = append(files, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(files)
	s.must(err)
	_, _, err = n.PublishContent(s.t.Context(), admin.LocalActor(), content, "first", false)
	s.must(err)
	s.publish(nil)
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// publish publishes one change in stages.
func (s *site) publish(stages []pap.Selector) pap.Release {
	s.t.Helper()
	r, err := s.tryPublish(admin.LocalActor(), pap.Publication{Stages: stages})
	s.must(err)
	return r
}

func (s *site) tryPublish(actor pap.Actor, p pap.Publication) (pap.Release, error) {
	s.t.Helper()
	const path = "tenants/acme/turns.policy.json"
	text := fmt.Sprintf(`{"id":"turns","name":%q,"rules":[{"id":"yes","condition":"action == 'turn'","effect":"ALLOW"}]}`, newTestID())
	version := int64(0)
	if doc, err := s.nodes[0].Document(s.t.Context(), admin.LocalActor(), path); err == nil {
		version = doc.Version
	}
	_, err := s.nodes[0].PutDocument(s.t.Context(), admin.LocalActor(), path, []byte(text), version)
	s.must(err)
	p.Drafts = []string{path}
	r, _, err := s.nodes[0].Publish(s.t.Context(), actor, p)
	return r, err
}

// pep is a PEP that is connected and holds a release and all of the log.
func (s *site) pep(tenant, id string, release uint64, labels map[string]string) pap.PEP {
	owner := tenant
	if tenant == "" {
		owner = pap.Platform
	}
	tenants := []string{tenant}
	if tenant == "" {
		tenants = []string{pap.AnyTenant}
	}
	return pap.PEP{
		Key: owner + "/service:shop/" + id, ID: id, Tenant: tenant, Subject: "service:shop", Tenants: tenants, Labels: labels, Kind: "stream",
		Connected: true, ConnectedAt: s.now(), SeenAt: s.now(), AckedAt: s.now(), HonoursUntil: s.now().Add(pap.GrantStale),
		Revision: authz.Revision{Release: release, Position: s.head().Position},
	}
}

// seen stores what a node says of PEPs.
func (s *site) seen(peps ...pap.PEP) {
	s.t.Helper()
	s.must(s.store.PutPEPs(s.t.Context(), peps))
}

// acks stores that a PEP acknowledged a release and all of the log.
func (s *site) acks(p pap.PEP, release uint64) {
	s.t.Helper()
	p.Revision, p.SeenAt, p.AckedAt = authz.Revision{Release: release, Position: s.head().Position}, s.now(), s.now()
	s.seen(p)
}

func (s *site) rejects(p pap.PEP, release uint64, reason string) {
	s.t.Helper()
	p.SeenAt, p.Rejects, p.Offered, p.Rejected = s.now(), 1, release, &pap.Rejection{Release: release, Reason: reason, At: s.now()}
	s.seen(p)
}

func (s *site) head() (head authz.Revision) {
	s.t.Helper()
	s.must(s.store.View(s.t.Context(), func(tx pap.Tx) (err error) {
		head, err = tx.Head()
		return err
	}))
	return head
}

// rollout is the newest one.
func (s *site) rollout(number uint64) pap.RolloutProgress {
	s.t.Helper()
	r, err := s.nodes[0].Rollout(s.t.Context(), admin.LocalActor(), number)
	s.must(err)
	return r
}

// trail lists the audit records of an action on a resource, oldest first.
func (s *site) trail(action, resource string) []authz.AuditRecord {
	s.t.Helper()
	records, err := s.store.QueryAudit(s.t.Context(), pap.AuditFilter{Action: action}, 100)
	s.must(err)
	var of []authz.AuditRecord
	for _, r := range records {
		if r.Resource == resource {
			of = append([]authz.AuditRecord{r}, of...)
		}
	}
	return of
}

// tenantActor holds every right in its tenant and none elsewhere.
func tenantActor(tenant, name string) pap.Actor {
	may := func(_ context.Context, right, where string) error {
		if where != tenant {
			return fmt.Errorf("%s in %s: %w", right, where, pap.ErrForbidden)
		}
		return nil
	}
	return pap.Actor{Name: name, Tenant: tenant, May: may, Could: may, Rights: []string{"*"}}
}

// mint makes a grant of an hour in acme that satisfies a rule.
func (s *site) mint(rule, action string) authz.Grant {
	s.t.Helper()
	request, err := authz.RequestOf(authz.MustValue(map[string]any{
		"tenant": "acme", "subject": map[string]any{"type": "user", "id": "li"}, "action": action, "resource": map[string]any{"type": "x", "id": "y"},
	}))
	s.must(err)
	actor := admin.LocalActor()
	actor.Could = tenantActor("nowhere", "").Could // asks for nobody else
	g, _, err := s.nodes[0].MintGrant(s.t.Context(), actor, pap.GrantSpec{
		Tenant: "acme", Satisfies: []string{rule}, Request: request, Reason: "test", Validity: authz.Validity{End: s.now().Add(time.Hour)},
	})
	s.must(err)
	return g
}
