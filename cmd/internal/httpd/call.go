package httpd

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// call is one HTTP call on its way through a handler. What its methods return
// is copied and may be kept. It serves one goroutine.
type call struct {
	*Server
	ctx    context.Context // ends with [callTimeout], or when the server gives up waiting
	time   callTime
	fiber  *fiber.Ctx
	route  *Route
	caller access.Caller
	asked  bool   // a right of the route was asked for
	tried  string // what the caller tries to change, where a refusal is told of with it
	// succeeded counts answers with the route's own status; nil outside routes.
	succeeded prometheus.Counter
	// instead is kept under the Idempotency-Key in place of the answer.
	instead json.RawMessage
}

// run authenticates, lets the handler answer, and withholds an answer for
// which no right was asked. A panic is an error like any other.
func (c *call) run() (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.metrics.panics.Inc()
			c.config.Log.Error("a handler panicked", "operation", c.route.Operation, "panic", r, "stack", string(debug.Stack()))
			err = errInternal
		}
	}()
	defer c.time.end()
	c.ctx = &c.time
	if !validHost(c.fiber.Request().Header.Host()) {
		return errHost
	}
	if c.config.LocalNames && !localName(string(c.fiber.Request().Header.Host())) {
		return errNotLocal
	}
	if err := c.checkQuery(); err != nil {
		return err
	}
	if c.route.Public {
		return c.route.handle(c)
	}
	c.caller, err = c.config.Guard.Authenticate(c.ctx, string(c.fiber.Request().Header.Peek(fiber.HeaderAuthorization)))
	if err != nil {
		return err
	}
	if c.route.Replay {
		err = c.replayed(c.route.handle)
	} else {
		err = c.route.handle(c)
	}
	if err == nil && !c.asked {
		c.config.Log.Error("a handler asked for no right; its answer is withheld", "operation", c.route.Operation)
		return errInternal
	}
	return err
}

// allow asks whether the caller holds the right in the tenant; "" is the
// platform.
func (c *call) allow(right, tenant string) error {
	if tenant == "" {
		tenant = pap.Platform
	}
	return c.may(c.ctx, right, tenant)
}

func (c *call) may(ctx context.Context, right, tenant string) error {
	c.asked = c.asked || slices.Contains(c.route.Rights, right)
	return c.config.Guard.Allow(ctx, c.caller, right, tenant)
}

// actor is the caller as pap knows it.
func (c *call) actor() pap.Actor {
	actor := c.config.Guard.Actor(c.caller)
	actor.May = c.may // notes what was asked
	return actor
}

// tenant is the tenant of a call that may name one: a tenant's credential is
// always its own tenant's (L1).
func (c *call) tenant(named string) (string, error) {
	home := c.caller.Tenant
	if home != "" && named != "" && named != home {
		return "", &tenantError{home: home, named: named}
	}
	if home != "" {
		return home, nil
	}
	return named, nil
}

// param returns a path parameter, unescaped.
func (c *call) param(name string) (string, error) {
	raw := c.fiber.Params(name)
	text, err := url.PathUnescape(raw)
	if err != nil {
		return "", httpError(http.StatusNotFound)
	}
	return strings.Clone(text), nil
}

// query returns a query parameter, "" where it is not given.
func (c *call) query(name string) string {
	return string(c.fiber.Context().QueryArgs().Peek(name))
}

// header returns a request header, "" where it is not given.
func (c *call) header(name string) string { return string(c.fiber.Request().Header.Peek(name)) }

// checkQuery refuses parameters that the route does not know, or twice: a
// misspelt one would silently not hold.
func (c *call) checkQuery() error {
	args := c.fiber.Context().QueryArgs()
	if args.Len() == 0 || c.route.AuthZEN || c.route.OPA {
		return nil
	}
	seen := map[string]bool{}
	var wrong error
	args.VisitAll(func(key, _ []byte) {
		name := string(key)
		switch {
		case wrong != nil:
		case !slices.Contains(c.route.Query, name):
			wrong = &parameterError{Name: name, Detail: "unknown query parameter"}
		case seen[name]:
			wrong = &parameterError{Name: name, Detail: "given twice"}
		}
		seen[name] = true
	})
	return wrong
}

var errHost = &parameterError{Name: "Host", Detail: "want a host name or address, and a port"}

// validHost refuses what could not stand in a URL. fasthttp parses the Host
// and the path as one text, so that a Host with a slash would also choose the
// route.
func validHost(host []byte) bool {
	for _, b := range host {
		letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
		if !letter && strings.IndexByte(".-_:[]", b) < 0 {
			return false
		}
	}
	return true
}

// queryDuration reads a duration such as "2s", between 0 and the longest.
func (c *call) queryDuration(name string, absent, longest time.Duration) (time.Duration, error) {
	text := c.query(name)
	if text == "" {
		return absent, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > longest {
		return 0, &parameterError{Name: name, Detail: fmt.Sprintf("%q: want a duration from 0s to %s, such as 2s", text, longest)}
	}
	return d, nil
}

// queryBool reads true or false, false where it is not given.
func (c *call) queryBool(name string) (bool, error) {
	switch text := c.query(name); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, &parameterError{Name: name, Detail: fmt.Sprintf("%q: want true or false", text)}
	}
}

// queryTime reads an RFC 3339 time, the zero time where it is not given.
func (c *call) queryTime(name string) (time.Time, error) {
	text := c.query(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, &parameterError{Name: name, Detail: fmt.Sprintf("%q: want an RFC 3339 time, such as 2026-01-02T15:04:05Z", text)}
	}
	return t, nil
}

// Page sizes of lists.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// page reads the cursor and the limit of a list.
func (c *call) page() (cursor string, limit int, err error) {
	limit = defaultLimit
	if text := c.query("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxLimit {
			return "", 0, &parameterError{Name: "limit", Detail: fmt.Sprintf("%q: want 1 to %d", text, maxLimit)}
		}
	}
	return c.query("cursor"), limit, nil
}

// body returns the body of a JSON call. It is fasthttp's memory.
func (c *call) body() ([]byte, error) {
	request := c.fiber.Request()
	if encoding := request.Header.Peek(fiber.HeaderContentEncoding); len(encoding) > 0 && string(encoding) != "identity" {
		return nil, errEncoding // a small body must not become a large one here
	}
	if !isJSON(string(request.Header.ContentType())) {
		return nil, errMediaType
	}
	limit := c.route.MaxBody
	if limit == 0 {
		limit = MaxBody
	}
	body := request.Body()
	if len(body) > limit {
		return nil, httpError(http.StatusRequestEntityTooLarge)
	}
	return body, nil
}

func isJSON(contentType string) bool {
	media, parameters, _ := strings.Cut(contentType, ";")
	parameters = strings.ToLower(strings.TrimSpace(parameters))
	return strings.EqualFold(strings.TrimSpace(media), fiber.MIMEApplicationJSON) &&
		(parameters == "" || parameters == "charset=utf-8" || parameters == `charset="utf-8"`)
}

// value parses the body.
func (c *call) value() (authz.Value, error) {
	body, err := c.body()
	if err != nil {
		return authz.Value{}, err
	}
	return authz.Parse(body)
}

// answer encodes an answer of ours.
func (c *call) answer(status int, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the answer of %s: %w", c.route.Operation, err)
	}
	c.answerJSON(status, func(buf []byte) []byte { return append(buf, data...) })
	return nil
}

// answerJSON lets write append the answer to the response's own buffer.
func (c *call) answerJSON(status int, write func(buf []byte) []byte) {
	response := c.fiber.Response()
	response.SetStatusCode(status)
	response.Header.SetContentType(fiber.MIMEApplicationJSON)
	response.SwapBody(write(response.SwapBody(nil)[:0]))
}

// changed answers a write with the object's own members and the revision that
// includes it. A write that is stored but not yet applied here is a success:
// the revision says what to wait for.
func (c *call) changed(status int, body any, revision authz.Revision, err error) error {
	if err != nil && revision.IsZero() {
		return err
	}
	if err != nil {
		c.config.Log.Warn("a change is stored but not applied here yet", "revision", revision, "error", err)
	}
	data, err := changedJSON(body, revision)
	if err != nil {
		return fmt.Errorf("encode the answer of %s: %w", c.route.Operation, err)
	}
	c.setRevision(revision)
	c.answerJSON(status, func(buf []byte) []byte { return append(buf, data...) })
	return nil
}

// changedJSON encodes an object, which has members, with one more.
func changedJSON(body any, revision authz.Revision) ([]byte, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(data[:len(data)-1], `,"revision":%q}`, revision), nil
}

// HeaderRevision carries the revision that an answer is based on.
const HeaderRevision = "Xiezhi-Revision"

var revisionName = []byte(HeaderRevision)

func (c *call) setRevision(r authz.Revision) {
	c.fiber.Response().Header.SetCanonical(revisionName, []byte(r.String()))
}

// logCall writes one line per call, without bodies, query or credential.
// Decisions and probes that went well are written at debug level only: the
// audit store has the one, nobody misses the other.
func (s *Server) logCall(c *call, status int) {
	level := slog.LevelInfo
	if status < http.StatusBadRequest && (c.route.Public || slices.Contains(c.route.Rights, RightDecide)) {
		level = slog.LevelDebug
	}
	ctx := c.base
	if !s.config.Log.Enabled(ctx, level) {
		return
	}
	request := c.fiber.Request()
	attrs := []slog.Attr{
		slog.String("operation", c.route.Operation),
		slog.String("method", string(request.Header.Method())),
		slog.String("path", string(request.URI().PathOriginal())),
		slog.Int("status", status),
		slog.Duration("took", time.Since(c.time.begun)),
		slog.String("request_id", s.requestID(c.fiber)),
		slog.String("remote", c.fiber.Context().RemoteAddr().String()),
	}
	if c.caller.ID != "" {
		attrs = append(attrs, slog.String("caller", c.caller.Name()), slog.String("caller_tenant", c.caller.Tenant))
	}
	s.config.Log.LogAttrs(ctx, level, "call", attrs...)
}
