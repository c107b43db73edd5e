package approvals_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/approvals"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const (
	desk = `id: desk
name: Desk
rules:
  - {id: everybody, condition: 'true', effect: ALLOW, message: {en: Yes., zh: 可。}}
  - {id: large, condition: 'resource.properties.size > 10', effect: REVIEW, template: desk, message: {en: Large., zh: 大。}}
`
	template = `title: {en: Something large, zh: 大件}
decide_by: 8h
grant_for: {default: 1h, ceiling: 24h}
all_of:
  - {title: {en: Admins, zh: 管理员}, role: admin, approvals: 2}
`
)

// database is either of the stores.
type database interface {
	pap.Store
	pap.AuditStore
}

// node decides, and asks people.
type node struct {
	*cheq.Service
	store  database
	pdp    *pdp.PDP
	feed   *feed.Feed
	people *pap.Directory
	files  map[string]string
	next   uint64 // release
}

// newNode returns a node on a SQLite store of its own.
func newNode(t *testing.T) *node {
	t.Helper()
	n := join(t, openSQLite(t))
	n.fill(t)
	return n
}

func openSQLite(t *testing.T) database {
	t.Helper()
	store, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

var ids atomic.Uint64

func newID() string { return fmt.Sprintf("ID%08d", ids.Add(1)) }

// join returns a node on a store that it may share.
func join(t *testing.T, store database) *node {
	t.Helper()
	return joinAt(t, store, time.Now)
}

// joinAt is join with a clock for people and decisions, which may jump.
func joinAt(t *testing.T, store database, now func() time.Time) *node {
	t.Helper()
	compiler, directory := engine.New(), &pap.Directory{}
	n := &node{store: store, people: directory, files: map[string]string{}}
	n.pdp = pdp.New(pdp.Config{Now: now, NewID: newID})
	n.feed = feed.New(feed.Config{
		Store: store, PDP: n.pdp, Directory: directory, Compile: compiler.Compile, CompileRestriction: compiler.Restriction,
		Poll: time.Minute, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	n.Service = cheq.New(cheq.Config{Now: now, NewID: newID, Store: approvals.NewStore(approvals.Config{
		Store: store, Active: n.pdp.Active, Directory: directory, CatchUp: n.feed.Sync, NewID: newID,
	}), Limits: cheq.Limits{Pending: 100, Hourly: 1000}})
	return n
}

// fill makes a tenant, its rule and its people.
func (n *node) fill(t *testing.T) {
	t.Helper()
	n.publish(t, map[string]string{"tenants/acme/desk.policy.yaml": desk, "approvals/desk.yaml": template})
	n.put(t, pap.KindTenant, "acme", pap.Tenant{ID: "acme"})
	n.put(t, pap.KindRole, "acme/admin", pap.Role{Tenant: "acme", Name: "admin"})
	for _, name := range []string{"li", "wang", "zhao", "me"} {
		n.put(t, pap.KindSubject, "acme/user:"+name, pap.Subject{Tenant: "acme", Type: "user", ID: name})
		n.bind(t, name, false)
	}
}

// publish adds or changes files of the release behind this node's back.
func (n *node) publish(t *testing.T, files map[string]string) {
	t.Helper()
	n.next++
	for path, text := range files {
		n.files[path] = text
	}
	var list []bundles.File
	for path, text := range n.files {
		list = append(list, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(list)
	if err != nil {
		t.Fatal(err)
	}
	n.update(t, func(tx pap.Tx) error {
		r := pap.Release{Number: n.next, Digest: content.Digest(), Author: "a", CreatedAt: time.Now()}
		for _, f := range content.Files() {
			digest := bundles.Digest(sha256.Sum256(f.Data))
			if err := tx.PutBlob(digest, f.Data); err != nil {
				return err
			}
			r.Files = append(r.Files, pap.ReleaseFile{Path: f.Path, Digest: digest, Size: len(f.Data)})
		}
		return tx.InsertRelease(r)
	})
}

func (n *node) put(t *testing.T, kind pap.Kind, key string, body any) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	n.update(t, func(tx pap.Tx) error {
		_, err := tx.Put(pap.Record{Kind: kind, Key: key, Tenant: "acme", At: time.Now(), Body: data})
		return err
	})
}

func (n *node) bind(t *testing.T, name string, disabled bool) {
	t.Helper()
	n.put(t, pap.KindBinding, "b-"+name, pap.Binding{ID: "b-" + name, Tenant: "acme", Subject: "user:" + name, Role: "admin", Disabled: disabled})
}

func (n *node) update(t *testing.T, fn func(tx pap.Tx) error) {
	t.Helper()
	if err := n.store.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func request() authz.Request {
	return authz.Request{
		Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "me"}, Action: authz.Action{Name: "take"},
		Resource: authz.Entity{Type: "desk", ID: "1", Properties: authz.MustValue(map[string]any{"size": 12})},
	}
}

func (n *node) decide(t *testing.T) authz.Decision {
	t.Helper()
	if err := n.feed.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := n.pdp.Decide(t.Context(), request(), pdp.Caller{Name: "service:shop"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// open asks for what the decision was held up by.
func (n *node) open(t *testing.T) cheq.Case {
	t.Helper()
	if d := n.decide(t); d.Effect != authz.Review {
		t.Fatalf("decided %s: %v", d.Effect, d.Reasons)
	}
	active := n.pdp.Active()
	digest, err := active.RequestDigest(request(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rule, _ := active.Release.Rule("tenants/acme/desk/large")
	c, _, err := n.Open(t.Context(), cheq.Ask{
		Requester: person("me"), Caller: cheq.Person{Tenant: "acme", Name: "service:shop"}, Reason: "work",
		Request: request(), Digests: []string{digest.String()},
		Opens: []cheq.Opening{{RuleRef: authz.RuleRef{Rule: "tenants/acme/desk/large", Digest: rule.Digest.String()}, Effect: authz.Review, Template: rule.Template}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func person(name string) cheq.Person { return cheq.Person{Tenant: "acme", Name: "user:" + name} }

func (n *node) vote(t *testing.T, c cheq.Case, name string, yes bool) (cheq.Case, error) {
	t.Helper()
	return n.Vote(t.Context(), c.ID, cheq.Vote{Voter: person(name), Yes: yes, Channel: "api", Shown: c.Shown})
}

func TestAnApprovalOpensWhatWasAskedAndARevokeClosesIt(t *testing.T) {
	n := newNode(t)
	c := n.open(t)
	for _, name := range []string{"li", "wang"} {
		var err error
		if c, err = n.vote(t, c, name, true); err != nil {
			t.Fatal(err)
		}
	}
	if d := n.decide(t); c.State != cheq.Approved || d.Effect != authz.Allow {
		t.Fatalf("the case is %s, decided %s: %v", c.State, d.Effect, d.Reasons)
	}
	if _, err := n.Revoke(t.Context(), c.ID, person("li"), "enough"); err != nil {
		t.Fatal(err)
	}
	if d := n.decide(t); d.Effect != authz.Review {
		t.Errorf("after the revoke: %s", d.Effect)
	}
	records, err := n.store.QueryAudit(t.Context(), pap.AuditFilter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range records {
		if r.Resource == "cheq:"+c.ID {
			got[r.Actor+" "+r.Action]++
		}
	}
	for _, want := range []string{"user:me cheq.open", "user:li cheq.vote.approve", "user:wang cheq.vote.approve", "xiezhi cheq.approved", "user:li cheq.grant.revoke"} {
		if got[want] != 1 {
			t.Errorf("%d audit records %q; there are %v", got[want], want, got)
		}
	}
}

func TestASettlementSeesWhatThisNodeHasNotReadYet(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(t *testing.T, n *node)
		want   cheq.State
		err    error
	}{
		{"a role that was taken from who votes", func(t *testing.T, n *node) { n.bind(t, "wang", true) }, cheq.Pending, cheq.ErrNotReviewer},
		{"a role that was taken from who voted", func(t *testing.T, n *node) { n.bind(t, "li", true) }, cheq.Pending, nil},
		{"the role itself", func(t *testing.T, n *node) {
			n.put(t, pap.KindRole, "acme/admin", pap.Role{Tenant: "acme", Name: "admin", Disabled: true})
		}, cheq.Pending, cheq.ErrNotReviewer},
		{"a rule that changed", func(t *testing.T, n *node) {
			n.publish(t, map[string]string{"tenants/acme/desk.policy.yaml": desk + "version: '2'\n"})
		}, cheq.Cancelled, cheq.ErrSettled},
		{"a template that loosened", func(t *testing.T, n *node) {
			n.publish(t, map[string]string{"approvals/desk.yaml": template + "uses: 3\n"})
		}, cheq.Cancelled, cheq.ErrSettled},
		{"an agent of the requester's", func(t *testing.T, n *node) {
			n.put(t, pap.KindSubject, "acme/user:wang", pap.Subject{Tenant: "acme", Type: "user", ID: "wang", Owner: "user:me"})
		}, cheq.Pending, cheq.ErrNotReviewer},
		{"something else", func(t *testing.T, n *node) {
			n.put(t, pap.KindPush, "push", pap.Push{})
		}, cheq.Approved, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			c, err := n.vote(t, n.open(t), "li", true)
			if err != nil {
				t.Fatal(err)
			}
			row.change(t, n)
			_, err = n.vote(t, c, "wang", true)
			if !errors.Is(err, row.err) {
				t.Errorf("got %v, want %v", err, row.err)
			}
			if d := n.decide(t); (d.Effect == authz.Allow) != (row.want == cheq.Approved) {
				t.Errorf("decided %s", d.Effect)
			}
			if after, err := n.find(t, c.ID); err != nil || after.State != row.want {
				t.Errorf("the case is %s, want %s; %v", after.State, row.want, err)
			}
		})
	}
}

func (n *node) find(t *testing.T, id string) (c cheq.Case, err error) {
	t.Helper()
	err = n.store.View(t.Context(), func(tx pap.Tx) error {
		c, err = tx.(cheq.Rows).Case(id)
		return err
	})
	return c, err
}

func TestTwoDecisiveVotesAtOnceHaveOneOutcome(t *testing.T) {
	for range 5 {
		n := newNode(t)
		c, err := n.vote(t, n.open(t), "li", true)
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for name, yes := range map[string]bool{"wang": true, "zhao": false} {
			both.Go(func() {
				if _, err := n.vote(t, c, name, yes); err != nil && !errors.Is(err, cheq.ErrSettled) {
					t.Error(err)
				}
			})
		}
		both.Wait()
		after, err := n.find(t, c.ID)
		if err != nil || !after.State.Settled() || (after.Grant != "") != (after.State == cheq.Approved) {
			t.Fatalf("%s with the grant %q, %v", after.State, after.Grant, err)
		}
		if d := n.decide(t); (d.Effect == authz.Allow) != (after.State == cheq.Approved) {
			t.Errorf("the case is %s, decided %s", after.State, d.Effect)
		}
		var grants int
		err = n.store.View(t.Context(), func(tx pap.Tx) error {
			all, err := tx.Records(pap.KindGrant, "acme", "", 10)
			grants = len(all)
			return err
		})
		if err != nil || grants > 1 || (grants == 1) != (after.State == cheq.Approved) {
			t.Errorf("%d grants of a case that is %s, %v", grants, after.State, err)
		}
	}
}

// A node that loses the database right after a commit must not tell who voted
// that nothing was counted.
func TestWhatIsStoredIsNoFailure(t *testing.T) {
	n := newNode(t)
	c := n.open(t)
	gone := errors.New("the database is gone")
	var late []error
	cut := *n
	cut.Service = cheq.New(cheq.Config{Now: time.Now, NewID: newID, Store: approvals.NewStore(approvals.Config{
		Store: n.store, Active: n.pdp.Active, Directory: n.people, CatchUp: func(context.Context) error { return gone }, NewID: newID,
		Late: func(err error) { late = append(late, err) },
	})})
	if c, err := cut.vote(t, c, "li", true); err != nil || len(c.Votes) != 1 || len(late) != 1 || !errors.Is(late[0], gone) {
		t.Errorf("a vote that was stored: %v, %d votes, told %v", err, len(c.Votes), late)
	}
	n.bind(t, "wang", true) // behind the node's back: it must read first, and cannot
	if _, err := cut.vote(t, c, "zhao", true); !errors.Is(err, gone) {
		t.Errorf("a vote that was not stored: %v", err)
	}
	if after, err := n.find(t, c.ID); err != nil || len(after.Votes) != 1 {
		t.Errorf("%d votes, %v", len(after.Votes), err)
	}
}
