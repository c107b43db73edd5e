package httpd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func dynamicRoutes() []Route {
	return []Route{
		{
			Method: http.MethodPost, Path: "/api/v1/policy/dynamic", Operation: "createDynamic",
			Rights:  []string{"grant.mint", "platform.grant.mint", "restriction.create"},
			Summary: "Mint a grant or create a restriction", Headers: []string{"Idempotency-Key"}, Body: "NewDynamic",
			Status: http.StatusCreated, Answer: "Dynamic", Replay: true, handle: (*call).createDynamic,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/policy/dynamic", Operation: "listDynamic", Rights: []string{"dynamic.read"},
			Summary: "List a tenant's grants or restrictions", Query: []string{"kind", "tenant", "limit", "cursor"},
			Status: http.StatusOK, Answer: "DynamicList", handle: (*call).listDynamic,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/policy/dynamic/{id}", Operation: "readDynamic", Rights: []string{"dynamic.read"},
			Summary: "Read one grant or restriction", Status: http.StatusOK, Answer: "Dynamic", handle: (*call).readDynamic,
		},
		{
			Method: http.MethodDelete, Path: "/api/v1/policy/dynamic/{id}", Operation: "endDynamic", Rights: []string{"dynamic.revoke", "restriction.create"},
			Summary: "Revoke a grant or lift a restriction, and say which PEPs may count it yet", Query: []string{"reason", "wait"},
			Headers: []string{"Idempotency-Key"}, Status: http.StatusOK, Answer: "EndedDynamic", Replay: true, handle: (*call).endDynamic,
		},
	}
}

// Kinds of dynamic policies.
const (
	typeDynamic     = "DYNAMIC"
	kindGrant       = "grant"
	kindRestriction = "restriction"
)

// newDynamic is what a caller may say; the server says the rest.
type newDynamic struct {
	Type     string         `json:"type"`
	Kind     string         `json:"kind"`
	Tenant   string         `json:"tenant"`
	Validity authz.Validity `json:"validity"`
	Reason   string         `json:"reason"`

	// Of grants.
	Satisfies []string    `json:"satisfies"`
	Waives    []string    `json:"waives"`
	Request   authz.Value `json:"request"`
	Uses      *int        `json:"uses"`

	// Of restrictions.
	Rules []authz.RestrictionRule `json:"rules"`
}

// check keeps the two kinds apart.
func (d *newDynamic) check() error {
	refuse := func(path, detail string) error { return &authz.FieldError{Path: path, Detail: detail} }
	switch {
	case d.Type != typeDynamic:
		return refuse("/type", "want DYNAMIC")
	case d.Kind == kindGrant && d.Rules != nil:
		return refuse("/rules", "a grant names rules in satisfies and waives and holds none of its own")
	case d.Kind == kindGrant && d.Uses != nil && *d.Uses < 1:
		return refuse("/uses", "want at least 1, or leave it out for no count")
	case d.Kind == kindGrant:
		return nil
	case d.Kind != kindRestriction:
		return refuse("/kind", "want grant or restriction")
	case d.Satisfies != nil:
		return refuse("/satisfies", "a restriction only closes")
	case d.Waives != nil:
		return refuse("/waives", "a restriction only closes")
	case d.Request.Kind() != authz.KindNull:
		return refuse("/request", "a restriction is not bound to a request; use a condition")
	case d.Uses != nil:
		return refuse("/uses", "a restriction is not counted")
	}
	return nil
}

func (c *call) createDynamic() error {
	body, err := decode[newDynamic](c)
	if err != nil {
		return err
	}
	if err := body.check(); err != nil {
		return err
	}
	if body.Tenant, err = c.tenant(body.Tenant); err != nil {
		return err
	}
	if body.Tenant == "" {
		return &authz.FieldError{Path: "/tenant", Detail: "required: a grant or restriction holds in one tenant"}
	}
	if body.Kind == kindGrant {
		return c.mintGrant(body)
	}
	return c.createRestriction(body)
}

func (c *call) mintGrant(body newDynamic) error {
	if _, named := body.Request.Get("tenant"); !named && body.Request.Kind() == authz.KindObject {
		body.Request = body.Request.With("tenant", authz.StringValue(body.Tenant))
	}
	req, err := authz.RequestOf(body.Request)
	if err != nil {
		return under("/request", err)
	}
	spec := pap.GrantSpec{
		Tenant: body.Tenant, Satisfies: body.Satisfies, Waives: body.Waives, Request: req,
		Validity: body.Validity, Reason: body.Reason,
	}
	if body.Uses != nil {
		spec.Uses = *body.Uses
	}
	g, revision, err := c.config.PAP.MintGrant(c.ctx, c.actor(), spec)
	if errors.Is(err, pap.ErrVersion) {
		return errRaced
	}
	return c.changed(http.StatusCreated, typed{kindGrant, g}, revision, err)
}

func (c *call) createRestriction(body newDynamic) error {
	spec := pap.RestrictionSpec{Tenant: body.Tenant, Rules: body.Rules, Validity: body.Validity, Reason: body.Reason}
	r, revision, err := c.config.PAP.CreateRestriction(c.ctx, c.actor(), spec)
	return c.changed(http.StatusCreated, typed{kindRestriction, r}, revision, err)
}

// typed writes a grant or restriction, an object with members, together with
// what it is.
type typed struct {
	kind   string
	object any
}

// MarshalJSON implements json.Marshaler.
func (t typed) MarshalJSON() ([]byte, error) {
	data, err := json.Marshal(t.object)
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, `{"type":%q,"kind":%q,`, typeDynamic, t.kind), data[1:]...), nil
}

func (c *call) listDynamic() error {
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	tenant, err := c.tenant(c.query("tenant"))
	if err != nil {
		return err
	}
	if tenant == "" {
		return &parameterError{Name: "tenant", Detail: "required: a platform credential names the tenant to list"}
	}
	switch c.query("kind") {
	case kindGrant, "":
		page, err := c.config.PAP.Grants(c.ctx, c.actor(), tenant, after, limit)
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, pageOf(page, func(g authz.Grant) typed { return typed{kindGrant, g} }))
	case kindRestriction:
		page, err := c.config.PAP.Restrictions(c.ctx, c.actor(), tenant, after, limit)
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, pageOf(page, func(r authz.Restriction) typed { return typed{kindRestriction, r} }))
	default:
		return &parameterError{Name: "kind", Detail: "want grant or restriction"}
	}
}

func (c *call) readDynamic() error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	object, err := c.config.PAP.Dynamic(c.ctx, c.actor(), id)
	if err != nil {
		return err
	}
	kind := kindGrant
	if strings.HasPrefix(id, "rst-") {
		kind = kindRestriction
	}
	return c.answer(http.StatusOK, typed{kind, object})
}

func (c *call) endDynamic() error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	wait, err := c.queryDuration("wait", endWait, maxEndWait)
	if err != nil {
		return err
	}
	if wait > 0 {
		if end, busy := c.waits.begin(c.caller.TokenID, c.caller.Tenant); busy != nil {
			wait = 0 // closing is never refused; the answer says who has not acknowledged it
		} else {
			defer end()
		}
	}
	ended, revision, err := c.config.PAP.EndDynamic(c.ctx, c.actor(), id, c.query("reason"), wait)
	return c.changed(http.StatusOK, ended, revision, err)
}

// How long the answer to a revocation waits for PEPs, unless told otherwise
// and at most.
const (
	endWait    = time.Second
	maxEndWait = 30 * time.Second
)
