package feishu

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/coder/websocket"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

const (
	maxConnections = 50       // of one app
	maxFrame       = 1 << 20  // bytes
	longServiceID  = 33554678 // any number; it comes back in the frames
)

// Codes of the long connection's endpoint, for [Sim.RefuseLong].
const (
	LongBusy       = 1
	LongForbidden  = 403
	LongAuthFailed = 514
	LongInternal   = 1000040343
	LongTooMany    = 1000040350
)

// longState is all about long connections. The simulator's lock guards it.
type longState struct {
	frames   int                    // how many a push is split into
	reversed bool                   // the last one first
	tickets  map[string]string      // app ids by the ticket of a URL that was handed out
	conns    map[string][]*longConn // by app id
	refusals map[string]*refusal    // by app id
}

type refusal struct{ code, times int }

// longConn is one connection of an app.
type longConn struct {
	socket *websocket.Conn
	cancel context.CancelFunc

	mu      sync.Mutex
	deaf    bool
	pending map[string]chan Answer // by message_id
}

// clientConfig is what the client is told of reconnecting, in seconds.
var clientConfig = map[string]int{"ReconnectCount": -1, "ReconnectInterval": 120, "ReconnectNonce": 30, "PingInterval": 120}

func (s *Sim) longEndpoint(w http.ResponseWriter, r *http.Request) {
	var in struct{ AppID, AppSecret string }
	if fail := read(r, &in); fail != nil {
		answer(w, nil, fail)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.apps[in.AppID]
	switch code, refused := s.refusedLong(in.AppID); {
	case refused:
		answer(w, nil, refuse(http.StatusOK, code, "refused"))
	case a == nil || a.Secret != in.AppSecret:
		answer(w, nil, refuse(http.StatusOK, LongAuthFailed, "auth failed"))
	case !a.LongConnection:
		answer(w, nil, refuse(http.StatusOK, LongForbidden, "forbidden"))
	case len(s.long.conns[a.ID]) >= maxConnections:
		answer(w, nil, refuse(http.StatusOK, LongTooMany, "the number of connections exceeded the limit"))
	default:
		ticket := unique("")
		s.long.tickets[ticket] = a.ID
		url := "ws://" + r.Host + "/callback/ws/connect?device_id=" + unique("") + "&service_id=" + strconv.Itoa(longServiceID) + "&ticket=" + ticket
		answer(w, map[string]any{"code": 0, "msg": "", "data": map[string]any{"URL": url, "ClientConfig": clientConfig}}, nil)
	}
}

func (s *Sim) refusedLong(appID string) (int, bool) {
	r := s.long.refusals[appID]
	if r == nil || r.times == 0 {
		return 0, false
	}
	r.times--
	return r.code, true
}

// RefuseLong lets the endpoint of the long connection answer with a code for
// the given number of times.
func (s *Sim) RefuseLong(appID string, code, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.long.refusals[appID] = &refusal{code: code, times: times}
}

// SplitPushes splits each push into so many frames, the last one first where
// they are reversed.
func (s *Sim) SplitPushes(frames int, reversed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.long.frames, s.long.reversed = max(frames, 1), reversed
}

func (s *Sim) longConnect(w http.ResponseWriter, r *http.Request) {
	ticket := r.URL.Query().Get("ticket")
	s.mu.Lock()
	appID, known := s.long.tickets[ticket]
	delete(s.long.tickets, ticket)
	full := len(s.long.conns[appID]) >= maxConnections
	s.mu.Unlock()
	if !known || full {
		w.Header().Set("Handshake-Status", strconv.Itoa(LongAuthFailed))
		w.Header().Set("Handshake-Msg", "the handshake was refused")
		if full {
			w.Header().Set("Handshake-Autherrcode", strconv.Itoa(LongTooMany))
		}
		w.WriteHeader(http.StatusForbidden)
		return
	}
	socket, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has answered
	}
	socket.SetReadLimit(maxFrame)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	c := &longConn{socket: socket, cancel: cancel, pending: map[string]chan Answer{}}
	s.mu.Lock()
	s.long.conns[appID] = append(s.long.conns[appID], c)
	s.mu.Unlock()
	s.changed.Announce()
	c.listen(ctx)
	s.mu.Lock()
	s.long.conns[appID] = slices.DeleteFunc(s.long.conns[appID], func(other *longConn) bool { return other == c })
	s.mu.Unlock()
	_ = socket.CloseNow()
	s.changed.Announce()
}

// listen takes what the app sends until the connection ends.
func (c *longConn) listen(ctx context.Context) {
	for {
		kind, data, err := c.socket.Read(ctx)
		if err != nil {
			return
		}
		f, err := decodeFrame(data)
		if kind != websocket.MessageBinary || err != nil {
			_ = c.socket.Close(websocket.StatusUnsupportedData, "malformed frame")
			return
		}
		c.mu.Lock()
		deaf, waiting := c.deaf, c.pending[f.header("message_id")]
		c.mu.Unlock()
		switch {
		case deaf:
		case f.method == methodControl && f.header("type") == "ping":
			pong := frame{service: f.service, method: methodControl, headers: [][2]string{{"type", "pong"}}, payload: compact(clientConfig)}
			if c.socket.Write(ctx, websocket.MessageBinary, pong.encode()) != nil {
				return
			}
		case f.method == methodData && waiting != nil:
			select {
			case waiting <- answerIn(f):
			default: // a second answer to one push
			}
		}
	}
}

// answerIn reads an answer out of its frame; a malformed one has the status 500.
func answerIn(f *frame) Answer {
	var out struct {
		Code    int               `json:"code"`
		Headers map[string]string `json:"headers"`
		Data    []byte            `json:"data"` // base64
	}
	if json.Unmarshal(f.payload, &out) != nil || f.header("biz_rt") == "" {
		return Answer{Status: http.StatusInternalServerError}
	}
	if len(out.Data) == 0 {
		out.Data = []byte("{}")
	}
	return Answer{Status: out.Code, Body: out.Data}
}

// Push sends a payload, in plain text, over one of the long connections of an
// app, and waits for the answer 3 seconds of the simulator's clock.
func (s *Sim) Push(ctx context.Context, appID string, payload []byte) (Answer, error) {
	s.mu.Lock()
	conns := s.long.conns[appID]
	if len(conns) == 0 {
		s.mu.Unlock()
		return Answer{}, errNoConnection
	}
	c := conns[s.choose(len(conns))]
	frames, reversed := s.long.frames, s.long.reversed
	s.mu.Unlock()

	ctx, cancel := s.clock.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	id, answered := unique(""), make(chan Answer, 1)
	c.mu.Lock()
	c.pending[id] = answered
	deaf := c.deaf
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()
	if !deaf { // what is sent into a dead connection is not refused either
		for _, f := range split(payload, id, frames, reversed) {
			if err := c.socket.Write(ctx, websocket.MessageBinary, f.encode()); err != nil {
				return Answer{}, slow(ctx, err)
			}
		}
	}
	select {
	case got := <-answered:
		return got, nil
	case <-ctx.Done():
		return Answer{}, slow(ctx, errors.New("the push was given up"))
	}
}

func split(payload []byte, id string, frames int, reversed bool) []*frame {
	trace := unique("")
	parts := make([]*frame, 0, frames)
	for i := range frames {
		parts = append(parts, &frame{
			seqID: 0, logID: 0, service: longServiceID, method: methodData,
			headers: [][2]string{
				{"type", "event"}, {"message_id", id}, {"sum", strconv.Itoa(frames)}, {"seq", strconv.Itoa(i)}, {"trace_id", trace},
			},
			payload: payload[len(payload)*i/frames : len(payload)*(i+1)/frames],
		})
	}
	if reversed {
		slices.Reverse(parts)
	}
	return parts
}

// AwaitConnections returns once an app has n long connections.
func (s *Sim) AwaitConnections(ctx context.Context, appID string, n int) error {
	_, err := world.Await(ctx, &s.changed, func() (struct{}, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return struct{}{}, len(s.long.conns[appID]) == n
	})
	return err
}

// DropConnections ends all long connections of an app.
func (s *Sim) DropConnections(appID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.long.conns[appID] {
		c.cancel()
	}
}

// DeafenConnections leaves the long connections that an app has now half open:
// they stand, but no ping is answered, and no push arrives.
func (s *Sim) DeafenConnections(appID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.long.conns[appID] {
		c.mu.Lock()
		c.deaf = true
		c.mu.Unlock()
	}
}
