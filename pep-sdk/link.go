package pep

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
	// dialWithin bounds finding the stream, and the handshake.
	dialWithin = 10 * time.Second
	// pollWait is how long a node may hold a poll when it has nothing to say.
	pollWait = 5 * time.Second
	// progressBytes is how much of a large frame must come for the connection
	// to count as alive.
	progressBytes = 16 << 10
	maxOutbox     = 30 // of what is said with one poll
	maxWellKnown  = 64 << 10
)

// errDown is why no connection could be made or kept.
var errDown = errors.New("the stream is down")

// link is one connection, as the goroutine that owns the machine sees it.
type link struct {
	send func(*stream.Frame)
	cut  func(*dropping)
}

// connector keeps a connection: over a socket, and while none can be had by
// polling. It runs on a goroutine of its own.
type connector struct {
	*PEP
	random  func() float64 // in [0, 1)
	retries int            // since a node last answered
	address *url.URL       // of the stream, while it is good
	polls   *polling       // nil before the first
}

func (c *connector) run(ctx context.Context) {
	for ctx.Err() == nil {
		address, err := c.discover(ctx)
		var asked time.Duration
		if err == nil {
			asked, err = c.socket(ctx, address)
		}
		if ctx.Err() != nil {
			return
		}
		c.observe.reconnected()
		c.config.Log.Info("the stream is down", "error", err, "attempts", c.retries)
		c.do(func() { c.machine.lastError = err.Error() })
		until := time.Now().Add(max(asked, c.backOff()))
		if stays := asked > 0 && asked <= pollWait; address != nil && !stays && time.Until(until) > retryFirst/2 {
			c.poll(ctx, address, until)
		}
		sleep(ctx, time.Until(until))
	}
}

// backOff is how long to wait before the next try: up to twice as long as
// before the last one, and any part of it, so that many PEPs spread out.
func (c *connector) backOff() time.Duration {
	most := min(retryFirst<<min(c.retries, 20), retryMost)
	c.retries++
	return time.Duration(c.random() * float64(most))
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// discover asks the server where the stream is, unless it is known.
func (c *connector) discover(ctx context.Context) (*url.URL, error) {
	if c.address != nil {
		return c.address, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.JoinPath("/.well-known/xiezhi").String(), nil)
	if err != nil {
		return nil, fmt.Errorf("find the stream: %w", err)
	}
	resp, err := c.config.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("find the stream: %w", err)
	}
	defer resp.Body.Close()
	var known struct {
		Stream *string `json:"stream_url"`
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxWellKnown))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	if err == nil {
		err = json.Unmarshal(data, &known)
	}
	if err != nil {
		return nil, fmt.Errorf("find the stream at %s: %w", req.URL, err)
	}
	if known.Stream == nil || *known.Stream == "" {
		return nil, fmt.Errorf("find the stream at %s: this server has none (stream_url)", req.URL)
	}
	u, err := serverURL(strings.Replace(strings.Replace(*known.Stream, "wss://", "https://", 1), "ws://", "http://", 1))
	if err != nil {
		return nil, fmt.Errorf("find the stream at %s: stream_url: %w", req.URL, err)
	}
	return u, nil
}

// socket runs one connection to its end. It returns how long the node asks to
// stay away.
func (c *connector) socket(ctx context.Context, address *url.URL) (time.Duration, error) {
	conn, err := c.dial(ctx, address)
	if err != nil {
		c.address = nil // it may have moved
		return 0, err
	}
	c.address = address
	defer conn.CloseNow()
	s := session{connector: c, conn: conn, ctx: ctx, nonce: rand.Text()}
	return s.run()
}

func (c *connector) dial(ctx context.Context, address *url.URL) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	header := http.Header{}
	if err := c.config.authorize(ctx, header); err != nil {
		return nil, err
	}
	conn, resp, err := websocket.Dial(ctx, address.String(), &websocket.DialOptions{
		HTTPClient: c.config.HTTP, HTTPHeader: header, Subprotocols: []string{stream.Subprotocol},
	})
	if err != nil {
		return nil, fmt.Errorf("open the stream: %w%s", err, detail(resp))
	}
	if conn.Subprotocol() != stream.Subprotocol {
		conn.CloseNow()
		return nil, fmt.Errorf("open the stream at %s: it does not speak %s", address, stream.Subprotocol)
	}
	conn.SetReadLimit(stream.MaxNodeFrame)
	return conn, nil
}

// detail is what the server says of a refusal.
func detail(resp *http.Response) string {
	if resp == nil || resp.Body == nil {
		return ""
	}
	var problem struct {
		Detail string `json:"detail"`
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxWellKnown))
	if err != nil || json.Unmarshal(data, &problem) != nil || problem.Detail == "" {
		return ""
	}
	return fmt.Sprintf(" (%.200s)", problem.Detail)
}

// session is one open socket.
type session struct {
	*connector
	conn  *websocket.Conn
	ctx   context.Context
	nonce string
	drop  *dropping // written and read by the goroutine that owns the machine, and at the end
}

func (s *session) run() (time.Duration, error) {
	if !s.do(func() {
		s.PEP.link = &link{send: s.send, cut: s.cut}
		s.act(s.machine.greet(s.nonce, false, s.instant()))
	}) {
		return 0, ErrClosed
	}
	err := s.read()
	var pause time.Duration
	s.do(func() {
		s.PEP.link = nil
		if s.machine.link.answered {
			s.retries = 0
		}
		s.machine.lost()
		if s.drop != nil {
			err, pause = fmt.Errorf("%w: %s", errDown, s.drop.reason), s.drop.retryAfter
		}
	})
	return pause, cmp.Or(err, errDown)
}

// send writes one frame. A node that does not take it in time is gone.
func (s *session) send(f *stream.Frame) {
	data, err := f.Append(nil)
	if err == nil {
		ctx, cancel := context.WithTimeout(s.ctx, stream.WriteWithin)
		defer cancel()
		err = s.conn.Write(ctx, websocket.MessageBinary, data)
	}
	if err != nil {
		s.cut(&dropping{reason: fmt.Sprintf("send %s: %v", f.Type, err)})
	}
}

func (s *session) cut(d *dropping) {
	if s.drop == nil {
		s.drop = d
	}
	s.conn.CloseNow()
}

func (s *session) read() error {
	for {
		data, err := s.message()
		if err != nil {
			return fmt.Errorf("%w: %w", errDown, err)
		}
		f, err := stream.Decode(data, stream.MaxNodeFrame)
		if err == nil && !f.Type.FromNode() {
			err = fmt.Errorf("a node does not send %q", f.Type)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errDown, err)
		}
		cut := false
		if !s.do(func() {
			s.act(s.machine.frame(&f, s.instant()))
			cut = s.drop != nil
		}) {
			return ErrClosed
		}
		if cut {
			return errDown
		}
	}
}

// message reads one message. What comes of a large one shows that the
// connection is alive.
func (s *session) message() ([]byte, error) {
	kind, r, err := s.conn.Reader(s.ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageBinary {
		return nil, errors.New("a message in text: frames are binary")
	}
	var data bytes.Buffer
	for told := time.Now(); ; {
		_, err := io.CopyN(&data, r, progressBytes)
		if err == io.EOF {
			return data.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		if time.Since(told) < time.Second {
			continue
		}
		told = time.Now()
		if !s.do(func() { s.machine.link.heard = s.instant() }) {
			return nil, ErrClosed
		}
	}
}

// poll asks over HTTP until a time. It gives up at the first failure. Between
// one time and the next, while the socket is tried, a node still counts as
// heard: how fresh that is the heartbeats say.
func (c *connector) poll(ctx context.Context, address *url.URL, until time.Time) {
	if c.polls == nil {
		c.polls = &polling{connector: c}
	}
	p := c.polls
	p.drop = nil
	for wait := time.Duration(0); ctx.Err() == nil && time.Until(until) > 0; wait = min(pollWait, time.Until(until)) {
		err := p.once(ctx, address, max(wait, 0))
		if err == nil && p.drop != nil {
			err = fmt.Errorf("%w: %s", errDown, p.drop.reason)
		}
		if err != nil {
			c.config.Log.Debug("polling is down too", "error", err)
			c.do(func() {
				c.PEP.link = nil
				c.machine.lost()
			})
			if p.drop != nil {
				sleep(ctx, p.drop.retryAfter)
			}
			return
		}
		// Without anything to wait for, a node answers at once.
		sleep(ctx, min(retryFirst, time.Until(until)))
	}
}

// polling is polls in a row.
type polling struct {
	*connector
	outbox []*stream.Frame // to be sent with the next poll
	drop   *dropping
}

func (p *polling) send(f *stream.Frame) {
	if f.Type != stream.TypeAck && len(p.outbox) < maxOutbox { // the next hello's Held is an ack
		p.outbox = append(p.outbox, f)
	}
}

// once is one poll, with a nonce of its own.
func (p *polling) once(ctx context.Context, address *url.URL, wait time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	alive := time.AfterFunc(wait+dialWithin, cancel)
	defer alive.Stop()
	var body []byte
	var err error
	if !p.do(func() {
		p.PEP.link = &link{send: p.send, cut: func(d *dropping) { p.drop = d }}
		said := p.outbox
		p.outbox = nil
		p.act(p.machine.greet(rand.Text(), true, p.instant()))
		for _, f := range slices.Concat(p.outbox, said) { // hello first
			var frame []byte
			if frame, err = f.Append(nil); err != nil {
				return
			}
			body = stream.AppendPart(body, frame)
		}
		p.outbox = nil
	}) {
		return ErrClosed
	}
	if err != nil {
		return err
	}
	answer, err := p.post(ctx, address, body, wait)
	if err != nil {
		return err
	}
	defer answer.Close()
	parts := aliveReader{answer, alive}
	for {
		data, err := stream.ReadPart(parts, stream.MaxNodeFrame)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		f, err := stream.Decode(data, stream.MaxNodeFrame)
		if err != nil {
			return err
		}
		if !p.do(func() { p.act(p.machine.frame(&f, p.instant())) }) {
			return ErrClosed
		}
		if p.drop != nil {
			return nil
		}
	}
}

// aliveReader puts off the end of an answer while some of it comes.
type aliveReader struct {
	io.Reader
	alive *time.Timer
}

func (r aliveReader) Read(data []byte) (int, error) {
	r.alive.Reset(stream.SilentAfter)
	return r.Reader.Read(data)
}

func (p *polling) post(ctx context.Context, address *url.URL, body []byte, wait time.Duration) (io.ReadCloser, error) {
	u := address.JoinPath("poll")
	if seconds := int(wait / time.Second); seconds > 0 {
		u.RawQuery = "wait=" + strconv.Itoa(seconds) + "s"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if err := p.config.authorize(ctx, req.Header); err != nil {
		return nil, err
	}
	resp, err := p.config.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, fmt.Errorf("poll: %s%s", resp.Status, detail(resp))
	}
	return resp.Body, nil
}
