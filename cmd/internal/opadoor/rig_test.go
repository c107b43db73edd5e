package opadoor_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/cmd/internal/opadoor"
	"github.com/xiezhi-project/xiezhi/cmd/internal/preview"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// rig is one node with its real parts: SQLite, feed, guard, engine, the API and
// the door, over loopback.
type rig struct {
	t      testing.TB
	api    string // URL of the API listener
	door   string // URL of the door
	store  *sqlite.Store
	pdp    *pdp.PDP
	pap    *pap.Service
	feed   *feed.Feed
	guard  *access.Guard
	key    *ecdsa.PrivateKey
	doors  *opadoor.Door
	tokens map[string]string
	log    *bytes.Buffer

	mu       sync.Mutex
	reports  map[string]pap.PEP
	records  []authz.AuditRecord // of /v1/data
	refused  []authz.AuditRecord
	insert   func(ctx context.Context, records []authz.AuditRecord) error
	between  func(http.Handler) http.Handler // stands before the door; may change
	newerKey *ecdsa.PrivateKey
}

const kid = "opa-key-1"

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// gate compiles; what else a gate does is tested where it lives.
type gate struct{ engine *engine.Engine }

func (g gate) Check(ctx context.Context, content *bundles.Content, changed []string) (pap.Candidate, error) {
	release, err := g.engine.Compile(ctx, content)
	if err != nil {
		return nil, err
	}
	return candidate{&pdp.Snapshot{Release: release, Dynamic: &pdp.Dynamic{}}}, nil
}

type candidate struct{ *pdp.Snapshot }

func (c candidate) Number() uint64                         { return c.Release.Number }
func (c candidate) Rule(string) (pap.RuleInfo, bool)       { return pap.RuleInfo{}, false }
func (c candidate) Masked(req authz.Request) authz.Request { return req }
func (c candidate) RequestDigest(authz.Request) (string, error) {
	return "", nil
}

// Record implements pdp.Recorder.
func (r *rig) Record(_ context.Context, d *pdp.Record) error {
	record, err := d.Audit()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record)
	return nil
}

func newRig(t testing.TB, files map[string]string) *rig {
	t.Helper()
	ctx := t.Context()
	r := &rig{t: t, tokens: map[string]string{}, reports: map[string]pap.PEP{}, log: &bytes.Buffer{}}
	r.key = must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	r.store = must[*sqlite.Store](t)(sqlite.Open(ctx, t.TempDir(), sqlite.Options{}))
	t.Cleanup(func() {
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	newID := func() string { return ulid.Make().String() }
	log := slog.New(slog.NewTextHandler(&lockedWriter{r: r}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	compiler, directory := engine.New(), &pap.Directory{}
	r.pdp = pdp.New(pdp.Config{Recorder: r, Now: time.Now, NewID: newID})
	r.insert = r.store.InsertDecisions
	var door *opadoor.Door
	r.feed = feed.New(feed.Config{
		Store: r.store, PDP: r.pdp, Directory: directory, Compile: compiler.Compile, CompileRestriction: compiler.Restriction,
		Distribute: func(u feed.Update) { door.Update(u) }, Poll: time.Minute, Now: time.Now, Log: log,
	})
	r.guard = access.New(access.Config{PDP: r.pdp, Directory: directory, Feed: r.feed, Now: time.Now, Fresh: time.Second})
	door = opadoor.New(opadoor.Config{
		Guard: r.guard, PDP: r.pdp, Content: r.content,
		Signer: func(time.Time) (crypto.Signer, string, error) { return r.signer() },
		Insert: func(ctx context.Context, records []authz.AuditRecord) error { return r.insert(ctx, records) },
		Report: func(_ context.Context, pep pap.PEP) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reports[pep.Key] = pep
			return nil
		},
		Refused: func(record *authz.AuditRecord) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.refused = append(r.refused, *record)
		},
		Node: "node-1", Now: time.Now, NewID: newID, Log: log,
	})
	r.doors = door
	r.pap = pap.New(pap.Config{
		Store: r.store, Gate: gate{compiler}, CheckRestriction: compiler.CheckRestriction,
		Active: func() pap.Candidate {
			if s := r.pdp.Active(); s != nil {
				return candidate{s}
			}
			return nil
		},
		CatchUp: r.feed.Sync, Now: time.Now, NewID: newID,
	})
	server := must[*httpd.Server](t)(httpd.New(httpd.Config{
		Guard: r.guard, PDP: r.pdp, PAP: r.pap, Store: r.store, Now: time.Now, NewID: newID, Log: log,
		Preview: preview.New(preview.Config{Store: r.store, Compile: compiler.Compile, CompileRestriction: compiler.Restriction, Now: time.Now}),
	}))
	r.listen(server)
	r.populate(files)
	return r
}

// listen serves the API and the door until the test ends.
func (r *rig) listen(server *httpd.Server) {
	listener := must[net.Listener](r.t)(net.Listen("tcp", "127.0.0.1:0"))
	r.api = "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Serve(ctx, listener); err != nil {
			r.t.Error(err)
		}
	})
	running.Go(func() { r.doors.Run(ctx) })
	doors := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		between := r.between
		r.mu.Unlock()
		handler := r.doors.Handler()
		if between != nil {
			handler = between(handler)
		}
		handler.ServeHTTP(w, req)
	}))
	r.door = doors.URL
	r.t.Cleanup(func() {
		stop()
		running.Wait()
		doors.CloseClientConnections()
		doors.Close()
	})
}

func (r *rig) content(ctx context.Context, number uint64) (content *bundles.Content, err error) {
	err = r.store.View(ctx, func(tx pap.Tx) error {
		release, err := tx.Release(number)
		if err == nil {
			content, err = pap.ReadContent(tx, release)
		}
		return err
	})
	return content, err
}

func (r *rig) signer() (crypto.Signer, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newerKey != nil {
		return r.newerKey, "opa-key-2", nil
	}
	return r.key, kid, nil
}

// populate publishes files beside the shipped self policies and makes callers.
func (r *rig) populate(files map[string]string) {
	r.t.Helper()
	ctx, actor := r.t.Context(), admin.LocalActor()
	check := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	check(admin.EnsureRoles(ctx, r.pap, actor))
	for _, id := range []string{"acme", "globex"} {
		_, _, err := r.pap.CreateTenant(ctx, actor, pap.Tenant{ID: id, Name: id})
		check(err)
	}
	for _, c := range []struct{ key, tenant, typ, id, role string }{
		{"", "", "service", "agents", "admin"}, // a package's helpers take data.read
		{"admin", "", "user", "root", "admin"},
		{"platform", "", "service", "agents", "pep"},
		{"author", "acme", "user", "author", "author"},
		{"acme", "acme", "service", "agent", "pep"},
		{"globex", "globex", "service", "agent", "pep"},
		{"auditor", "acme", "user", "auditor", "auditor"},
	} {
		check(admin.EnsureSubject(ctx, r.pap, actor, pap.Subject{Tenant: c.tenant, Type: c.typ, ID: c.id}, c.role))
		if c.key == "" {
			continue
		}
		_, text, _, err := r.pap.CreateToken(ctx, actor, pap.Token{
			Tenant: c.tenant, Subject: pap.SubjectName(c.typ, c.id), Rights: []string{"*"}, ExpiresAt: time.Now().Add(time.Hour),
		})
		check(err)
		r.tokens[c.key] = text
	}
	r.publish(files)
}

// publish makes the files, beside the shipped self policies, the whole of the
// next release and returns its number.
func (r *rig) publish(files map[string]string) uint64 {
	r.t.Helper()
	shipped := must[*bundles.Content](r.t)(engine.Shipped())
	var all []bundles.File
	for _, f := range shipped.Files() {
		if strings.HasPrefix(f.Path, "self/") && !strings.HasPrefix(f.Path, "self/changes") { // nobody is asked here
			all = append(all, f)
		}
	}
	for path, text := range files {
		all = append(all, bundles.File{Path: path, Data: []byte(text)})
	}
	content := must[*bundles.Content](r.t)(bundles.NewContent(all))
	if _, _, err := r.pap.PublishContent(r.t.Context(), admin.LocalActor(), content, "test", false); err != nil {
		r.t.Fatal(err)
	}
	return r.pdp.Active().Release.Number
}

// shippedFiles are the policies of this repository without the self policies.
func shippedFiles(t testing.TB) map[string]string {
	files := map[string]string{}
	for _, f := range must[*bundles.Content](t)(engine.Shipped()).Files() {
		if !strings.HasPrefix(f.Path, "self/") {
			files[f.Path] = string(f.Data)
		}
	}
	return files
}

// lockedWriter lets a test read the log while the server writes it.
type lockedWriter struct{ r *rig }

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.r.log.Write(p)
}

// got is an answer.
type got struct {
	status int
	header http.Header
	text   string
}

// ask is one HTTP call to a URL.
func (r *rig) ask(as, method, url, body string, header map[string]string) got {
	r.t.Helper()
	req := must[*http.Request](r.t)(http.NewRequestWithContext(r.t.Context(), method, url, strings.NewReader(body)))
	if token := r.tokens[as]; token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp := must[*http.Response](r.t)(http.DefaultClient.Do(req))
	data := must[[]byte](r.t)(io.ReadAll(resp.Body))
	if err := resp.Body.Close(); err != nil {
		r.t.Fatal(err)
	}
	return got{resp.StatusCode, resp.Header, string(data)}
}

// await calls done until it is true.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-ticker.C
	}
}

func sign(r *rig) func(time.Time) (crypto.Signer, string, error) {
	return func(time.Time) (crypto.Signer, string, error) { return r.signer() }
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serveOnce asks a door without a listener.
func serveOnce(t testing.TB, d *opadoor.Door, token, path string) *httptest.ResponseRecorder {
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	req.Header.Set("Authorization", "Bearer "+token)
	answer := httptest.NewRecorder()
	d.Handler().ServeHTTP(answer, req)
	return answer
}
