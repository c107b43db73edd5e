package stream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// Paths of the stream.
const (
	Path     = "/stream"
	PollPath = "/stream/poll"
)

// Handler answers [Path] and [PollPath].
func (h *Hub) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, h.accept)
	mux.HandleFunc("POST "+PollPath, h.poll)
	return mux
}

// Caller authenticates a request: by its Authorization header, or by its
// client certificate where it has none.
func Caller(g Guard, r *http.Request) (access.Caller, error) {
	header := r.Header.Get("Authorization")
	if header == "" && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return g.AuthenticateCertificate(r.Context(), r.TLS.PeerCertificates[0])
	}
	return g.Authenticate(r.Context(), header)
}

// accept upgrades to a WebSocket. The connection outlives the request, whose
// memory is given back.
func (h *Hub) accept(w http.ResponseWriter, r *http.Request) {
	caller, err := Caller(h.config.Guard, r)
	if err != nil {
		h.refuse(w, err)
		return
	}
	if !h.serving() {
		h.refuse(w, errNotReady)
		return
	}
	ws, err := websocket.Accept(lean{w}, r, &websocket.AcceptOptions{Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		h.stats.refused.Add(1)
		return // it is answered
	}
	if ws.Subprotocol() != wire.Subprotocol {
		h.stats.refused.Add(1)
		_ = ws.Close(websocket.StatusPolicyViolation, "want the subprotocol "+wire.Subprotocol)
		return
	}
	ws.SetReadLimit(wire.MaxPEPFrame)
	address := r.RemoteAddr
	h.stalledMu.Lock()
	defer h.stalledMu.Unlock()
	if h.stopped {
		_ = ws.CloseNow()
		return
	}
	h.running.Go(func() { h.greet(ws, caller, address) })
}

// lean hands over a connection with small buffers: it will be idle most of the
// time, and its large frames do not go through them.
type lean struct{ http.ResponseWriter }

// Sizes in bytes: an ack, and a heartbeat or a grant in one write.
const (
	readBuffer  = 512
	writeBuffer = 2048
)

// Hijack implements [http.Hijacker].
func (l lean) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(l.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	n := buffered.Reader.Buffered()
	if n > readBuffer {
		return nil, nil, errors.Join(errors.New("a client speaks only once it is answered"), conn.Close())
	}
	early, err := buffered.Reader.Peek(n)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	small := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn), readBuffer)
	if _, err := small.Peek(n); err != nil { // Accept goes on from what is buffered, and from conn
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, bufio.NewReadWriter(small, bufio.NewWriterSize(conn, writeBuffer)), nil
}

// greet reads the hello and serves the connection until it ends.
func (h *Hub) greet(ws *websocket.Conn, caller access.Caller, address string) {
	c, err := h.hello(ws, caller, address)
	if err == nil {
		h.listen(c)
		return
	}
	h.stats.refused.Add(1)
	h.config.Log.Info("a PEP is refused", "caller", caller.Name(), "address", address, "reason", err)
	h.turnAway(ws, err)
}

// turnAway says bye to one that was not added.
func (h *Hub) turnAway(ws *websocket.Conn, why error) {
	ctx, cancel := context.WithTimeout(h.base, byeWithin)
	defer cancel()
	bye := wire.Header{Type: wire.TypeBye, Reason: wire.ClipReason(why.Error()), RetryAfter: helloWithin}
	if frame, err := encode(bye, nil); err == nil {
		_ = ws.Write(ctx, websocket.MessageBinary, frame) // it may be gone already
	}
	_ = ws.CloseNow()
}

func (h *Hub) hello(ws *websocket.Conn, caller access.Caller, address string) (*conn, error) {
	ctx, cancel := context.WithTimeout(h.base, h.config.HelloWithin)
	defer cancel()
	var c *conn
	err := h.hear(ctx, ws, func(data []byte) (err error) {
		c, err = h.newConn(ctx, data, caller, address, "stream")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	c.ws = ws
	return c, h.add(c)
}

// newConn reads a hello and asks whether this caller may say it.
func (h *Hub) newConn(ctx context.Context, hello []byte, caller access.Caller, address, kind string) (*conn, error) {
	f, err := wire.Decode(hello, wire.MaxPEPFrame)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPEP, err)
	}
	if f.Type != wire.TypeHello {
		return nil, fmt.Errorf("%w: want hello first, not %s", errPEP, f.Type)
	}
	if err := h.mayReceive(ctx, caller, f.Hello.Tenants); err != nil {
		return nil, err
	}
	now := h.config.Now()
	said := f.Hello
	c := &conn{hello: said, caller: caller, since: now, held: said.Held, keys: said.Keys, kid: said.KeyID, log: said.Position, sent: said.Position, owed: unasked}
	c.key = pap.PEPKey(caller.Tenant, caller.Name(), said.ID)
	c.pep = pap.PEP{
		Key: c.key, ID: said.ID, Tenant: caller.Tenant, Subject: caller.Name(), Tenants: said.Tenants, Labels: said.Labels,
		Version: said.Version, Address: address, Node: h.config.Node, Kind: kind, Connected: true, ConnectedAt: now, SeenAt: now,
		Revision: revisionOf(&said.Held), Digest: said.Digest, AckedAt: now, Stale: said.Stale,
	}
	return c, nil
}

func (h *Hub) serving() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.set != nil && !h.read.IsZero() && !h.closing
}

func audienceName(tenants []string) string { return bundles.AudienceName(tenants) }

// refuse answers with a problem (RFC 9457).
func (h *Hub) refuse(w http.ResponseWriter, err error) {
	h.stats.refused.Add(1)
	status, title, wait := http.StatusBadRequest, "malformed", ""
	switch {
	case errors.Is(err, access.ErrUnauthenticated):
		status, title = http.StatusUnauthorized, "unauthenticated"
		w.Header().Set("WWW-Authenticate", "Bearer")
	case errors.Is(err, pap.ErrForbidden):
		status, title = http.StatusForbidden, "forbidden"
	case errors.Is(err, errFull):
		status, title, wait = http.StatusTooManyRequests, "too_many_connections", "5"
	case errors.Is(err, errPEP), errors.Is(err, wire.ErrFrame):
	default:
		status, title, wait = http.StatusServiceUnavailable, "unavailable", "1"
	}
	if wait != "" {
		w.Header().Set("Retry-After", wait)
	}
	body, err := json.Marshal(map[string]any{"type": "about:blank", "title": title, "status": status, "detail": err.Error()})
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller may be gone
}
