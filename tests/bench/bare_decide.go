//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/gofiber/fiber/v2"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// runBareDecide is the main function of a process that parses a request with
// the decoder that xiezhi has and answers a constant: what any handler of a
// decision must do at least. It prints its address and serves until its
// standard input ends.
func runBareDecide(ctx context.Context, in io.Reader, out io.Writer) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, DisableDefaultContentType: true})
	answer := []byte(`{"decision_id":"01K5Q9Z3T7W8X4Y2V6B1N0M9AA","effect":"ALLOW","decision":true,"revision":"r1.g20","stale":false,` +
		`"reasons":[{"policy":"platform/roles","rule":"engineers_run_compute","effect":"ALLOW","message":""}],` +
		`"obligations":[],"limits":[],"route":null,"approval":null,"permit":null}`)
	app.Post("/api/v1/decide", func(c *fiber.Ctx) error {
		v, err := authz.Parse(c.Request().Body())
		if err == nil {
			_, err = authz.RequestOf(v)
		}
		if err != nil {
			return err // 500, which the client takes for a failure
		}
		c.Response().Header.SetContentType("application/json")
		c.Response().SetBodyRaw(answer)
		return nil
	})
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // until who started this process ends
		_ = app.Shutdown()
	}()
	return app.Listener(ln)
}

// startBareDecide starts that process.
func startBareDecide() (*child, string, error) {
	c, err := startChild(self("bare-decide"))
	if err != nil {
		return nil, "", err
	}
	address, err := c.line()
	return c, address, err
}
