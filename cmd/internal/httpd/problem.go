package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Problem is an RFC 9457 problem document. Clients branch on Code; Type is the
// same as a URN.
type Problem struct {
	Type     string         `json:"type"`
	Title    string         `json:"title"`
	Status   int            `json:"status"`
	Code     string         `json:"code"`
	Detail   string         `json:"detail,omitempty"`
	Instance string         `json:"instance,omitempty"`
	Errors   []FieldProblem `json:"errors,omitempty"`
	Faults   []pdp.Fault    `json:"faults,omitempty"`  // of a candidate release
	Right    string         `json:"right,omitempty"`   // that was missing
	Tenant   string         `json:"tenant,omitempty"`  // where it was missing
	Reasons  []authz.Reason `json:"reasons,omitempty"` // of the self policies
	Rule     string         `json:"rule,omitempty"`    // that nobody can be asked about
	Missing  []pap.Missing  `json:"missing,omitempty"` // PEPs that a quorum lacks, the first of them
	More     int            `json:"missing_more,omitempty"`
}

// FieldProblem says which part of the call is wrong: a place in the body, or a
// query parameter or header by name.
type FieldProblem struct {
	Path      *string `json:"path,omitempty"` // JSON pointer; "" is the whole body
	Parameter string  `json:"parameter,omitempty"`
	Detail    string  `json:"detail"`
}

// What handlers return beside the errors of the packages they call.
var (
	errInternal             = errors.New("internal error")
	errMediaType            = errors.New("send the body as Content-Type: application/json")
	errEncoding             = errors.New("send the body without Content-Encoding")
	errPrecondition         = errors.New("say which version you have read: If-Match with the document's ETag, or If-None-Match: * for a new one")
	errRevisionUnknown      = errors.New("the store holds no revision so new")
	errApprovalsUnavailable = errors.New("this decision needs approval, and this server cannot ask for approvals yet; call without wait to read the REVIEW")
	errPermitsUnavailable   = errors.New("this server cannot mint permits yet; call without permit")
	errReplayMismatch       = errors.New("this Idempotency-Key was used for another call; use a new one")
	errReplayInFlight       = errors.New("a call with this Idempotency-Key is under way; try again when it has ended")
	errRaced                = errors.New("another release was published meanwhile; look at it and try again")
)

// problems is the one table from errors to answers; the first row that
// matches holds. A row without title takes the status's text.
var problems = []struct {
	is     error
	status int
	code   string
	title  string
	// hide keeps the error's text from the caller; it is in the log.
	hide bool
}{
	{is: access.ErrUnauthenticated, status: http.StatusUnauthorized, code: "unauthenticated", title: "The credential is missing or not good"},
	{is: access.ErrUnavailable, status: http.StatusServiceUnavailable, code: "access_unavailable", title: "The caller's rights cannot be read", hide: true},
	{is: pap.ErrForbidden, status: http.StatusForbidden, code: "forbidden", title: "The caller lacks a right"},
	{is: pdp.ErrNotReady, status: http.StatusServiceUnavailable, code: "not_ready", title: "No release is active"},
	{is: pdp.ErrStale, status: http.StatusServiceUnavailable, code: "stale", title: "The policies are too old here"},
	{is: pdp.ErrOverloaded, status: http.StatusServiceUnavailable, code: "overloaded", title: "Too many decisions are waiting"},
	{is: pdp.ErrAuditUnavailable, status: http.StatusServiceUnavailable, code: "audit_unavailable", title: "The decision could not be recorded", hide: true},
	{is: ErrUnavailable, status: http.StatusServiceUnavailable, code: "server_unavailable", title: "There is no decision now", hide: true},
	{is: errRevisionUnknown, status: http.StatusBadRequest, code: "revision_unknown", title: "No revision is so new"},
	{is: pdp.ErrRevisionUnavailable, status: http.StatusServiceUnavailable, code: "revision_unavailable", title: "The revision is not available here yet"},
	{is: errApprovalsUnavailable, status: http.StatusNotImplemented, code: "approvals_unavailable", title: "Approvals are not available"},
	{is: errNoAccessRequests, status: http.StatusNotImplemented, code: "access_requests_unavailable", title: "Access requests are not served"},
	{is: errNoCases, status: http.StatusNotImplemented, code: "approvals_unavailable", title: "Approvals are not available"},
	{is: errNothingToAsk, status: http.StatusConflict, code: "nothing_to_ask", title: "There is nothing to ask"},
	{is: cheq.ErrNotFound, status: http.StatusNotFound, code: "not_found"},
	{is: cheq.ErrSettled, status: http.StatusConflict, code: "case_settled", title: "It has ended already"},
	{is: cheq.ErrShown, status: http.StatusConflict, code: "not_what_was_shown", title: "The case is about something else"},
	{is: cheq.ErrConfirm, status: http.StatusConflict, code: "confirm", title: "An emergency takes a second yes"},
	{is: cheq.ErrNoReview, status: http.StatusConflict, code: "nothing_to_review", title: "There is nothing to review"},
	{is: cheq.ErrOwnReview, status: http.StatusForbidden, code: "own_review", title: "Somebody else reviews it"},
	{is: cheq.ErrNotReviewer, status: http.StatusForbidden, code: "not_reviewer", title: "The answer does not count in this case"},
	{is: cheq.ErrDelegate, status: http.StatusConflict, code: "not_delegable", title: "The place cannot be handed on so"},
	{is: cheq.ErrNotAsker, status: http.StatusForbidden, code: "not_asker", title: "Only who asked may take it back"},
	{is: cheq.ErrTooMany, status: http.StatusTooManyRequests, code: "too_many_cases", title: "Too many cases"},
	{is: cheq.ErrText, status: http.StatusBadRequest, code: "text_too_long", title: "The text is too long"},
	{is: cheq.ErrNoText, status: http.StatusBadRequest, code: "text_missing", title: "The text says nothing"},
	{is: errPermitsUnavailable, status: http.StatusNotImplemented, code: "permits_unavailable", title: "Permits are not available"},
	{is: errMediaType, status: http.StatusUnsupportedMediaType, code: "unsupported_media_type"},
	{is: errEncoding, status: http.StatusUnsupportedMediaType, code: "unsupported_encoding"},
	{is: errPrecondition, status: http.StatusPreconditionRequired, code: "precondition_required"},
	{is: errReplayMismatch, status: http.StatusUnprocessableEntity, code: "idempotency_mismatch", title: "The key belongs to another call"},
	{is: errReplayInFlight, status: http.StatusConflict, code: "idempotency_in_progress", title: "The same call is under way"},
	{is: pap.ErrText, status: http.StatusBadRequest, code: "invalid_text", title: "A text cannot be stored"},
	{is: errRaced, status: http.StatusConflict, code: "release_raced", title: "Another release came first"},
	{is: pap.ErrVersion, status: http.StatusPreconditionFailed, code: "version_mismatch", title: "It changed since it was read"},
	{is: pap.ErrRolloutInProgress, status: http.StatusConflict, code: "rollout_in_progress", title: "A rollout is in progress"},
	{is: pap.ErrRolloutHalted, status: http.StatusConflict, code: "rollout_halted", title: "The rollout was halted"},
	{is: pap.ErrNoRollout, status: http.StatusConflict, code: "no_rollout", title: "No such rollout is running"},
	{is: pap.ErrAmbiguous, status: http.StatusConflict, code: "ambiguous", title: "The name is not unique"},
	{is: pap.ErrNeedsReview, status: http.StatusConflict, code: "needs_review", title: "People must say yes first"},
	{is: pap.ErrNothingToPublish, status: http.StatusConflict, code: "nothing_to_publish", title: "Nothing to publish"},
	{is: pap.ErrConflict, status: http.StatusConflict, code: "already_exists", title: "It already exists"},
	{is: pap.ErrNotFound, status: http.StatusNotFound, code: "not_found"},
	{is: pap.ErrSignature, status: http.StatusUnauthorized, code: "webhook_signature", title: "The call is not signed"},
	{is: pap.ErrBusy, status: http.StatusTooManyRequests, code: "too_many_calls", title: "Too many calls"},
	{is: access.ErrLockout, status: http.StatusConflict, code: "lockout", title: "No administrator would remain"},
	{is: pap.ErrStoreUnavailable, status: http.StatusServiceUnavailable, code: "store_unavailable", title: "The database cannot be reached", hide: true},
	{is: context.DeadlineExceeded, status: http.StatusServiceUnavailable, code: "timeout", title: "The server did not finish in time", hide: true},
	{is: context.Canceled, status: http.StatusServiceUnavailable, code: "stopping", title: "The server is stopping", hide: true},
	{is: errInternal, status: http.StatusInternalServerError, code: "internal", hide: true},
}

// codes of plain statuses, where nothing more is known.
var statusCodes = map[int]string{
	http.StatusBadRequest:                  "bad_request",
	http.StatusNotFound:                    "not_found",
	http.StatusMethodNotAllowed:            "method_not_allowed",
	http.StatusRequestTimeout:              "request_timeout",
	http.StatusRequestEntityTooLarge:       "body_too_large",
	http.StatusRequestHeaderFieldsTooLarge: "headers_too_large",
}

// httpError is a refusal that HTTP itself has a status for.
type httpError int

func (e httpError) Error() string {
	switch int(e) {
	case http.StatusNotFound:
		return "nothing is served here; see /openapi.json"
	case http.StatusMethodNotAllowed:
		return "this method is not served here; see the Allow header"
	case http.StatusRequestEntityTooLarge:
		return "the body is over the limit"
	case http.StatusRequestHeaderFieldsTooLarge:
		return fmt.Sprintf("the headers are over %d bytes", MaxHeader)
	case http.StatusRequestTimeout:
		return "the request did not arrive in time"
	default:
		return "not a well-formed HTTP request"
	}
}

// statusOf reads the status of fiber's own errors; what is not a plain refusal
// of the call is 400.
func statusOf(err error) int {
	var e *fiber.Error
	if errors.As(err, &e) && statusCodes[e.Code] != "" {
		return e.Code
	}
	return http.StatusBadRequest
}

// parameterError refuses a query parameter or header.
type parameterError struct {
	Name   string
	Detail string
}

func (e *parameterError) Error() string { return e.Name + ": " + e.Detail }

// tenantError refuses a credential that asks for another tenant.
type tenantError struct{ home, named string }

func (e *tenantError) Error() string {
	return fmt.Sprintf("this credential is tenant %s's and cannot speak for tenant %s", e.home, e.named)
}

func (e *tenantError) Unwrap() error { return pap.ErrForbidden }

// problemOf translates an error. What the table does not know is the server's
// own fault, and its text is hidden.
func problemOf(err error) (p Problem, hidden bool) {
	var field *authz.FieldError
	var parameter *parameterError
	var plain httpError
	var faults pdp.Faults
	var quorum *pap.QuorumError
	switch {
	case errors.As(err, &faults):
		p = problem(http.StatusUnprocessableEntity, "policy_faults", "The policies are wrong")
		p.Detail, p.Faults = fmt.Sprintf("%d faults; nothing was published", len(faults)), faults
		return p, false
	case errors.As(err, &field):
		p = problem(http.StatusBadRequest, "invalid_request", "The request is malformed")
		p.Detail, p.Errors = field.Error(), []FieldProblem{{Path: &field.Path, Detail: field.Detail}}
		return p, false
	case errors.As(err, &parameter):
		p = problem(http.StatusBadRequest, "invalid_parameter", "A parameter is malformed")
		p.Detail, p.Errors = parameter.Error(), []FieldProblem{{Parameter: parameter.Name, Detail: parameter.Detail}}
		return p, false
	case errors.As(err, &quorum):
		p = problem(http.StatusGatewayTimeout, "quorum_missed", "Too few PEPs acknowledged in time")
		p.Detail, p.Missing, p.More = quorum.Error(), quorum.Missing, quorum.More
		return p, false
	case errors.As(err, &plain):
		p = problem(int(plain), statusCodes[int(plain)], "")
		p.Detail = plain.Error()
		return p, false
	}
	if p, ok := problemOfAsk(err); ok {
		return p, false
	}
	for _, row := range problems {
		if !errors.Is(err, row.is) {
			continue
		}
		p = problem(row.status, row.code, row.title)
		var denied *access.DeniedError
		if errors.As(err, &denied) {
			p.Right, p.Tenant, p.Reasons = denied.Right, denied.Tenant, closing(denied.Decision.Reasons)
		}
		if !row.hide {
			p.Detail = err.Error()
		}
		return p, row.hide
	}
	return problem(http.StatusInternalServerError, "internal", ""), true
}

func problem(status int, code, title string) Problem {
	if title == "" {
		title = http.StatusText(status)
	}
	return Problem{Type: "urn:xiezhi:problem:" + code, Title: title, Status: status, Code: code}
}

func closing(reasons []authz.Reason) []authz.Reason {
	var closed []authz.Reason
	for _, r := range reasons {
		if r.Effect != authz.Allow {
			closed = append(closed, r)
		}
	}
	return closed
}

// problem answers with the problem document of err, or on a standard door
// with what the standard asks for.
func (c *call) fail(err error) {
	c.auditRefusal(err)
	p, hidden := problemOf(err)
	if c.route.ARAP {
		p = profiled(err, p)
		_, own := arapProblems[p.Code]
		hidden = hidden && !own
	}
	id := c.requestID(c.fiber)
	if hidden {
		p.Detail = "the cause is in the server's log, under request id " + id
		c.config.Log.Error("a call failed", "operation", c.route.Operation, "request_id", id, "error", err)
	}
	response := c.fiber.Response()
	response.ResetBody()
	response.Header.Del(HeaderRevision)
	switch p.Status {
	case http.StatusUnauthorized:
		response.Header.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="xiezhi"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		response.Header.Set(fiber.HeaderRetryAfter, "1")
	}
	if c.route.AuthZEN {
		c.failAuthZEN(p)
		return
	}
	if c.route.OPA {
		c.failOPA(err, p)
		return
	}
	p.Instance = "urn:xiezhi:request:" + url.PathEscape(id)
	data, err := json.Marshal(p)
	if err != nil { // strings and numbers only: it cannot be
		data = []byte(`{"type":"urn:xiezhi:problem:internal","title":"Internal Server Error","status":500,"code":"internal"}`)
		p.Status = http.StatusInternalServerError
	}
	response.SetStatusCode(p.Status)
	response.Header.SetContentType("application/problem+json")
	response.SetBody(data)
}

// auditRefusal tells of a right that the caller lacked: whoever tries doors
// leaves a trace where auditors look, not only in a log. The record is the
// caller's own tenant's. So does who may not do to a case what it tried.
func (c *call) auditRefusal(err error) {
	if c.config.Refused == nil || !errors.Is(err, pap.ErrForbidden) && (c.tried == "" || !isRefusedAnswer(err)) {
		return
	}
	resource := c.tried
	if resource == "" {
		resource = "operation:" + c.route.Operation
	}
	right, tenant := c.route.Rights[0], c.caller.Tenant
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		right, tenant = denied.Right, denied.Tenant
	}
	body, _ := authz.ObjectValue( // the names differ
		authz.Member{Name: "operation", Value: authz.StringValue(c.route.Operation)},
		authz.Member{Name: "tenant", Value: authz.StringValue(tenant)},
		authz.Member{Name: "token", Value: authz.StringValue(c.caller.TokenID)},
		authz.Member{Name: "why", Value: authz.StringValue(err.Error())},
	)
	c.config.Refused(&authz.AuditRecord{
		ID: c.config.NewID(), Time: c.config.Now().UTC(), Kind: authz.AuditAccess, Tenant: c.caller.Tenant, Actor: c.caller.Name(),
		Action: right, Resource: resource, Effect: authz.Deny.String(), Body: body,
	})
}

// failAuthZEN answers as AuthZEN 1.0 §10.1 asks: a status and a message.
func (c *call) failAuthZEN(p Problem) {
	if p.Status == http.StatusUnsupportedMediaType {
		p.Status = http.StatusBadRequest // what its certification expects
	}
	response := c.fiber.Response()
	response.SetStatusCode(p.Status)
	response.Header.SetContentType("text/plain; charset=utf-8")
	response.SetBodyString(p.message())
}

// message is the problem as one sentence.
func (p *Problem) message() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

// statusText is strconv.Itoa without garbage for the statuses in use.
func statusText(status int) string {
	switch status {
	case http.StatusOK:
		return "200"
	case http.StatusCreated:
		return "201"
	default:
		return strconv.Itoa(status)
	}
}
