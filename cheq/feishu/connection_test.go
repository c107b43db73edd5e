package feishu

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	larkws "github.com/larksuite/oapi-sdk-go/v3/ws"
)

// running waits for the goroutines of ours and of the SDK that are told to end,
// and fails where one does not.
func running(t *testing.T) {
	t.Helper()
	buf := make([]byte, 1<<20)
	var left string
	for range 1000 {
		left = ""
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "oapi-sdk-go") || strings.Contains(stack, "gorilla/websocket") || strings.Contains(stack, "feishu.(*Bot)") {
				left += stack + "\n\n"
			}
		}
		if left == "" {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("left running:\n%s", left)
}

// silence shakes hands and then says nothing, not even to a ping.
func silence(w http.ResponseWriter, r *http.Request) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	_, _ = io.Copy(io.Discard, conn)
}

func TestASilentConnectionIsGivenUp(t *testing.T) {
	asked := make(chan struct{}, 8)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+larkws.GenEndpointUri, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		// A pause of 0 between pings and no reconnection: neither is taken.
		fmt.Fprintf(w, `{"code":0,"data":{"URL":"ws://%s/long?device_id=1&service_id=1","ClientConfig":{"PingInterval":0,"ReconnectCount":0}}}`, r.Host)
	})
	mux.HandleFunc("GET /long", silence)
	server := httptest.NewServer(mux)
	defer server.Close()
	r := newRig(t, func(c *Config) { c.BaseURL = server.URL })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	<-asked
	begun := time.Now()
	<-asked // two pings of a second, five more, and a pause
	if took := time.Since(begun); took < 7*time.Second {
		t.Errorf("given up after %s", took)
	}
	cancel()
	<-done
	running(t)
	if !strings.Contains(r.logs.String(), "again_after") || strings.Contains(r.logs.String(), appSecret) {
		t.Errorf("log: %s", r.logs)
	}
}

func TestARefusedConnectionIsAskedForAgainWithPauses(t *testing.T) {
	asked := make(chan time.Time, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- time.Now()
		fmt.Fprint(w, `{"code":514,"msg":"auth failed"}`)
	}))
	defer server.Close()
	r := newRig(t, func(c *Config) { c.BaseURL = server.URL })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	first, second := <-asked, <-asked
	third := <-asked
	if a, b := second.Sub(first), third.Sub(second); a < firstPause/2 || b < firstPause {
		t.Errorf("pauses of %s and %s", a, b)
	}
	cancel()
	<-done
	running(t)
}

func TestTheEndpointIsLookedAt(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"secure":            {`{"code":0,"data":{"URL":"wss://msg.feishu.cn/ws?ticket=1"}}`, `"PingInterval":120`},
		"a ping of 0":       {`{"code":0,"data":{"URL":"wss://h/ws","ClientConfig":{"PingInterval":0}}}`, `"PingInterval":1`},
		"a ping of a day":   {`{"code":0,"data":{"URL":"wss://h/ws","ClientConfig":{"PingInterval":86400}}}`, `"PingInterval":120`},
		"plain on loopback": {`{"code":0,"data":{"URL":"ws://127.0.0.1:1/ws"}}`, `"URL":"ws://127.0.0.1:1/ws"`},
		"refused":           {`{"code":514,"msg":"auth failed"}`, `"msg":"auth failed"`},
		"plain, far away":   {`{"code":0,"data":{"URL":"ws://msg.feishu.cn/ws?ticket=1"}}`, ""},
		"another protocol":  {`{"code":0,"data":{"URL":"https://msg.feishu.cn/ws?ticket=1"}}`, ""},
		"no address":        {`{"code":0,"data":{"URL":"wss://%zz?ticket=1"}}`, ""},
		"not JSON":          {`<html>`, ""},
	} {
		got, err := vetEndpoint([]byte(test.body))
		if (err != nil) != (test.want == "") || !strings.Contains(string(got), test.want) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		if strings.Contains(fmt.Sprint(err), "ticket") {
			t.Errorf("%s: the error tells the ticket: %v", name, err)
		}
	}
}
