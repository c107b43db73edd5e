package httpd

import (
	"errors"
	"net/http"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// Problems of the Access Request and Approval Profile.
const (
	arapNotRequestable = "not_requestable"
	arapExpired        = "expired_denial"
	arapBinding        = "invalid_denial_binding"
	arapDuplicate      = "duplicate_request"
	arapUnknownTask    = "unknown_task"
	arapTaskExpired    = "task_expired"
	arapTaskState      = "invalid_task_state"
)

var arapProblems = map[string]struct {
	status int
	title  string
}{
	arapNotRequestable: {http.StatusBadRequest, "People cannot be asked about this"},
	arapExpired:        {http.StatusGone, "The denial is too old"},
	arapBinding:        {http.StatusBadRequest, "This is not what was denied"},
	arapDuplicate:      {http.StatusConflict, "The key belongs to another request"},
	arapUnknownTask:    {http.StatusNotFound, "There is no such task"},
	arapTaskExpired:    {http.StatusGone, "The task is over"},
	arapTaskState:      {http.StatusConflict, "The task has ended already"},
}

// arapRefusal is one of the profile's problems.
type arapRefusal struct{ problem, detail string }

func arapError(problem, detail string) error { return &arapRefusal{problem, detail} }

func (e *arapRefusal) Error() string { return e.detail }

// profiled says a refusal as the profile does, where it has a problem for it.
func profiled(err error, p Problem) Problem {
	var own *arapRefusal
	var fixed *fixedError
	var nobody *cheq.NotAskableError
	name := ""
	switch {
	case errors.As(err, &own):
		name = own.problem
		p.Detail = own.detail
	case errors.As(err, &fixed), errors.As(err, &nobody):
		name = arapNotRequestable
	case errors.Is(err, errReplayMismatch):
		name = arapDuplicate
	case errors.Is(err, cheq.ErrNotFound):
		name = arapUnknownTask
	case errors.Is(err, cheq.ErrSettled):
		name = arapTaskState
	default:
		return p
	}
	known := arapProblems[name]
	p.Type, p.Code, p.Status, p.Title = "urn:openid:authzen:access-request:error:"+name, name, known.status, known.title
	return p
}
