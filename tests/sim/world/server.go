package world

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server serves a handler at one address, and can leave that address and come
// back to it. Safe for concurrent use.
type Server struct {
	handler http.Handler
	address string

	mu     sync.Mutex // of going up and down
	server *http.Server
	cancel context.CancelFunc

	gate    sync.Mutex
	open    bool           // whether requests are served
	serving sync.WaitGroup // the listener's goroutine and the requests
}

// Listen serves the handler at an address such as "127.0.0.1:0".
func Listen(address string, handler http.Handler) (*Server, error) {
	s := &Server{handler: handler, address: address}
	return s, s.Up()
}

// URL returns the server's address for a client, without a slash at its end.
func (s *Server) URL() string { return "http://" + s.address }

// Up listens again after [Server.Down].
func (s *Server) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isOpen() {
		return errors.New("world: the server is up")
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !s.enter() {
				panic(http.ErrAbortHandler)
			}
			defer s.serving.Done()
			s.handler.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
	}
	s.server, s.cancel = server, cancel
	s.setOpen(true)
	s.serving.Go(func() { _ = server.Serve(listener) })
	return nil
}

// Down refuses connections and cuts those that stand, and returns when no
// request is served any more.
func (s *Server) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isOpen() {
		return
	}
	s.setOpen(false)
	s.cancel()
	_ = s.server.Close()
	s.serving.Wait()
}

func (s *Server) isOpen() bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	return s.open
}

func (s *Server) setOpen(open bool) {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.open = open
}

// enter counts a request in, unless the server goes down: nobody may be
// counted in while it is waited for the last one.
func (s *Server) enter() bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.open {
		s.serving.Add(1)
	}
	return s.open
}

// Close is [Server.Down], for good.
func (s *Server) Close() error {
	s.Down()
	return nil
}
