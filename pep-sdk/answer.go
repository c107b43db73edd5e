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
	// "no_engine", "attribute", "uses", "approval". Where Why is set and Remote
	// is not, the server could not be asked, and what was decided here stands:
	// it is never more open.
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

// MarshalJSON implements json.Marshaler: the decision as /api/v1/decide answers
// it, and the members decided ("in-process" or "remote") and why.
func (a Answer) MarshalJSON() ([]byte, error) {
	data := a.AppendJSON(nil)
	decided := "in-process"
	if a.Remote {
		decided = "remote"
	}
	data = append(append(data[:len(data)-1], `,"decided":"`...), decided...)
	data = authz.AppendQuoted(append(data, `","why":`...), a.Why)
	return append(data, '}'), nil
}

// Status is what a PEP knows of itself.
type Status struct {
	Connected bool           `json:"connected"` // the socket is open
	Polling   bool           `json:"polling"`   // over HTTP, since the socket is not
	Stale     bool           `json:"stale"`     // what decides is not vouched for by a recent heartbeat
	Revision  authz.Revision `json:"revision"`
	Heartbeat time.Time      `json:"heartbeat"`     // signed time of the newest, zero before the first of this process
	Now       time.Time      `json:"now"`           // the time that decisions take for now
	ClockSkew time.Duration  `json:"clock_skew_ns"` // of the local clock against the signed time; an alarm above 60 s
	LastError string         `json:"last_error"`
	Rejected  string         `json:"rejected"` // the newest release that was not taken, and why
	Records   Records        `json:"records"`
	Enforced  Enforced       `json:"enforced"`
}

// Records counts decision records since New.
type Records struct {
	Written uint64 `json:"written"` // handed to the spool
	Sent    uint64 `json:"sent"`    // taken by the server, with those of an earlier run
	Lost    uint64 `json:"lost"`    // buffered ones that the disk did not keep
	Refused uint64 `json:"refused"` // decisions that were denied because they could not be recorded
	Dropped uint64 `json:"dropped"` // that the server refused for good, with the reason in the log
	Waiting int64  `json:"waiting"` // bytes on disk
}
