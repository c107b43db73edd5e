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

// moves is a connection that notes where its writes' timer is moved.
type moves struct {
	net.Conn
	to []time.Time
}

func (m *moves) SetWriteDeadline(t time.Time) error {
	m.to = append(m.to, t)
	return nil
}

func TestTheTimerOfWritesIsMovedWhereItMatters(t *testing.T) {
	now := time.Now()
	for name, row := range map[string]struct {
		asked time.Time
		moved bool
	}{
		"a little later": {now.Add(writeSlack - 1), false},
		"later":          {now.Add(writeSlack), true},
		"much later":     {now.Add(time.Hour), true},
		"the same":       {now, false},
		"earlier":        {now.Add(-1), true},
		"never":          {time.Time{}, true},
	} {
		m := &moves{}
		c := &conn{Conn: m}
		want := []time.Time{now}
		if row.moved {
			want = append(want, row.asked)
		}
		if err := errors.Join(c.SetWriteDeadline(now), c.SetWriteDeadline(row.asked)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(m.to, want) {
			t.Errorf("%s: moved to %v, want %v", name, m.to, want)
		}
	}
}
