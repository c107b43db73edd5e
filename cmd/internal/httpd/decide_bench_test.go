package httpd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// benchBody is a request such as a landing zone sends.
var benchBody = machineBody(`{"cpu":2,"memory_gib":4,"region":"cn-hangzhou","vpc_id":"vpc-bp1acme0hangzhou","encrypted":true,`+
	`"tags":{"itsm:owner":"li.wei","itsm:cost_center":"CC-012","itsm:expire_at":"2090-06-01T00:00:00Z"}}`, `,"tenant":"acme"`)

// benchRig allows all at no cost and records as a node does, but for the disk.
func benchRig(b *testing.B) *rig {
	r := build(b, map[string]string{"platform/open.cedar": "// @policy({\"title\":{\"en\":\"Open\",\"zh\":\"开放\"}})\n@id(\"all\") permit (principal, action, resource);\n"}, Config{})
	r.config.Log = slog.New(slog.DiscardHandler)
	var mu sync.Mutex
	var buf []byte
	r.record.write = func(d *pdp.Record) error {
		record, err := d.Audit()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		buf = record.AppendJSON(buf[:0])
		return nil
	}
	return r
}

// BenchmarkDecideDoor is one call without the socket: authentication, the
// caller's right, parsing, deciding on one policy that allows all, recording,
// encoding; beside it a handler that parses the same and answers a constant.
func BenchmarkDecideDoor(b *testing.B) {
	r := benchRig(b)
	for _, door := range []struct {
		name    string
		handler fasthttp.RequestHandler
	}{{"xiezhi", r.app.Handler()}, {"bare", bare().Handler()}} {
		b.Run(door.name, func(b *testing.B) {
			var ctx fasthttp.RequestCtx // reused, as a keep-alive connection does
			ctx.Request.Header.SetMethod(http.MethodPost)
			ctx.Request.SetRequestURI("/api/v1/decide")
			ctx.Request.Header.SetContentType("application/json")
			ctx.Request.Header.Set("Authorization", "Bearer "+r.tokens["pep"])
			ctx.Request.SetBodyString(benchBody)
			b.ReportAllocs()
			for b.Loop() {
				ctx.Response.Reset()
				if door.handler(&ctx); ctx.Response.StatusCode() != http.StatusOK {
					b.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
				}
			}
		})
	}
}

// bare is what any handler of a decision must do at least.
func bare() *fiber.App {
	app := fiber.New(fiber.Config{DisableStartupMessage: true, DisableDefaultContentType: true})
	answer := []byte(`{"decision_id":"01K5Q9Z3T7W8X4Y2V6B1N0M9AA","effect":"ALLOW","decision":true,"revision":"r1.g20","stale":false,` +
		`"reasons":[{"policy":"platform/open","rule":"rule_1","effect":"ALLOW","message":""}],"obligations":[],"limits":[],"route":null,"approval":null,"permit":null}`)
	app.Post("/api/v1/decide", func(c *fiber.Ctx) error {
		v, err := authz.Parse(c.Request().Body())
		if err != nil {
			return err
		}
		if _, err := authz.RequestOf(v); err != nil {
			return err
		}
		c.Response().Header.SetContentType("application/json")
		c.Response().SetBody(answer)
		return nil
	})
	return app
}

// BenchmarkDecideOverSockets measures the CPU time that this process takes for
// one call, with 64 connections of another process at work. Compare the two
// within one run.
func BenchmarkDecideOverSockets(b *testing.B) {
	r := benchRig(b)
	for _, served := range []struct {
		name string
		app  *fiber.App
	}{{"xiezhi", r.app}, {"bare", bare()}} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		go func() { _ = served.app.Listener(listener) }() // until the process ends
		b.Run(served.name, func(b *testing.B) {
			loadFrom(b, listener.Addr().String(), r.tokens["pep"], 2000)
			before := cpuTime(b)
			b.ResetTimer()
			loadFrom(b, listener.Addr().String(), r.tokens["pep"], b.N)
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// loadVariable tells this test's own binary to be a client.
const loadVariable = "XIEZHI_TEST_LOAD"

func loadFrom(b *testing.B, address, token string, calls int) {
	b.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestLoad$", "-test.v")
	cmd.Env = append(os.Environ(), loadVariable+"="+strings.Join([]string{address, token, strconv.Itoa(calls)}, " "))
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
}

// TestLoad is the client of BenchmarkDecideOverSockets, in a process of its own.
func TestLoad(t *testing.T) {
	address, rest, ok := strings.Cut(os.Getenv(loadVariable), " ")
	if !ok {
		t.Skip("a part of BenchmarkDecideOverSockets")
	}
	token, count, _ := strings.Cut(rest, " ")
	calls, err := strconv.Atoi(count)
	if err != nil {
		t.Fatal(err)
	}
	const connections = 64
	request := []byte("POST /api/v1/decide HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: Bearer " + token +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(benchBody)) + "\r\n\r\n" + benchBody)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			if err := callOften(address, request, (calls+i)/connections); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func callOften(address string, request []byte, calls int) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for range calls {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			return fmt.Errorf("%d %s, error %v", response.StatusCode, body, err)
		}
	}
	return nil
}
