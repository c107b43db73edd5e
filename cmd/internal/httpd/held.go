package httpd

import (
	"context"
	"errors"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Approvals are the cases by which people are asked.
type Approvals struct {
	Cases *cheq.Service
	// Open opens the case of a request that meets obstacles, or joins it.
	Open func(ctx context.Context, o *pdp.Obstacles, caller pdp.Caller) (c cheq.Case, joined bool, err error)
	// Approval is a case as decisions name it.
	Approval func(c *cheq.Case) *authz.Approval
	Waiters  *cheq.Waiters
	// CatchUp makes this node know all that was committed so far, but for a
	// release that is on its way.
	CatchUp func(ctx context.Context) error
}

// How many calls may wait for people at one time.
var approvalWaits = waitLimits{token: 1_000, tenant: 4_000, all: MaxConnections / 2, what: "people"}

// held waits until the case of a REVIEW is settled, and decides again then. An
// answer that does not come in time is the REVIEW as it was: who asks again
// joins the same case, on any node.
func (c *call) held(d Answer, wait time.Duration, req authz.Request, caller pdp.Caller) (Answer, error) {
	if c.config.Approvals == nil {
		return Answer{}, errApprovalsUnavailable
	}
	if d.Approval == nil {
		return d, nil // nobody can be asked
	}
	end, err := c.asking.begin(c.caller.TokenID, c.caller.Tenant)
	if err != nil {
		return Answer{}, err
	}
	defer end()
	settled, err := c.settled(d.Approval.ID, wait)
	if err != nil || !settled.State.Settled() {
		return d, err
	}
	caller.Asks, caller.Case = nil, c.config.Approvals.Approval(&settled)
	return c.decideOn(c.ctx, req, caller)
}

// settled waits for a case until it is settled, or the time is over, or the
// server is about to stop, and returns it as it is then. This node knows the
// grant that the case minted.
func (c *call) settled(id string, wait time.Duration) (cheq.Case, error) {
	a := c.config.Approvals
	ctx, cancel := context.WithTimeout(c.ctx, wait)
	defer cancel()
	defer context.AfterFunc(c.serving, cancel)()
	read := func() (bool, error) {
		known, err := a.Cases.Case(ctx, id)
		return known.State.Settled(), err
	}
	err := a.Waiters.Wait(ctx, id, read)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return cheq.Case{}, err
	}
	known, err := a.Cases.Case(c.ctx, id)
	if err != nil || !known.State.Settled() {
		return known, err
	}
	return known, a.CatchUp(c.ctx)
}
