package stream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
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
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
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
	read  bool
	at    authz.Revision
}

// tokens is a guard whose tokens are callers' ids, good until taken.
type tokens struct {
	mu    sync.Mutex
	taken map[string]bool
	turn  uint64
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

func (w *world) node(t fataler, name string) *node {
	n := &node{world: w, guard: &tokens{taken: map[string]bool{}}, log: &logs{}}
	n.Hub = New(Config{
		Guard: n.guard, PEPs: w, Node: name, GrantStale: 30 * time.Second, Now: w.Now,
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

// model is a PEP as the protocol describes it: it verifies everything and
// keeps what it was sent.
type model struct {
	root    trust.Root
	tenants []string
	hello   wire.Hello
	now     func() time.Time

	set     *trust.Set
	held    wire.Held
	sealed  bundles.Sealed
	content *bundles.Content
	entries map[string]wire.Entry
	parts   []wire.Entry // of a range of several parts
	partsTo uint64
	reset   bool

	beat     wire.Heartbeat
	greeted  bool
	compared int
	resyncs  []wire.Frame
	refuse   func(*bundles.Bundle) error
	kinds    []wire.Type
	bases    []string
	bye      *wire.Frame
}

func (w *world) model(id string, labels map[string]string, tenants ...string) *model {
	return &model{root: w.root, tenants: tenants, now: w.Now, entries: map[string]wire.Entry{}, hello: wire.Hello{ID: id, Labels: labels, Tenants: tenants}}
}

// greet is the hello of a new connection.
func (m *model) greet() []byte {
	h := m.hello
	h.Nonce, h.Held = fmt.Sprintf("nonce-%p-%d-%d", m, len(m.kinds), m.held.Position), m.held
	m.hello.Nonce = h.Nonce
	m.greeted, m.parts, m.bye = false, nil, nil
	return mustFrame(wire.Header{Type: wire.TypeHello, Hello: &h}, nil)
}

func mustFrame(header wire.Header, body []byte) []byte {
	data, err := encode(header, body)
	if err != nil {
		panic(err)
	}
	return data
}

// take applies one frame and returns the answer, if there is one.
func (m *model) take(data []byte) (answer []byte, err error) {
	f, err := wire.Decode(data, wire.MaxNodeFrame)
	if err != nil {
		return nil, err
	}
	if !f.Type.FromNode() {
		return nil, fmt.Errorf("a node sends %s", f.Type)
	}
	m.kinds = append(m.kinds, f.Type)
	if m.set == nil && f.Type != wire.TypeKeys && f.Type != wire.TypeBye {
		return nil, fmt.Errorf("%s before keys", f.Type)
	}
	switch f.Type {
	case wire.TypeKeys:
		return m.takeKeys(&f)
	case wire.TypeLog:
		return m.takeLog(&f)
	case wire.TypeHeartbeat:
		return nil, m.takeBeat(&f)
	case wire.TypeRelease:
		return m.takeRelease(&f)
	default:
		m.bye = &f
		return nil, nil
	}
}

func (m *model) ack() []byte {
	held := m.held
	return mustFrame(wire.Header{Type: wire.TypeAck, Held: &held}, nil)
}

func (m *model) takeKeys(f *wire.Frame) ([]byte, error) {
	set, err := m.root.Open(string(f.Body), m.now())
	if err != nil {
		return nil, err
	}
	if m.set != nil && set.Version() < m.set.Version() {
		return nil, fmt.Errorf("key set %d after %d", set.Version(), m.set.Version())
	}
	m.set, m.held.Keys = set, set.Version()
	if f.Manifest != "" {
		sealed, err := bundles.OpenManifest(set, f.Manifest, m.now())
		if err != nil || sealed.Release != m.held.Release || sealed.Digest.String() != m.held.Digest {
			return nil, fmt.Errorf("manifest beside keys: %w", cmp.Or(err, errors.New("of another release")))
		}
		m.sealed, m.held.KeyID = sealed, sealed.KeyID
	}
	return m.ack(), nil
}

func (m *model) open(kind trust.Kind, f *wire.Frame, body any) error {
	signed, err := m.set.Verify(kind, string(f.Body), m.now())
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(signed.Body))
	decoder.DisallowUnknownFields()
	return decoder.Decode(body)
}

func (m *model) takeLog(f *wire.Frame) ([]byte, error) {
	var r wire.LogRange
	if err := m.open(trust.KindLog, f, &r); err != nil {
		return nil, err
	}
	from := m.held.Position
	if m.parts != nil {
		from = m.partsTo
	}
	first := m.parts == nil
	switch {
	case !slices.Equal(r.Tenants, m.tenants):
		return nil, fmt.Errorf("range for %v", r.Tenants)
	case r.From != from && !(first && r.Reset && r.From == 0):
		return nil, fmt.Errorf("range (%d, %d] at %d", r.From, r.To, from)
	case r.To < r.From || r.More && len(r.Entries) == 0:
		return nil, fmt.Errorf("range (%d, %d] with %d entries", r.From, r.To, len(r.Entries))
	}
	if first {
		m.parts, m.reset = []wire.Entry{}, r.Reset
	}
	m.parts, m.partsTo = append(m.parts, r.Entries...), r.To
	if r.More {
		return nil, nil
	}
	if m.reset {
		clear(m.entries)
	}
	last := uint64(0)
	for _, e := range m.parts {
		if e.Position < last || e.Position > r.To || !m.reset && e.Position <= m.held.Position {
			return nil, fmt.Errorf("entry at %d in (%d, %d]", e.Position, r.From, r.To)
		}
		last = e.Position
		if !slices.Contains(m.tenants, e.Tenant) && m.tenants[0] != "*" {
			return nil, fmt.Errorf("entry of tenant %s", e.Tenant)
		}
		m.entries[fmt.Sprintf("%s/%s/%s", e.Kind, e.Tenant, e.Key)] = e
	}
	m.parts, m.held.Position = nil, r.To
	return m.ack(), nil
}

func (m *model) takeBeat(f *wire.Frame) error {
	var b wire.Heartbeat
	if err := m.open(trust.KindHeartbeat, f, &b); err != nil {
		return err
	}
	switch {
	case !slices.Equal(b.Tenants, m.tenants):
		return fmt.Errorf("heartbeat for %v", b.Tenants)
	case !m.greeted && b.Nonce != m.hello.Nonce:
		return fmt.Errorf("the first heartbeat signs the nonce %q, not %q", b.Nonce, m.hello.Nonce)
	case m.greeted && b.Nonce != "":
		return fmt.Errorf("a nonce once more")
	case b.Time.Before(m.beat.Time) && b.Node == m.beat.Node:
		return fmt.Errorf("heartbeats run backwards")
	}
	m.greeted, m.beat = true, b
	if b.State != "" && b.Position == m.held.Position {
		state, err := m.state(b.Time)
		if err != nil {
			return err
		}
		if state != b.State {
			return fmt.Errorf("the state at %d differs", b.Position)
		}
		m.compared++
	}
	return nil
}

func (m *model) state(at time.Time) (string, error) {
	return wire.StateDigest(func(yield func(*wire.Entry) bool) {
		for _, e := range m.entries {
			if !yield(&e) {
				return
			}
		}
	}, at)
}

func (m *model) takeRelease(f *wire.Frame) ([]byte, error) {
	var base *bundles.Content
	if f.Base != "" {
		base = m.content
	}
	b, err := bundles.Read(bytes.NewReader(f.Body), m.set, m.now(), base)
	if err == nil && (b.Release != f.Release || !slices.Equal(b.Tenants, m.tenants)) {
		err = fmt.Errorf("release %d for %v in a frame of %d", b.Release, b.Tenants, f.Release)
	}
	var active *bundles.Sealed
	if m.held.Release != 0 {
		active = &m.sealed
	}
	if err == nil {
		err = bundles.CheckNext(active, &b.Sealed)
	}
	if err != nil {
		return nil, err
	}
	m.bases = append(m.bases, f.Base)
	if m.refuse != nil {
		if err := m.refuse(b); err != nil {
			return mustFrame(wire.Header{Type: wire.TypeReject, Release: f.Release, Reason: err.Error()}, nil), nil
		}
	}
	m.sealed, m.content = b.Sealed, b.Content
	m.held.Release, m.held.Digest, m.held.KeyID = b.Release, b.Digest.String(), b.KeyID
	return m.ack(), nil
}

// live is what the PEP would decide by at the world's time.
func (m *model) live(t fataler) map[string]string {
	t.Helper()
	all := map[string]string{}
	for key, e := range m.entries {
		until, err := e.CountsUntil()
		if err != nil {
			t.Fatalf("%v", err)
		}
		if !until.After(m.now()) {
			continue
		}
		if e.Kind == wire.EntryRoles {
			var r wire.Roles
			if err := json.Unmarshal(e.Body, &r); err != nil {
				t.Fatalf("%v", err)
			}
			all[key] = fmt.Sprint(r.Roles)
		} else {
			all[key] = until.String()
		}
	}
	return all
}

// mustAgree fails unless the PEP holds what the world says.
func (w *world) mustAgree(t fataler, m *model) {
	t.Helper()
	if got, want := m.live(t), w.entries(m.tenants); !maps.Equal(got, want) {
		t.Fatalf("PEP %s at %d holds %v, want %v", m.hello.ID, m.held.Position, got, want)
	}
	head := w.head()
	if m.held.Position != head.Position {
		t.Fatalf("PEP %s is at %d, want %d", m.hello.ID, m.held.Position, head.Position)
	}
}
