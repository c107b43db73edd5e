package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	wire "github.com/xiezhi-project/xiezhi/pep-sdk/stream"
)

func TestPEPsThatNeverReadDelayNobody(t *testing.T) {
	w := newWorld(t)
	large := make([]byte, 5<<20) // beyond what the kernel keeps for a socket
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	good := s.connect(w.model("good", nil, "acme"))
	good.until("the first release", at(1, 0))
	w.publish(map[string]string{"platform/p": string(large)})
	s.sync()
	good.until("the large release", at(2, 0))
	const frozen = 3 * writers / 2
	small := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return conn, err
	}}}
	for i := range frozen {
		ws, _, err := websocket.Dial(context.Background(), s.url+Path, &websocket.DialOptions{
			HTTPClient: small, Subprotocols: []string{wire.Subprotocol}, HTTPHeader: http.Header{"Authorization": {"Bearer acme shop"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ws.CloseNow() })
		m := w.model(fmt.Sprint("frozen-", i), nil, "acme")
		if err := ws.Write(context.Background(), websocket.MessageBinary, m.greet()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "more writes stall than there are writers", func() bool { return s.Stats().Stalls >= frozen })
	began := time.Now()
	w.grant("acme", "grt-1", time.Hour)
	s.sync()
	good.until("a grant beside those that stall", at(2, 1))
	late := s.connect(w.model("late", nil, "acme"))
	late.until("the large release beside those that stall", at(2, 1))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestWhoDoesNotKeepTheProtocolIsDropped(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	bystander := s.connect(w.model("bystander", nil, "acme"))
	bystander.until("the release", at(1, 0))
	hello := func() []byte { return w.model("bad", nil, "acme").greet() }
	frame := func(header wire.Header) []byte { return mustFrame(header, nil) }
	held := func(h wire.Held) []byte { return frame(wire.Header{Type: wire.TypeAck, Held: &h}) }
	digest := "sha256:" + strings.Repeat("0", 64)
	rejects := frame(wire.Header{Type: wire.TypeReject, Release: 9, Reason: "x"})
	for name, says := range map[string][][]byte{
		"garbage first":             {[]byte("GET / HTTP/1.1\r\n\r\n")},
		"nothing in a frame":        {{}},
		"an ack first":              {held(wire.Held{})},
		"a node's frame first":      {mustFrame(wire.Header{Type: wire.TypeHeartbeat}, []byte("x"))},
		"another tenant's hello":    {w.model("bad", nil, "globex").greet()},
		"all tenants' hello":        {w.model("bad", nil, "*").greet()},
		"two hellos":                {hello(), hello()},
		"garbage after hello":       {hello(), []byte("garbage")},
		"a frame over the bound":    {hello(), make([]byte, wire.MaxPEPFrame+1)},
		"a node's frame":            {hello(), mustFrame(wire.Header{Type: wire.TypeLog}, []byte("x"))},
		"an ack of no release":      {hello(), held(wire.Held{Release: 7, Digest: digest})},
		"an ack of other content":   {hello(), held(wire.Held{Release: 1, Digest: digest})},
		"an ack of no position":     {hello(), held(wire.Held{Position: 99})},
		"an ack of no key set":      {hello(), held(wire.Held{Keys: 99})},
		"a reject of no release":    {hello(), rejects},
		"a reject of no position":   {hello(), frame(wire.Header{Type: wire.TypeReject, Position: 99, Reason: "x"})},
		"more acks than frames":     append([][]byte{hello()}, slices.Repeat([][]byte{held(wire.Held{})}, 3*unasked)...),
		"one resync after another":  append([][]byte{hello()}, slices.Repeat([][]byte{frame(wire.Header{Type: wire.TypeResync, Log: true})}, maxResyncs+1)...),
		"an unknown type":           {hello(), []byte("\x00\x00\x00\x10" + `{"type":"shell"}`)},
		"an unknown member":         {hello(), []byte("\x00\x00\x00\x25" + `{"type":"resync","log":true,"x":true}`)},
		"a header longer than that": {hello(), []byte("\xff\xff\xff\xff{}")},
	} {
		before := s.Stats()
		ws, err := s.dial(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		for _, data := range says {
			if err := ws.Write(ctx, websocket.MessageBinary, data); err != nil {
				break // it was dropped on the way
			}
		}
		for err == nil {
			_, _, err = ws.Read(ctx)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: not dropped", name)
		}
		cancel()
		_ = ws.CloseNow()
		eventually(t, name+" is counted", func() bool {
			now := s.Stats()
			return now.Dropped+now.Refused > before.Dropped+before.Refused
		})
	}
	w.grant("acme", "grt-1", time.Hour)
	s.sync()
	bystander.until("a grant", at(1, 1))
}

func TestHalfAFrameAndSilenceHarmNobody(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.config.HelloWithin = 100 * time.Millisecond
	s.sync()
	address := strings.TrimPrefix(s.url, "http://")
	upgrade := "GET /stream HTTP/1.1\r\nHost: " + address + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xiezhi.v1\r\nAuthorization: Bearer acme shop\r\n\r\n"
	var all sync.WaitGroup
	for name, bytes := range map[string]string{
		"silence after the upgrade": upgrade,
		"half a frame":              upgrade + "\x82\xfe\x01\x00abcd half",
		"a frame without a mask":    upgrade + "\x82\x01x",
		"a frame of an odd length":  upgrade + "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd",
		"a reserved opcode":         upgrade + "\x83\x80abcd",
	} {
		all.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, err = io.WriteString(conn, bytes)
			err = errors.Join(err, conn.SetReadDeadline(time.Now().Add(2*helloWithin)))
			if err != nil {
				t.Error(err)
			}
			var timeout net.Error
			if _, err = io.Copy(io.Discard, conn); errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%s: the connection stays", name)
			}
		})
	}
	all.Wait()
	s.connect(w.model("good", nil, "acme")).until("the release", at(1, 0))
}

func TestTheDoorIsShutToStrangers(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t, "one")
	if _, err := s.dial("early", nil); err == nil || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("before a read of the store: %v", err)
	}
	s.sync()
	s.guard.take("stolen")
	for name, header := range map[string]http.Header{
		"no credential": {}, "another scheme": {"Authorization": {"Basic x"}}, "a revoked one": {"Authorization": {"Bearer acme stolen"}},
	} {
		if _, err := s.dial(name, header); err == nil || !strings.Contains(err.Error(), "status 401") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	header := http.Header{"Authorization": {"Bearer acme shop"}}
	ws, _, err := websocket.Dial(ctx, s.url+Path, &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{"xiezhi.v0"}})
	if err == nil {
		_, _, err = ws.Read(ctx)
	}
	if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("another subprotocol: %v", err)
	}
	foreign := header.Clone()
	foreign.Set("Origin", "https://evil.example")
	if _, err := s.dial("browser", foreign); err == nil {
		t.Error("a browser's page of another origin is let in")
	}
	for _, path := range []string{"/", "/stream/other"} {
		answer, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		if _ = answer.Body.Close(); answer.StatusCode != http.StatusNotFound && answer.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d", path, answer.StatusCode)
		}
	}
}

func TestWhoReadsAndNeverAcknowledgesIsDropped(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"platform/p": "1"})
	s := w.serve(t, "one")
	s.sync()
	ws, err := s.dial("mute", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := ws.Write(ctx, websocket.MessageBinary, w.model("mute", nil, "acme").greet()); err != nil {
		t.Fatal(err)
	}
	read := func() (frame wire.Frame, err error) {
		_, data, err := ws.Read(ctx)
		if err != nil {
			return frame, err
		}
		return wire.Decode(data, wire.MaxNodeFrame)
	}
	for {
		f, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == wire.TypeRelease {
			break
		}
	}
	for i := range 3 * maxUnacked { // what is under way to it is bounded
		w.grant("acme", fmt.Sprint("grt-", i), time.Hour)
		s.sync()
	}
	w.publish(map[string]string{"platform/p": "2"})
	s.sync()
	w.pass(ackWithin + time.Second)
	ranges := 0
	for {
		f, err := read()
		if err != nil {
			break
		}
		switch f.Type {
		case wire.TypeLog:
			ranges++
		case wire.TypeRelease:
			t.Error("it is sent a second release before it has acknowledged the first")
		}
	}
	if ctx.Err() != nil || ranges > maxUnacked {
		t.Errorf("%d ranges; %v", ranges, ctx.Err())
	}
	eventually(t, "it is counted", func() bool { return s.Stats().Dropped == 1 })
}
