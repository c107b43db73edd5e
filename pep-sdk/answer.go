package pep

import (
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Answer is a decision and where it was made.
type Answer struct {
	authz.Decision
	// Remote says that the server decided; Why names what it was needed for:
	// "no_engine", "attribute", "uses", "approval".
	Remote bool
	Why    string
}

// What callers branch on.
var (
	// ErrNoState means that the PEP has never seen a release: everything is denied.
	ErrNoState = errors.New("no policies have been received yet")
	// ErrRevisionUnavailable means that the revision asked for was not reached in time.
	ErrRevisionUnavailable = errors.New("the revision is not available here yet")
	// ErrAuditUnavailable means that a strict decision could not be recorded.
	ErrAuditUnavailable = errors.New("the decision could not be recorded")
	// ErrClosed means that the PEP was closed.
	ErrClosed = errors.New("the PEP is closed")
)

// DeniedError is what [PEP.Guard] returns where the action was not run. The
// decision is DENY or REVIEW, or ALLOW with something that was not met.
type DeniedError struct {
	Answer Answer
	// Obligation and Err say which one was not met, and why. Without an
	// obligation, Err is of the limits or the route.
	Obligation string
	Err        error
}

func (e *DeniedError) Error() string {
	if e.Obligation != "" {
		return fmt.Sprintf("denied: obligation %s was not met: %v", e.Obligation, e.Err)
	}
	if e.Err != nil {
		return fmt.Sprintf("denied: %v", e.Err)
	}
	text := e.Answer.Effect.String()
	for _, r := range e.Answer.Reasons {
		if r.Effect != authz.Allow && r.Grant == "" {
			text += ": " + r.Message
		}
	}
	return text
}

// Unwrap returns the handler's error.
func (e *DeniedError) Unwrap() error { return e.Err }

// Status is what a PEP knows of itself.
type Status struct {
	Connected bool // the socket is open
	Polling   bool // over HTTP, since the socket is not
	Stale     bool // what decides is not vouched for by a recent heartbeat
	Revision  authz.Revision
	Heartbeat time.Time     // signed time of the newest, zero before the first of this process
	Now       time.Time     // the time that decisions take for now
	ClockSkew time.Duration // of the local clock against the signed time; an alarm above 60 s
	LastError string
	Rejected  string // the newest release that was not taken, and why
	Records   Records
	Enforced  Enforced
}

// Records counts decision records since New.
type Records struct {
	Written uint64 // handed to the spool
	Sent    uint64 // taken by the server, with those of an earlier run
	Lost    uint64 // buffered ones that the disk did not keep
	Refused uint64 // decisions that were denied because they could not be recorded
	Dropped uint64 // that the server refused for good, with the reason in the log
	Waiting int64  // bytes on disk
}
