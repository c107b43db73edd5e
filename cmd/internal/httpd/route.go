package httpd

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// Route is one row of the table of what is served.
type Route struct {
	Method    string
	Path      string // as OpenAPI writes it; {path...} takes slashes too
	Operation string // OpenAPI operationId, and the label of metrics
	// Rights are what the caller may be asked to hold, the first one always or
	// as the call demands. Public routes have none and ask for no credential.
	Rights []string
	Public bool

	Summary string
	Query   []string // names of the query parameters, of openapi.yaml's parameters
	Headers []string // names of request headers, likewise
	Body    string   // name of the schema of the request body, or empty
	// BodyOptional says that the body may be left out.
	BodyOptional bool
	Status       int    // of success
	Joined       bool   // success is 200, too, where there is such an object already
	Waiting      string // name of the schema of the answer 202, where people must say yes first
	Answer       string // name of the schema of the answer, or empty for text

	// AuthZEN doors follow their standard in what they refuse and how.
	AuthZEN bool
	// ARAP doors refuse with the problems of the Access Request and Approval
	// Profile.
	ARAP bool
	// OPA doors answer as the REST API of OPA, refusals too.
	OPA bool
	// Replay keeps the answer under the caller's Idempotency-Key.
	Replay bool
	// MaxBody bounds the body in bytes; 0 means [MaxBody].
	MaxBody int

	handle func(*call) error
}

// Routes returns the table.
func Routes() []Route {
	return slices.Concat(
		decisionRoutes(), dataRoutes(), policyRoutes(), sourceRoutes(), releaseRoutes(), rolloutRoutes(), pepRoutes(), dynamicRoutes(), cheqRoutes(), arapRoutes(), callbackRoutes(),
		directoryRoutes(), tokenRoutes(), auditRoutes(), serviceRoutes(),
	)
}

// checkRoutes refuses a table that could serve what nobody asked a right for.
func checkRoutes(routes []Route) error {
	operations, places := map[string]bool{}, map[string]bool{}
	for _, r := range routes {
		place := r.Method + " " + r.Path
		switch {
		case r.Public && len(r.Rights) > 0:
			return fmt.Errorf("route %s: public, and yet it names rights", place)
		case !r.Public && (len(r.Rights) == 0 || slices.Contains(r.Rights, "")):
			return fmt.Errorf("route %s: names no right and is not marked public", place)
		case r.handle == nil || r.Operation == "" || r.Status == 0 || r.Summary == "":
			return fmt.Errorf("route %s: incomplete", place)
		case operations[r.Operation] || places[place]:
			return fmt.Errorf("route %s: registered twice", place)
		}
		operations[r.Operation], places[place] = true, true
	}
	return nil
}

// fiberPath translates {name} and {name...}.
func (r *Route) fiberPath() string {
	steps := strings.Split(r.Path, "/")
	for i, step := range steps {
		name, isParameter := strings.CutPrefix(strings.TrimSuffix(step, "}"), "{")
		switch {
		case !isParameter:
		case strings.HasSuffix(name, "..."):
			steps[i] = "*"
		default:
			steps[i] = ":" + name
		}
	}
	return strings.Join(steps, "/")
}

func (s *Server) register(r *Route) {
	handler := s.handler(r)
	s.app.Add(r.Method, r.fiberPath(), handler)
	if r.Method == http.MethodGet {
		s.app.Add(http.MethodHead, r.fiberPath(), handler)
	}
}

// handler is the one way through which every call goes.
func (s *Server) handler(r *Route) fiber.Handler {
	succeeded := s.metrics.answered(r.Operation, r.Status)
	return func(f *fiber.Ctx) error {
		c := &call{Server: s, fiber: f, route: r, succeeded: succeeded}
		c.time.begin(s.base, callTimeout)
		s.identify(f)
		if err := c.run(); err != nil {
			c.fail(err)
		}
		s.finish(c)
		return nil
	}
}

// finish sets what every answer carries, counts and logs.
func (s *Server) finish(c *call) {
	s.protect(c.fiber)
	status := c.fiber.Response().StatusCode()
	if c.succeeded != nil && status == c.route.Status {
		c.succeeded.Inc()
	} else {
		s.metrics.answered(c.route.Operation, status).Inc()
	}
	s.logCall(c, status)
}

// protection are the security headers, named as they are sent.
var protection = [...]struct{ name, value []byte }{
	{[]byte("Cache-Control"), []byte("no-store")},
	{[]byte("X-Content-Type-Options"), []byte("nosniff")},
	{[]byte("Content-Security-Policy"), []byte("default-src 'none'; frame-ancestors 'none'")},
}

// protect sets the security headers.
func (s *Server) protect(f *fiber.Ctx) {
	h := &f.Response().Header
	for _, p := range &protection {
		h.SetCanonical(p.name, p.value)
	}
	if s.tls != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// answerUnrouted answers what no route takes and what fasthttp refuses.
func (s *Server) answerUnrouted(f *fiber.Ctx, err error) error {
	c := &call{Server: s, fiber: f, route: &Route{Operation: "none"}}
	c.time.begin(s.base, callTimeout)
	s.identify(f)
	status := statusOf(err)
	if status == http.StatusMethodNotAllowed && string(f.Request().Header.Method()) == http.MethodOptions {
		f.Status(http.StatusNoContent) // Allow is set; other origins get nothing
	} else {
		c.fail(httpError(status))
	}
	s.finish(c)
	return nil
}
