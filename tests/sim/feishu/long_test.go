package feishu_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/xiezhi-project/xiezhi/tests/sim/feishu"
)

// wire is a frame as the test's own client reads it: the values of each field,
// the headers by name.
type wire struct {
	numbers map[int]uint64
	texts   map[int]string
	headers map[string]string
}

func decode(t *testing.T, b []byte) wire {
	t.Helper()
	w := wire{numbers: map[int]uint64{}, texts: map[int]string{}, headers: map[string]string{}}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		v, m := binary.Uvarint(b[n:])
		b = b[n+m:]
		if tag&7 == 0 {
			w.numbers[int(tag>>3)] = v
			continue
		}
		text := string(b[:v])
		b = b[v:]
		if tag>>3 == 5 {
			h := decode(t, []byte(text))
			w.headers[h.texts[1]] = h.texts[2]
			continue
		}
		w.texts[int(tag>>3)] = text
	}
	return w
}

// encode writes a frame with short texts, or a payload of any length.
func encode(method byte, headers [][2]string, payload string) []byte {
	b := []byte{1 << 3, 7, 2 << 3, 9, 3 << 3, 1, 4 << 3, method}
	for _, h := range headers {
		b = append(b, 5<<3|2, byte(len(h[0])+len(h[1])+4), 1<<3|2, byte(len(h[0])))
		b = append(append(b, h[0]...), 2<<3|2, byte(len(h[1])))
		b = append(b, h[1]...)
	}
	b = binary.AppendUvarint(append(b, 8<<3|2), uint64(len(payload)))
	return append(b, payload...)
}

// longCompany is a company whose app uses the long connection.
func longCompany(t *testing.T, cfg feishu.Config) *company {
	t.Helper()
	c := newCompany(t, cfg)
	must(t, c.AddApp(feishu.App{ID: appID, Secret: secret, EncryptKey: key, VerificationToken: verifying, LongConnection: true}))
	return c
}

func (c *company) endpoint(t *testing.T, app, secret string) reply {
	t.Helper()
	return c.call(t, "POST", "/callback/ws/endpoint", "", map[string]string{"AppID": app, "AppSecret": secret})
}

func (c *company) dial(t *testing.T) *websocket.Conn {
	t.Helper()
	got := c.endpoint(t, appID, secret)
	if got.Code != 0 || got.Data.ClientConfig["PingInterval"] != 120 || !strings.Contains(got.Data.URL, "service_id=") {
		t.Fatalf("endpoint: %+v", got)
	}
	conn, _, err := websocket.Dial(c.ctx, got.Data.URL, nil)
	must(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func (c *company) read(t *testing.T, conn *websocket.Conn) wire {
	t.Helper()
	kind, b, err := conn.Read(c.ctx)
	must(t, err)
	if kind != websocket.MessageBinary {
		t.Fatal("not a binary message")
	}
	return decode(t, b)
}

// take reads the frames of one push and answers it.
func (c *company) take(t *testing.T, conn *websocket.Conn, frames int, answer string) opened {
	t.Helper()
	parts := map[string]string{}
	var last wire
	for range frames {
		last = c.read(t, conn)
		parts[last.headers["seq"]] = last.texts[8]
	}
	payload := ""
	for _, seq := range []string{"0", "1", "2", "3", "4"}[:frames] {
		payload += parts[seq]
	}
	var got opened
	must(t, json.Unmarshal([]byte(payload), &got))
	headers := [][2]string{{"biz_rt", "1"}}
	for name, value := range last.headers {
		headers = append(headers, [2]string{name, value})
	}
	data := base64.StdEncoding.EncodeToString([]byte(answer))
	must(t, conn.Write(c.ctx, websocket.MessageBinary, encode(1, headers, `{"code":200,"headers":null,"data":"`+data+`"}`)))
	return got
}

func TestTheEndpointRefuses(t *testing.T) {
	c := longCompany(t, feishu.Config{})
	wantCode(t, "wrong secret", c.endpoint(t, appID, "wrong"), feishu.LongAuthFailed)
	wantCode(t, "app without the long connection", c.endpoint(t, otherApp, secret), feishu.LongForbidden)
	for _, code := range []int{feishu.LongBusy, feishu.LongInternal, feishu.LongTooMany} {
		c.RefuseLong(appID, code, 1)
		wantCode(t, "refused", c.endpoint(t, appID, secret), code)
	}
	url := c.endpoint(t, appID, secret).Data.URL
	conn, _, err := websocket.Dial(c.ctx, url, nil)
	must(t, err)
	defer conn.CloseNow()
	_, response, err := websocket.Dial(c.ctx, url, nil)
	if err == nil || response == nil || response.Header.Get("Handshake-Status") != "514" {
		t.Errorf("a URL used twice: %v, %+v", err, response)
	}
}

func TestPushesComeInFrames(t *testing.T) {
	for _, row := range []struct {
		frames   int
		reversed bool
	}{{1, false}, {2, false}, {3, true}} {
		c := longCompany(t, feishu.Config{})
		c.SplitPushes(row.frames, row.reversed)
		id := c.post(t, question)
		conn := c.dial(t)
		must(t, c.AwaitConnections(c.ctx, appID, 1))
		seen := make(chan feishu.Seen, 1)
		go func() {
			s, _ := c.Tap(c.ctx, feishu.Tap{User: "bob", Message: id, Button: "approve"})
			seen <- s
		}()
		got := c.take(t, conn, row.frames, `{"toast":{"type":"info","content":"Noted"}}`)
		if got.Header.EventType != "card.action.trigger" || got.Event.Context.OpenMessageID != id {
			t.Errorf("%+v: event %+v", row, got)
		}
		if s := <-seen; s.Error != "" || s.Toast == nil || s.Toast.Text != "Noted" {
			t.Errorf("%+v: seen %+v", row, s)
		}
	}
}

func TestPingsAreAnsweredUntilTheConnectionIsDeaf(t *testing.T) {
	c := longCompany(t, feishu.Config{})
	id := c.post(t, question)
	conn := c.dial(t)
	ping := encode(0, [][2]string{{"type", "ping"}}, "")
	must(t, conn.Write(c.ctx, websocket.MessageBinary, ping))
	pong := c.read(t, conn)
	var config map[string]int
	must(t, json.Unmarshal([]byte(pong.texts[8]), &config))
	if pong.headers["type"] != "pong" || pong.numbers[4] != 0 || config["PingInterval"] != 120 || config["ReconnectInterval"] != 120 {
		t.Errorf("pong: %+v", pong)
	}

	c.DeafenConnections(appID)
	read := make(chan error, 1)
	go func() {
		_, _, err := conn.Read(c.ctx)
		read <- err
	}()
	must(t, conn.Write(c.ctx, websocket.MessageBinary, ping))
	must(t, conn.Ping(c.ctx)) // frames are taken in turn: the one before this was ignored, or read has ended
	seen := make(chan feishu.Seen, 1)
	go func() {
		s, _ := c.Tap(c.ctx, feishu.Tap{User: "bob", Message: id, Button: "approve"})
		seen <- s
	}()
	must(t, c.clock.AwaitTimers(c.ctx, 1))
	c.clock.Advance(3 * time.Second)
	if s := <-seen; s.Code != 200341 {
		t.Errorf("a tap into a dead connection: %+v", s)
	}
	c.DropConnections(appID)
	if <-read == nil {
		t.Error("a deaf connection answered a ping, or a dropped one still stands")
	}
	must(t, c.AwaitConnections(c.ctx, appID, 0))
	if s := c.tap(t, "bob", id, "approve", nil); s.Code != 200340 {
		t.Errorf("a tap without a connection: %+v", s)
	}
}

func TestMalformedAnswersFail(t *testing.T) {
	c := longCompany(t, feishu.Config{})
	conn := c.dial(t)
	must(t, c.AwaitConnections(c.ctx, appID, 1))
	for _, row := range []struct {
		what    string
		headers [][2]string
		payload string
		status  int
	}{
		{"answer without data", [][2]string{{"biz_rt", "1"}}, `{"code":200}`, 200},
		{"failure of the app", [][2]string{{"biz_rt", "1"}}, `{"code":500}`, 500},
		{"no biz_rt", nil, `{"code":200}`, 500},
		{"data that is no base64", [][2]string{{"biz_rt", "1"}}, `{"code":200,"data":"{}"}`, 500},
		{"no JSON", [][2]string{{"biz_rt", "1"}}, `fine`, 500},
	} {
		got := make(chan feishu.Answer, 1)
		go func() {
			answer, _ := c.Push(c.ctx, appID, []byte(`{}`))
			got <- answer
		}()
		push := c.read(t, conn)
		headers := append([][2]string{{"type", "event"}, {"message_id", push.headers["message_id"]}}, row.headers...)
		must(t, conn.Write(c.ctx, websocket.MessageBinary, encode(1, headers, row.payload)))
		if answer := <-got; answer.Status != row.status {
			t.Errorf("%s: status %d, want %d", row.what, answer.Status, row.status)
		}
	}
	for missing := range 4 {
		conn := c.dial(t)
		var required []byte
		for i := range 4 {
			if i != missing {
				required = append(required, byte(i+1)<<3, 1)
			}
		}
		must(t, conn.Write(c.ctx, websocket.MessageBinary, required))
		if _, _, err := conn.Read(c.ctx); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
			t.Errorf("a frame without field %d: %v", missing+1, err)
		}
	}
}

func TestEachPushGoesToOneOfSeveralConnections(t *testing.T) {
	var asked []int
	next := 0
	c := longCompany(t, feishu.Config{Choose: func(n int) int {
		asked = append(asked, n)
		next++
		return (next - 1) % n
	}})
	conns := []*websocket.Conn{}
	for n := range 2 {
		conns = append(conns, c.dial(t))
		must(t, c.AwaitConnections(c.ctx, appID, n+1))
	}
	for _, conn := range conns {
		pushed := make(chan error, 1)
		go func() {
			got, err := c.Push(c.ctx, appID, []byte(`{"type":"raw"}`))
			if err == nil && (got.Status != 200 || !bytes.Equal(got.Body, []byte("{}"))) {
				err = errors.New("wrong answer")
			}
			pushed <- err
		}()
		if got := c.take(t, conn, 1, "{}"); got.Type != "raw" {
			t.Errorf("pushed: %+v", got)
		}
		must(t, <-pushed)
	}
	if len(asked) != 2 || asked[0] != 2 {
		t.Errorf("chosen among %v", asked)
	}
}

func TestFiftyConnectionsAtMost(t *testing.T) {
	c := longCompany(t, feishu.Config{})
	late := c.endpoint(t, appID, secret).Data.URL
	for range 50 {
		c.dial(t)
	}
	must(t, c.AwaitConnections(c.ctx, appID, 50))
	wantCode(t, "51st at the endpoint", c.endpoint(t, appID, secret), feishu.LongTooMany)
	_, response, err := websocket.Dial(c.ctx, late, nil)
	if err == nil || response.StatusCode != http.StatusForbidden || response.Header.Get("Handshake-Autherrcode") != "1000040350" {
		t.Errorf("51st handshake: %v, %+v", err, response)
	}
}
