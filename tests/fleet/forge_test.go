//go:build unix

package fleet

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// stolen is what somebody copied from a server's folder of keys.
type stolen struct {
	set           string // as it was signed
	releases, log ed25519.PrivateKey
}

// steal reads the keys that sign now.
func (s *site) steal(t *testing.T) stolen {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.keys(), trust.SetFile))
	if err != nil {
		t.Fatal(err)
	}
	return stolen{string(text), s.private(t, s.signing(t, trust.PurposeReleases)), s.private(t, s.signing(t, trust.PurposeLog))}
}

func (s *site) private(t *testing.T, kid string) ed25519.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.keys(), "private", kid+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey)
}

// keySet is the set in the folder.
func (s *site) keySet(t *testing.T) *trust.Set {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.keys(), trust.SetFile))
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.trust.Open(string(text), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// signing is the newest key that signs for the purpose now.
func (s *site) signing(t *testing.T, purpose trust.Purpose) string {
	t.Helper()
	var newest trust.Key
	for _, k := range s.keySet(t).Keys() {
		if k.Purpose == purpose && k.Signs(time.Now()) && !k.SignFrom.Before(newest.SignFrom) {
			newest = k
		}
	}
	if newest.ID == "" {
		t.Fatalf("no key signs for %s", purpose)
	}
	return newest.ID
}

// forger is a node that somebody runs with stolen keys. It speaks by polling.
type forger struct {
	t        *testing.T
	site     *site
	keys     stolen
	dated    time.Time // of signatures
	release  uint64    // it offers one that allows everything, under mu
	position uint64    // and a log up to here, which has:
	grant    json.RawMessage
	key      string // of the grant
	content  *bundles.Content
	server   *httptest.Server

	polls atomic.Uint64
	mu    sync.Mutex
	said  []string // reasons for which it was refused
}

// forge starts a forger's node: a release above the member's without the rule
// that asks for grants, a log that un-revokes the grant, and heartbeats that
// vouch for both.
func (s *site) forge(t *testing.T, m *member, keys stolen, g *mintedGrant, dated time.Time) *forger {
	t.Helper()
	f := &forger{t: t, site: s, keys: keys, dated: dated, release: m.release.Load() + 1000, position: m.position.Load() + 1000, key: g.id}
	var grant struct {
		Satisfies []authz.RuleRef
		Requests  []string
	}
	text := s.admin.must(t, http.StatusOK, call{path: "/api/v1/policy/dynamic/" + g.id}).body
	if err := json.Unmarshal(text, &grant); err != nil || len(grant.Requests) == 0 {
		t.Fatalf("%v: %s", err, text)
	}
	var err error
	if f.grant, err = json.Marshal(object{
		"id": g.id, "tenant": g.tenant, "satisfies": grant.Satisfies, "requests": grant.Requests,
		"validity": authz.Validity{Start: time.Now().Add(-time.Hour), End: time.Now().Add(time.Hour)},
	}); err != nil {
		t.Fatal(err)
	}
	held, err := m.bundle(s.keySet(t))
	if err != nil {
		t.Fatal(err)
	}
	var files []bundles.File
	for _, file := range held.Content.Files() {
		switch file.Path {
		case markerFile:
			file.Data = []byte(marker(int(f.release)))
		case "platform/orders.rego":
			continue
		}
		files = append(files, file)
	}
	if f.content, err = bundles.NewContent(files); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/xiezhi", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"stream_url":"ws://%s/stream"}`, s.stream)
	})
	mux.HandleFunc("POST /stream/poll", f.poll)
	f.server = httptest.NewServer(mux)
	t.Cleanup(f.server.Close)
	return f
}

// leads leads a road to the forger instead of the server.
func (f *forger) leads(r *road) {
	for _, g := range r.gates() {
		g.set(func() { g.to = f.server.Listener.Addr().String() })
	}
	r.cut()
}

func (f *forger) sign(key ed25519.PrivateKey, kind trust.Kind, body any) string {
	text, err := trust.Sign(key, f.site.trust.Installation, kind, body, f.dated)
	if err != nil {
		f.t.Error(err)
	}
	return text
}

func (f *forger) poll(w http.ResponseWriter, r *http.Request) {
	hello := f.hear(r.Body)
	if hello == nil {
		http.Error(w, "want a hello", http.StatusBadRequest)
		return
	}
	set, err := f.site.trust.Open(f.keys.set, time.Time{})
	if err != nil {
		f.t.Error(err)
		return
	}
	f.mu.Lock()
	release := f.release
	f.mu.Unlock()
	manifest := bundles.ManifestFor(f.content, release, 0, hello.Tenants, f.dated)
	var bundle bytes.Buffer
	if err := bundles.WriteSnapshot(&bundle, f.sign(f.keys.releases, trust.KindRelease, manifest), f.content); err != nil {
		f.t.Error(err)
	}
	var body []byte
	for _, frame := range []stream.Frame{
		{Header: stream.Header{Type: stream.TypeKeys}, Body: []byte(f.keys.set)},
		{Header: stream.Header{Type: stream.TypeLog}, Body: []byte(f.sign(f.keys.log, trust.KindLog, stream.LogRange{
			From: hello.Position, To: f.position, Tenants: hello.Tenants,
			Entries: []stream.Entry{{Position: f.position, Kind: stream.EntryGrant, Tenant: "acme", Key: f.key, Body: f.grant}},
		}))},
		{Header: stream.Header{Type: stream.TypeHeartbeat}, Body: []byte(f.sign(f.keys.log, trust.KindHeartbeat, stream.Heartbeat{
			Time: time.Now(), Node: "forger", Release: release, Digest: f.content.Digest().String(), Position: f.position,
			Keys: set.Version(), Tenants: hello.Tenants, Nonce: hello.Nonce,
		}))},
		{Header: stream.Header{Type: stream.TypeRelease, Release: release}, Body: bundle.Bytes()},
	} {
		data, err := frame.Append(nil)
		if err != nil {
			f.t.Error(err)
		}
		body = stream.AppendPart(body, data)
	}
	if _, err := w.Write(body); err == nil {
		f.polls.Add(1)
	}
}

// hear reads what a PEP says.
func (f *forger) hear(body io.Reader) (hello *stream.Hello) {
	for {
		part, err := stream.ReadPart(body, stream.MaxPEPFrame)
		if err != nil {
			return hello
		}
		frame, err := stream.Decode(part, stream.MaxPEPFrame)
		if err != nil {
			f.t.Error(err)
			return nil
		}
		switch frame.Type {
		case stream.TypeHello:
			hello = frame.Hello
		case stream.TypeReject:
			f.mu.Lock()
			f.said = append(f.said, frame.Reason)
			f.mu.Unlock()
		}
	}
}

// lower makes the forger offer a lower release from now on.
func (f *forger) lower() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.release--
}

func (f *forger) refusals() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.said...)
}

// bundle is the release on the member's disk.
func (m *member) bundle(set *trust.Set) (*bundles.Bundle, error) {
	file, err := os.Open(filepath.Join(m.dir, "state", "release.tar.gz"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return bundles.Read(file, set, time.Now(), nil)
}
