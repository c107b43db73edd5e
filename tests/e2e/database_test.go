//go:build unix

package e2e

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// wiretap is a proxy before PostgreSQL that loses notifications or is cut.
type wiretap struct {
	to       string
	listener net.Listener
	finished chan struct{} // closed with the test
	copying  sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool // of both sides
	cut  bool
	deaf bool
	lost int           // notifications
	held int           // transactions that wait to go on
	hold chan struct{} // nil, or closed when they may
}

// tap puts one before the database of a URL, and returns the URL of the proxy.
func tap(t *testing.T, location string) (*wiretap, string) {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	if u.Hostname() == "" || u.Query().Has("host") {
		t.Fatalf("PostgreSQL at %q: want a URL with a host to put a proxy before", u.Redacted())
	}
	w := &wiretap{to: u.Host, finished: make(chan struct{}), open: map[net.Conn]bool{}}
	if u.Port() == "" {
		w.to = net.JoinHostPort(u.Hostname(), "5432")
	}
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.copying.Go(w.accept)
	t.Cleanup(func() {
		w.listener.Close()
		close(w.finished)
		w.sever()
		w.copying.Wait()
	})
	query := u.Query()
	query.Set("sslmode", "disable") // it reads along
	u.RawQuery, u.Host = query.Encode(), w.listener.Addr().String()
	return w, u.String()
}

func (w *wiretap) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// sever ends all connections, and those that come until heal is called.
func (w *wiretap) sever() {
	w.set(func() {
		w.cut = true
		for conn := range w.open {
			conn.Close()
		}
	})
}

func (w *wiretap) heal() { w.set(func() { w.cut = false }) }

// lose loses notifications from now on, on connections that are open too.
func (w *wiretap) lose() { w.set(func() { w.deaf = true }) }

func (w *wiretap) notificationsLost() (n int) {
	w.set(func() { n = w.lost })
	return n
}

// holdWriters has every transaction that writes wait once it has begun, until
// the function that is returned is called.
func (w *wiretap) holdWriters() (release func()) {
	gate := make(chan struct{})
	w.set(func() { w.hold, w.held = gate, 0 })
	return func() {
		w.set(func() { w.hold = nil })
		close(gate)
	}
}

func (w *wiretap) writersHeld() (n int) {
	w.set(func() { n = w.held })
	return n
}

// began is how a transaction begins that may write; one that reads says more.
const began = "Q\x00\x00\x00\x0abegin\x00"

// ask copies what a client sends, and holds it where it began to write.
func (w *wiretap) ask(server io.Writer, client io.Reader) error {
	chunk := make([]byte, 32<<10)
	for {
		n, err := client.Read(chunk)
		if err != nil {
			return err
		}
		if _, err := server.Write(chunk[:n]); err != nil {
			return err
		}
		if !strings.HasSuffix(string(chunk[:n]), began) {
			continue
		}
		var hold chan struct{}
		w.set(func() {
			if hold = w.hold; hold != nil {
				w.held++
			}
		})
		if hold == nil {
			continue
		}
		select {
		case <-hold:
		case <-w.finished:
			return errors.New("the test is over")
		}
	}
}

func (w *wiretap) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.copying.Go(func() { w.serve(client) })
	}
}

func (w *wiretap) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer server.Close()
	admitted := false
	w.set(func() {
		if admitted = !w.cut; admitted {
			w.open[client], w.open[server] = true, true
		}
	})
	if !admitted {
		return
	}
	defer w.set(func() { delete(w.open, client); delete(w.open, server) })
	var asking sync.WaitGroup
	asking.Go(func() {
		_ = w.ask(server, client)
		server.Close()
	})
	_ = w.answer(client, server)
	client.Close()
	asking.Wait()
}

// answer copies the server's messages, each a type and a length in 4 bytes
// that counts itself, and leaves out notifications where they are to be lost.
func (w *wiretap) answer(client io.Writer, server io.Reader) error {
	var head [5]byte
	for {
		if _, err := io.ReadFull(server, head[:]); err != nil {
			return err
		}
		size := int64(binary.BigEndian.Uint32(head[1:])) - 4
		if size < 0 {
			return errors.New("not a message of PostgreSQL")
		}
		to := client
		if head[0] == 'A' { // NotificationResponse
			w.set(func() {
				if w.deaf {
					w.lost++
					to = io.Discard
				}
			})
		}
		if _, err := to.Write(head[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(to, server, size); err != nil {
			return err
		}
	}
}
