package httpd

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// The doors of AuthZEN Authorization API 1.0. They ignore members they do not
// know, and answer errors as text. Names given twice, and what is not JSON by
// RFC 8259, are refused here as everywhere.

// HeaderTenant names the tenant of a call by a platform credential: AuthZEN
// has no member for it.
const HeaderTenant = "X-Xiezhi-Tenant"

// authzenTenant is the one tenant of the call.
func (c *call) authzenTenant() (string, error) {
	tenant, err := c.tenant(c.header(HeaderTenant))
	if err != nil {
		return "", err
	}
	if tenant == "" {
		return "", &parameterError{Name: HeaderTenant, Detail: "required: a platform credential names the tenant it asks for"}
	}
	if err := authz.ValidTenant(tenant); err != nil {
		return "", &parameterError{Name: HeaderTenant, Detail: err.Error()}
	}
	return tenant, nil
}

// authzenBody reads the body, which is an object.
func (c *call) authzenBody() (authz.Value, error) {
	body, err := c.value()
	if err != nil {
		return body, err
	}
	if body.Kind() != authz.KindObject {
		return body, &authz.FieldError{Detail: fmt.Sprintf("want an object, not a %s", body.Kind())}
	}
	return body, nil
}

// authzenEvaluation answers POST /access/v1/evaluation.
func (c *call) authzenEvaluation() error {
	tenant, err := c.authzenTenant()
	if err != nil {
		return err
	}
	body, err := c.authzenBody()
	if err != nil {
		return err
	}
	return c.authzenSingle(tenant, body)
}

func (c *call) authzenSingle(tenant string, body authz.Value) error {
	req, err := authzenRequest(tenant, authz.Value{}, body)
	if err != nil {
		return err
	}
	if err := c.mayDecide(&req); err != nil {
		return err
	}
	approval, shown := c.withoutApproval(&req)
	caller, err := c.idempotencyKey()
	if err != nil {
		return err
	}
	d, err := c.decideOn(c.ctx, req, caller)
	if err != nil {
		return err
	}
	c.setRevision(d.Revision)
	c.setDecided(d.Decided)
	more := c.explain(req, &d.Decision, approval, shown)
	c.answerJSON(http.StatusOK, func(buf []byte) []byte { return appendAuthZEN(buf, &d.Decision, more) })
	return nil
}

// authzenEvaluations answers POST /access/v1/evaluations.
func (c *call) authzenEvaluations() error {
	tenant, err := c.authzenTenant()
	if err != nil {
		return err
	}
	body, err := c.authzenBody()
	if err != nil {
		return err
	}
	how, err := semanticOf(body, false)
	if err != nil {
		return err
	}
	items, err := evaluationsOf(body)
	if err != nil {
		return err
	}
	if items.Len() == 0 {
		return c.authzenSingle(tenant, body)
	}
	caller, err := c.idempotencyKey()
	if err != nil {
		return err
	}
	if c.config.Decider.Revision().IsZero() {
		return pdp.ErrNotReady
	}
	rights := batchRights{c: c, known: map[batchRight]error{}}
	questions := make([]question, items.Len())
	for i := range questions {
		q := &questions[i]
		if q.req, q.err = authzenRequest(tenant, body, items.Index(i)); q.err == nil {
			q.err = rights.mayDecide(&q.req)
			c.withoutApproval(&q.req)
		} else {
			q.err = under(itemPath(i), q.err)
		}
	}
	if err := rights.refused(questions, tenant); err != nil {
		return err
	}
	answers := c.askAll(questions, how, caller)
	c.setDecided(deciders(answers)...)
	c.answerJSON(http.StatusOK, func(buf []byte) []byte {
		buf = append(buf, `{"evaluations":[`...)
		for i := range answers {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = c.appendAuthZENItem(buf, &answers[i])
		}
		return append(buf, `]}`...)
	})
	return nil
}

// appendAuthZEN appends {"decision", "context"}: the context is our whole
// answer, so that a PEP that reads it learns reasons and obligations. more are
// further members of it with the brace that closes them, or none.
func appendAuthZEN(buf []byte, d *authz.Decision, more []byte) []byte {
	if d.Allowed() {
		buf = append(buf, `{"decision":true,"context":`...)
	} else {
		buf = append(buf, `{"decision":false,"context":`...)
	}
	buf = d.AppendJSON(buf)
	if len(more) > 0 {
		buf = append(append(buf[:len(buf)-1], ','), more...)
	}
	return append(buf, '}')
}

func (c *call) appendAuthZENItem(buf []byte, a *answered) []byte {
	if a.err == nil {
		return appendAuthZEN(buf, &a.Decision, nil)
	}
	p := c.itemProblem(a.err)
	buf = fmt.Appendf(buf, `{"decision":false,"context":{"error":{"status":%d,"message":`, p.Status)
	return append(authz.AppendQuoted(buf, strings.ToValidUTF8(p.message(), "\uFFFD")), `}}}`...)
}

// authzenRequest reads a request; what item lacks is taken from defaults, by
// whole member, except that a type or id that an entity lacks is taken from
// the default of that entity (certification scenario, "default value merging").
func authzenRequest(tenant string, defaults, item authz.Value) (authz.Request, error) {
	req := authz.Request{Tenant: tenant}
	if item.Kind() != authz.KindObject {
		return req, &authz.FieldError{Detail: fmt.Sprintf("want an object, not a %s", item.Kind())}
	}
	var err error
	if req.Subject, err = authzenEntity(defaults, item, "subject"); err != nil {
		return req, err
	}
	if req.Resource, err = authzenEntity(defaults, item, "resource"); err != nil {
		return req, err
	}
	if req.Action, err = authzenAction(defaults, item); err != nil {
		return req, err
	}
	context, given := inherited(defaults, item, "context")
	if given && context.Kind() != authz.KindObject {
		return req, &authz.FieldError{Path: "/context", Detail: fmt.Sprintf("want an object, not a %s", context.Kind())}
	}
	req.Context = context
	return req, req.Validate()
}

func inherited(defaults, item authz.Value, name string) (authz.Value, bool) {
	if v, own := item.Get(name); own {
		return v, true
	}
	return defaults.Get(name)
}

func authzenEntity(defaults, item authz.Value, name string) (authz.Entity, error) {
	v, err := authzenObject(defaults, item, name)
	if err != nil {
		return authz.Entity{}, err
	}
	base, _ := defaults.Get(name)
	var e authz.Entity
	if e.Type, err = authzenText(base, v, name, "type"); err != nil {
		return e, err
	}
	if e.ID, err = authzenText(base, v, name, "id"); err != nil {
		return e, err
	}
	e.Properties, err = authzenProperties(v, name)
	return e, err
}

func authzenAction(defaults, item authz.Value) (authz.Action, error) {
	v, err := authzenObject(defaults, item, "action")
	if err != nil {
		return authz.Action{}, err
	}
	base, _ := defaults.Get("action")
	var a authz.Action
	if a.Name, err = authzenText(base, v, "action", "name"); err != nil {
		return a, err
	}
	a.Properties, err = authzenProperties(v, "action")
	return a, err
}

func authzenObject(defaults, item authz.Value, name string) (authz.Value, error) {
	v, given := inherited(defaults, item, name)
	switch {
	case !given:
		return v, &authz.FieldError{Path: "/" + name, Detail: "required"}
	case v.Kind() != authz.KindObject:
		return v, &authz.FieldError{Path: "/" + name, Detail: fmt.Sprintf("want an object, not a %s", v.Kind())}
	}
	return v, nil
}

func authzenText(base, v authz.Value, member, name string) (string, error) {
	text, given := inherited(base, v, name)
	path := "/" + member + "/" + name
	switch {
	case !given:
		return "", &authz.FieldError{Path: path, Detail: "required"}
	case text.Kind() != authz.KindString:
		return "", &authz.FieldError{Path: path, Detail: fmt.Sprintf("want a string, not a %s", text.Kind())}
	}
	return text.Text(), nil
}

func authzenProperties(v authz.Value, member string) (authz.Value, error) {
	properties, given := v.Get("properties")
	if given && properties.Kind() != authz.KindObject {
		return properties, &authz.FieldError{Path: "/" + member + "/properties", Detail: fmt.Sprintf("want an object, not a %s", properties.Kind())}
	}
	return properties, nil
}

// authzenConfiguration answers GET /.well-known/authzen-configuration.
func (c *call) authzenConfiguration() error {
	base, err := c.baseURL()
	if err != nil {
		return err
	}
	metadata := struct {
		PDP            string   `json:"policy_decision_point"`
		Evaluation     string   `json:"access_evaluation_endpoint"`
		Evaluations    string   `json:"access_evaluations_endpoint"`
		AccessRequests string   `json:"access_request_endpoint,omitempty"`
		Keys           string   `json:"jwks_uri,omitempty"`
		Capabilities   []string `json:"capabilities,omitempty"`
	}{PDP: base, Evaluation: base + "/access/v1/evaluation", Evaluations: base + "/access/v1/evaluations"}
	if c.config.AccessRequests != nil && c.config.Approvals != nil {
		metadata.AccessRequests, metadata.Keys, metadata.Capabilities = base+arapPath, base+jwksPath, []string{arapCapability}
	}
	return c.answer(http.StatusOK, metadata)
}

// baseURL is how the caller reaches this server.
func (c *call) baseURL() (string, error) {
	host := string(c.fiber.Request().Header.Host())
	if host == "" && c.config.PublicURL == "" {
		return "", errHost
	}
	return c.publicURL(host), nil
}

// xiezhiConfiguration answers GET /.well-known/xiezhi: where the parts of this
// server are.
func (c *call) xiezhiConfiguration() error {
	base, err := c.baseURL()
	if err != nil {
		return err
	}
	var stream *string
	if c.config.StreamURL != "" {
		stream = &c.config.StreamURL
	}
	return c.answer(http.StatusOK, struct {
		API     string  `json:"api"`
		OpenAPI string  `json:"openapi"`
		AuthZEN string  `json:"authzen"`
		Stream  *string `json:"stream_url"` // null: there is none
	}{base, base + "/openapi.json", base + "/.well-known/authzen-configuration", stream})
}
