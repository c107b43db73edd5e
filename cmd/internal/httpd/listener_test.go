package httpd

import (
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// accepted returns a listener's side of a new connection to it.
func accepted(t *testing.T, l *listener) net.Conn {
	t.Helper()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return near
}

func TestConnectionsOfAStoppingListenerReadNoLongerThanItLets(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(inner)
	defer l.Close()
	before := accepted(t, l)
	l.hurry(time.Now())
	for name, c := range map[string]net.Conn{"open before": before, "accepted after": accepted(t, l)} {
		for _, ask := range []func(time.Time) error{c.SetReadDeadline, c.SetDeadline} {
			for _, deadline := range []time.Time{{}, time.Now().Add(time.Hour)} {
				if err := ask(deadline); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: %v, want the deadline exceeded", name, err)
				}
			}
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("%s: an answer cannot leave: %v", name, err)
		}
	}
	l.drop()
	if _, err := before.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the drop an answer leaves (%v)", err)
	}
	if len(l.open) != 0 {
		t.Errorf("%d connections are not forgotten", len(l.open))
	}
}

// timers is a connection that tells where its timers are moved, and whose
// reads and writes end as it is told.
type timers struct {
	net.Conn
	reads, writes []time.Time
	answers       []error
}

func (c *timers) SetReadDeadline(t time.Time) error {
	c.reads = append(c.reads, t)
	return nil
}

func (c *timers) SetWriteDeadline(t time.Time) error {
	c.writes = append(c.writes, t)
	return nil
}

func (c *timers) answer(b []byte) (int, error) {
	err := c.answers[0]
	if c.answers = c.answers[1:]; err != nil {
		return len(b) / 2, err
	}
	return len(b), nil
}

func (c *timers) Read(b []byte) (int, error) {
	n, err := c.answer(b)
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (c *timers) Write(b []byte) (int, error) { return c.answer(b) }

func TestATimerIsMovedOnlyWhereItMustBe(t *testing.T) {
	inner := &timers{}
	c := &conn{Conn: inner, listener: &listener{}}
	now := time.Now()
	at := func(d time.Duration) time.Time { return now.Add(d) }
	for _, asked := range []time.Duration{30 * time.Second, 2 * time.Minute, 31 * time.Second, 40 * time.Second, 10 * time.Second, time.Minute} {
		if err := errors.Join(c.SetReadDeadline(at(asked)), c.SetWriteDeadline(at(asked))); err != nil {
			t.Fatal(err)
		}
	}
	want := []time.Time{at(30 * time.Second), at(10 * time.Second)}
	if !slices.Equal(inner.reads, want) || !slices.Equal(inner.writes, want) {
		t.Fatalf("the timers were moved to %v and %v, want %v", inner.reads, inner.writes, want)
	}
	// The timer of 10 s comes, and a minute was asked for.
	inner.answers = []error{os.ErrDeadlineExceeded, nil, os.ErrDeadlineExceeded, nil}
	if n, err := c.Read(make([]byte, 8)); n != 8 || err != nil {
		t.Errorf("read %d, %v: the timer came too early", n, err)
	}
	if n, err := c.Write(make([]byte, 8)); n != 8 || err != nil {
		t.Errorf("wrote %d, %v: the timer came too early", n, err)
	}
	want = append(want, at(time.Minute))
	if !slices.Equal(inner.reads, want) || !slices.Equal(inner.writes, want) {
		t.Errorf("the timers were moved to %v and %v, want %v", inner.reads, inner.writes, want)
	}
	// A deadline that is over is over; none is none, at once.
	if err := errors.Join(c.SetDeadline(at(-time.Second))); err != nil {
		t.Fatal(err)
	}
	inner.answers = []error{os.ErrDeadlineExceeded, os.ErrDeadlineExceeded}
	if _, err := c.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want the deadline exceeded", err)
	}
	if n, err := c.Write(make([]byte, 8)); n != 4 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %d, %v, want the deadline exceeded", n, err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if !inner.reads[len(inner.reads)-1].IsZero() || !inner.writes[len(inner.writes)-1].IsZero() {
		t.Error("without a deadline a timer still stands")
	}
	// What the stopping listener lets it is a moment, whatever is asked for.
	last := at(time.Second)
	c.hurry(last)
	if err := c.SetReadDeadline(at(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := inner.reads[len(inner.reads)-1]; !got.Equal(last) {
		t.Errorf("the timer stands at %v, want %v", got, last)
	}
}

func TestConnectionsEndAtTheDeadlineAskedForLast(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(inner)
	defer l.Close()
	c := accepted(t, l)
	begun := time.Now()
	for _, asked := range []time.Duration{10 * time.Millisecond, 60 * time.Millisecond} {
		if err := c.SetReadDeadline(begun.Add(asked)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want the deadline exceeded", err)
	}
	if took := time.Since(begun); took < 60*time.Millisecond {
		t.Errorf("the read ended after %s, want 60 ms", took)
	}
}
