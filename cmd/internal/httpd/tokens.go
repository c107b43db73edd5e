package httpd

import (
	"net/http"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

func tokenRoutes() []Route {
	return []Route{
		{
			Method: http.MethodPost, Path: "/api/v1/tokens", Operation: "createToken", Rights: []string{"token.create"},
			Summary: "Make a personal access token; its text is shown this once", Headers: []string{"Idempotency-Key"},
			Body: "NewToken", Status: http.StatusCreated, Answer: "CreatedToken", Replay: true, handle: (*call).createToken,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/tokens", Operation: "listTokens", Rights: []string{"token.read"},
			Summary: "List a tenant's access tokens", Query: []string{"tenant", "limit", "cursor"},
			Status: http.StatusOK, Answer: "TokenList", handle: (*call).listTokens,
		},
		{
			Method: http.MethodDelete, Path: "/api/v1/tokens/{id}", Operation: "revokeToken", Rights: []string{"token.revoke"},
			Summary: "Revoke an access token; it holds on every node within a second", Headers: []string{"Idempotency-Key"},
			Status: http.StatusOK, Answer: "Token", Replay: true, handle: (*call).revokeToken,
		},
	}
}

// tokenJSON is a token on the wire: never its hash, and its text only in the
// answer that made it.
type tokenJSON struct {
	ID        string     `json:"id"`
	Tenant    string     `json:"tenant"`
	Subject   string     `json:"subject"`
	Name      string     `json:"name,omitempty"`
	Rights    []string   `json:"rights"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	Token     string     `json:"token,omitempty"`
}

func tokenOf(t pap.Token) tokenJSON {
	return tokenJSON{
		ID: t.ID, Tenant: t.Tenant, Subject: t.Subject, Name: t.Name, Rights: t.Rights,
		CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt,
	}
}

func (c *call) createToken() error {
	body, err := decode[struct {
		Tenant    string    `json:"tenant"`
		Subject   string    `json:"subject"`
		Name      string    `json:"name"`
		Rights    []string  `json:"rights"`
		ExpiresAt time.Time `json:"expires_at"`
	}](c)
	if err != nil {
		return err
	}
	if body.Tenant, err = c.tenant(body.Tenant); err != nil {
		return err
	}
	token, text, revision, err := c.config.PAP.CreateToken(c.ctx, c.actor(), pap.Token{
		Tenant: body.Tenant, Subject: body.Subject, Name: body.Name, Rights: body.Rights, ExpiresAt: body.ExpiresAt,
	})
	answer := tokenOf(token)
	// A replay repeats the answer without the secret: it is stored nowhere.
	if err := c.keepInstead(answer, revision); err != nil {
		return err
	}
	answer.Token = text
	return c.changed(http.StatusCreated, answer, revision, err)
}

func (c *call) listTokens() error {
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	tenant, err := c.tenant(c.query("tenant"))
	if err != nil {
		return err
	}
	page, err := c.config.PAP.Tokens(c.ctx, c.actor(), tenant, after, limit)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, pageOf(page, tokenOf))
}

func (c *call) revokeToken() error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	token, revision, err := c.config.PAP.RevokeToken(c.ctx, c.actor(), id)
	return c.changed(http.StatusOK, tokenOf(token), revision, err)
}
