package approvals

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// Authors are those who wrote rules ([Store.Authors]).
	Authors func(ctx context.Context, rules []pdp.Obstacle) ([]cheq.Person, error)
	// Failed is told of a case that could not be opened, for the log.
	Failed func(o *pdp.Obstacles, err error)

	templates templates
	recent    recent
}

// askWithin bounds how long a decision waits for its case.
const askWithin = 5 * time.Second

// Ask implements [pdp.Approvals].
func (d *Desk) Ask(ctx context.Context, o *pdp.Obstacles, caller pdp.Caller) (*authz.Approval, error) {
	ask := askOf(o, caller)
	now := d.Now()
	if approval, tooMany := d.recent.known(&ask, now); tooMany {
		return nil, pdp.ErrTooManyCases
	} else if approval != nil {
		return approval, nil
	}
	if !d.askable(o) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	heard := d.recent.heard()
	c, _, err := d.open(ctx, o, ask, nil)
	var nobody *cheq.NotAskableError
	switch {
	case errors.As(err, &nobody):
		return nil, nil
	case errors.Is(err, cheq.ErrTooMany):
		d.recent.full(&ask, now)
		return nil, fmt.Errorf("%w: %w", pdp.ErrTooManyCases, err)
	case err != nil:
		d.Failed(o, err)
		return nil, err
	}
	d.recent.join(&ask, &c, heard, now)
	return Approval(&c), nil
}

// askable reports whether every rule in the way names a template.
func (d *Desk) askable(o *pdp.Obstacles) bool {
	return !slices.ContainsFunc(o.Rules, func(rule pdp.Obstacle) bool {
		t, _ := d.templates.of(o.Snapshot.Release, rule.Rule.Template)
		return t == nil
	})
}

// Open opens the case of a request that meets these obstacles, or joins it.
// Errors are [cheq.Service.Open]'s.
func (d *Desk) Open(ctx context.Context, o *pdp.Obstacles, caller pdp.Caller) (cheq.Case, bool, error) {
	ask := askOf(o, caller)
	var open []string
	if caller.Asks != nil {
		open, ask.BreakGlass = caller.Asks.Open, caller.Asks.BreakGlass
	}
	return d.open(ctx, o, ask, open)
}

// open decides first what a yes would newly allow.
func (d *Desk) open(ctx context.Context, o *pdp.Obstacles, ask cheq.Ask, open []string) (c cheq.Case, joined bool, err error) {
	if ask.Digests, ask.Newly, err = d.newly(ctx, o, open); err != nil {
		return cheq.Case{}, false, err
	}
	if ask.Authors, err = d.Authors(ctx, o.Rules); err != nil {
		return cheq.Case{}, false, err
	}
	return d.Cases.Open(ctx, ask)
}

// askOf is the ask for the request alone.
func askOf(o *pdp.Obstacles, caller pdp.Caller) cheq.Ask {
	ask := cheq.Ask{
		Requester: cheq.Person{Tenant: o.Request.Tenant, Name: pap.SubjectName(o.Request.Subject.Type, o.Request.Subject.ID)},
		Caller:    cheq.Person{Tenant: caller.Tenant, Name: caller.Name},
		Request:   o.Request, Digests: []string{o.Digest},
	}
	if caller.Asks != nil {
		ask.Reason, ask.GrantFor = caller.Asks.Reason, caller.Asks.GrantFor
	}
	for _, rule := range o.Rules {
		ask.Opens = append(ask.Opens, cheq.Opening{
			RuleRef: authz.RuleRef{Rule: rule.Name, Digest: rule.Rule.Digest.String()}, Effect: rule.Effect,
			Message: cheq.Text(rule.Message), Template: rule.Rule.Template,
		})
	}
	return ask
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
