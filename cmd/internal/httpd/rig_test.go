package httpd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/approvals"
	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/preview"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// rig is one server with its real parts: SQLite, feed, guard, engine, and the
// shipped self policies. Only the recorder is the test's own, so that it can
// fail.
type rig struct {
	*Server
	t      testing.TB
	url    string
	log    *bytes.Buffer
	node   parts
	tokens map[string]string
	record *recorder
	schema *schemas
	// waiters are released when a case settles, as this node's feed tells.
	waiters *cheq.Waiters
	// ahead is how far the clock of the cases is ahead, in nanoseconds.
	ahead atomic.Int64
}

// parts are what a server stands on.
type parts struct {
	store *sqlite.Store
	pdp   *pdp.PDP
	pap   *pap.Service
	feed  *feed.Feed
	guard *access.Guard
	cases *cheq.Service
}

// recorder keeps records, or fails.
type recorder struct {
	mu   sync.Mutex
	all  []pdp.Record
	fail error
	// write takes records in place of all.
	write func(d *pdp.Record) error
}

func (r *recorder) Record(_ context.Context, d *pdp.Record) error {
	if r.write != nil {
		return r.write(d)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.all = append(r.all, *d)
	}
	return r.fail
}

func (r *recorder) take() []pdp.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

func (r *recorder) breakWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

// compiler is shared by all tests: they begin with the same policies.
var compiler = sync.OnceValue(engine.New)

// passed are the releases that passed the gate, by content and by what changed:
// the policies that every test begins with are held to their cases once.
var passed sync.Map

// gate compiles; what else a gate does is tested where it lives.
type gate struct{ engine *engine.Engine }

func (g gate) Check(ctx context.Context, content *bundles.Content, changed []string) (pap.Candidate, error) {
	key := content.Digest().String() + " " + strings.Join(changed, " ")
	known, ok := passed.Load(key)
	if !ok {
		release, err := g.engine.Gate(ctx, content, changed)
		if err != nil {
			return nil, err
		}
		known = release
		passed.Store(key, release)
	}
	release := known.(*pdp.Release)
	return candidate{&pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}}}, nil
}

type candidate struct{ *pdp.Snapshot }

func (c candidate) Number() uint64 { return c.Release.Number }

func (c candidate) Rule(name string) (pap.RuleInfo, bool) {
	rule, ok := c.Release.Rule(name)
	if !ok {
		return pap.RuleInfo{}, false
	}
	info := pap.RuleInfo{Digest: rule.Digest.String(), Waivable: rule.Waivable, Finding: true}
	info.Effect = map[pdp.RuleKind]authz.Effect{pdp.KindAllow: authz.Allow, pdp.KindReview: authz.Review}[rule.Kind]
	_, info.Tenant, _ = pdp.PolicyPlace(name)
	return info, true
}

func (c candidate) Masked(req authz.Request) authz.Request {
	return c.Snapshot.Masked(req, time.Now())
}

func (c candidate) RequestDigest(req authz.Request) (string, error) {
	digest, err := c.Snapshot.RequestDigest(req, time.Now())
	return digest.String(), err
}

// testPolicies is the repository that most tests decide by.
func testPolicies() map[string]string {
	return map[string]string{
		"attributes.yaml": `attributes: {subject.roles: {trusted: true, source: directory}}`,
		"platform/machines.policy.json": `{"id":"machines","name":"Machines","scope":{"actions":["ecs.*"]},"rules":[
			{"id":"anybody","condition":"true","effect":"ALLOW"},
			{"id":"small_only","condition":"resource.properties.cpu > 4","effect":"DENY","path":"/resource/properties/cpu","message":{"en":"Too large.","zh":"过大。"},"severity":"high"},
			{"id":"public_ip","condition":"has(resource.properties.public_ip)","effect":"REVIEW","admits":false,"message":{"en":"A public IP.","zh":"公网 IP。"}},
			{"id":"encrypt","condition":"has(resource.properties.secret)","effect":"ALLOW","obligations":[{"id":"encrypt_at_rest","must":true,"params":{}}]},
			{"id":"broken","condition":"has(resource.properties.broken) && resource.properties.broken.nowhere == 1","effect":"DENY","message":{"en":"x","zh":"x"}}]}`,
		"platform/records.policy.json": `{"id":"records","name":"Records","scope":{"actions":["read","write","delete"],"resource_types":["record"]},"rules":[
			{"id":"readers","condition":"action == 'read' && resource.id == 'record-1'","effect":"ALLOW"},
			{"id":"writers","condition":"action == 'write' && subject.id == 'alice' && resource.id == 'record-1'","effect":"ALLOW"},
			{"id":"soft_delete","condition":"action == 'delete' && subject.id == 'alice' && has(action_properties.soft) && action_properties.soft","effect":"ALLOW"},
			{"id":"administrators","condition":"action == 'write' && has(subject.properties.role) && subject.properties.role == 'admin'","effect":"ALLOW"},
			{"id":"archived","condition":"action == 'write' && has(resource.properties.status) && resource.properties.status == 'archived' && !(has(subject.properties.role) && subject.properties.role == 'admin')","effect":"DENY","message":{"en":"Archived.","zh":"已归档。"}}]}`,
		"tenants/acme/own.policy.json": `{"id":"own","name":"Own","scope":{"actions":["acme.*"]},"rules":[
			{"id":"yes","condition":"true","effect":"ALLOW"},
			{"id":"ask","condition":"has(resource.properties.ask)","effect":"REVIEW","message":{"en":"Ask.","zh":"请问。"}}]}`,
		"tables/limits.yaml": "tenants:\n  acme: {secret: acme-secret}\n  globex: {secret: globex-secret}\n",
	}
}

// newRig starts a server over loopback. Its tokens are by name: admin and
// auditor of the platform; of acme author, tenantadmin, pep, and the service
// shop; shop also exists in globex as globexshop.
func newRig(t testing.TB, files map[string]string) *rig {
	t.Helper()
	return newRigWith(t, files, Config{})
}

// noApprovals is of a server that asks nobody.
var noApprovals = &Approvals{}

// newRigWith is newRig with more of a Config.
func newRigWith(t testing.TB, files map[string]string, config Config) *rig {
	t.Helper()
	r := build(t, files, config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// build makes the server without serving.
func build(t testing.TB, files map[string]string, config Config) *rig {
	t.Helper()
	dir := t.TempDir()
	if files == nil {
		return assemble(t, dir, config)
	}
	s := populated(t, files)
	if err := os.CopyFS(dir, s.database); err != nil {
		t.Fatal(err)
	}
	r := assemble(t, dir, config)
	maps.Copy(r.tokens, s.tokens)
	if err := r.node.feed.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	return r
}

// assemble puts the server together on the database in the folder.
func assemble(t testing.TB, dir string, config Config) *rig {
	t.Helper()
	ctx := context.Background()
	r := &rig{t: t, log: &bytes.Buffer{}, tokens: map[string]string{}, record: &recorder{}, waiters: &cheq.Waiters{}}
	var err error
	if r.node.store, err = sqlite.Open(ctx, dir, sqlite.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.node.store.Close(); err != nil {
			t.Error(err)
		}
	})
	newID := func() string { return ulid.Make().String() }
	log := slog.New(slog.NewTextHandler(&lockedWriter{w: r.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	compiler := compiler()
	directory := &pap.Directory{}
	uses := &useCounter{}
	r.node.pdp = pdp.New(pdp.Config{Recorder: r.record, Uses: uses, Now: time.Now, NewID: newID})
	r.node.feed = feed.New(feed.Config{
		Store: r.node.store, PDP: r.node.pdp, Directory: directory, Compile: compiler.Compile,
		CompileRestriction: compiler.Restriction, Poll: time.Minute, Now: time.Now, Log: log,
		Distribute: func(u feed.Update) {
			for i := range u.Records {
				if u.Records[i].Kind == pap.KindCase {
					r.waiters.Settled(u.Records[i].Key)
				}
			}
		},
	})
	r.node.guard = access.New(access.Config{PDP: r.node.pdp, Directory: directory, Feed: r.node.feed, Now: time.Now, Fresh: time.Second})
	r.node.pap = pap.New(pap.Config{
		Store: r.node.store, PEPStore: r.node.store, Decisions: r.node.store, Gate: gate{compiler}, CheckRestriction: compiler.CheckRestriction,
		Active: func() pap.Candidate {
			if s := r.node.pdp.Active(); s != nil {
				return candidate{s}
			}
			return nil
		},
		CatchUp: r.node.feed.Sync, Now: time.Now, NewID: newID,
	})
	uses.pap = r.node.pap
	r.node.cases = cheq.New(cheq.Config{Now: func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }, NewID: newID, Store: approvals.NewStore(approvals.Config{
		Store: r.node.store, Active: r.node.pdp.Active, Directory: directory, CatchUp: r.node.feed.Sync, NewID: newID,
	})})
	if config.Approvals == nil {
		desk := &approvals.Desk{PDP: r.node.pdp, Cases: r.node.cases, Authors: r.node.cases.Store.(*approvals.Store).Authors, Now: time.Now, Failed: func(_ *pdp.Obstacles, err error) { t.Error(err) }}
		config.Approvals = &Approvals{
			Cases: r.node.cases, Open: desk.Open, Approval: approvals.Approval, Waiters: r.waiters, CatchUp: r.node.feed.Sync,
		}
	} else if config.Approvals == noApprovals {
		config.Approvals = nil
	}
	if config.AccessRequests == nil {
		keys := ring(t)
		config.AccessRequests = &arap.Tokens{Ring: func() *trust.Ring { return keys }, Now: func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }}
	} else if config.AccessRequests == noAccessRequests {
		config.AccessRequests = nil
	}
	config.Guard, config.PDP, config.PAP, config.Store = r.node.guard, r.node.pdp, r.node.pap, r.node.store
	config.Preview = preview.New(preview.Config{
		Store: r.node.store, Compile: compiler.Compile, CompileRestriction: compiler.Restriction, Now: time.Now,
	})
	config.Now, config.NewID, config.Log = time.Now, newID, log
	if r.Server, err = New(config); err != nil {
		t.Fatal(err)
	}
	r.schema = newSchemas(t, r.openapi)
	return r
}

// seed is a database that populate filled, and the tokens in it.
type seed struct {
	database fstest.MapFS
	tokens   map[string]string
}

// seeds are by the digest of the files: a test begins with a copy.
var seeds = struct {
	sync.Mutex
	by map[bundles.Digest]seed
}{by: map[bundles.Digest]seed{}}

// populated fills a database, or returns the one that was filled with the same
// files before.
func populated(t testing.TB, files map[string]string) seed {
	t.Helper()
	content := policyContent(t, files)
	seeds.Lock()
	defer seeds.Unlock()
	if s, ok := seeds.by[content.Digest()]; ok {
		return s
	}
	dir := t.TempDir()
	r := assemble(t, dir, Config{})
	r.populate(context.Background(), content)
	if err := r.node.store.Close(); err != nil {
		t.Fatal(err)
	}
	s := seed{database: fstest.MapFS{}, tokens: r.tokens}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		s.database[entry.Name()] = &fstest.MapFile{Data: data, Mode: 0o600}
	}
	seeds.by[content.Digest()] = s
	return s
}

// policyContent is files beside the shipped self policies.
func policyContent(t testing.TB, files map[string]string) *bundles.Content {
	t.Helper()
	shipped, err := engine.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var all []bundles.File
	for _, f := range shipped.Files() {
		if strings.HasPrefix(f.Path, "self/") && !strings.HasPrefix(f.Path, "self/changes") { // nobody is asked here
			all = append(all, f)
		}
	}
	for path, text := range files {
		all = append(all, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(all)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

type useCounter struct{ pap *pap.Service }

func (u *useCounter) CountUses(ctx context.Context, grants []*authz.Grant, caller pdp.Caller, decisionID string) ([]string, error) {
	key := decisionID
	if caller.IdempotencyKey != "" {
		key = caller.Name + " " + caller.IdempotencyKey
	}
	return u.pap.CountUses(ctx, grants, key)
}

func (u *useCounter) SpentUses(ctx context.Context, grants []*authz.Grant) ([]string, error) {
	return u.pap.SpentUses(ctx, grants)
}

// populate publishes the content and makes callers.
func (r *rig) populate(ctx context.Context, content *bundles.Content) {
	r.t.Helper()
	must := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	actor := admin.LocalActor()
	must(admin.EnsureRoles(ctx, r.node.pap, actor))
	for _, id := range []string{"acme", "globex"} {
		_, _, err := r.node.pap.CreateTenant(ctx, actor, pap.Tenant{ID: id, Name: id})
		must(err)
	}
	for _, c := range []struct{ key, tenant, typ, id, role string }{
		{"admin", "", "user", "root", "admin"},
		{"auditor", "", "user", "auditor", "auditor"},
		{"author", "acme", "user", "author", "author"},
		{"tenantadmin", "acme", "user", "boss", "admin"},
		{"pep", "acme", "service", "gateway", "pep"},
		{"shop", "acme", "service", "shop", "service"},
		{"globexshop", "globex", "service", "shop", "service"},
	} {
		must(admin.EnsureSubject(ctx, r.node.pap, actor, pap.Subject{Tenant: c.tenant, Type: c.typ, ID: c.id}, c.role))
		_, text, _, err := r.node.pap.CreateToken(ctx, actor, pap.Token{
			Tenant: c.tenant, Subject: pap.SubjectName(c.typ, c.id), Rights: []string{"*"}, ExpiresAt: time.Now().Add(time.Hour),
		})
		must(err)
		r.tokens[c.key] = text
	}
	_, _, err := r.node.pap.PublishContent(ctx, actor, content, "test", false)
	must(err)
}

// lockedWriter lets a test read the log while the server writes it.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// ask is one HTTP call.
type ask struct {
	as     string // name of a token, "" for none
	method string // default POST with a body, else GET
	path   string
	body   string
	header map[string]string
}

// got is the answer.
type got struct {
	status int
	header http.Header
	text   string
	json   map[string]any // nil where the answer is not an object
}

// do asks, and holds the answer to the OpenAPI document.
func (r *rig) do(a ask) got {
	r.t.Helper()
	if a.method == "" {
		a.method = http.MethodGet
		if a.body != "" {
			a.method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), a.method, r.url+a.path, strings.NewReader(a.body))
	if err != nil {
		r.t.Fatal(err)
	}
	if a.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.as != "" {
		token, known := r.tokens[a.as]
		if !known {
			token = a.as
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for name, value := range a.header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		r.t.Fatal(err)
	}
	g := got{status: resp.StatusCode, header: resp.Header, text: string(data)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") && a.method != http.MethodHead {
		if err := json.Unmarshal(data, &g.json); err != nil {
			r.t.Fatalf("%s %s: %v\n%s", a.method, a.path, err, data)
		}
	}
	if a.method != http.MethodHead {
		r.schema.check(r.t, a, g)
	}
	return g
}

// at reads a place in the answer.
func (g got) at(pointer string) any {
	var v any = g.json
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		switch node := v.(type) {
		case map[string]any:
			v = node[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(node) {
				return nil
			}
			v = node[i]
		default:
			return nil
		}
	}
	return v
}

func (g got) code() string { code, _ := g.json["code"].(string); return code }

// subject makes a subject without a role, and a token for it under its id.
func (r *rig) subject(key, tenant, typ, id string) {
	r.t.Helper()
	_, _, err := r.node.pap.CreateSubject(context.Background(), admin.LocalActor(), pap.Subject{Tenant: tenant, Type: typ, ID: id})
	if err != nil {
		r.t.Fatal(err)
	}
	r.token(key, tenant, pap.SubjectName(typ, id), "*")
}

func (r *rig) token(key, tenant, subject string, rights ...string) pap.Token {
	r.t.Helper()
	token, text, _, err := r.node.pap.CreateToken(context.Background(), admin.LocalActor(), pap.Token{
		Tenant: tenant, Subject: subject, Rights: rights, ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.tokens[key] = text
	return token
}

// head is the newest revision in the store.
func (r *rig) head() authz.Revision {
	r.t.Helper()
	head, err := newestRevision(context.Background(), r.node.store)
	if err != nil {
		r.t.Fatal(err)
	}
	return head
}

// inProcess asks without a listener, for servers that tests have tampered with.
func (r *rig) inProcess(a ask) got {
	r.t.Helper()
	method := http.MethodGet
	if a.body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://localhost"+a.path, strings.NewReader(a.body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+r.tokens[a.as])
	resp, err := r.app.Test(req, -1)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it is memory
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	g := got{status: resp.StatusCode, header: resp.Header, text: string(data)}
	_ = json.Unmarshal(data, &g.json) // not every answer is JSON
	return g
}

// publish adds files to what is published.
func (r *rig) publish(files map[string]string) {
	r.t.Helper()
	ctx := context.Background()
	content, err := r.node.pap.NewestContent(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	var changes []bundles.Change
	for path, text := range files {
		changes = append(changes, bundles.Change{Path: path, Data: []byte(text)})
	}
	next, err := content.Apply(changes)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, _, err := r.node.pap.PublishContent(ctx, admin.LocalActor(), next, "test", false); err != nil {
		r.t.Fatal(err)
	}
}
