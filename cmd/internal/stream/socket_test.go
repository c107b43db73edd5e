package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

	"github.com/xiezhi-project/xiezhi/bundles"
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
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if header == nil {
		header = http.Header{"Authorization": {"Bearer acme shop"}}
	}
	ws, answer, err := websocket.Dial(ctx, s.url+Path, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}, HTTPHeader: header})
	if err != nil {
		if answer != nil {
			err = fmt.Errorf("status %d: %w", answer.StatusCode, err)
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
	deadline := time.After(20 * time.Second)
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
	case <-time.After(20 * time.Second):
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
	deadline := time.Now().Add(20 * time.Second)
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

func TestPEPsThatNeverReadDelayNobody(t *testing.T) {
	w := newWorld(t)
	large := make([]byte, 5<<20) // beyond what the kernel keeps for a socket
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	good := s.connect(w.model("good", nil, "acme"))
	good.until("the first release", at(1, 0))
	w.publish(map[string]string{"platform/p": string(large)})
	s.sync()
	good.until("the large release", at(2, 0))
	const frozen = 3 * writers / 2
	small := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return conn, err
	}}}
	for i := range frozen {
		ws, _, err := websocket.Dial(context.Background(), s.url+Path, &websocket.DialOptions{
			HTTPClient: small, Subprotocols: []string{wire.Subprotocol}, HTTPHeader: http.Header{"Authorization": {"Bearer acme shop"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ws.CloseNow() })
		m := w.model(fmt.Sprint("frozen-", i), nil, "acme")
		if err := ws.Write(context.Background(), websocket.MessageBinary, m.greet()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "more writes stall than there are writers", func() bool { return s.Stats().Stalls >= frozen })
	began := time.Now()
	w.grant("acme", "grt-1", time.Hour)
	s.sync()
	good.until("a grant beside those that stall", at(2, 1))
	late := s.connect(w.model("late", nil, "acme"))
	late.until("the large release beside those that stall", at(2, 1))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestWhoDoesNotKeepTheProtocolIsDropped(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	bystander := s.connect(w.model("bystander", nil, "acme"))
	bystander.until("the release", at(1, 0))
	hello := func() []byte { return w.model("bad", nil, "acme").greet() }
	frame := func(header wire.Header) []byte { return mustFrame(header, nil) }
	held := func(h wire.Held) []byte { return frame(wire.Header{Type: wire.TypeAck, Held: &h}) }
	digest := "sha256:" + strings.Repeat("0", 64)
	rejects := frame(wire.Header{Type: wire.TypeReject, Release: 9, Reason: "x"})
	for name, says := range map[string][][]byte{
		"garbage first":             {[]byte("GET / HTTP/1.1\r\n\r\n")},
		"nothing in a frame":        {{}},
		"an ack first":              {held(wire.Held{})},
		"a node's frame first":      {mustFrame(wire.Header{Type: wire.TypeHeartbeat}, []byte("x"))},
		"another tenant's hello":    {w.model("bad", nil, "globex").greet()},
		"all tenants' hello":        {w.model("bad", nil, "*").greet()},
		"two hellos":                {hello(), hello()},
		"garbage after hello":       {hello(), []byte("garbage")},
		"a frame over the bound":    {hello(), make([]byte, wire.MaxPEPFrame+1)},
		"a node's frame":            {hello(), mustFrame(wire.Header{Type: wire.TypeLog}, []byte("x"))},
		"an ack of no release":      {hello(), held(wire.Held{Release: 7, Digest: digest})},
		"an ack of other content":   {hello(), held(wire.Held{Release: 1, Digest: digest})},
		"an ack of no position":     {hello(), held(wire.Held{Position: 99})},
		"an ack of no key set":      {hello(), held(wire.Held{Keys: 99})},
		"a reject of no release":    {hello(), rejects},
		"a reject of no position":   {hello(), frame(wire.Header{Type: wire.TypeReject, Position: 99, Reason: "x"})},
		"more acks than frames":     append([][]byte{hello()}, slices.Repeat([][]byte{held(wire.Held{})}, 3*unasked)...),
		"one resync after another":  append([][]byte{hello()}, slices.Repeat([][]byte{frame(wire.Header{Type: wire.TypeResync, Log: true})}, maxResyncs+1)...),
		"an unknown type":           {hello(), []byte("\x00\x00\x00\x10" + `{"type":"shell"}`)},
		"an unknown member":         {hello(), []byte("\x00\x00\x00\x25" + `{"type":"resync","log":true,"x":true}`)},
		"a header longer than that": {hello(), []byte("\xff\xff\xff\xff{}")},
	} {
		before := s.Stats()
		ws, err := s.dial(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		for _, data := range says {
			if err := ws.Write(ctx, websocket.MessageBinary, data); err != nil {
				break // it was dropped on the way
			}
		}
		for err == nil {
			_, _, err = ws.Read(ctx)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: not dropped", name)
		}
		cancel()
		_ = ws.CloseNow()
		eventually(t, name+" is counted", func() bool {
			now := s.Stats()
			return now.Dropped+now.Refused > before.Dropped+before.Refused
		})
	}
	w.grant("acme", "grt-1", time.Hour)
	s.sync()
	bystander.until("a grant", at(1, 1))
}

func TestHalfAFrameAndSilenceHarmNobody(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.config.HelloWithin = 100 * time.Millisecond
	s.sync()
	address := strings.TrimPrefix(s.url, "http://")
	upgrade := "GET /stream HTTP/1.1\r\nHost: " + address + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xiezhi.v1\r\nAuthorization: Bearer acme shop\r\n\r\n"
	var all sync.WaitGroup
	for name, bytes := range map[string]string{
		"silence after the upgrade": upgrade,
		"half a frame":              upgrade + "\x82\xfe\x01\x00abcd half",
		"a frame without a mask":    upgrade + "\x82\x01x",
		"a frame of an odd length":  upgrade + "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd",
		"a reserved opcode":         upgrade + "\x83\x80abcd",
	} {
		all.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, err = io.WriteString(conn, bytes)
			err = errors.Join(err, conn.SetReadDeadline(time.Now().Add(2*helloWithin)))
			if err != nil {
				t.Error(err)
			}
			var timeout net.Error
			if _, err = io.Copy(io.Discard, conn); errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%s: the connection stays", name)
			}
		})
	}
	all.Wait()
	s.connect(w.model("good", nil, "acme")).until("the release", at(1, 0))
}

func TestTheDoorIsShutToStrangers(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t, "one")
	if _, err := s.dial("early", nil); err == nil || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("before a read of the store: %v", err)
	}
	s.sync()
	s.guard.take("stolen")
	for name, header := range map[string]http.Header{
		"no credential": {}, "another scheme": {"Authorization": {"Basic x"}}, "a revoked one": {"Authorization": {"Bearer acme stolen"}},
	} {
		if _, err := s.dial(name, header); err == nil || !strings.Contains(err.Error(), "status 401") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	header := http.Header{"Authorization": {"Bearer acme shop"}}
	ws, _, err := websocket.Dial(ctx, s.url+Path, &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{"xiezhi.v0"}})
	if err == nil {
		_, _, err = ws.Read(ctx)
	}
	if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("another subprotocol: %v", err)
	}
	foreign := header.Clone()
	foreign.Set("Origin", "https://evil.example")
	if _, err := s.dial("browser", foreign); err == nil {
		t.Error("a browser's page of another origin is let in")
	}
	for _, path := range []string{"/", "/stream/other"} {
		answer, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		if _ = answer.Body.Close(); answer.StatusCode != http.StatusNotFound && answer.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d", path, answer.StatusCode)
		}
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
	if took := time.Since(began); took > time.Second {
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
	s.config.PerCredential, s.config.Connections = 2, 3
	kept := []*client{s.connect(w.model("one", nil, "acme")), s.connect(w.model("two", nil, "acme"))}
	for _, c := range kept {
		c.until("its greeting", at(0, 0))
	}
	third := s.connect(w.model("three", nil, "acme"))
	if bye := third.ends(); bye == nil || bye.RetryAfter <= 0 {
		t.Errorf("one too many of a credential: bye %+v", bye)
	}
	kept[0].close()
	eventually(t, "the place is free", func() bool { return s.Stats().Connections == 1 })
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

// poll is one poll of a PEP.
func (s *served) poll(m *model, wait string, more ...[]byte) (status int, err error) {
	body := wire.AppendPart(nil, m.greet())
	for _, part := range more {
		body = wire.AppendPart(body, part)
	}
	req, err := http.NewRequest(http.MethodPost, s.url+PollPath+"?wait="+wait, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer acme shop")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return answer.StatusCode, nil
	}
	for {
		part, err := wire.ReadPart(answer.Body, wire.MaxNodeFrame)
		if err == io.EOF {
			return answer.StatusCode, nil
		}
		if err == nil {
			_, err = m.take(part)
		}
		if err != nil {
			return answer.StatusCode, err
		}
	}
}

func TestPollingGoesThroughTheSameStates(t *testing.T) {
	w := newWorld(t)
	w.grant("acme", "grt-1", time.Hour)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.config.HelloWithin = 200 * time.Millisecond
	s.sync()
	m := w.model("poller", nil, "acme")
	must := func(wait string, more ...[]byte) {
		t.Helper()
		m.kinds = nil
		if status, err := s.poll(m, wait, more...); err != nil || status != http.StatusOK {
			t.Fatalf("status %d, %v", status, err)
		}
		if !m.greeted {
			t.Fatalf("no heartbeat with the nonce among %v", m.kinds)
		}
	}
	must("0s")
	w.mustAgree(t, m)
	if m.held.Release != 1 {
		t.Fatalf("it holds %+v after %v", m.held, m.kinds)
	}
	must("0s")
	if !slices.Equal(m.kinds, []wire.Type{wire.TypeHeartbeat}) {
		t.Errorf("where nothing is new it is sent %v", m.kinds)
	}
	polled := make(chan error, 1)
	go func() {
		_, err := s.poll(m, "30s")
		polled <- err
	}()
	eventually(t, "it waits", func() bool { return s.Stats().Connections == 1 })
	<-time.After(2 * s.config.HelloWithin) // a wait is not bound by what bounds the hello
	w.revoke("acme", "grt-1")
	s.sync()
	if err := <-polled; err != nil {
		t.Fatal(err)
	}
	w.mustAgree(t, m)
	m.refuse = func(*bundles.Bundle) error { return errors.New("does not compile") }
	w.publish(map[string]string{"platform/p": "2"})
	s.sync()
	must("0s")
	releases := len(m.bases)
	must("0s") // it may still be compiling
	must("0s", mustFrame(wire.Header{Type: wire.TypeReject, Release: 2, Reason: "does not compile"}, nil))
	must("0s")
	if len(m.bases) != releases || m.held.Release != 1 {
		t.Errorf("a refused release is sent again: %d times more", len(m.bases)-releases)
	}
	m.refuse = nil
	must("0s", mustFrame(wire.Header{Type: wire.TypeResync, Snapshot: true, Log: true}, nil))
	if m.held.Release != 2 || m.bases[len(m.bases)-1] != "" {
		t.Errorf("after a resync it holds %+v", m.held)
	}
	eventually(t, "the PAP sees it", func() bool {
		p := w.pep("acme/service:shop/poller")
		return p.Kind == "poll" && p.Connected && p.Rejects == 1 && p.Rejected != nil
	})
	w.pass(pollGone + time.Second)
	eventually(t, "the PAP sees that it polls no more", func() bool { return !w.pep("acme/service:shop/poller").Connected })
	for name, part := range map[string][]byte{
		"an ack": m.ack(), "garbage": []byte("x"), "a second hello": m.greet(),
	} {
		if status, err := s.poll(m, "0s", part); err != nil || status != http.StatusBadRequest {
			t.Errorf("%s in a poll: status %d, %v", name, status, err)
		}
	}
	if status, err := s.poll(m, "61s"); err != nil || status != http.StatusBadRequest {
		t.Errorf("a wait over the bound: status %d, %v", status, err)
	}
	if status, err := s.poll(w.model("x", nil, "globex"), "0s"); err != nil || status != http.StatusForbidden {
		t.Errorf("another tenant: status %d, %v", status, err)
	}
}
