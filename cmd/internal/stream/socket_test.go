package stream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// served is a node that answers on loopback.
type served struct {
	*node
	t    testing.TB
	url  string
	stop func()
}

// serve runs the node until the test ends.
func (w *world) serve(t testing.TB, name string) *served {
	t.Helper()
	s := &served{node: w.node(t, name), t: t}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	running.Go(func() {
		if err := Serve(ctx, ln, Options{Log: s.config.Log}, map[string]http.Handler{"/stream": s.Handler(), "/stream/": s.Handler()}); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	s.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(s.stop)
	return s
}

// client is a PEP on a socket: a model that reads and answers by itself.
type client struct {
	t  testing.TB
	ws *websocket.Conn

	mu    sync.Mutex
	pep   *model
	moved chan struct{} // closed at every frame, then a new one
	err   error         // of the end
	ended chan struct{}
}

func (s *served) dial(id string, header http.Header) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if header == nil {
		header = http.Header{"Authorization": {"Bearer acme shop"}}
	}
	ws, answer, err := websocket.Dial(ctx, s.url+Path, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}, HTTPHeader: header})
	if err != nil {
		if answer != nil {
			err = fmt.Errorf("status %d, retry after %s: %w", answer.StatusCode, answer.Header.Get("Retry-After"), err)
		}
		return nil, fmt.Errorf("dial %s: %w", id, err)
	}
	ws.SetReadLimit(wire.MaxNodeFrame)
	return ws, nil
}

func (s *served) connect(m *model) *client {
	s.t.Helper()
	ws, err := s.dial(m.hello.ID, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.hello(ws, m)
}

// dialAs opens a socket with a token of this tenant and name.
func (s *served) dialAs(token string) (*websocket.Conn, error) {
	ws, err := s.dial(token, http.Header{"Authorization": {"Bearer " + token}})
	if err == nil {
		s.t.Cleanup(func() { _ = ws.CloseNow() })
	}
	return ws, err
}

// hello has the PEP say hello on a socket.
func (s *served) hello(ws *websocket.Conn, m *model) *client {
	s.t.Helper()
	c := &client{t: s.t, ws: ws, pep: m, moved: make(chan struct{}), ended: make(chan struct{})}
	if err := ws.Write(context.Background(), websocket.MessageBinary, m.greet()); err != nil {
		s.t.Fatal(err)
	}
	go c.listen()
	s.t.Cleanup(c.close)
	return c
}

func (c *client) close() {
	_ = c.ws.CloseNow()
	<-c.ended
}

func (c *client) listen() {
	defer close(c.ended)
	for {
		_, data, err := c.ws.Read(context.Background())
		c.mu.Lock()
		var answer []byte
		if err == nil {
			if answer, err = c.pep.take(data); err != nil {
				c.t.Errorf("PEP %s: %v", c.pep.hello.ID, err)
			}
		}
		c.err = err
		close(c.moved)
		c.moved = make(chan struct{})
		c.mu.Unlock()
		if err == nil && answer != nil {
			err = c.ws.Write(context.Background(), websocket.MessageBinary, answer)
		}
		if err != nil {
			_ = c.ws.CloseNow()
			return
		}
	}
}

// until waits for the PEP to be as asked.
func (c *client) until(what string, is func(m *model) bool) {
	c.t.Helper()
	deadline := time.After(time.Minute)
	for {
		c.mu.Lock()
		ok, moved, err := is(c.pep), c.moved, c.err
		held := c.pep.held
		c.mu.Unlock()
		switch {
		case ok:
			return
		case err != nil:
			c.t.Fatalf("PEP %s: ended while waiting for %s: %v", c.pep.hello.ID, what, err)
		}
		select {
		case <-moved:
		case <-deadline:
			c.t.Fatalf("PEP %s: no %s in time; it holds %+v", c.pep.hello.ID, what, held)
		}
	}
}

// ends waits for the connection to end.
func (c *client) ends() *wire.Frame {
	c.t.Helper()
	select {
	case <-c.ended:
		return c.pep.bye
	case <-time.After(time.Minute):
		c.t.Fatalf("PEP %s: the connection does not end", c.pep.hello.ID)
		return nil
	}
}

func at(release, position uint64) func(m *model) bool {
	return func(m *model) bool { return m.held.Release == release && m.held.Position == position && m.greeted }
}

// eventually waits for what no frame tells of.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		runtime.Gosched()
		<-time.After(time.Millisecond)
	}
}

func TestAPEPIsSentWhatItLacksInOrder(t *testing.T) {
	w := newWorld(t)
	w.tenant("acme", false)
	w.subject("acme", "a", false)
	w.role("", "admin", false)
	w.bind("acme", "a", "admin", false)
	w.grant("acme", "grt-1", time.Hour)
	w.grant("globex", "grt-2", time.Hour)
	w.publish(map[string]string{"platform/p": "1", "tenants/acme/p": "own", "tenants/globex/p": "secret"})
	s := w.serve(t, "one")
	s.sync()
	c := s.connect(w.model("shop-1", map[string]string{"zone": "a"}, "acme"))
	c.until("everything", at(1, 6))
	if want := []wire.Type{wire.TypeKeys, wire.TypeLog, wire.TypeHeartbeat, wire.TypeRelease}; !slices.Equal(c.pep.kinds, want) {
		t.Errorf("it was sent %v, want %v", c.pep.kinds, want)
	}
	w.mustAgree(t, c.pep)
	if _, err := c.pep.content.File("tenants/globex/p"); err == nil {
		t.Error("it holds another tenant's policies")
	}
	for key, e := range c.pep.entries {
		if strings.Contains(string(e.Body), "secret") {
			t.Errorf("%s leaves with %s", key, e.Body)
		}
	}
	began := time.Now()
	w.grant("acme", "grt-3", time.Hour)
	s.sync()
	c.until("the grant", at(1, 7))
	w.revoke("acme", "grt-1")
	s.sync()
	c.until("the revocation", at(1, 8))
	w.publish(map[string]string{"platform/p": "2", "tenants/acme/p": "own"})
	s.sync()
	c.until("the release", at(2, 8))
	w.mustAgree(t, c.pep)
	t.Logf("three changes in %s", time.Since(began))
	w.grant("globex", "grt-4", time.Hour)
	s.sync()
	c.until("nothing for it", at(2, 9))
	eventually(t, "the PAP sees what it holds", func() bool {
		p := w.pep("acme/service:shop/shop-1")
		return p.Revision.Release == 2 && p.Revision.Position == 9
	})
	p := w.pep("acme/service:shop/shop-1")
	if !p.Connected || p.Kind != "stream" || p.Node != "one" || p.Labels["zone"] != "a" || p.Address == "" || p.Digest != c.pep.held.Digest || p.HonoursUntil.IsZero() {
		t.Errorf("the PAP sees %+v", p)
	}
	c.close()
	eventually(t, "the PAP sees that it is gone", func() bool { return !w.pep(p.Key).Connected })
}

func TestAGrantGoesAheadOfAReleaseUnderWay(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	n := w.node(t, "one")
	n.sync()
	l := n.dial(t, w.model("pep", nil, "acme"))
	l.settle(t)
	w.publish(map[string]string{"platform/p": "2"})
	n.sync()
	n.lacks(l.conn, laneSlow)
	n.buildAll(t)
	n.lacks(l.conn, laneSlow)
	n.buildAll(t)
	w.grant("acme", "grt-1", time.Hour)
	n.sync()
	l.write(10)
	var kinds []wire.Type
	for _, frame := range l.down {
		f, err := wire.Decode(frame, wire.MaxNodeFrame)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, f.Type)
	}
	if len(kinds) != 2 || kinds[0] != wire.TypeLog || kinds[1] != wire.TypeRelease {
		t.Errorf("sent in the order %v", kinds)
	}
	// What many lack of the log is taken ahead of what any lacks of a release.
	var q queue
	q.init()
	conns := []*conn{{}, {}, {}}
	q.mark(conns, laneSlow)
	q.mark(conns[2:], laneFast)
	if c, lane, _ := q.take(); c != conns[2] || lane != laneFast {
		t.Error("the log waits behind releases")
	}
}

func TestALostRightEndsTheConnection(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	c := s.connect(w.model("pep", nil, "acme"))
	c.until("the release", at(1, 0))
	s.guard.take("shop")
	w.pass(time.Second) // checks go by the node's clock
	began := time.Now()
	bye := c.ends()
	if bye == nil || bye.RetryAfter <= 0 || !strings.Contains(bye.Reason, "credential") {
		t.Errorf("bye: %+v", bye)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	eventually(t, "it is counted", func() bool { return s.Stats().Expelled == 1 && s.Stats().Connections == 0 })
}

func TestKeysRotateAndAreRevokedUnderConnectedPEPs(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	c := s.connect(w.model("pep", nil, "acme"))
	c.until("the release", at(1, 0))
	other := w.serve(t, "two")
	other.sync()
	second := other.connect(w.model("second", nil, "acme"))
	second.until("the release", at(1, 0))
	first := c.pep.held.KeyID
	if second.pep.sealed.Signed != c.pep.sealed.Signed {
		t.Error("two nodes serve different manifests of one release")
	}
	root := filepath.Join(w.dir, trust.RootKeyFile)
	change := func(edit func() error) {
		t.Helper()
		if err := edit(); err != nil {
			t.Fatal(err)
		}
		ring, err := trust.OpenRing(w.dir, w.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.ring = ring
		w.mu.Unlock()
		s.keys(t)
		other.keys(t)
	}
	version := c.pep.held.Keys
	for _, purpose := range []trust.Purpose{trust.PurposeReleases, trust.PurposeLog} {
		change(func() error {
			_, err := trust.Rotate(w.dir, root, purpose, w.Now(), time.Hour, w.Now())
			return err
		})
	}
	rotated := func(m *model) bool { return m.held.Keys == version+2 }
	c.until("the rotated keys", rotated)
	second.until("the rotated keys", rotated)
	if c.pep.held.KeyID != first {
		t.Error("a rotation signs the active release anew")
	}
	change(func() error {
		_, err := trust.Revoke(w.dir, root, first, "stolen", w.Now())
		return err
	})
	resigned := func(m *model) bool { return m.held.Keys == version+3 && m.held.KeyID != first }
	c.until("the revocation, and its release signed anew", resigned)
	second.until("the revocation, and its release signed anew", resigned)
	if second.pep.sealed.Signed != c.pep.sealed.Signed {
		t.Error("two nodes serve different manifests after the revocation")
	}
	if got := slices.Contains(c.pep.kinds[4:], wire.TypeRelease); got {
		t.Error("the whole release was sent again")
	}
	w.publish(map[string]string{"platform/p": "2"})
	w.grant("acme", "grt-1", time.Hour)
	s.sync()
	c.until("what comes after", at(2, 1))
}

func TestOnePEPHasOneConnection(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	old := s.connect(w.model("pep", nil, "acme"))
	old.until("the release", at(1, 0))
	back := s.connect(w.model("pep", nil, "acme"))
	back.until("the release", at(1, 0))
	if bye := old.ends(); bye == nil || !strings.Contains(bye.Reason, "same id") {
		t.Errorf("bye: %+v", bye)
	}
	eventually(t, "one is left", func() bool { return s.Stats().Connections == 1 })
	w.pass(time.Minute)
	s.sync()
	eventually(t, "the PAP sees it connected", func() bool { return w.pep("acme/service:shop/pep").Connected })
}

func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t, "one")
	s.sync()
	s.config.PerTenant, s.config.Connections = 2, 3
	kept := []*client{s.connect(w.model("one", nil, "acme")), s.connect(w.model("two", nil, "acme"))}
	for _, c := range kept {
		c.until("its greeting", at(0, 0))
	}
	for _, token := range []string{"shop", "another"} { // a tenant makes as many as it likes
		if _, err := s.dialAs("acme " + token); err == nil || !strings.Contains(err.Error(), "status 503, retry after 5") {
			t.Errorf("one too many of a tenant, by its token %s: %v", token, err)
		}
	}
	other, err := s.dialAs("globex shop")
	if err != nil {
		t.Errorf("another tenant is kept out: %v", err)
	} else {
		s.hello(other, w.model("other", nil, "globex")).until("its greeting", at(0, 0))
	}
	if _, err := s.dialAs("initech shop"); err == nil || !strings.Contains(err.Error(), "status 503, retry after 5") {
		t.Errorf("one too many of all: %v", err)
	}
	kept[0].close()
	eventually(t, "the place is free", func() bool { return s.Stats().Connections == 2 })
	s.connect(w.model("four", nil, "acme")).until("its greeting", at(0, 0))
}

func TestANodeThatStopsSaysByeAndLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	var clients []*client
	for i := range 20 {
		c := s.connect(w.model(fmt.Sprint("pep-", i), nil, "acme"))
		c.until("the release", at(1, 0))
		clients = append(clients, c)
	}
	silent, err := s.dial("silent", nil) // has said no hello yet
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.CloseNow() }()
	eventually(t, "everybody's acknowledgement is known", func() bool {
		return !slices.ContainsFunc(clients, func(c *client) bool {
			return w.pep("acme/service:shop/"+c.pep.hello.ID).Revision.Release != 1
		})
	})
	s.stop()
	waits := map[time.Duration]bool{}
	for _, c := range clients {
		bye := c.ends()
		if bye == nil || bye.Reason == "" || bye.RetryAfter <= 0 {
			t.Fatalf("bye: %+v", bye)
		}
		waits[bye.RetryAfter] = true
	}
	if len(waits) < len(clients)/2 {
		t.Errorf("%d PEPs come back at %d times", len(clients), len(waits))
	}
	for _, c := range clients {
		if p := w.pep("acme/service:shop/" + c.pep.hello.ID); p.Connected || p.Revision.Release != 1 {
			t.Errorf("the PAP sees %+v", p)
		}
	}
	_ = silent.CloseNow()
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "every goroutine ends", func() bool { return runtime.NumGoroutine() <= before+1 })
}

func TestAnOutageOfTheStoreDelaysWhatIsKnownOfPEPsAndLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	w.breakPEPs(pap.ErrStoreUnavailable)
	c := s.connect(w.model("pep", nil, "acme"))
	c.until("its greeting, without a release", func(m *model) bool { return m.greeted })
	w.grant("acme", "grt-1", time.Hour)
	s.sync()
	c.until("a grant", at(0, 1))
	eventually(t, "it failed", func() bool { return s.Stats().Failures > 1 })
	w.breakPEPs(nil)
	for range 3 { // a second later it is tried again
		w.pass(wire.HeartbeatEvery)
		s.sync()
	}
	c.until("the release", at(1, 1))
	eventually(t, "the PAP sees it", func() bool { return w.pep("acme/service:shop/pep").Revision.Release == 1 })
}
