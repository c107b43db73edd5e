package cheq

import (
	"context"
	"errors"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ErrNotFound means that there is no such case.
var ErrNotFound = errors.New("no such case")

// Store keeps cases beside the grants that they mint.
type Store interface {
	// Update runs fn in one write transaction: all of it or nothing. Writers
	// come one after the other. fn may run more than once and must have no
	// effect outside tx.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// View runs fn on one consistent snapshot. Write methods of its Tx fail.
	View(ctx context.Context, fn func(tx Tx) error) error
}

// Tx is one transaction.
type Tx interface {
	World

	// Case returns a case, or ErrNotFound.
	Case(id string) (Case, error)
	// Asked returns the pending case of this tenant and requester that is about
	// this digest, or ErrNotFound.
	Asked(tenant, requester, digest string) (Case, error)
	// PutCase stores a case, whole, and puts it into the log for all nodes.
	PutCase(c Case) error
	// Opened counts the cases of a requester, through a caller, by one
	// template: those that are pending, and those that were opened since.
	Opened(tenant, requester, caller, template string, since time.Time) (pending, recent int, err error)
	// Note appends to a case's timeline, which is kept for ever, and to the
	// audit.
	Note(c *Case, e Event) error

	// Mint stores a grant; EndGrant ends one.
	Mint(g authz.Grant) error
	EndGrant(id, why string, at time.Time) error
}

// Event is one line of a case's timeline.
type Event struct {
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`  // who did it; "xiezhi" for what time did
	Action string    `json:"action"` // "open", "join", "vote", "approve", "refused", …
	Detail string    `json:"detail,omitempty"`
}
