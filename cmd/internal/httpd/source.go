package httpd

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Source is where policies are published from without a call, such as a git
// repository.
type Source interface {
	Status() pap.SourceStatus
	// Load fetches now and waits for what becomes of it, which the status says.
	Load(ctx context.Context) (pap.SourceStatus, error)
	// Webhook takes a call of the repository's host: pap.ErrSignature,
	// pap.ErrBusy, pap.ErrNotFound where no secret is configured.
	Webhook(signature, token string, body []byte) error
}

func sourceRoutes() []Route {
	return []Route{
		{
			Method: http.MethodGet, Path: "/api/v1/policy/source", Operation: "readPolicySource", Rights: []string{"release.read"},
			Summary: "Read what became of the newest commit of the policy repository, with its faults",
			Status:  http.StatusOK, Answer: "PolicySource", handle: (*call).readSource,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/policy/load", Operation: "loadPolicies", Rights: []string{"policy.load"},
			Summary: "Fetch the policy repository now, read the file of static attributes again, and forget what attribute sources answered; or one of these",
			Headers: []string{"Idempotency-Key"}, Body: "PolicyLoadRequest", BodyOptional: true,
			Status: http.StatusOK, Answer: "PolicyLoad", Replay: true, handle: (*call).loadPolicies,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/policy/source/webhook", Operation: "policySourceWebhook", Public: true,
			Summary: "Take a push event that the repository's host signed with the shared secret: fetch soon",
			Headers: []string{"X-Hub-Signature-256", "X-Gitlab-Token"}, Body: "PushEvent", MaxBody: MaxPolicyBody,
			Status: http.StatusAccepted, Answer: "Accepted", handle: (*call).sourceWebhook,
		},
	}
}

var errNoSource = fmt.Errorf("this server follows no policy repository: %w", pap.ErrNotFound)

func (c *call) readSource() error {
	if err := c.allow("release.read", c.caller.Tenant); err != nil {
		return err
	}
	if c.config.Source == nil {
		return errNoSource
	}
	return c.answer(http.StatusOK, c.config.Source.Status().SeenBy(c.actor()))
}

// loadedJSON says what a load brought. A member is null where the server has
// no such thing, or another was asked for.
type loadedJSON struct {
	Revision   string            `json:"revision"`
	Source     *pap.SourceStatus `json:"source"`
	Attributes *attributesJSON   `json:"static_attributes"`
	Forgotten  []string          `json:"attribute_sources"` // that are asked anew
}

// loadJSON says what is to be loaded. Sources are configured on the server: a
// caller names one, and never an address.
type loadJSON struct {
	Source *string `json:"source"` // absent: all
}

// What callers call the sources that every server may have one of.
const (
	policySource = "policies"
	staticSource = "static"
)

// loads returns whether a source of this name is to be loaded.
func (c *call) loads() (func(name string) bool, error) {
	if len(c.fiber.Request().Body()) == 0 {
		return func(string) bool { return true }, nil
	}
	body, err := decode[loadJSON](c)
	if err != nil {
		return nil, err
	}
	if body.Source == nil {
		return func(string) bool { return true }, nil
	}
	asked := *body.Source
	if known := asked == policySource && c.config.Source != nil || asked == staticSource && c.config.LoadAttributes != nil || c.config.AttributeSources[asked] != nil; !known {
		return nil, &authz.FieldError{Path: "/source", Detail: "this server has no source of this name"}
	}
	return func(name string) bool { return name == asked }, nil
}

type attributesJSON struct {
	Result string `json:"result"` // "loaded", "refused": what was known before holds
	Reason string `json:"reason,omitempty"`
}

func (c *call) loadPolicies() error {
	if err := c.allow("policy.load", ""); err != nil {
		return err
	}
	loads, err := c.loads()
	if err != nil {
		return err
	}
	loaded := loadedJSON{Forgotten: []string{}}
	for _, name := range slices.Sorted(maps.Keys(c.config.AttributeSources)) {
		if loads(name) {
			c.config.AttributeSources[name]()
			loaded.Forgotten = append(loaded.Forgotten, name)
		}
	}
	if c.config.LoadAttributes != nil && loads(staticSource) {
		loaded.Attributes = &attributesJSON{Result: "loaded"}
		if err := c.config.LoadAttributes(); err != nil {
			loaded.Attributes = &attributesJSON{Result: "refused", Reason: err.Error()}
			c.config.Log.Error("the static attributes could not be loaded; what was known before holds", "error", err)
		}
	}
	if c.config.Source != nil && loads(policySource) {
		status, err := c.config.Source.Load(c.ctx)
		if c.ctx.Err() != nil {
			return err
		}
		loaded.Source = &status // it says what an error was
	}
	var revision authz.Revision
	if active := c.config.PDP.Active(); active != nil {
		revision = active.Revision()
	}
	loaded.Revision = revision.String()
	c.setRevision(revision)
	return c.answer(http.StatusOK, loaded)
}

func (c *call) sourceWebhook() error {
	if c.config.Source == nil {
		return errNoSource
	}
	body := c.fiber.Request().Body() // the signature is of these bytes, whatever they are
	if len(body) > c.route.MaxBody {
		return httpError(http.StatusRequestEntityTooLarge)
	}
	if err := c.config.Source.Webhook(c.header("X-Hub-Signature-256"), c.header("X-Gitlab-Token"), body); err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, map[string]string{"status": "accepted"})
}
