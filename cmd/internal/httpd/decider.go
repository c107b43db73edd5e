package httpd

import (
	"context"
	"fmt"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Decider is what the decision doors ask: a server's own PDP, or a PEP that
// stands in for one.
type Decider interface {
	// Decide answers and records. An error means that there is no answer.
	Decide(ctx context.Context, req authz.Request, caller pdp.Caller) (Answer, error)
	// Await returns once answers are based on the revision or a newer one.
	Await(ctx context.Context, r authz.Revision) error
	// Revision is what answers are based on; zero while there is no release.
	Revision() authz.Revision
}

// Answer is a decision, and who made it: a value of [HeaderDecided], empty
// where the door's own server did.
type Answer struct {
	authz.Decision
	Decided string
}

// HeaderDecided says where a stand-in for a server has the answer from.
const HeaderDecided = "X-Xiezhi-Decided"

// Values of [HeaderDecided]. A batch has both where its items differ.
const (
	DecidedInProcess = "in-process"
	DecidedRemote    = "remote"
)

// node is the server's own Decider.
type node struct {
	pdp   *pdp.PDP
	store Store
	warn  func(msg string, args ...any)
}

func (n node) Decide(ctx context.Context, req authz.Request, caller pdp.Caller) (Answer, error) {
	d, err := n.pdp.Decide(ctx, req, caller)
	return Answer{Decision: d}, err
}

func (n node) Revision() authz.Revision {
	if active := n.pdp.Active(); active != nil {
		return active.Revision()
	}
	return authz.Revision{}
}

// Await refuses a revision that the store does not hold at once: no waiting
// will bring it.
func (n node) Await(ctx context.Context, r authz.Revision) error {
	if active := n.pdp.Active(); active != nil && active.Revision().Includes(r) {
		return nil
	}
	newest, err := newestRevision(ctx, n.store)
	if err == nil && !newest.Includes(r) {
		return fmt.Errorf("/at_least_revision: %w as %s; the newest is %s", errRevisionUnknown, r, newest)
	}
	if err != nil {
		n.warn("cannot read the newest revision", "error", err)
	}
	return n.pdp.Await(ctx, r)
}

// newestRevision reads the newest revision from the store.
func newestRevision(ctx context.Context, store Store) (head authz.Revision, err error) {
	err = store.View(ctx, func(tx pap.Tx) error {
		head, err = tx.Head()
		return err
	})
	return head, err
}

// setDecided names where the answers come from, if that is not here.
func (c *call) setDecided(by ...string) {
	var all string
	for _, known := range []string{DecidedInProcess, DecidedRemote} {
		for _, b := range by {
			if b != known {
				continue
			}
			if all != "" {
				all += ", "
			}
			all += known
			break
		}
	}
	if all != "" {
		c.fiber.Response().Header.Set(HeaderDecided, all)
	}
}
