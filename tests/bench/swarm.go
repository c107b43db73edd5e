//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

// A swarm is thousands of PEPs in one process of their own, so that the
// server's is measured alone. They are driven over standard input, one order a
// line, each answered by one line: where and when (Unix nanoseconds) it was
// done. What a PEP does with a release beside verifying it (compiling) happens
// on as many machines in reality, and is left out; what all of them get alike
// is verified once, and the others compare bytes.

// order is one line of standard input.
type order struct {
	Do    string `json:"do"` // connect, await, reconnect
	URL   string `json:"url,omitempty"`
	Token string `json:"token,omitempty"`
	Trust string `json:"trust,omitempty"` // file; empty: the bare server is spoken to
	PEPs  int    `json:"peps,omitempty"`
	// Release, Position or Message is what await waits for.
	Release  uint64 `json:"release,omitempty"`
	Position uint64 `json:"position,omitempty"`
	Message  int64  `json:"message,omitempty"`
}

// done is one line of standard output.
type done struct {
	At    int64  `json:"at"`
	Log   int    `json:"log,omitempty"` // bytes of the last frame of the log that a PEP took
	Error string `json:"error,omitempty"`
}

// dialers connect at once.
const dialers = 128

// runSwarm is the main function of the swarm's process.
func runSwarm(ctx context.Context, in io.Reader, out io.Writer) error {
	s := &swarm{ctx: ctx, changed: make(chan struct{}, 1)}
	lines := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		at, err := s.obey(o)
		answer := done{At: at.UnixNano(), Log: s.seen.logged()}
		if err != nil {
			answer.Error = err.Error()
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

type swarm struct {
	ctx     context.Context
	order   order
	root    trust.Root
	peps    []*member
	seen    verified
	changed chan struct{} // at most one value: something was acknowledged
	failed  atomic.Pointer[error]
}

func (s *swarm) obey(o order) (time.Time, error) {
	switch o.Do {
	case "connect":
		s.order = o
		if o.Trust != "" {
			text, err := os.ReadFile(o.Trust)
			if err != nil {
				return time.Time{}, err
			}
			if s.root, err = trust.ParseRoot(text); err != nil {
				return time.Time{}, err
			}
		}
		for i := range o.PEPs {
			s.peps = append(s.peps, &member{swarm: s, id: fmt.Sprintf("pep-%d", i)})
		}
		return s.connect(func(m *member) bool { return m.fresh.Load() })
	case "reconnect": // the server was restarted: every connection is gone
		s.order.URL = o.URL
		for _, m := range s.peps {
			m.gone.Wait()
			m.fresh.Store(false)
		}
		return s.connect(func(m *member) bool { return m.fresh.Load() })
	case "await":
		return s.await(func(m *member) bool {
			return m.release.Load() >= o.Release && m.position.Load() >= o.Position && m.messages.Load() >= o.Message
		})
	default:
		return time.Time{}, fmt.Errorf("unknown order %q", o.Do)
	}
}

// connect dials for all and waits until each is served.
func (s *swarm) connect(served func(*member) bool) (time.Time, error) {
	next := make(chan *member)
	var dialing sync.WaitGroup
	for range dialers {
		dialing.Go(func() {
			for m := range next {
				if err := m.dial(); err != nil {
					s.fail(fmt.Errorf("%s: %w", m.id, err))
				}
			}
		})
	}
	for _, m := range s.peps {
		next <- m
	}
	close(next)
	dialing.Wait()
	return s.await(served)
}

// await waits until every PEP is as it should be.
func (s *swarm) await(is func(*member) bool) (time.Time, error) {
	deadline := time.After(2 * time.Minute)
	waiting := 0
	for {
		if err := s.failed.Load(); err != nil {
			return time.Time{}, *err
		}
		for waiting < len(s.peps) && is(s.peps[waiting]) {
			waiting++
		}
		if waiting == len(s.peps) {
			return time.Now(), nil
		}
		select {
		case <-s.changed:
		case <-deadline:
			return time.Time{}, fmt.Errorf("%d of %d PEPs are still waiting", len(s.peps)-waiting, len(s.peps))
		}
	}
}

func (s *swarm) fail(err error) {
	s.failed.CompareAndSwap(nil, &err)
	s.notify()
}

func (s *swarm) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// member is one PEP.
type member struct {
	swarm *swarm
	id    string
	ws    *websocket.Conn
	gone  sync.WaitGroup // its reader
	held  stream.Held

	fresh    atomic.Bool // a heartbeat spoke of what it holds since it connected
	release  atomic.Uint64
	position atomic.Uint64
	messages atomic.Int64
}

func (m *member) dial() error {
	ctx, cancel := context.WithTimeout(m.swarm.ctx, time.Minute)
	defer cancel()
	o := m.swarm.order
	options := &websocket.DialOptions{HTTPHeader: http.Header{}}
	if o.Trust != "" {
		options.Subprotocols = []string{stream.Subprotocol}
		options.HTTPHeader.Set("Authorization", "Bearer "+o.Token)
	}
	ws, _, err := websocket.Dial(ctx, o.URL, options)
	if err != nil {
		return err
	}
	ws.SetReadLimit(stream.MaxNodeFrame)
	m.ws = ws
	if o.Trust != "" {
		hello := stream.Frame{Header: stream.Header{Type: stream.TypeHello, Hello: &stream.Hello{
			ID: m.id, Tenants: []string{tenant}, Nonce: fmt.Sprintf("%016x-%s", time.Now().UnixNano(), m.id), Held: m.held,
		}}}
		if err := m.send(hello); err != nil {
			return err
		}
	} else {
		m.fresh.Store(true)
		m.swarm.notify()
	}
	m.gone.Go(func() { m.read(o.Trust == "") })
	return nil
}

func (m *member) send(f stream.Frame) error {
	data, err := f.Append(nil)
	if err != nil {
		return err
	}
	return m.ws.Write(m.swarm.ctx, websocket.MessageBinary, data)
}

// read takes what comes until the connection ends, which is no fault: servers
// are restarted.
func (m *member) read(bare bool) {
	defer m.ws.CloseNow() //nolint:errcheck // it is over
	for {
		_, data, err := m.ws.Read(m.swarm.ctx)
		if err != nil {
			return
		}
		if bare {
			if err := m.ws.Write(m.swarm.ctx, websocket.MessageBinary, data[:8]); err != nil {
				return
			}
			m.messages.Add(1)
			m.swarm.notify()
			continue
		}
		if err := m.take(data); err != nil {
			m.swarm.fail(fmt.Errorf("%s: %w", m.id, err))
			return
		}
	}
}

// take does with one frame what a PEP does.
func (m *member) take(data []byte) error {
	v, err := m.swarm.seen.verify(m.swarm.root, data)
	if err != nil {
		return err
	}
	switch v.kind {
	case stream.TypeKeys:
		m.held.Keys = v.held.Keys
		return nil
	case stream.TypeBye:
		return nil
	case stream.TypeHeartbeat:
		if m.held.Release == v.held.Release && m.held.Position >= v.held.Position && m.held.Keys == v.held.Keys {
			m.fresh.Store(true)
			m.swarm.notify()
		}
		return nil
	case stream.TypeLog:
		m.held.Position = v.held.Position
		if v.more {
			return nil
		}
	case stream.TypeRelease:
		m.held.Release, m.held.Digest, m.held.KeyID = v.held.Release, v.held.Digest, v.held.KeyID
	}
	held := m.held
	if err := m.send(stream.Frame{Header: stream.Header{Type: stream.TypeAck, Held: &held}}); err != nil {
		return nil //nolint:nilerr // the server went away, which the reader finds out
	}
	m.release.Store(held.Release)
	m.position.Store(held.Position)
	if held.Release == m.swarm.seen.heartbeat().Release {
		m.fresh.Store(m.fresh.Load() || held.Position >= m.swarm.seen.heartbeat().Position)
	}
	m.swarm.notify()
	return nil
}

// verified is what was verified already, by type: the last few frames.
type verified struct {
	mu      sync.Mutex
	set     *trust.Set
	content *bundles.Content
	last    map[stream.Type][]outcomeOf
	beat    stream.Held
}

// outcomeOf is a verified frame and what a PEP holds after it.
type outcomeOf struct {
	frame []byte
	kind  stream.Type
	held  stream.Held
	more  bool
}

func (v *verified) heartbeat() stream.Held {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.beat
}

// logged is how many bytes the last frame of the log had; 0: there was none.
func (v *verified) logged() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if frames := v.last[stream.TypeLog]; len(frames) > 0 {
		return len(frames[len(frames)-1].frame)
	}
	return 0
}

func (v *verified) verify(root trust.Root, data []byte) (outcomeOf, error) {
	f, err := stream.Decode(data, stream.MaxNodeFrame)
	if err != nil {
		return outcomeOf{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, known := range v.last[f.Type] {
		if bytes.Equal(known.frame, data) {
			return known, nil
		}
	}
	result, err := v.open(root, f)
	if err != nil {
		return outcomeOf{}, fmt.Errorf("%s: %w", f.Type, err)
	}
	result.frame, result.kind = data, f.Type
	if v.last == nil {
		v.last = map[stream.Type][]outcomeOf{}
	}
	v.last[f.Type] = append(v.last[f.Type], result)
	if kept := v.last[f.Type]; len(kept) > 4 {
		v.last[f.Type] = kept[1:]
	}
	return result, nil
}

func (v *verified) open(root trust.Root, f stream.Frame) (o outcomeOf, err error) {
	now := time.Now()
	switch f.Type {
	case stream.TypeKeys:
		v.set, err = root.Open(string(f.Body), now)
		if err == nil {
			o.held.Keys = v.set.Version()
		}
		return o, err
	case stream.TypeBye:
		return o, nil
	}
	if v.set == nil {
		return o, errors.New("before any key set")
	}
	switch f.Type {
	case stream.TypeRelease:
		bundle, err := bundles.Read(bytes.NewReader(f.Body), v.set, now, v.content)
		if err != nil {
			return o, err
		}
		v.content = bundle.Content
		o.held.Release, o.held.Digest, o.held.KeyID = bundle.Release, bundle.Digest.String(), bundle.KeyID
	case stream.TypeLog:
		var r stream.LogRange
		if err := v.body(trust.KindLog, f.Body, &r); err != nil {
			return o, err
		}
		o.held.Position, o.more = r.To, r.More
	case stream.TypeHeartbeat:
		var h stream.Heartbeat
		if err := v.body(trust.KindHeartbeat, f.Body, &h); err != nil {
			return o, err
		}
		o.held = stream.Held{Release: h.Release, Position: h.Position, Keys: h.Keys}
		v.beat = o.held
	}
	return o, nil
}

func (v *verified) body(kind trust.Kind, signed []byte, into any) error {
	opened, err := v.set.Verify(kind, string(signed), time.Now())
	if err != nil {
		return err
	}
	return json.Unmarshal(opened.Body, into)
}
