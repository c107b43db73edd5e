package httpd

import (
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// submission is what a PEP asks for.
type submission struct {
	req     authz.Request
	denial  arap.Denial
	tokenID string
	asks    *pdp.Asks
	urgent  bool
}

// submissionOf reads what is asked for, and verifies that it is what was
// denied, to this caller.
func (c *call) submissionOf(tokens *arap.Tokens, req authz.Request, body authz.Value) (submission, error) {
	for name, why := range map[string]string{
		"items":    "one request at a time: bulk access requests are not served",
		"callback": "not served: poll the task's status_endpoint",
	} {
		if _, given := body.Get(name); given {
			return submission{}, &authz.FieldError{Path: "/" + name, Detail: why}
		}
	}
	s := submission{req: req}
	if err := c.bind(tokens, &s, body); err != nil {
		return submission{}, err
	}
	return s, s.wants(body, c.config.Now())
}

// bind verifies the denial that is shown: it is ours, of this caller and
// tenant, about this request, and not over.
func (c *call) bind(tokens *arap.Tokens, s *submission, body authz.Value) error {
	denial, err := authzenObject(authz.Value{}, body, "denial")
	if err != nil {
		return err
	}
	expires, err := timeIn(denial, "/denial", "expires_at")
	if err != nil {
		return err
	}
	if expires.IsZero() {
		return &authz.FieldError{Path: "/denial/expires_at", Detail: "required: as the denial gave it"}
	}
	token, err := textIn(denial, "/denial", "binding_token")
	switch {
	case err != nil:
		return err
	case token == "":
		return arapError(arapBinding, "send denial.binding_token as the denial gave it: a denial is not found by its evaluation_id alone")
	}
	if s.denial, s.tokenID, err = tokens.OpenDenial(token); errors.Is(err, arap.ErrExpired) {
		return arapError(arapExpired, "the offer ended: evaluate again")
	} else if err != nil {
		return arapError(arapBinding, "denial.binding_token: "+err.Error())
	}
	if s.denial.Tenant != s.req.Tenant || s.denial.Caller != c.arapCaller() {
		return arapError(arapBinding, "this was denied to another caller")
	}
	hash, err := bindingHash(&s.req, s.denial.Context)
	switch {
	case err != nil:
		return err
	case hash != s.denial.Hash:
		return arapError(arapBinding, "this is not what was denied: send subject, resource, action and context as they were evaluated")
	case !expires.Equal(s.denial.ExpiresAt):
		return arapError(arapBinding, "denial.expires_at is not what the denial gave")
	}
	return nil
}

// arapCaller names the caller in a token.
func (c *call) arapCaller() string { return c.caller.Tenant + "/" + c.caller.Name() }

// wants reads how long access is wanted, how urgently, and why.
func (s *submission) wants(body authz.Value, now time.Time) error {
	s.asks = &pdp.Asks{}
	if why, _ := s.req.Context.Get("justification"); why.Kind() == authz.KindString {
		s.asks.Reason = why.Text()
	}
	if _, given := body.Get("requested_access"); !given {
		return nil
	}
	wanted, err := authzenObject(authz.Value{}, body, "requested_access")
	if err != nil {
		return err
	}
	until, err := timeIn(wanted, "/requested_access", "requested_until")
	if err != nil {
		return err
	}
	if !until.IsZero() {
		if s.asks.GrantFor = until.Sub(now); s.asks.GrantFor <= 0 {
			return &authz.FieldError{Path: "/requested_access/requested_until", Detail: "want a time to come"}
		}
	}
	if urgent, given := wanted.Get("emergency"); given {
		if urgent.Kind() != authz.KindBool {
			return &authz.FieldError{Path: "/requested_access/emergency", Detail: fmt.Sprintf("want a boolean, not a %s", urgent.Kind())}
		}
		s.urgent = urgent.Bool()
	}
	return nil
}

// textIn reads a text that may be left out.
func textIn(v authz.Value, path, name string) (string, error) {
	text, given := v.Get(name)
	if given && text.Kind() != authz.KindString {
		return "", &authz.FieldError{Path: path + "/" + name, Detail: fmt.Sprintf("want a string, not a %s", text.Kind())}
	}
	return text.Text(), nil
}

// timeIn reads a time that may be left out.
func timeIn(v authz.Value, path, name string) (time.Time, error) {
	text, err := textIn(v, path, name)
	if err != nil || text == "" {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, &authz.FieldError{Path: path + "/" + name, Detail: "want an RFC 3339 time, such as 2026-01-02T15:04:05Z"}
	}
	return at, nil
}
