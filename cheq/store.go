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
	Rows

	// Mint stores a grant; EndGrant ends one.
	Mint(g authz.Grant) error
	EndGrant(id, why string, at time.Time) error
	// Grant says what became of a minted grant, beside that time passes: it is
	// Live, UsedUp, or Revoked, and then why.
	Grant(id string) (is Yield, why string, err error)
}

// Rows are the cases and their timelines, as a database keeps them. Lists hold
// at most limit entries.
type Rows interface {
	// Case returns a case, or ErrNotFound.
	Case(id string) (Case, error)
	// Asked returns the pending case of this requester and tenant that is about
	// this digest, or ErrNotFound.
	Asked(requester Person, tenant, digest string) (Case, error)
	// PutCase stores a case, whole.
	PutCase(c Case) error
	// Recent returns the cases of a requester that are pending or were opened
	// since, at most limit.
	Recent(requester Person, tenant string, since time.Time, limit int) ([]Case, error)
	// Cases lists those that the filter selects with ID < before ("": from the
	// newest), the newest first.
	Cases(f Filter, before string, limit int) ([]Case, error)
	// Due lists the ids of cases whose Due has come, the oldest first.
	Due(now time.Time, limit int) ([]string, error)

	// Note appends to a case's timeline, which is kept for ever.
	Note(c *Case, e Event) error
	// Timeline returns the events of a case from the first one on.
	Timeline(id string, limit int) ([]Event, error)

	Outbox
}

// Filter selects cases; zero fields select everything.
type Filter struct {
	Tenant    string
	State     State
	Requester *Person
}

// Event is one line of a case's timeline.
type Event struct {
	At time.Time `json:"at"`
	// Actor did it; nobody where it was time.
	Actor  Person `json:"actor"`
	Action string `json:"action"` // "open", "vote.approve", "approved", …
	Detail string `json:"detail,omitempty"`
}
