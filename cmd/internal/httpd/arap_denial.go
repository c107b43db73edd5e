package httpd

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// approvalMember is where a re-evaluation carries an approval. Policies never
// see it: it is no permission, and what it stands for is in the grants.
const approvalMember = "approval"

// withoutApproval takes the approval out of a request's context.
func (s *Server) withoutApproval(req *authz.Request) (approval authz.Value, given bool) {
	if s.config.AccessRequests == nil {
		return authz.Value{}, false
	}
	if approval, given = req.Context.Get(approvalMember); given {
		req.Context = req.Context.Without(approvalMember)
	}
	return approval, given
}

// denialLives is how long people can be asked about a denial.
const denialLives = 10 * time.Minute

// explanation is what the profile adds to a denial.
type explanation struct {
	EvaluationID  string      `json:"evaluation_id"`
	EvaluatedAt   time.Time   `json:"evaluated_at"`
	Reason        string      `json:"reason,omitempty"`
	NextAction    string      `json:"next_action,omitempty"`
	RetryAfter    int         `json:"retry_after,omitempty"` // seconds
	AccessRequest *accessHint `json:"access_request,omitempty"`
}

// accessHint says that people can be asked, and how.
type accessHint struct {
	Endpoint     string      `json:"endpoint"`
	Template     string      `json:"template,omitempty"`
	ExpiresAt    time.Time   `json:"expires_at"`
	BindingToken string      `json:"binding_token"`
	Display      hintDisplay `json:"display"`
}

type hintDisplay struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
}

// reasonAsk is the reason of a denial that people can be asked about.
const reasonAsk = "approval_required"

// explain adds to the answer what the profile says of a denial; nothing where
// there is nothing to say. A failure here leaves the denial as it is.
func (c *call) explain(req authz.Request, d *authz.Decision, approval authz.Value, given bool) []byte {
	if c.config.AccessRequests == nil || c.config.Approvals == nil || c.config.PDP == nil || d.Allowed() {
		return nil
	}
	e := explanation{EvaluationID: d.ID, EvaluatedAt: c.config.Now().UTC()}
	var err error
	if e.AccessRequest, err = c.offer(req, d); err != nil {
		c.config.Log.Warn("a denial does not say that people can be asked", "decision", d.ID, "error", err)
	}
	switch {
	case given:
		e.reevaluated(c.weigh(c.ctx, req, d, approval))
	case e.AccessRequest != nil:
		e.Reason = reasonAsk
	default:
		return nil
	}
	data, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	return data[1:] // goes on the answer's own members
}

// offer is what a PEP needs to ask people; nil where there is nobody to ask, or
// the caller may not.
func (c *call) offer(req authz.Request, d *authz.Decision) (*accessHint, error) {
	active := c.config.PDP.Active()
	if active == nil || !mayBeOpened(active.Release, d) ||
		c.config.Guard.Allow(c.ctx, c.caller, c.rightToOpen(&req), req.Tenant) != nil {
		return nil, nil
	}
	o, err := c.requestable(req)
	var refused *arapRefusal
	switch {
	case errors.As(err, &refused):
		return nil, nil
	case err != nil:
		return nil, err
	}
	hash, err := bindingHash(&req, o.Context)
	if err != nil {
		return nil, err
	}
	base, err := c.baseURL()
	if err != nil {
		return nil, err
	}
	hint := &accessHint{Endpoint: base + arapPath, ExpiresAt: c.config.Now().Add(denialLives).UTC().Truncate(time.Second), Display: displayOf(o)}
	hint.Template = o.Rules[0].Rule.Template
	for i := range o.Rules {
		if o.Rules[i].Rule.Template != hint.Template {
			hint.Template = "" // several: the profile has room for one
			break
		}
	}
	hint.BindingToken, err = c.config.AccessRequests.SignDenial(arap.Denial{
		ExpiresAt: hint.ExpiresAt, EvaluationID: d.ID, Context: append([]string{}, o.Context...), Hash: hash, Tenant: req.Tenant, Caller: c.arapCaller(),
	})
	return hint, err
}

// mayBeOpened reports whether a denial could be one that people open, at less
// cost than evaluating it again: no DENY stands that is known not to be waivable.
func mayBeOpened(release *pdp.Release, d *authz.Decision) bool {
	for i := range d.Reasons {
		r := &d.Reasons[i]
		if r.Effect != authz.Deny || r.Grant != "" {
			continue
		}
		if rule, ok := release.Rule(r.Policy + "/" + r.Rule); !ok || !rule.Waivable {
			return false
		}
	}
	return true
}

func displayOf(o *pdp.Obstacles) hintDisplay {
	display := hintDisplay{Title: "Approval is needed"}
	for i := range o.Rules {
		text := o.Rules[i].Message.EN
		if text == "" || len(display.Description)+len(text) > 1000 {
			continue
		}
		if display.Description != "" {
			display.Description += " "
		}
		display.Description += text
	}
	return display
}

// bindingHash is the profile's: of the request as it was evaluated, less
// subject.properties.act, which a PEP may move elsewhere.
func bindingHash(req *authz.Request, contextMembers []string) (string, error) {
	bound := *req
	if _, acts := bound.Subject.Properties.Get("act"); acts {
		bound.Subject.Properties = bound.Subject.Properties.Without("act")
	}
	context, err := authz.ObjectValue()
	if err != nil {
		return "", err
	}
	for _, name := range contextMembers {
		if v, ok := req.Context.Get(name); ok {
			context = context.With(name, v)
		}
	}
	canonical, err := pdp.Canonical(bound.Value().Without("tenant").With("context", context))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(canonical)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// Why a re-evaluation is denied though an approval was shown.
const (
	reasonExpired      = "approval_expired"
	reasonScope        = "out_of_scope"
	reasonPending      = "grant_pending"
	reasonPolicy       = "policy_denied"
	reasonUnverifiable = "approval_unverifiable"
)

// grantPendingFor is when to evaluate again, in seconds: a node is behind the
// log for less.
const grantPendingFor = 1

// reevaluated says what to do about a denial with an approval.
func (e *explanation) reevaluated(reason string) {
	e.Reason = reason
	switch {
	case reason == reasonPending || reason == "": // the store cannot be read: nobody knows
		e.NextAction, e.RetryAfter = "retry", grantPendingFor
	case reason != reasonUnverifiable && e.AccessRequest != nil:
		e.NextAction = "request"
	default:
		e.NextAction = "none"
	}
	if e.NextAction != "request" {
		e.AccessRequest = nil
	}
}

// weigh says why an approval does not help; "" where that cannot be found out.
func (c *call) weigh(ctx context.Context, req authz.Request, d *authz.Decision, approval authz.Value) string {
	id, ok := c.approvalID(approval, req.Tenant)
	if !ok {
		return reasonUnverifiable
	}
	var record pap.Record
	err := c.config.Store.View(ctx, func(tx pap.Tx) (err error) {
		record, err = tx.Record(pap.KindGrant, id)
		return err
	})
	if errors.Is(err, pap.ErrNotFound) {
		return reasonUnverifiable
	}
	var g authz.Grant
	if err == nil {
		err = json.Unmarshal(record.Body, &g)
	}
	if err != nil {
		c.config.Log.Warn("a denial does not say why an approval does not help", "grant", id, "error", err)
		return ""
	}
	return c.weighGrant(ctx, req, d, &g, record.Position)
}

func (c *call) weighGrant(ctx context.Context, req authz.Request, d *authz.Decision, g *authz.Grant, position uint64) string {
	active := c.config.PDP.Active()
	if _, ofCase := g.Case(); !ofCase || g.Tenant != req.Tenant || active == nil {
		return reasonUnverifiable
	}
	now := c.config.Now()
	if !g.Live(now) {
		return reasonExpired
	}
	digest, err := active.RequestDigest(req, now)
	if err != nil || !slices.Contains(g.Requests, digest.String()) {
		return reasonScope
	}
	if d.Revision.Position < position {
		return reasonPending
	}
	if g.Uses > 0 {
		if spent, err := c.config.PAP.SpentUses(ctx, []*authz.Grant{g}); err != nil {
			return ""
		} else if len(spent) > 0 {
			return reasonExpired
		}
	}
	return reasonPolicy
}

// approvalID is the grant that an approval names. Its state, where there is
// one, must be ours and name the same.
func (c *call) approvalID(approval authz.Value, tenant string) (string, bool) {
	id, err := textIn(approval, "", "id")
	if err != nil || id == "" {
		return "", false
	}
	state, given := approval.Get("state")
	if !given {
		return id, true
	}
	known, err := c.config.AccessRequests.OpenApproval(state.Text())
	if err != nil && !errors.Is(err, arap.ErrExpired) { // that it is over, the grant says too
		return "", false
	}
	return id, known.ID == id && known.Tenant == tenant
}
