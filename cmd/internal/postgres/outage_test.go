package postgres

import (
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

// relay stands between a store and its database until it is cut.
type relay struct {
	listener net.Listener
	mu       sync.Mutex
	open     []net.Conn
}

// newRelay returns a relay to the database of a location, and the location
// through it.
func newRelay(t *testing.T, location string) (*relay, string) {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil || u.Hostname() == "" {
		t.Fatalf("location %q: %v", location, err)
	}
	port := u.Port()
	if port == "" {
		port = "5432"
	}
	target := net.JoinHostPort(u.Hostname(), port)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener}
	t.Cleanup(r.cut)
	go r.serve(target)
	u.Host = listener.Addr().String()
	return r, u.String()
}

func (r *relay) serve(target string) {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", target)
		if err != nil {
			near.Close()
			continue
		}
		r.mu.Lock()
		r.open = append(r.open, near, far)
		r.mu.Unlock()
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1]) // ends when either is cut
				pair[0].Close()
			}()
		}
	}
}

func (r *relay) cut() {
	r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.open {
		c.Close()
	}
}

func TestOutageIsToldApartFromOtherErrors(t *testing.T) {
	r, location := newRelay(t, storetest.PostgresSchema(t))
	store := open(t, location)
	nothing := func(pap.Tx) error { return nil }
	if err := errors.Join(store.View(t.Context(), nothing), store.Update(t.Context(), nothing)); err != nil {
		t.Fatal(err)
	}
	own := errors.New("own")
	if err := store.Update(t.Context(), func(pap.Tx) error { return own }); !errors.Is(err, own) || errors.Is(err, pap.ErrStoreUnavailable) {
		t.Errorf("a failing function: %v", err)
	}
	r.cut()
	for name, call := range map[string]func() error{
		"view":   func() error { return store.View(t.Context(), nothing) },
		"update": func() error { return store.Update(t.Context(), nothing) },
	} {
		if err := call(); !errors.Is(err, pap.ErrStoreUnavailable) {
			t.Errorf("%s: %v, want ErrStoreUnavailable", name, err)
		}
	}
}
