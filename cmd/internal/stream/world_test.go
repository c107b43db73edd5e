package stream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// fataler is what a test and a property share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is an installation: its log, its releases, its keys, its clock, and
// what is stored of PEPs. Hubs read it as a feed reads a store.
type world struct {
	mu       sync.Mutex
	now      time.Time
	records  []pap.Record
	releases []pap.Release // release n at n-1
	contents []*bundles.Content

	seals map[string]pap.Seal
	peps  map[string]pap.PEP
	fail  error // of the PEP store

	dir  string
	root trust.Root
	ring *trust.Ring
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{now: time.Now(), seals: map[string]pap.Seal{}, peps: map[string]pap.PEP{}, dir: filepath.Join(t.TempDir(), "keys")}
	ring, err := trust.NewRing(w.dir, "test", w.now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	w.root, w.ring = ring.Root(), ring
	return w
}

// again is another world with the same keys: making them is slow.
func (w *world) again() *world {
	return &world{now: time.Now(), seals: map[string]pap.Seal{}, peps: map[string]pap.PEP{}, dir: w.dir, root: w.root, ring: w.ring}
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
	return w.now
}

// put appends a record to the log.
func (w *world) put(kind pap.Kind, tenant, key string, body any) uint64 {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	position := uint64(len(w.records) + 1)
	w.records = append(w.records, pap.Record{Position: position, Kind: kind, Tenant: tenant, Key: key, At: w.now, Body: text})
	return position
}

func (w *world) grant(tenant, id string, life time.Duration) uint64 {
	now := w.Now().UTC()
	return w.put(pap.KindGrant, tenant, id, authz.Grant{
		ID: id, Tenant: tenant, Satisfies: []authz.RuleRef{{Rule: "r", Digest: "d"}}, Requests: []string{"digest"},
		Request:  authz.Request{Tenant: tenant, Subject: authz.Entity{Type: "user", ID: "secret-person"}, Action: authz.Action{Name: "x"}, Resource: authz.Entity{Type: "x", ID: "x"}},
		Validity: authz.Validity{Start: now, End: now.Add(life)}, Reason: "secret-reason", CreatedBy: "user:secret-person", CreatedAt: now,
	})
}

func (w *world) revoke(tenant, id string) uint64 {
	w.mu.Lock()
	var g authz.Grant
	for _, r := range w.records {
		if r.Kind == pap.KindGrant && r.Key == id {
			if err := json.Unmarshal(r.Body, &g); err != nil {
				panic(err)
			}
		}
	}
	now := w.now.UTC()
	w.mu.Unlock()
	g.Ended, g.EndedReason = &now, "secret-reason"
	return w.put(pap.KindGrant, tenant, id, g)
}

// bind puts a tenant, a role, a subject and its binding.
func (w *world) bind(tenant, subject, role string, disabled bool) uint64 {
	return w.put(pap.KindBinding, tenant, "bnd-"+tenant+subject+role, pap.Binding{
		ID: "bnd-" + tenant + subject + role, Tenant: tenant, Subject: "user:" + subject, Role: role, Disabled: disabled,
	})
}

func (w *world) tenant(id string, disabled bool) uint64 {
	return w.put(pap.KindTenant, id, id, pap.Tenant{ID: id, Name: "secret-name", Disabled: disabled})
}

func (w *world) subject(tenant, id string, disabled bool) uint64 {
	return w.put(pap.KindSubject, tenant, tenant+"/user:"+id, pap.Subject{Tenant: tenant, Type: "user", ID: id, Name: "secret-name", Disabled: disabled})
}

func (w *world) role(tenant, name string, disabled bool) uint64 {
	return w.put(pap.KindRole, tenant, cmp.Or(tenant, pap.Platform)+"/"+name, pap.Role{Tenant: tenant, Name: name, Disabled: disabled})
}

// publish adds a release of these files beside one of each tenant.
func (w *world) publish(files map[string]string) uint64 {
	all := []bundles.File{{Path: "self/secret.cedar", Data: []byte("secret")}}
	for path, text := range files {
		all = append(all, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(all)
	if err != nil {
		panic(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	number := uint64(len(w.releases) + 1)
	w.releases = append(w.releases, pap.Release{Number: number, Digest: content.Digest(), CreatedAt: w.now.UTC()})
	w.contents = append(w.contents, content)
	return number
}

func (w *world) head() authz.Revision {
	w.mu.Lock()
	defer w.mu.Unlock()
	return authz.Revision{Release: uint64(len(w.releases)), Position: uint64(len(w.records))}
}

// content is what a release has for an audience.
func (w *world) content(release uint64, tenants []string) *bundles.Content {
	w.mu.Lock()
	defer w.mu.Unlock()
	cut, err := pap.Subset(w.contents[release-1], tenants)
	if err != nil {
		panic(err)
	}
	return cut
}

// entries are what an audience should hold at the end of the log, computed
// from the whole of it and in the plainest way.
func (w *world) entries(tenants []string) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	serves := func(tenant string) bool {
		return slices.Contains(tenants, tenant) || slices.Contains(tenants, "*") && tenant != ""
	}
	directory := &pap.Directory{}
	if err := directory.Apply(w.records); err != nil {
		panic(err)
	}
	all := map[string]string{}
	for _, r := range w.records {
		switch r.Kind {
		case pap.KindGrant:
			var g authz.Grant
			if err := json.Unmarshal(r.Body, &g); err != nil {
				panic(err)
			}
			delete(all, "grant/"+g.Tenant+"/"+g.ID)
			if serves(g.Tenant) && g.Ended == nil && g.Validity.End.After(w.now) {
				all["grant/"+g.Tenant+"/"+g.ID] = g.Validity.End.String()
			}
		case pap.KindBinding:
			var b pap.Binding
			if err := json.Unmarshal(r.Body, &b); err != nil {
				panic(err)
			}
			if roles := directory.Roles(b.Tenant, b.Subject); b.Tenant != "" && serves(b.Tenant) && len(roles) > 0 {
				all["roles/"+b.Tenant+"/"+b.Subject] = fmt.Sprint(roles)
			}
		}
	}
	return all
}

// KeepSeal and the rest make the world a Store.
func (w *world) KeepSeal(_ context.Context, s pap.Seal) (pap.Seal, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := fmt.Sprint(s.Release, s.Audience, s.KeyID)
	if old, ok := w.seals[key]; ok {
		return old, w.fail
	}
	w.seals[key] = s
	return s, w.fail
}

func (w *world) Seals(_ context.Context, release uint64, audience string) ([]pap.Seal, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []pap.Seal
	for _, key := range slices.Sorted(maps.Keys(w.seals)) {
		if s := w.seals[key]; s.Release == release && s.Audience == audience {
			found = append(found, s)
		}
	}
	return found, w.fail
}

func (w *world) PutPEPs(_ context.Context, peps []pap.PEP) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range peps {
		if old, ok := w.peps[p.Key]; w.fail == nil && (!ok || !p.SeenAt.Before(old.SeenAt)) {
			w.peps[p.Key] = p
		}
	}
	return w.fail
}

func (w *world) pep(key string) pap.PEP {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.peps[key]
}

func (w *world) breakPEPs(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

// node is one hub over a world, and how far it has read.
type node struct {
	*Hub
	world *world
	guard *tokens
	log   *logs
	audit *audit
	read  bool
	at    authz.Revision
}

// tokens is a guard whose tokens are callers' ids, good until taken.
type tokens struct {
	mu    sync.Mutex
	taken map[string]bool
}

func (g *tokens) take(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken[id] = true
}

func (g *tokens) Authenticate(_ context.Context, header string) (access.Caller, error) {
	var tenant, id string
	if _, err := fmt.Sscanf(header, "Bearer %s %s", &tenant, &id); err != nil {
		return access.Caller{}, access.ErrUnauthenticated
	}
	c := access.Caller{Type: "service", ID: id, Tenant: tenant, TokenID: tenant + " " + id, Rights: []string{"*"}}
	if tenant == pap.Platform {
		c.Tenant = ""
	}
	return c, g.Standing(c)
}

func (g *tokens) AuthenticateCertificate(context.Context, *x509.Certificate) (access.Caller, error) {
	return access.Caller{}, access.ErrUnauthenticated
}

func (g *tokens) Standing(c access.Caller) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.taken[c.ID] {
		return access.ErrUnauthenticated
	}
	return nil
}

func (g *tokens) Allow(_ context.Context, c access.Caller, _, tenant string) error {
	if c.Tenant != "" && c.Tenant != tenant {
		return &access.DeniedError{Caller: c.Name(), Right: Right, Tenant: tenant}
	}
	return nil
}

func (g *tokens) Ground() access.Ground { return access.Ground{} }

// logs keeps what a hub says.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// audit keeps what a hub has written down.
type audit struct {
	mu  sync.Mutex
	all []authz.AuditRecord
}

func (a *audit) refused(r *authz.AuditRecord) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, *r)
}

func (a *audit) records() []authz.AuditRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

func (w *world) node(t fataler, name string) *node {
	n := &node{world: w, guard: &tokens{taken: map[string]bool{}}, log: &logs{}, audit: &audit{}}
	n.Hub = New(Config{
		Guard: n.guard, PEPs: w, Node: name, GrantStale: 30 * time.Second, Now: w.Now,
		Refused: n.audit.refused, NewID: func() string { return "id" },
		Log: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Content: func(_ context.Context, number uint64) (*bundles.Content, pap.Release, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.contents[number-1], w.releases[number-1], nil
		},
	})
	n.keys(t)
	return n
}

// keys hands the hub the keys as they are.
func (n *node) keys(t fataler) {
	t.Helper()
	w := n.world
	w.mu.Lock()
	ring := w.ring
	w.mu.Unlock()
	if err := n.SetKeys(ring.Set(), func(kind trust.Kind, body any) (string, error) { return ring.Sign(kind, body, w.Now()) }); err != nil {
		t.Fatalf("set keys: %v", err)
	}
}

// sync tells the hub of a read of the store: at first the newest of every key,
// then what is new, as the feed does.
func (n *node) sync() {
	w := n.world
	w.mu.Lock()
	head := authz.Revision{Release: uint64(len(w.releases)), Position: uint64(len(w.records))}
	u := feed.Update{Read: w.now, Head: head}
	if n.read {
		u.Records = slices.Clone(w.records[n.at.Position:])
	} else {
		newest := map[string]int{}
		for i, r := range w.records {
			newest[string(r.Kind)+"/"+r.Key] = i
		}
		for _, i := range newest { // in any order
			u.Records = append(u.Records, w.records[i])
		}
	}
	if head.Release > 0 && (!n.read || head.Release > n.at.Release) {
		info := w.releases[head.Release-1]
		u.Release, u.Content = &info, w.contents[head.Release-1]
	}
	n.read, n.at = true, head
	w.mu.Unlock()
	n.Update(u)
}
