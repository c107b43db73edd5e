package httpd

import (
	"errors"
	"net"
	"sync"
	"time"
)

// listener knows its open connections. fasthttp takes one on which nothing, or
// not all, of a call has come for busy, and would wait for it when the server
// stops; here such a connection is given a last moment.
type listener struct {
	net.Listener
	once sync.Once
	err  error

	mu   sync.Mutex
	open map[*conn]struct{}
	last time.Time // by when calls must have come; zero while the server runs
}

func newListener(ln net.Listener) *listener {
	return &listener{Listener: ln, open: map[*conn]struct{}{}}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, listener: l}
	l.mu.Lock()
	l.open[c] = struct{}{}
	last := l.last
	l.mu.Unlock()
	if !last.IsZero() {
		c.hurry(last)
	}
	return c, nil
}

// Close closes once: fasthttp stops shutting down at an error of a second
// Close, before it has waited for calls under way.
func (l *listener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

func (l *listener) connections() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*conn, 0, len(l.open))
	for c := range l.open {
		all = append(all, c)
	}
	return all
}

// hurry lets every connection read until then and no longer. What is being
// answered is not disturbed.
func (l *listener) hurry(last time.Time) {
	l.mu.Lock()
	l.last = last
	l.mu.Unlock()
	for _, c := range l.connections() {
		c.hurry(last)
	}
}

// drop closes what is open: no answer leaves any more.
func (l *listener) drop() {
	for _, c := range l.connections() {
		_ = c.Close() // fails only where it was closed meanwhile
	}
}

// conn is a connection that reads no longer than its listener lets it.
type conn struct {
	net.Conn
	listener *listener

	mu    sync.Mutex // orders the deadlines
	last  time.Time
	write time.Time // the deadline of writes
}

func (c *conn) hurry(last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = last
	_ = c.Conn.SetReadDeadline(last) // fails only on a closed connection
}

// bounded is the deadline that holds where t is asked for; zero is none.
func (c *conn) bounded(t time.Time) time.Time {
	if c.last.IsZero() || !t.IsZero() && t.Before(c.last) {
		return t
	}
	return c.last
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Conn.SetReadDeadline(c.bounded(t))
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.Conn.SetReadDeadline(c.bounded(t)), c.endWrites(t))
}

// SetWriteDeadline implements net.Conn. A write may end up to [writeSlack]
// before the deadline.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endWrites(t)
}

// writeSlack spares most answers of a busy connection the move of the
// runtime's timer, which costs.
const writeSlack = time.Second

func (c *conn) endWrites(t time.Time) error {
	if later := t.Sub(c.write); later >= 0 && later < writeSlack {
		return nil
	}
	c.write = t
	return c.Conn.SetWriteDeadline(t)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
