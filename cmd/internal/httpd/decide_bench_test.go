package httpd

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/valyala/fasthttp"
)

// BenchmarkDecideDoor is one call without the socket: authentication, the
// caller's right, parsing, deciding on small policies, encoding.
func BenchmarkDecideDoor(b *testing.B) {
	r := build(b, testPolicies(), Config{})
	r.config.Log = slog.New(slog.DiscardHandler)
	handler := r.app.Handler()
	body := []byte(machineBody(`{"cpu":2,"memory_gib":4,"region":"cn-hangzhou","tags":{"itsm:owner":"li.wei","itsm:cost_center":"x"}}`, ""))
	var ctx fasthttp.RequestCtx // reused, as a keep-alive connection does
	ctx.Request.Header.SetMethod(http.MethodPost)
	ctx.Request.SetRequestURI("/api/v1/decide")
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.Header.Set("Authorization", "Bearer "+r.tokens["shop"])
	ctx.Request.SetBody(body)
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		if handler(&ctx); ctx.Response.StatusCode() != http.StatusOK {
			b.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
		}
	}
}
