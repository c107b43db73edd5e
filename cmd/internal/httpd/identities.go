package httpd

import (
	"net/http"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

func identityRoutes() []Route {
	key := []string{"Idempotency-Key"}
	return []Route{
		{
			Method: http.MethodPost, Path: "/api/v1/identities/code", Operation: "createIdentityCode", Rights: []string{"cheq.answer"},
			Summary: "Get a short code: the account of a chat platform that sends it is the caller's from then on",
			Status:  http.StatusCreated, Answer: "IdentityCode", handle: (*call).createIdentityCode,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/identities", Operation: "bindIdentity", Rights: []string{"identity.write"},
			Summary: "Say whose an account of a chat platform is", Headers: key, Body: "NewIdentity", Status: http.StatusCreated, Answer: "Identity", Replay: true,
			handle: (*call).bindIdentity,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/identities", Operation: "listIdentities", Rights: []string{"identity.read"},
			Summary: "List the accounts of a tenant's subjects, also those that were unbound", Query: []string{"tenant", "limit", "cursor"},
			Status: http.StatusOK, Answer: "IdentityList", handle: (*call).listIdentities,
		},
		{
			Method: http.MethodDelete, Path: "/api/v1/identities/{id}", Operation: "unbindIdentity", Rights: []string{"identity.write"},
			Summary: "Make an account nobody's; it may be bound again", Headers: key, Status: http.StatusOK, Answer: "Identity", Replay: true,
			handle: (*call).unbindIdentity,
		},
	}
}

func (c *call) createIdentityCode() error {
	code, expires, err := c.config.PAP.NewIdentityCode(c.ctx, c.actor())
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, struct {
		Code      string    `json:"code"`
		ExpiresAt time.Time `json:"expires_at"`
	}{code, expires})
}

func (c *call) bindIdentity() error {
	body, err := decode[struct {
		Tenant   string `json:"tenant"`
		Subject  string `json:"subject"`
		Channel  string `json:"channel"`
		Platform string `json:"platform"`
	}](c)
	if err != nil {
		return err
	}
	if body.Tenant, err = c.tenant(body.Tenant); err != nil {
		return err
	}
	identity := pap.Identity{Tenant: body.Tenant, Subject: body.Subject, Channel: body.Channel, Platform: body.Platform}
	return write(c, http.StatusCreated, identity, c.config.PAP.BindIdentity)
}

func (c *call) listIdentities() error { return list(c, c.config.PAP.Identities) }

func (c *call) unbindIdentity() error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	return write(c, http.StatusOK, id, c.config.PAP.UnbindIdentity)
}
