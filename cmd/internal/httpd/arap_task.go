package httpd

import (
	"net/http"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
)

// taskAnswer is a task as the profile writes it. Who may answer, and by which
// rules, is not in it: those who ask have no business with that.
type taskAnswer struct {
	Task   taskJSON    `json:"task"`
	Result *resultJSON `json:"result,omitempty"`
}

type taskJSON struct {
	ID        string            `json:"id"`
	Status    string            `json:"status"`
	Endpoint  string            `json:"status_endpoint"`
	ExpiresAt time.Time         `json:"expires_at"`
	Links     map[string]string `json:"links,omitempty"`
}

type resultJSON struct {
	Mode     string       `json:"mode"`
	Approval approvalJSON `json:"approval"`
}

type approvalJSON struct {
	ID    string    `json:"id"`
	At    time.Time `json:"approved_at"`
	Until time.Time `json:"approved_until"`
	State string    `json:"state"`
}

// taskStatuses are what the profile calls the states of a case.
var taskStatuses = map[cheq.State]string{
	cheq.Pending: "pending", cheq.Approved: "approved", cheq.Rejected: "denied", cheq.Expired: "expired", cheq.Cancelled: "cancelled",
}

// taskKept is how long a task is told of after it, and what it opened, has
// ended.
const taskKept = 24 * time.Hour

// taskEnd is when a task's handle is no longer good.
func taskEnd(k *cheq.Case) time.Time {
	if !k.State.Settled() {
		return k.DecideBy.UTC()
	}
	end := k.SettledAt
	if k.GrantEnd.After(end) {
		end = k.GrantEnd
	}
	return end.Add(taskKept).UTC()
}

// readAccessRequest answers with a task.
func (c *call) readAccessRequest() error {
	a, k, standing, err := c.trialOfTask()
	if err != nil {
		return err
	}
	if err := c.mayCase(&k, rightReadCase, standing.Concerned()); err != nil {
		return err
	}
	return c.taskOf(a, http.StatusOK, &k)
}

// trialOfTask is trial of a server that takes access requests. A platform
// credential that names a tenant is told of that tenant's tasks only.
func (c *call) trialOfTask() (*Approvals, cheq.Case, cheq.Standing, error) {
	if _, _, err := c.accessRequests(); err != nil {
		return nil, cheq.Case{}, cheq.Standing{}, err
	}
	tenant, err := c.tenant(c.header(HeaderTenant))
	if err != nil {
		return nil, cheq.Case{}, cheq.Standing{}, err
	}
	a, k, standing, err := c.trial()
	if err == nil && tenant != "" && k.Tenant != tenant {
		err = cheq.ErrNotFound
	}
	return a, k, standing, err
}

// cancelAccessRequest takes a pending task back. A body may say why.
func (c *call) cancelAccessRequest() error {
	var why string
	if len(c.fiber.Request().Body()) > 0 {
		body, err := c.authzenBody()
		if err != nil {
			return err
		}
		reason, err := textIn(body, "", "reason")
		if err != nil {
			return err
		}
		comment, err := textIn(body, "", "comment")
		if err != nil {
			return err
		}
		if why = reason; comment != "" {
			if why != "" {
				why += ": "
			}
			why += comment
		}
	}
	a, k, standing, err := c.trialOfTask()
	if err != nil {
		return err
	}
	if err := c.mayCase(&k, rightRevokeCase, standing.Concerned()); err != nil {
		return err
	}
	if k, err = a.Cases.Cancel(c.ctx, k.ID, c.person(), why); err != nil {
		return err
	}
	return c.taskOf(a, http.StatusOK, &k)
}

// task answers with a task as it is stored.
func (c *call) task(a *Approvals, status int, id string) error {
	k, err := a.Cases.Case(c.ctx, id)
	if err != nil {
		return err
	}
	return c.taskOf(a, status, &k)
}

// taskOf answers with a case as a task. Of an approved one this node knows the
// grant by then, so that who re-evaluates here is not told to wait.
func (c *call) taskOf(a *Approvals, status int, k *cheq.Case) error {
	base, err := c.baseURL()
	if err != nil {
		return err
	}
	end := taskEnd(k)
	if k.State.Settled() && !c.config.Now().Before(end) {
		return arapError(arapTaskExpired, "it ended at "+k.SettledAt.UTC().Format(time.RFC3339))
	}
	place := base + arapPath + "/" + k.ID
	t := taskAnswer{Task: taskJSON{ID: k.ID, Status: taskStatuses[k.State], Endpoint: place, ExpiresAt: end}}
	if !k.State.Settled() {
		t.Task.Links = map[string]string{"cancel": place + "/cancel"}
	} else if status == http.StatusAccepted {
		status = http.StatusCreated // there is nothing to wait for
	}
	if k.State == cheq.Approved {
		if err := a.CatchUp(c.ctx); err != nil {
			return err
		}
		if t.Result, err = c.resultOf(k); err != nil {
			return err
		}
	}
	c.setTask(place, !k.State.Settled())
	return c.answer(status, t)
}

// resultOf is what an approved task hands out. It names the grant and is none:
// what is allowed is decided by the grants that live.
func (c *call) resultOf(k *cheq.Case) (*resultJSON, error) {
	state, err := c.config.AccessRequests.SignApproval(arap.Approval{ID: k.Grant, Task: k.ID, Tenant: k.Tenant, Until: k.GrantEnd})
	if err != nil {
		return nil, err
	}
	return &resultJSON{"reevaluate", approvalJSON{k.Grant, k.SettledAt.UTC(), k.GrantEnd.UTC(), state}}, nil
}
