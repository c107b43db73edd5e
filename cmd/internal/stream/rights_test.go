package stream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/sqlite"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// real is a node of real parts: SQLite, feed, guard and the shipped policies.
type real struct {
	t      *testing.T
	store  *sqlite.Store
	feed   *feed.Feed
	hub    *Hub
	keys   *world
	url    string
	client *http.Client
}

func (r *real) update(fn func(tx pap.Tx) error) {
	r.t.Helper()
	if err := r.store.Update(context.Background(), fn); err != nil {
		r.t.Fatal(err)
	}
	if err := r.feed.Sync(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

func put(tx pap.Tx, kind pap.Kind, tenant, key string, body any) error {
	text, err := json.Marshal(body)
	if err == nil {
		_, err = tx.Put(pap.Record{Kind: kind, Tenant: tenant, Key: key, At: time.Now(), Body: text})
	}
	return err
}

// token makes one for a subject, and returns its text.
func (r *real) token(tenant, subject, id string, revoked bool) string {
	r.t.Helper()
	text := pap.TokenPrefix + id + "_" + base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf("%-32s", id)))
	_, hash, ok := pap.SplitToken(text)
	if !ok {
		r.t.Fatal("no token")
	}
	token := pap.Token{ID: id, Tenant: tenant, Subject: subject, Rights: []string{"*"}, Hash: hash, ExpiresAt: time.Now().Add(time.Hour)}
	if revoked {
		now := time.Now()
		token.RevokedAt = &now
	}
	r.update(func(tx pap.Tx) error { return put(tx, pap.KindToken, tenant, id, token) })
	return text
}

func (r *real) bind(tenant, subject, role string, disabled bool) {
	r.t.Helper()
	id := "bnd-" + tenant + subject + role
	r.update(func(tx pap.Tx) error {
		return put(tx, pap.KindBinding, tenant, id, pap.Binding{ID: id, Tenant: tenant, Subject: subject, Role: role, Disabled: disabled})
	})
}

func newReal(t *testing.T, o Options) *real {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &real{t: t, keys: newWorld(t), client: http.DefaultClient}
	var err error
	if r.store, err = sqlite.Open(ctx, t.TempDir(), sqlite.Options{}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	compiler, directory := engine.New(), &pap.Directory{}
	decider := pdp.New(pdp.Config{Now: time.Now, NewID: func() string { return "id" }})
	r.feed = feed.New(feed.Config{
		Store: r.store, PDP: decider, Directory: directory, Compile: compiler.Compile, CompileRestriction: compiler.Restriction,
		Distribute: func(u feed.Update) { r.hub.Update(u) }, Poll: 50 * time.Millisecond, Now: time.Now, Log: log,
	})
	guard := access.New(access.Config{PDP: decider, Directory: directory, Feed: r.feed, Now: time.Now, Fresh: 500 * time.Millisecond})
	r.hub = New(Config{
		Guard: guard, PEPs: r.store, Node: "one", GrantStale: 30 * time.Second, Now: time.Now, Log: log,
		Content: func(ctx context.Context, number uint64) (content *bundles.Content, info pap.Release, err error) {
			err = r.store.View(ctx, func(tx pap.Tx) error {
				if info, err = tx.Release(number); err == nil {
					content, err = pap.ReadContent(tx, info)
				}
				return err
			})
			return content, info, err
		},
	})
	ring := r.keys.ring
	if err := r.hub.SetKeys(ring.Set(), func(kind trust.Kind, body any) (string, error) { return ring.Sign(kind, body, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	r.populate()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	scheme := "http://"
	if o.CertFile != "" {
		scheme = "https://"
	}
	r.url = scheme + ln.Addr().String()
	o.Log = log
	var running sync.WaitGroup
	running.Go(func() { r.feed.Run(ctx) })
	running.Go(func() {
		if err := r.hub.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := Serve(ctx, ln, o, map[string]http.Handler{"/stream": r.hub.Handler(), "/stream/": r.hub.Handler()}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *real) populate() {
	r.t.Helper()
	shipped, err := engine.Shipped()
	if err != nil {
		r.t.Fatal(err)
	}
	var files []bundles.File
	for _, f := range shipped.Files() {
		if strings.HasPrefix(f.Path, "self/") && !strings.HasPrefix(f.Path, "self/changes") { // nobody is asked here
			files = append(files, f)
		}
	}
	files = append(files,
		bundles.File{Path: "attributes.yaml", Data: []byte("attributes: {subject.roles: {trusted: true, source: directory}}")},
		bundles.File{Path: "platform/p.policy.json", Data: []byte(`{"id":"p","name":"P","scope":{"actions":["x"]},"rules":[{"id":"y","condition":"true","effect":"ALLOW"}]}`)})
	content, err := bundles.NewContent(files)
	if err != nil {
		r.t.Fatal(err)
	}
	r.update(func(tx pap.Tx) error {
		release := pap.Release{Number: 1, Digest: content.Digest(), Author: "test", CreatedAt: time.Now().UTC()}
		for _, f := range content.Files() {
			digest := bundles.Digest(sha256.Sum256(f.Data))
			if err := tx.PutBlob(digest, f.Data); err != nil {
				return err
			}
			release.Files = append(release.Files, pap.ReleaseFile{Path: f.Path, Digest: digest, Size: len(f.Data)})
		}
		if err := tx.InsertRelease(release); err != nil {
			return err
		}
		for _, tenant := range []string{"acme", "globex"} {
			if err := put(tx, pap.KindTenant, tenant, tenant, pap.Tenant{ID: tenant}); err != nil {
				return err
			}
		}
		if err := put(tx, pap.KindRole, "", "platform/pep", pap.Role{Name: "pep"}); err != nil {
			return err
		}
		for _, s := range []pap.Subject{{Tenant: "acme", Type: "service", ID: "shop"}, {Tenant: "acme", Type: "service", ID: "other"}, {Type: "service", ID: "gateway"}} {
			key := s.Tenant + "/service:" + s.ID
			if s.Tenant == "" {
				key = pap.Platform + key
			}
			if err := put(tx, pap.KindSubject, s.Tenant, key, s); err != nil {
				return err
			}
		}
		return nil
	})
	r.bind("acme", "service:shop", "pep", false)
	r.bind("", "service:gateway", "pep", false)
}

// connect says hello and returns the client, or why it was turned away.
func (r *real) connect(token, id string, tenants ...string) (*client, error) {
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, r.url+Path, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}, HTTPHeader: header, HTTPClient: r.client})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(wire.MaxNodeFrame)
	m := r.keys.model(id, nil, tenants...)
	m.now = time.Now
	c := &client{t: r.t, ws: ws, pep: m, moved: make(chan struct{}), ended: make(chan struct{})}
	if err := ws.Write(ctx, websocket.MessageBinary, m.greet()); err != nil {
		return nil, err
	}
	go c.listen()
	r.t.Cleanup(c.close)
	return c, nil
}

func (r *real) mustConnect(token, id string, tenants ...string) *client {
	r.t.Helper()
	c, err := r.connect(token, id, tenants...)
	if err != nil {
		r.t.Fatal(err)
	}
	c.until("the release", func(m *model) bool { return m.held.Release == 1 && m.greeted })
	return c
}

func (r *real) mustBeTurnedAway(token, id string, tenants ...string) {
	r.t.Helper()
	c, err := r.connect(token, id, tenants...)
	if err != nil {
		return
	}
	c.ends()
	if len(c.pep.entries) > 0 || c.pep.held.Release != 0 || c.pep.held.Keys != 0 {
		r.t.Errorf("%s was sent something: %+v", id, c.pep.held)
	}
}

func TestSelfPoliciesSayWhoReceivesWhat(t *testing.T) {
	r := newReal(t, Options{})
	shop, gateway := r.token("acme", "service:shop", "shop1", false), r.token("", "service:gateway", "gate1", false)
	other := r.token("acme", "service:other", "other1", false)
	c := r.mustConnect(shop, "shop", "acme")
	all := r.mustConnect(gateway, "gateway", "*")
	r.mustBeTurnedAway(shop, "neighbour", "globex")
	r.mustBeTurnedAway(shop, "both", "acme", "globex")
	r.mustBeTurnedAway(shop, "everything", "*")
	r.mustBeTurnedAway(other, "without-a-role", "acme")
	r.mustBeTurnedAway(shop+"x", "garbled", "acme")
	began := time.Now()
	r.bind("acme", "service:shop", "pep", true)
	if bye := c.ends(); bye == nil {
		t.Error("no bye")
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("a role taken back ends the connection after %s", took)
	}
	began = time.Now()
	r.token("", "service:gateway", "gate1", true)
	if bye := all.ends(); bye == nil {
		t.Error("no bye")
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("a revoked token ends the connection after %s", took)
	}
	r.mustBeTurnedAway(gateway, "gateway", "*")
}

// authority signs certificates of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key, a.cert = a.issue(nil, nil, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) issue(parent *x509.Certificate, by *ecdsa.PrivateKey, edit func(*x509.Certificate)) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	edit(template)
	if parent == nil {
		parent, by = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// client is one that shows a certificate with these URIs.
func (a *authority) client(by *authority, uris ...string) *http.Client {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	config := &tls.Config{RootCAs: roots}
	if uris != nil {
		key, cert := by.issue(by.cert, by.key, func(c *x509.Certificate) {
			for _, text := range uris {
				u, err := url.Parse(text)
				if err != nil {
					a.t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
		})
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
}

func TestAClientCertificateNamesASubject(t *testing.T) {
	a := newAuthority(t)
	key, cert := a.issue(a.cert, a.key, func(*x509.Certificate) {})
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	r := newReal(t, Options{
		CertFile: a.write("cert.pem", "CERTIFICATE", cert.Raw), KeyFile: a.write("key.pem", "EC PRIVATE KEY", der), ClientCAFile: filepath.Join(a.dir, "ca.pem"),
	})
	r.client = a.client(a, "xiezhi://acme/service/shop")
	c := r.mustConnect("", "shop", "acme")
	r.mustBeTurnedAway("", "neighbour", "globex")
	r.client = a.client(a, "xiezhi://platform/service/gateway", "spiffe://x/y")
	r.mustConnect("", "gateway", "*")
	r.client = a.client(a)
	r.mustBeTurnedAway("", "nobody", "acme")
	r.mustConnect(r.token("acme", "service:shop", "shop1", false), "by-token", "acme")
	for _, uri := range []string{
		"xiezhi://acme/service/unknown", "xiezhi://globex/service/shop", "xiezhi://acme/service", "xiezhi://acme/service/shop/x",
		"xiezhi:///service/shop", "xiezhi://acme/service:shop/", "xiezhi://acme//shop", "xiezhi://acme/service/shop?x=1", "xiezhi://acme:1/service/shop",
		"spiffe://acme/service/shop",
	} {
		r.client = a.client(a, uri)
		r.mustBeTurnedAway("", uri, "acme")
	}
	r.client = a.client(a, "xiezhi://acme/service/shop", "xiezhi://platform/service/gateway")
	r.mustBeTurnedAway("", "two", "acme")
	r.client = a.client(newAuthority(t), "xiezhi://acme/service/shop")
	r.mustBeTurnedAway("", "another authority's", "acme")
	r.update(func(tx pap.Tx) error {
		return put(tx, pap.KindSubject, "acme", "acme/service:shop", pap.Subject{Tenant: "acme", Type: "service", ID: "shop", Disabled: true})
	})
	if bye := c.ends(); bye == nil {
		t.Error("a disabled subject gets no bye")
	}
}

func TestPlainTextStaysOnLoopback(t *testing.T) {
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	err = Serve(context.Background(), ln, Options{Log: slog.New(slog.DiscardHandler)}, nil)
	if err == nil || !strings.Contains(err.Error(), ErrPlainText.Error()) {
		t.Errorf("served: %v", err)
	}
	for _, o := range []Options{{CertFile: "x"}, {KeyFile: "x"}, {ClientCAFile: "x"}, {CertFile: "nowhere", KeyFile: "nowhere"}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Log = slog.New(slog.DiscardHandler)
		if err := Serve(context.Background(), ln, o, nil); err == nil {
			t.Errorf("%+v: served", o)
		}
		if _, err := ln.Accept(); err == nil {
			t.Errorf("%+v: the listener stays open", o)
		}
	}
}
