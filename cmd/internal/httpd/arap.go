package httpd

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// The doors of AuthZEN's Access Request and Approval Profile, Draft 1. A task
// is a case: it is asked, answered and ended by the same rules, whichever door
// it came through. Like AuthZEN's own doors they ignore members they do not
// know; they refuse with the profile's problems.

const (
	arapPath       = "/access/v1/requests"
	jwksPath       = "/access/v1/jwks"
	arapCapability = "urn:openid:authzen:capability:access-request"
)

func arapRoutes() []Route {
	headers := []string{"X-Xiezhi-Tenant", "X-Request-ID"}
	return []Route{
		{
			Method: http.MethodPost, Path: arapPath, Operation: "submitAccessRequest", Rights: []string{rightOpen, rightOpenOnBehalf},
			Summary: "AuthZEN access request: ask people about a denial that carried access_request", Headers: append(headers, "Idempotency-Key"),
			Body: "AccessRequest", Status: http.StatusAccepted, Answer: "AccessTask", ARAP: true, Replay: true, handle: (*call).submitAccessRequest,
		},
		{
			Method: http.MethodGet, Path: arapPath + "/{id}", Operation: "readAccessRequest", Rights: []string{rightReadCase},
			Summary: "AuthZEN access request: the status of a task, and its result", Headers: headers,
			Status: http.StatusOK, Answer: "AccessTask", ARAP: true, handle: (*call).readAccessRequest,
		},
		{
			Method: http.MethodPost, Path: arapPath + "/{id}/cancel", Operation: "cancelAccessRequest", Rights: []string{rightRevokeCase},
			Summary: "AuthZEN access request: take back a task that is pending", Headers: headers, Body: "AccessCancellation",
			Status: http.StatusOK, Answer: "AccessTask", ARAP: true, handle: (*call).cancelAccessRequest,
		},
		{
			Method: http.MethodGet, Path: jwksPath, Operation: "accessRequestKeys", Public: true,
			Summary: "The keys by which binding tokens and approval states verify", Status: http.StatusOK, Answer: "JWKS", handle: (*call).accessRequestKeys,
		},
	}
}

// accessRequests returns what signs tokens, or says that the profile is not
// served here.
func (c *call) accessRequests() (*arap.Tokens, *Approvals, error) {
	if c.config.AccessRequests == nil {
		return nil, nil, errNoAccessRequests
	}
	a, err := c.cases()
	return c.config.AccessRequests, a, err
}

var errNoAccessRequests = errors.New("this server takes no access requests")

// accessRequestKeys answers GET /access/v1/jwks.
func (c *call) accessRequestKeys() error {
	if c.config.AccessRequests == nil {
		return errNoAccessRequests
	}
	return c.answer(http.StatusOK, c.config.AccessRequests.JWKS())
}

// submitAccessRequest opens the case of a denial, or joins the one that asks
// for the same. One binding token asks once: whoever shows it again is told of
// the same task.
func (c *call) submitAccessRequest() error {
	tenant, err := c.authzenTenant()
	if err != nil {
		return err
	}
	body, err := c.authzenBody()
	if err != nil {
		return err
	}
	req, err := authzenRequest(tenant, authz.Value{}, body)
	if err != nil {
		return err
	}
	if err := c.allow(c.rightToOpen(&req), tenant); err != nil {
		return err
	}
	c.withoutApproval(&req)
	tokens, a, err := c.accessRequests()
	if err != nil {
		return err
	}
	s, err := c.submissionOf(tokens, req, body)
	if err != nil {
		return err
	}
	known, err := c.askedBy(s.tokenID, tenant)
	if err == nil {
		return c.task(a, http.StatusAccepted, known)
	}
	if !errors.Is(err, pap.ErrNotFound) {
		return err
	}
	obstacles, err := c.requestable(s.req)
	if err != nil {
		return err
	}
	if s.urgent {
		if s.asks.BreakGlass, err = c.emergencyTemplate(a, obstacles); err != nil {
			return err
		}
	}
	k, _, err := a.Open(c.ctx, obstacles, pdp.Caller{Name: c.caller.Name(), Tenant: c.caller.Tenant, Asks: s.asks})
	if err != nil {
		return err
	}
	c.noteAsked(s.tokenID, tenant, k.ID)
	return c.task(a, http.StatusAccepted, k.ID)
}

// rightToOpen is what it takes to ask people about this request.
func (c *call) rightToOpen(req *authz.Request) string {
	if c.asksForItself(req) {
		return rightOpen
	}
	return rightOpenOnBehalf
}

// requestable returns what people could be asked to open, as it is now.
func (c *call) requestable(req authz.Request) (*pdp.Obstacles, error) {
	active := c.config.PDP.Active()
	if active == nil {
		return nil, pdp.ErrNotReady
	}
	d, obstacles, err := c.config.PDP.Obstacles(c.ctx, active, req)
	switch {
	case err != nil:
		return nil, err
	case d.Allowed():
		return nil, arapError(arapNotRequestable, "it is allowed as it is: evaluate again")
	}
	if why := notAskable(obstacles); why != "" {
		return nil, arapError(arapNotRequestable, why)
	}
	return obstacles, nil
}

// notAskable says why people could not open this, "" where they could.
func notAskable(o *pdp.Obstacles) string {
	if len(o.Fixed) > 0 || len(o.Rules) == 0 {
		return (&fixedError{o.Fixed}).Error()
	}
	for i := range o.Rules {
		if o.Rules[i].Rule.Template == "" {
			return "rule " + o.Rules[i].Name + " names no approval template: nobody can be asked"
		}
	}
	return ""
}

// emergencyTemplate is the one by which all the rules may be asked about in an
// emergency.
func (c *call) emergencyTemplate(a *Approvals, o *pdp.Obstacles) (name string, err error) {
	err = a.Cases.Store.View(c.ctx, func(tx cheq.Tx) error {
		name = ""
		for i := range o.Rules {
			t, _ := tx.Template(o.Rules[i].Rule.Template)
			if t == nil || t.BreakGlass == "" || name != "" && t.BreakGlass != name {
				return arapError(arapNotRequestable, "rule "+o.Rules[i].Name+" cannot be asked about in an emergency")
			}
			name = t.BreakGlass
		}
		return nil
	})
	return name, err
}

// askedBy returns the task that a binding token opened, or pap.ErrNotFound.
func (c *call) askedBy(tokenID, tenant string) (id string, err error) {
	err = c.config.Store.View(c.ctx, func(tx pap.Tx) error {
		first, err := tx.Replay(tokenKeeper(tenant), tokenID)
		id = strings.Trim(string(first.Response), `"`)
		return err
	})
	return id, err
}

// noteAsked keeps which task a token opened, for longer than the token is
// good. Where that fails, the token could ask again once the case has ended,
// within the limits of cases.
func (c *call) noteAsked(tokenID, tenant, task string) {
	err := c.config.Store.Update(c.ctx, func(tx pap.Tx) error {
		return tx.PutReplay(pap.Replay{
			Caller: tokenKeeper(tenant), Key: tokenID, Status: http.StatusAccepted, Response: []byte(`"` + task + `"`), At: c.config.Now().UTC(),
		})
	})
	if err != nil && !errors.Is(err, pap.ErrConflict) {
		c.config.Log.Warn("it is not kept that a binding token was used", "task", task, "error", err)
	}
}

// tokenKeeper is whose answers the used binding tokens are kept as. No caller
// has that name: theirs hold a slash.
func tokenKeeper(tenant string) string { return "access-request " + tenant }

// retryAfter says when to poll again, in seconds.
const retryAfter = "2"

// setTask says where a task is, and when to look again.
func (c *call) setTask(place string, pending bool) {
	header := &c.fiber.Response().Header
	header.Set(fiber.HeaderLocation, place)
	if pending {
		header.Set(fiber.HeaderRetryAfter, retryAfter)
	}
}
