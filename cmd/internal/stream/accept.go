package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

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

// visitor is who asks to be let in.
type visitor struct {
	caller  access.Caller
	address string
	kind    string // "stream" or "poll", as [pap.PEP] has it
}

func (v *visitor) share() string { return shareOf(v.caller.Tenant, v.caller.Name()) }

// admit authenticates, and takes a place among those who have yet to say hello,
// which is h.greetings' to give back.
func (h *Hub) admit(r *http.Request, kind string) (visitor, error) {
	who := visitor{address: r.RemoteAddr, kind: kind}
	var err error
	if who.caller, err = access.OfRequest(h.config.Guard, r); err != nil {
		return who, err
	}
	if err := h.serving(&who.caller); err != nil {
		return who, err
	}
	return who, h.greetings.enter(who.share(), h.config.Greeting)
}

// accept upgrades to a WebSocket. The connection outlives the request, whose
// memory is given back.
func (h *Hub) accept(w http.ResponseWriter, r *http.Request) {
	who, err := h.admit(r, "stream")
	if err != nil {
		h.refuse(w, &who, err)
		return
	}
	if !h.upgrade(w, r, who) {
		h.greetings.leave(who.share())
	}
}

// upgrade reports whether a goroutine has taken over, the place included.
func (h *Hub) upgrade(w http.ResponseWriter, r *http.Request, who visitor) bool {
	ws, err := websocket.Accept(lean{w}, r, &websocket.AcceptOptions{Subprotocols: []string{wire.Subprotocol}})
	if err != nil { // it is answered
		h.refused(&who, fmt.Errorf("%w: %w", errPEP, err))
		return false
	}
	if ws.Subprotocol() != wire.Subprotocol {
		h.refused(&who, fmt.Errorf("%w: want the subprotocol %s", errPEP, wire.Subprotocol))
		_ = ws.Close(websocket.StatusPolicyViolation, "want the subprotocol "+wire.Subprotocol)
		return false
	}
	ws.SetReadLimit(wire.MaxPEPFrame)
	h.stalledMu.Lock()
	defer h.stalledMu.Unlock()
	if h.stopped {
		_ = ws.CloseNow()
		return false
	}
	h.running.Go(func() { h.greet(ws, who) })
	return true
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
func (h *Hub) greet(ws *websocket.Conn, who visitor) {
	c, err := h.hello(ws, &who)
	if err != nil {
		h.refused(&who, err)
		h.config.Log.Info("a PEP is refused", "caller", who.caller.Name(), "address", who.address, "reason", err)
		h.turnAway(ws, err)
	}
	h.greetings.leave(who.share())
	if err == nil {
		h.listen(c)
	}
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

func (h *Hub) hello(ws *websocket.Conn, who *visitor) (*conn, error) {
	ctx, cancel := context.WithTimeout(h.base, h.config.HelloWithin)
	defer cancel()
	var c *conn
	err := h.hear(ctx, ws, func(data []byte) (err error) {
		c, err = h.newConn(ctx, data, who)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	c.ws = ws
	return c, h.add(c)
}

// newConn reads a hello and asks whether this caller may say it.
func (h *Hub) newConn(ctx context.Context, hello []byte, who *visitor) (*conn, error) {
	f, err := wire.Decode(hello, wire.MaxPEPFrame)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPEP, err)
	}
	if f.Type != wire.TypeHello {
		return nil, fmt.Errorf("%w: want hello first, not %s", errPEP, f.Type)
	}
	caller := who.caller
	if err := h.mayReceive(ctx, caller, f.Hello.Tenants); err != nil {
		return nil, err
	}
	now := h.config.Now()
	said := f.Hello
	c := &conn{hello: said, caller: caller, since: now, held: said.Held, keys: said.Keys, kid: said.KeyID, log: said.Position, sent: said.Position, says: newAllowance()}
	c.key = pap.PEPKey(caller.Tenant, caller.Name(), said.ID)
	if h.view.refuses(c.key, now) {
		return nil, errUnlisted
	}
	c.pep = pap.PEP{
		Key: c.key, ID: said.ID, Tenant: caller.Tenant, Subject: caller.Name(), Tenants: said.Tenants, Labels: said.Labels,
		Version: said.Version, Address: who.address, Node: h.config.Node, Kind: who.kind, Connected: true, ConnectedAt: now, SeenAt: now,
		Revision: revisionOf(&said.Held), Digest: said.Digest, AckedAt: now, Stale: said.Stale,
	}
	return c, nil
}

// serving says why this caller's PEPs are not let in now, or nil.
func (h *Hub) serving(caller *access.Caller) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case h.set == nil || h.read.IsZero():
		return errNotReady
	case h.closing:
		return errStopping
	}
	return h.full(caller)
}

func audienceName(tenants []string) string { return bundles.AudienceName(tenants) }
