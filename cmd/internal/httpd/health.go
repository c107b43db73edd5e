package httpd

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/pdp"
)

func serviceRoutes() []Route {
	return []Route{
		{
			Method: http.MethodGet, Path: "/healthz", Operation: "health", Public: true,
			Summary: "The process answers", Status: http.StatusOK, Answer: "Health", handle: (*call).health,
		},
		{
			Method: http.MethodGet, Path: "/readyz", Operation: "readiness", Public: true,
			Summary: "This node can decide: a release is active and what it rests on is well",
			Status:  http.StatusOK, Answer: "Readiness", handle: (*call).readiness,
		},
		{
			Method: http.MethodGet, Path: "/.well-known/authzen-configuration", Operation: "authzenConfiguration", Public: true,
			Summary: "AuthZEN 1.0 metadata", Status: http.StatusOK, Answer: "AuthZENConfiguration", handle: (*call).authzenConfiguration,
		},
		{
			Method: http.MethodGet, Path: "/.well-known/xiezhi", Operation: "xiezhiConfiguration", Public: true,
			Summary: "Where the parts of this server are", Status: http.StatusOK, Answer: "XiezhiConfiguration", handle: (*call).xiezhiConfiguration,
		},
		{
			Method: http.MethodGet, Path: "/openapi.json", Operation: "openapi", Public: true,
			Summary: "This document", Status: http.StatusOK, Answer: "Object", handle: (*call).openAPI,
		},
		{
			Method: http.MethodGet, Path: "/metrics", Operation: "metrics", Rights: []string{RightMetrics},
			Summary: "Metrics in the Prometheus text format", Status: http.StatusOK, handle: (*call).prometheus,
		},
	}
}

// health answers GET /healthz.
func (c *call) health() error {
	c.answerJSON(http.StatusOK, func(buf []byte) []byte { return append(buf, `{"status":"ok"}`...) })
	return nil
}

// openAPI answers GET /openapi.json.
func (c *call) openAPI() error {
	c.answerJSON(http.StatusOK, func(buf []byte) []byte { return append(buf, c.openapi...) })
	return nil
}

// readiness remembers the last result of the checks: the route is public, and
// must not let anybody keep the store busy.
type readiness struct {
	mu      sync.Mutex
	checked time.Time
	failed  []string
}

const (
	readinessKept = 500 * time.Millisecond
	checkTimeout  = 2 * time.Second
)

// readiness answers GET /readyz: 200, or 503 with the names of what failed.
// The reasons are in the log.
func (c *call) readiness() error {
	failed := c.checkReadiness()
	body := struct {
		Status string   `json:"status"`
		Failed []string `json:"failed"`
	}{"ready", failed}
	status := http.StatusOK
	if len(failed) > 0 {
		body.Status, status = "not ready", http.StatusServiceUnavailable
	}
	return c.answer(status, body)
}

func (s *Server) checkReadiness() []string {
	s.ready.mu.Lock()
	defer s.ready.mu.Unlock()
	now := s.config.Now()
	if !s.ready.checked.IsZero() && now.Sub(s.ready.checked) < readinessKept {
		return s.ready.failed
	}
	ctx, cancel := context.WithTimeout(s.base, checkTimeout)
	defer cancel()
	failed := []string{}
	for _, check := range append([]Check{{"release", s.releaseActive}}, s.config.Checks...) {
		if err := check.Run(ctx); err != nil {
			s.config.Log.Warn("not ready", "check", check.Name, "error", err)
			failed = append(failed, check.Name)
		}
	}
	s.ready.checked, s.ready.failed = now, failed
	return failed
}

func (s *Server) releaseActive(context.Context) error {
	if s.config.Decider.Revision().IsZero() {
		return pdp.ErrNotReady
	}
	return nil
}
