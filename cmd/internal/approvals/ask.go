package approvals

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Desk is where decisions ask people; it implements [pdp.Approvals] and is
// safe for concurrent use.
type Desk struct {
	PDP   *pdp.PDP
	Cases *cheq.Service
	Now   func() time.Time
	// Failed is told of a case that could not be opened, for the log.
	Failed func(o *pdp.Obstacles, err error)

	templates templates
}

// askWithin bounds how long a decision waits for its case.
const askWithin = 5 * time.Second

// Ask implements [pdp.Approvals].
func (d *Desk) Ask(ctx context.Context, o *pdp.Obstacles, caller pdp.Caller) (*authz.Approval, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, _, err := d.Open(ctx, o, caller, "")
	var nobody *cheq.NotAskableError
	switch {
	case errors.As(err, &nobody):
		return nil, nil
	case errors.Is(err, cheq.ErrTooMany):
		return nil, fmt.Errorf("%w: %w", pdp.ErrTooManyCases, err)
	case err != nil:
		d.Failed(o, err)
		return nil, err
	}
	return Approval(&c), nil
}

// Open opens the case of a request that meets these obstacles, or joins it;
// extends is the case that it prolongs, or "". Errors are [cheq.Service.Open]'s.
func (d *Desk) Open(ctx context.Context, o *pdp.Obstacles, caller pdp.Caller, extends string) (cheq.Case, bool, error) {
	if caller.Asks == nil {
		caller.Asks = &pdp.Asks{}
	}
	digests, newly, err := d.newly(ctx, o, caller.Asks.Open)
	if err != nil {
		return cheq.Case{}, false, err
	}
	ask := cheq.Ask{
		Requester: cheq.Person{Tenant: o.Request.Tenant, Name: pap.SubjectName(o.Request.Subject.Type, o.Request.Subject.ID)},
		Caller:    cheq.Person{Tenant: caller.Tenant, Name: caller.Name},
		Request:   o.Request, Digests: digests, Newly: newly, Extends: extends,
		Reason: caller.Asks.Reason, GrantFor: caller.Asks.GrantFor, BreakGlass: caller.Asks.BreakGlass,
	}
	for _, rule := range o.Rules {
		ask.Opens = append(ask.Opens, cheq.Opening{
			RuleRef: authz.RuleRef{Rule: rule.Name, Digest: rule.Rule.Digest.String()}, Effect: rule.Effect,
			Message: cheq.Text(rule.Message), Template: rule.Rule.Template,
		})
	}
	return d.Cases.Open(ctx, ask)
}

// statuses are what answers call a case's states.
var statuses = map[cheq.State]string{
	cheq.Pending: authz.ApprovalPending, cheq.Approved: authz.ApprovalApproved, cheq.Rejected: authz.ApprovalRejected,
	cheq.Expired: authz.ApprovalExpired, cheq.Cancelled: authz.ApprovalCancelled,
}

// Approval is a case as answers name it.
func Approval(c *cheq.Case) *authz.Approval {
	a := &authz.Approval{ID: c.ID, Status: statuses[c.State], ExpiresAt: c.DecideBy.UTC()}
	if c.State == cheq.Approved {
		a.ExpiresAt = c.GrantEnd.UTC()
	}
	return a
}
