package pep

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// pipes is a network in memory, so that time can be synctest's. A frozen one
// delivers nothing, and keeps it for when it thaws.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once

	mu     sync.Mutex
	frozen chan struct{} // not nil while frozen; closed by thaw
	dials  []time.Time
	refuse bool
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	p.dials = append(p.dials, time.Now())
	refuse := p.refuse
	p.mu.Unlock()
	if refuse {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	theirs := newBuffered(far)
	select {
	case p.conns <- theirs:
		return &icy{Conn: newBuffered(near), pipes: p}, nil
	case <-p.done:
		return nil, errors.Join(errors.New("connection refused"), theirs.Close())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), theirs.Close())
	}
}

func (p *pipes) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

func (p *pipes) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.frozen)
	p.frozen = nil
}

// buffered is an end of a pipe that takes what is written at once, as a socket
// does.
type buffered struct {
	net.Conn
	queue chan []byte
	gone  chan struct{}
	once  sync.Once
}

func newBuffered(c net.Conn) *buffered {
	b := &buffered{Conn: c, queue: make(chan []byte, 1000), gone: make(chan struct{})}
	go func() {
		for {
			select {
			case data := <-b.queue:
				if _, err := c.Write(data); err != nil {
					return
				}
			case <-b.gone:
				return
			}
		}
	}()
	return b
}

func (b *buffered) Write(data []byte) (int, error) {
	select {
	case b.queue <- slices.Clone(data):
		return len(data), nil
	case <-b.gone:
		return 0, net.ErrClosed
	}
}

func (b *buffered) Close() error {
	b.once.Do(func() { close(b.gone) })
	return b.Conn.Close()
}

// icy is the PEP's end of a connection: what it reads waits while it is frozen.
type icy struct {
	net.Conn
	pipes *pipes
	once  sync.Once
	gone  chan struct{}
	make  sync.Once
}

func (c *icy) closed() chan struct{} {
	c.make.Do(func() { c.gone = make(chan struct{}) })
	return c.gone
}

func (c *icy) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	c.pipes.mu.Lock()
	frozen := c.pipes.frozen
	c.pipes.mu.Unlock()
	if frozen != nil {
		select {
		case <-frozen:
		case <-c.closed():
			return 0, net.ErrClosed
		}
	}
	return n, err
}

func (c *icy) Close() error {
	c.once.Do(func() { close(c.closed()) })
	return c.Conn.Close()
}

// inTime runs a test in synctest's time with a node, a PEP and the network
// between them, and checks that all of it ends.
func inTime(t *testing.T, test func(t *testing.T, n *node, net *pipes, config Config)) {
	synctest.Test(t, func(t *testing.T) {
		net := newPipes()
		n := newNode("acme")
		n.serve(net, "http://127.0.0.1")
		config := n.config(t.TempDir())
		config.HTTP = &http.Client{Transport: &http.Transport{DialContext: net.dial}}
		test(t, n, net, config)
		n.kill()
		config.HTTP.CloseIdleConnections()
		// synctest fails the test if a goroutine is left.
	})
}

func TestAFrozenStreamEndsGrantsInTimeAndRecovers(t *testing.T) {
	inTime(t, func(t *testing.T, n *node, net *pipes, config Config) {
		n.publish("allow order.create\nreview order.delete")
		n.grant("order.delete", time.Hour)
		config.StaleBound = 10 * time.Minute
		p := start(t, config)
		ready(t, p)
		time.Sleep(7 * time.Second)
		wantEffect(t, p, "order.delete", authz.Allow)
		net.freeze()
		n.mu.Lock()
		n.beating = true
		n.mu.Unlock()
		n.revoke("order.delete") // nobody hears of it
		revoked := time.Now()
		for time.Since(revoked) < time.Minute {
			if effect(t, p, "order.delete") == authz.Allow && time.Since(revoked) >= MaxGrantStale {
				t.Fatalf("a revoked grant counts after %s", time.Since(revoked))
			}
			time.Sleep(500 * time.Millisecond)
		}
		a, err := p.Decide(t.Context(), request("order.create"))
		if err != nil || !a.Allowed() || !a.Stale {
			t.Errorf("within the stale bound: %+v, %v", a, err)
		}
		time.Sleep(10 * time.Minute)
		wantEffect(t, p, "order.create", authz.Deny)
		net.thaw() // all that was held back comes now
		time.Sleep(time.Minute)
		wantEffect(t, p, "order.create", authz.Allow)
		wantEffect(t, p, "order.delete", authz.Review)
		if s := p.Status(); !s.Connected || s.Stale {
			t.Errorf("%+v", s)
		}
		stop(t, p)
	})
}

func TestAGrantEndsWhenItEnds(t *testing.T) {
	inTime(t, func(t *testing.T, n *node, net *pipes, config Config) {
		n.publish("review order.delete")
		n.grant("order.delete", 20*time.Second)
		began := time.Now()
		p := start(t, config)
		ready(t, p)
		time.Sleep(time.Second)
		wantEffect(t, p, "order.delete", authz.Allow)
		net.freeze()
		for time.Since(began) < time.Minute {
			if want := time.Since(began) < 20*time.Second; (effect(t, p, "order.delete") == authz.Allow) != want {
				t.Fatalf("after %s: open is not %t", time.Since(began), want)
			}
			time.Sleep(100 * time.Millisecond)
		}
		net.thaw()
		stop(t, p)
	})
}

func TestTheLocalClockCanBeAnythingOnceANodeIsHeard(t *testing.T) {
	inTime(t, func(t *testing.T, n *node, net *pipes, config Config) {
		var mu sync.Mutex
		off := time.Duration(0)
		config.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(off)
		}
		var log strings.Builder
		config.Log = slog.New(slog.NewTextHandler(&log, nil))
		n.publish("allow order.create\nreview order.delete")
		n.grant("order.delete", 24*time.Hour)
		config.StaleBound = time.Minute
		p := start(t, config)
		ready(t, p)
		for _, hours := range []int{0, -1000, 1000, -1, 0} {
			mu.Lock()
			off = time.Duration(hours) * time.Hour
			mu.Unlock()
			time.Sleep(3 * time.Second)
			wantEffect(t, p, "order.create", authz.Allow)
			wantEffect(t, p, "order.delete", authz.Allow)
			if s := p.Status(); s.ClockSkew.Round(time.Hour) != off || time.Until(s.Now).Abs() > time.Second {
				t.Errorf("off by %s: %+v", off, s)
			}
		}
		stop(t, p)
		if got := strings.Count(log.String(), "the local clock is off"); got != 1 {
			t.Errorf("the alarm was raised %d times:\n%s", got, log.String())
		}
	})
}

func TestClockAndDiskRolledBackTogetherGiveNoGrant(t *testing.T) {
	inTime(t, func(t *testing.T, n *node, net *pipes, config Config) {
		n.publish("allow order.create\nreview order.delete")
		n.grant("order.delete", time.Minute)
		p := start(t, config)
		ready(t, p)
		time.Sleep(6 * time.Second)
		wantEffect(t, p, "order.delete", authz.Allow)
		stop(t, p)
		began := time.Now()
		time.Sleep(24 * time.Hour)
		n.kill()
		net.refuse = true
		// The disk is as it was, and so says the clock.
		config.Now = func() time.Time { return began }
		config.Engine = &tiny{}
		p = start(t, config)
		wantEffect(t, p, "order.create", authz.Allow) // nothing here can know
		wantEffect(t, p, "order.delete", authz.Review)
		time.Sleep(2 * time.Hour) // what passes is seen, whatever the clock says
		wantEffect(t, p, "order.create", authz.Deny)
		stop(t, p)
	})
}

func TestRetriesSpreadOutAndDoNotPileUp(t *testing.T) {
	inTime(t, func(t *testing.T, n *node, net *pipes, config Config) {
		net.refuse = true
		p := start(t, config)
		time.Sleep(time.Hour)
		net.mu.Lock()
		dials := net.dials
		net.mu.Unlock()
		if len(dials) < 60*60/31 || len(dials) > 60*60/5 {
			t.Errorf("%d tries in an hour", len(dials))
		}
		if len(dials) > 3 && dials[3].Sub(dials[0]) > 2*time.Second {
			t.Errorf("the first tries took %s", dials[3].Sub(dials[0]))
		}
		net.mu.Lock()
		net.refuse = false
		net.mu.Unlock()
		n.publish("allow order.create")
		time.Sleep(time.Minute)
		ready(t, p)
		wantEffect(t, p, "order.create", authz.Allow)
		for range 5 { // what was connected is back soon
			n.cut()
			time.Sleep(time.Second)
			if s := p.Status(); !s.Connected {
				t.Fatalf("%+v", s)
			}
		}
		stop(t, p)
	})
}

func TestByeIsHonoured(t *testing.T) {
	inTime(t, func(t *testing.T, n *node, net *pipes, config Config) {
		n.publish("allow order.create")
		p := start(t, config)
		ready(t, p)
		time.Sleep(time.Second)
		from := n.seen()
		said := time.Now()
		n.send(stream.Frame{Header: stream.Header{Type: stream.TypeBye, Reason: "stopping", RetryAfter: 4 * time.Second}})
		time.Sleep(3 * time.Second)
		if n.seen() != from {
			t.Error("it did not stay away")
		}
		time.Sleep(4 * time.Second)
		n.wait(t, from, ofType(stream.TypeHello))
		if s := p.Status(); !s.Connected {
			t.Errorf("after %s: %+v", time.Since(said), s)
		}
		stop(t, p)
	})
}

func TestNothingIsLeftRunningAfterClose(t *testing.T) {
	before := runtime.NumGoroutine()
	n := startNode(t, "acme")
	n.publish("allow order.create")
	for range 3 {
		p := start(t, n.config(t.TempDir()))
		ready(t, p)
		wantEffect(t, p, "order.create", authz.Allow)
		stop(t, p)
	}
	n.kill()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
