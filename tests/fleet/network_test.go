//go:build unix

package fleet

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// road is the way of some PEPs to the server: a proxy before the API and one
// before the stream.
type road struct {
	api, stream *gate
	client      *http.Client
}

// build makes a road to the server, which goes with the test.
func (s *site) build(t *testing.T) *road {
	t.Helper()
	r := &road{api: open(t, s.api), stream: open(t, s.stream)}
	var dialer net.Dialer
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == s.stream {
			return dialer.DialContext(ctx, network, r.stream.address)
		}
		return dialer.DialContext(ctx, network, r.api.address)
	}}
	r.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return r
}

func (r *road) gates() []*gate { return []*gate{r.api, r.stream} }

func (r *road) cut() {
	for _, g := range r.gates() {
		g.cut()
	}
}

func (r *road) freeze() {
	for _, g := range r.gates() {
		g.freeze()
	}
}

func (r *road) thaw() {
	for _, g := range r.gates() {
		g.thaw()
	}
}

// block ends all connections and refuses new ones, until r is thawed.
func (r *road) block() {
	for _, g := range r.gates() {
		g.set(func() { g.blocked = true })
		g.cut()
	}
}

// gate is a TCP proxy before one address.
type gate struct {
	address  string
	to       string
	listener net.Listener
	copying  sync.WaitGroup

	mu        sync.Mutex
	crossings map[*crossing]struct{}
	frozen    bool
	blocked   bool
	delay     time.Duration
	closed    bool
}

// crossing is one connection through a gate.
type crossing struct {
	gate           *gate
	client, server *net.TCPConn
	once           sync.Once
	ended          chan struct{}

	mu     sync.Mutex
	frozen chan struct{} // nil, or closed at the thaw
}

func open(t *testing.T, to string) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{address: listener.Addr().String(), to: to, listener: listener, crossings: map[*crossing]struct{}{}}
	g.copying.Go(g.accept)
	t.Cleanup(func() {
		g.set(func() { g.closed = true })
		listener.Close()
		g.cut()
		g.copying.Wait()
	})
	return g
}

func (g *gate) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *gate) accept() {
	for {
		client, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.copying.Go(func() { g.cross(client.(*net.TCPConn)) })
	}
}

func (g *gate) cross(client *net.TCPConn) {
	server, err := net.Dial("tcp", g.to)
	if err != nil {
		client.Close()
		return
	}
	c := &crossing{gate: g, client: client, server: server.(*net.TCPConn), ended: make(chan struct{})}
	g.mu.Lock()
	refused := g.blocked || g.closed
	if !refused {
		g.crossings[c] = struct{}{}
		if g.frozen {
			c.freeze()
		}
	}
	g.mu.Unlock()
	if refused {
		c.cut()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { c.copy(c.server, c.client) })
	both.Go(func() { c.copy(c.client, c.server) })
	both.Wait()
	c.cut()
	g.set(func() { delete(g.crossings, c) })
}

// copy copies until either end closes; an orderly end is handed on.
func (c *crossing) copy(to, from *net.TCPConn) {
	chunk := make([]byte, 32<<10)
	for {
		n, err := from.Read(chunk)
		if !c.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(chunk[:n]); err != nil {
				c.cut()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			to.CloseWrite()
			return
		}
		if err != nil {
			c.cut()
			return
		}
	}
}

// pass waits while the crossing is frozen, and then for what it is delayed by.
// It reports whether the crossing still is.
func (c *crossing) pass() bool {
	c.gate.mu.Lock()
	delay := c.gate.delay
	c.gate.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.ended:
			return false
		}
	}
	for {
		c.mu.Lock()
		frozen := c.frozen
		c.mu.Unlock()
		if frozen == nil {
			return true
		}
		select {
		case <-frozen:
		case <-c.ended:
			return false
		}
	}
}

// cut resets both sides.
func (c *crossing) cut() {
	c.once.Do(func() {
		close(c.ended)
		for _, conn := range []*net.TCPConn{c.client, c.server} {
			conn.SetLinger(0)
			conn.Close()
		}
	})
}

// freeze stops copying both ways; what is under way stays under way.
func (c *crossing) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen == nil {
		c.frozen = make(chan struct{})
	}
}

func (c *crossing) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen != nil {
		close(c.frozen)
		c.frozen = nil
	}
}

// halfClose ends one direction, and leaves the other open.
func (c *crossing) halfClose(towardsClient bool) {
	if towardsClient {
		c.client.CloseWrite()
		return
	}
	c.server.CloseWrite()
}

func (g *gate) all() []*crossing {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*crossing, 0, len(g.crossings))
	for c := range g.crossings {
		all = append(all, c)
	}
	return all
}

// one is a random crossing, or nil.
func (g *gate) one(random *rand.Rand) *crossing {
	all := g.all() // in random order
	if len(all) == 0 {
		return nil
	}
	return all[random.IntN(len(all))]
}

func (g *gate) cut() {
	for _, c := range g.all() {
		c.cut()
	}
}

func (g *gate) freeze() {
	g.set(func() { g.frozen = true })
	for _, c := range g.all() {
		c.freeze()
	}
}

// thaw ends freezing and blocking.
func (g *gate) thaw() {
	g.set(func() { g.frozen, g.blocked = false, false })
	for _, c := range g.all() {
		c.thaw()
	}
}

func (g *gate) slow(delay time.Duration) { g.set(func() { g.delay = delay }) }
