package httpd

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Rights of the approval doors. Those about a case are asked for as about the
// caller's own where the caller asked for the case, brought it or may answer it.
const (
	rightOpen         = "cheq.open"
	rightOpenOnBehalf = access.RightOpenOnBehalf
	rightReadCase     = access.RightReadCase
	rightAnswerCase   = access.RightAnswerCase
	rightCommentCase  = access.RightCommentCase
	rightRevokeCase   = access.RightRevokeCase
)

func cheqRoutes() []Route {
	change := func(step, operation string, right []string, summary, body string, query []string, status int, handle func(*call) error) Route {
		return Route{
			Method: http.MethodPost, Path: "/api/v1/cheq/{id}/" + step, Operation: operation, Rights: right,
			Summary: summary, Query: query, Headers: []string{"Idempotency-Key"}, Body: body,
			Status: status, Answer: "Case", Replay: true, handle: handle,
		}
	}
	opens, answers := []string{rightOpen, rightOpenOnBehalf}, []string{rightAnswerCase}
	extend := change("extend", "extendCase", opens, "Ask for more time of what a case opened, in a case of its own", "CaseExtension", nil, http.StatusCreated, (*call).extendCase)
	extend.Joined = true
	revoke := change("revoke", "revokeCase", []string{rightRevokeCase}, "End the grant that a case minted, and say which PEPs may count it yet", "CaseReason",
		[]string{"wait"}, http.StatusOK, (*call).revokeCase)
	revoke.Answer = "RevokedCase"
	return []Route{
		{
			Method: http.MethodPost, Path: "/api/v1/cheq", Operation: "openCase", Rights: opens,
			Summary: "Ask people about a request that is held back, or join the case that asks already", Headers: []string{"Idempotency-Key"}, Body: "NewCase",
			Status: http.StatusCreated, Joined: true, Answer: "Case", Replay: true, handle: (*call).openCase,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/cheq", Operation: "listCases", Rights: []string{rightReadCase},
			Summary: "List cases, the newest first: all that the caller may read, else those that it asked for, brought or may answer",
			Query:   []string{"tenant", "state", "requester", "limit", "cursor"}, Status: http.StatusOK, Answer: "CaseList", handle: (*call).listCases,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/cheq/{id}", Operation: "readCase", Rights: []string{rightReadCase},
			Summary: "Read one case: what is asked, who must still answer, what happened", Query: []string{"wait"},
			Status: http.StatusOK, Answer: "CaseView", handle: (*call).readCase,
		},
		change("approve", "approveCase", answers, "Say yes to what was shown", "CaseAnswer", nil, http.StatusOK, func(c *call) error { return c.answerCase(true) }),
		change("reject", "rejectCase", answers, "Say no to what was shown", "CaseAnswer", nil, http.StatusOK, func(c *call) error { return c.answerCase(false) }),
		change("delegate", "delegateCase", answers, "Hand one's place in this case to somebody else", "CaseDelegation", nil, http.StatusOK, (*call).delegateCase),
		change("cancel", "cancelCase", []string{rightRevokeCase}, "Take a case back that waits; only who asked may", "CaseReason", nil, http.StatusOK, (*call).cancelCase),
		revoke,
		extend,
		change("review", "reviewCase", answers, "Look back at an emergency, as somebody who neither asked nor answered", "CaseComment", nil, http.StatusOK, (*call).reviewCase),
		change("comment", "commentCase", []string{rightCommentCase}, "Write a line into a case's timeline", "CaseComment", nil, http.StatusOK, (*call).commentCase),
	}
}

// cases returns what asks people, or says that nothing here does.
func (c *call) cases() (*Approvals, error) {
	if c.config.Approvals == nil {
		return nil, errNoCases
	}
	return c.config.Approvals, nil
}

// person is the caller as cases know it.
func (c *call) person() cheq.Person {
	return cheq.Person{Tenant: c.caller.Tenant, Name: c.caller.Name()}
}

// allowOwn is allow for what is the caller's own business.
func (c *call) allowOwn(right, tenant string) error {
	if err := c.allow(access.Own(right), tenant); err != nil {
		return err
	}
	c.asked = true
	return nil
}

// mayCase asks for a right about a case. Of another tenant's case a tenant's
// caller learns nothing.
func (c *call) mayCase(k *cheq.Case, right string, own bool) error {
	if c.caller.Tenant != "" && c.caller.Tenant != k.Tenant {
		return fmt.Errorf("case %s: %w", k.ID, cheq.ErrNotFound)
	}
	if own {
		return c.allowOwn(right, k.Tenant)
	}
	return c.allow(right, k.Tenant)
}

// newCase is what a caller may say of a case.
type newCase struct {
	Request  authz.Value `json:"request"`
	Reason   string      `json:"reason"`
	GrantFor string      `json:"grant_for"`
	// Open are members of the request that a yes is to leave open, BreakGlass
	// the approval template of an emergency.
	Open       []string `json:"open"`
	BreakGlass string   `json:"break_glass"`
}

// openCase asks people about a request that is held back now. What people
// could not open is refused before anybody is asked.
func (c *call) openCase() error {
	a, err := c.cases()
	if err != nil {
		return err
	}
	body, err := decode[newCase](c)
	if err != nil {
		return err
	}
	req, err := c.requestOf(body.Request)
	if err != nil {
		return under("/request", err)
	}
	asks, err := asksFor(body.Reason, body.GrantFor)
	if err != nil {
		return err
	}
	asks.Open, asks.BreakGlass = body.Open, body.BreakGlass
	right := rightOpenOnBehalf
	if c.asksForItself(&req) {
		right = rightOpen
	}
	if err := c.allow(right, req.Tenant); err != nil {
		return err
	}
	active := c.config.PDP.Active()
	if active == nil {
		return pdp.ErrNotReady
	}
	d, obstacles, err := c.config.PDP.Obstacles(c.ctx, active, req)
	switch {
	case err != nil:
		return err
	case d.Allowed():
		return errNothingToAsk
	case len(obstacles.Fixed) > 0 || len(obstacles.Rules) == 0:
		return &fixedError{obstacles.Fixed}
	}
	k, joined, err := a.Open(c.ctx, obstacles, pdp.Caller{Name: c.caller.Name(), Tenant: c.caller.Tenant, Asks: asks})
	if err != nil {
		return err
	}
	return c.opened(&k, joined)
}

// opened answers with a case that was opened, or joined.
func (c *call) opened(k *cheq.Case, joined bool) error {
	status := http.StatusCreated
	if joined {
		status = http.StatusOK
	}
	return c.answer(status, caseOf(k))
}

// asksFor reads what a caller says to those who will be asked.
func asksFor(reason, grantFor string) (*pdp.Asks, error) {
	asks := &pdp.Asks{Reason: reason}
	if strings.TrimSpace(reason) == "" {
		return nil, &authz.FieldError{Path: "/reason", Detail: "required: it is what those who answer are shown"}
	}
	if grantFor == "" {
		return asks, nil
	}
	span, err := time.ParseDuration(grantFor)
	if err != nil || span <= 0 {
		return nil, &authz.FieldError{Path: "/grant_for", Detail: "want a duration above 0, such as 2h"}
	}
	asks.GrantFor = span
	return asks, nil
}

// fixedError refuses a case that no yes could make an ALLOW.
type fixedError struct{ reasons []authz.Reason }

func (e *fixedError) Error() string {
	rules := make([]string, len(e.reasons))
	for i, r := range e.reasons {
		rules[i] = strings.TrimPrefix(r.Policy+"/"+r.Rule, "/")
	}
	return "no yes opens this: " + strings.Join(rules, ", ")
}

var (
	errNoCases      = errors.New("this server asks nobody")
	errNothingToAsk = errors.New("the request is allowed as it is")
)

// problemOfAsk is the problem of a case that nobody is asked for.
func problemOfAsk(err error) (p Problem, ok bool) {
	var fixed *fixedError
	var refused *cheq.NotAskableError
	switch {
	case errors.As(err, &fixed):
		p = problem(http.StatusConflict, "not_waivable", "People cannot open this")
		p.Reasons = fixed.reasons
	case errors.As(err, &refused):
		p = problem(http.StatusConflict, "not_askable", "Nobody can be asked")
		p.Rule = refused.Rule
	default:
		return Problem{}, false
	}
	p.Detail = err.Error()
	return p, true
}

// isRefusedAnswer reports whether the error is of somebody who may not do to a
// case what it tried.
func isRefusedAnswer(err error) bool {
	for _, refusal := range []error{
		cheq.ErrNotFound, cheq.ErrNotReviewer, cheq.ErrNotAsker, cheq.ErrShown, cheq.ErrSettled, cheq.ErrText,
		cheq.ErrNoReview, cheq.ErrOwnReview, pap.ErrForbidden,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
