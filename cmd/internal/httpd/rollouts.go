package httpd

import (
	"net/http"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const rightRollout = "release.rollout"

func rolloutRoutes() []Route {
	return []Route{
		{
			Method: http.MethodGet, Path: "/api/v1/releases/{number}/rollout", Operation: "readRollout", Rights: []string{"release.read"},
			Summary: "Read how far the newest rollout is", Status: http.StatusOK, Answer: "Rollout", handle: (*call).readRollout,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/releases/{number}/rollout", Operation: "changeRollout", Rights: []string{rightRollout},
			Summary: "Abort a running rollout, which restores the release before, or advance it to the next stage", Headers: []string{"Idempotency-Key"},
			Body: "RolloutAction", Status: http.StatusOK, Answer: "RolloutChanged", Replay: true, handle: (*call).changeRollout,
		},
	}
}

func (c *call) readRollout() error {
	number, err := c.releaseNumber("number")
	if err != nil {
		return err
	}
	rollout, err := c.config.PAP.Rollout(c.ctx, c.actor(), number)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, rollout)
}

func (c *call) changeRollout() error {
	number, err := c.releaseNumber("number")
	if err != nil {
		return err
	}
	body, err := decode[struct {
		Action string `json:"action"`
		Reason string `json:"reason"`
	}](c)
	if err != nil {
		return err
	}
	var revision authz.Revision
	switch body.Action {
	case "abort":
		revision, err = c.config.PAP.AbortRollout(c.ctx, c.actor(), number, body.Reason)
	case "advance":
		revision, err = c.config.PAP.AdvanceRollout(c.ctx, c.actor(), number)
	default:
		return &authz.FieldError{Path: "/action", Detail: "want abort or advance"}
	}
	return c.changed(http.StatusOK, struct {
		Release uint64 `json:"release"`
		Action  string `json:"action"`
	}{number, body.Action}, revision, err)
}
