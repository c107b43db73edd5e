package httpd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// RightDecide is the right to ask for oneself.
const RightDecide = "decide"

// Rights of the decision doors.
const (
	rightOnBehalf         = access.RightOnBehalf
	rightEvaluate         = "evaluate"
	rightEvaluateOnBehalf = access.RightEvaluateOnBehalf
	rightCandidate        = "evaluate.candidate"
)

func decisionRoutes() []Route {
	return []Route{
		{
			Method: http.MethodPost, Path: "/api/v1/decide", Operation: "decide", Rights: []string{RightDecide, rightOnBehalf},
			Summary: "Decide on one request; the decision is recorded and counts uses of grants",
			Query:   []string{"wait", "revision_wait"}, Headers: []string{"Idempotency-Key"},
			Body: "DecideRequest", Status: http.StatusOK, Answer: "Decision", handle: (*call).decide,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/decide/batch", Operation: "decideBatch", Rights: []string{RightDecide, rightOnBehalf},
			Summary: "Decide on up to 1000 requests, with AuthZEN's three semantics",
			Query:   []string{"revision_wait"}, Headers: []string{"Idempotency-Key"},
			Body: "BatchRequest", Status: http.StatusOK, Answer: "BatchAnswer", handle: (*call).decideBatch,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/evaluate", Operation: "evaluate", Rights: []string{rightEvaluate, rightEvaluateOnBehalf, rightCandidate},
			Summary: "Answer like decide, without any effect: on another revision, with a candidate, with an explanation",
			Query:   []string{"revision_wait"},
			Body:    "EvaluateRequest", Status: http.StatusOK, Answer: "Evaluation", MaxBody: MaxPolicyBody, handle: (*call).evaluate,
		},
		{
			Method: http.MethodPost, Path: "/access/v1/evaluation", Operation: "authzenEvaluation", Rights: []string{RightDecide, rightOnBehalf},
			Summary: "AuthZEN 1.0 Access Evaluation", Headers: []string{"X-Xiezhi-Tenant", "X-Request-ID", "Idempotency-Key"},
			Body: "AuthZENRequest", Status: http.StatusOK, Answer: "AuthZENDecision", AuthZEN: true, handle: (*call).authzenEvaluation,
		},
		{
			Method: http.MethodPost, Path: "/access/v1/evaluations", Operation: "authzenEvaluations", Rights: []string{RightDecide, rightOnBehalf},
			Summary: "AuthZEN 1.0 Access Evaluations", Headers: []string{"X-Xiezhi-Tenant", "X-Request-ID", "Idempotency-Key"},
			Body: "AuthZENBatchRequest", Status: http.StatusOK, Answer: "AuthZENAnswer", AuthZEN: true, handle: (*call).authzenEvaluations,
		},
	}
}

// Longest times that a caller may ask to wait.
const (
	maxWait             = 60 * time.Second
	maxRevisionWait     = 10 * time.Second
	defaultRevisionWait = 2 * time.Second
)

// decide answers POST /api/v1/decide.
func (c *call) decide() error {
	wait, err := c.queryDuration("wait", 0, maxWait)
	if err != nil {
		return err
	}
	v, err := c.value()
	if err != nil {
		return err
	}
	req, err := c.requestOf(v, "at_least_revision", "permit", "ask")
	if err != nil {
		return err
	}
	extras, err := extrasOf(v)
	if err != nil {
		return err
	}
	key, err := c.idempotencyKey()
	if err != nil {
		return err
	}
	if err := c.mayDecide(&req); err != nil {
		return err
	}
	if extras.permit {
		return errPermitsUnavailable
	}
	if err := c.await(extras.atLeast); err != nil {
		return err
	}
	key.Asks = extras.asks
	d, err := c.decideOn(c.ctx, req, key)
	if err != nil {
		return err
	}
	if wait > 0 && d.Effect == authz.Review {
		if d, err = c.held(d, wait, req, key); err != nil {
			return err
		}
	}
	c.setRevision(d.Revision)
	c.setDecided(d.Decided)
	c.answerJSON(http.StatusOK, d.AppendJSON)
	return nil
}

// decideOn asks the Decider and counts.
func (s *Server) decideOn(ctx context.Context, req authz.Request, caller pdp.Caller) (Answer, error) {
	started := s.config.Now()
	d, err := s.config.Decider.Decide(ctx, req, caller)
	if err != nil {
		s.metrics.failed.Inc()
		return Answer{}, err
	}
	s.metrics.decided(&d.Decision, s.config.Now().Sub(started))
	return d, nil
}

// requestOf reads the request members of a body; those named in extra are the
// caller's business. The tenant is the credential's where it is not given.
func (c *call) requestOf(v authz.Value, extra ...string) (authz.Request, error) {
	if _, named := v.Get("tenant"); !named && v.Kind() == authz.KindObject {
		home, err := c.tenant("")
		if err != nil {
			return authz.Request{}, err
		}
		if home == "" {
			return authz.Request{}, &authz.FieldError{Path: "/tenant", Detail: "required: a platform credential names the tenant it asks for"}
		}
		v = v.With("tenant", authz.StringValue(home))
	}
	req, err := authz.RequestOf(v, extra...)
	if err != nil {
		return authz.Request{}, err
	}
	_, err = c.tenant(req.Tenant)
	return req, err
}

// mayDecide asks for the right that this request takes: a caller asks for
// itself, or on behalf of others where it may.
func (c *call) mayDecide(req *authz.Request) error {
	if c.asksForItself(req) {
		return c.allow(RightDecide, req.Tenant)
	}
	return c.allow(rightOnBehalf, req.Tenant)
}

// asksForItself: the subject is the caller, in the caller's own tenant. The
// platform's subjects are others than a tenant's of the same name.
func (c *call) asksForItself(req *authz.Request) bool {
	return req.Tenant == c.caller.Tenant && req.Subject.Type == c.caller.Type && req.Subject.ID == c.caller.ID
}

// extras are the members of a decide body beside the request.
type extras struct {
	atLeast authz.Revision
	permit  bool
	asks    *pdp.Asks
}

func extrasOf(v authz.Value) (extras, error) {
	var e extras
	var err error
	if e.atLeast, err = revisionOf(v, "at_least_revision"); err != nil {
		return extras{}, err
	}
	if e.asks, err = asksOf(v); err != nil {
		return extras{}, err
	}
	permit, asked := v.Get("permit")
	if !asked {
		return e, nil
	}
	e.permit = true
	return e, checkPermit(permit)
}

// asksOf reads {"reason": "…", "grant_for": "2h"}, what people who are asked are
// told; both may be left out.
func asksOf(v authz.Value) (*pdp.Asks, error) {
	ask, given := v.Get("ask")
	if !given {
		return &plainAsks, nil
	}
	if ask.Kind() != authz.KindObject {
		return nil, &authz.FieldError{Path: "/ask", Detail: fmt.Sprintf("want an object, not a %s", ask.Kind())}
	}
	asks := &pdp.Asks{}
	for i := range ask.Len() {
		name, value := ask.Name(i), ask.Index(i)
		switch {
		case value.Kind() != authz.KindString:
			return nil, &authz.FieldError{Path: pointer("ask", name), Detail: fmt.Sprintf("want a string, not a %s", value.Kind())}
		case name == "reason":
			asks.Reason = value.Text()
		case name == "grant_for":
			span, err := time.ParseDuration(value.Text())
			if err != nil || span <= 0 {
				return nil, &authz.FieldError{Path: "/ask/grant_for", Detail: "want a duration above 0, such as 2h"}
			}
			asks.GrantFor = span
		default:
			return nil, &authz.FieldError{Path: pointer("ask", name), Detail: "unknown member"}
		}
	}
	return asks, nil
}

// plainAsks is of who says nothing to those who are asked.
var plainAsks pdp.Asks

// checkPermit reads {"audience": "…"}.
func checkPermit(v authz.Value) error {
	if v.Kind() != authz.KindObject {
		return &authz.FieldError{Path: "/permit", Detail: fmt.Sprintf("want an object, not a %s", v.Kind())}
	}
	for i := range v.Len() {
		if v.Name(i) != "audience" {
			return &authz.FieldError{Path: pointer("permit", v.Name(i)), Detail: "unknown member"}
		}
	}
	if audience, _ := v.Get("audience"); audience.Text() == "" {
		return &authz.FieldError{Path: "/permit/audience", Detail: "required: a string that names who will verify the permit"}
	}
	return nil
}

// revisionOf reads a member such as "r42.g7"; zero where it is not given.
func revisionOf(v authz.Value, name string) (authz.Revision, error) {
	member, given := v.Get(name)
	if !given {
		return authz.Revision{}, nil
	}
	if member.Kind() != authz.KindString {
		return authz.Revision{}, &authz.FieldError{Path: "/" + name, Detail: fmt.Sprintf("want a string, not a %s", member.Kind())}
	}
	r, err := authz.ParseRevision(member.Text())
	if err != nil {
		return authz.Revision{}, &authz.FieldError{Path: "/" + name, Detail: err.Error()}
	}
	return r, nil
}

// await returns when the answers here are by the revision.
func (c *call) await(r authz.Revision) error {
	wait, err := c.queryDuration("revision_wait", defaultRevisionWait, maxRevisionWait)
	if err != nil || r.IsZero() {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, wait)
	defer cancel()
	return c.config.Decider.Await(ctx, r)
}

// HeaderIdempotencyKey makes a retry of a call count once.
const HeaderIdempotencyKey = "Idempotency-Key"

const maxIdempotencyKey = 255

// idempotencyKey reads the header as the PDP counts by it: the same key with
// another body is another use.
func (c *call) idempotencyKey() (pdp.Caller, error) {
	caller := pdp.Caller{Name: c.caller.Name(), Tenant: c.caller.Tenant}
	key, err := c.keyHeader()
	if err != nil || key == "" {
		return caller, err
	}
	sum := sha256.Sum256(c.fiber.Request().Body())
	caller.IdempotencyKey = c.caller.Tenant + "/" + key + "/" + hex.EncodeToString(sum[:])
	return caller, nil
}

func (c *call) keyHeader() (string, error) {
	key := c.header(HeaderIdempotencyKey)
	if len(key) > maxIdempotencyKey {
		return "", &parameterError{Name: HeaderIdempotencyKey, Detail: fmt.Sprintf("longer than %d bytes", maxIdempotencyKey)}
	}
	for i := range len(key) {
		if key[i] < 0x20 || key[i] > 0x7e {
			return "", &parameterError{Name: HeaderIdempotencyKey, Detail: "want visible ASCII characters"}
		}
	}
	return key, nil
}

// under prefixes the path of a FieldError.
func under(prefix string, err error) error {
	var field *authz.FieldError
	if errors.As(err, &field) {
		return &authz.FieldError{Path: prefix + field.Path, Detail: field.Detail}
	}
	return err
}

// pointsInto reports whether a FieldError's path lies in the named member.
func pointsInto(err error, member string) bool {
	var field *authz.FieldError
	if !errors.As(err, &field) {
		return false
	}
	rest, ok := strings.CutPrefix(field.Path, "/"+member)
	return ok && (rest == "" || rest[0] == '/')
}
