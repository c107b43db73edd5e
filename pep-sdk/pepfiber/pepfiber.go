// Package pepfiber puts a policy enforcement point before fiber handlers:
//
//	guard := pepfiber.New(p, pepfiber.Table(identity, map[string]pepfiber.Rule{
//		"POST /orders":    {Action: "order.create", Type: "order"},
//		"GET /orders/:id": {Action: "order.read", Type: "order", ID: "id"},
//	}), log)
//	app.Post("/orders", guard, createOrder)
//
// It answers as package httpmw does. Fiber knows the template of a route only
// in the route's own handlers, so the middleware stands in each route, not in
// app.Use, where a table refuses everything.
//
// Fiber reuses the memory of a request: what a [Mapper] of your own keeps in a
// request of ours must be copied; [Table] does.
package pepfiber

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/gofiber/fiber/v2"

	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Guard enforces decisions: a [*pep.PEP].
type Guard interface {
	Guard(ctx context.Context, req authz.Request, do func(context.Context) error) error
}

// Mapper says what a call asks to do. An error or a panic refuses the call.
type Mapper func(c *fiber.Ctx) (authz.Request, error)

// New returns the middleware. A handler finds the decision in its user context
// ([pep.DecisionFrom]). Log takes why calls were refused; nil: nobody.
func New(guard Guard, mapper Mapper, log *slog.Logger) fiber.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return func(c *fiber.Ctx) error {
		ran := false
		req, err := mapped(mapper, c, log)
		if err == nil {
			err = guard.Guard(c.UserContext(), req, func(ctx context.Context) error {
				ran = true
				c.SetUserContext(ctx)
				return c.Next()
			})
		}
		if err == nil || ran {
			return err // the handler's own error is fiber's to answer
		}
		refusal := pep.RefusalOf(err)
		log.InfoContext(c.UserContext(), "a call is refused", "method", c.Method(), "path", c.Path(),
			"code", refusal.Code, "decision_id", refusal.DecisionID, "error", err)
		return answer(c, refusal)
	}
}

// mapped keeps a panic of the mapper to this call, and refuses it.
func mapped(mapper Mapper, c *fiber.Ctx, log *slog.Logger) (req authz.Request, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(c.UserContext(), "a mapper panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: the mapper panicked: %v", pep.ErrUnmapped, p)
		}
	}()
	if req, err = mapper(c); err != nil {
		return authz.Request{}, fmt.Errorf("%w: %w", pep.ErrUnmapped, err)
	}
	return req, nil
}

func answer(c *fiber.Ctx, refusal pep.Refusal) error {
	data, err := json.Marshal(refusal)
	if err != nil { // strings, numbers and a time of ours: it cannot be
		data = []byte(`{"type":"about:blank","title":"Forbidden","status":403}`)
		refusal.Status = fiber.StatusForbidden
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	if refusal.Status == fiber.StatusServiceUnavailable || refusal.Status == fiber.StatusTooManyRequests {
		c.Set(fiber.HeaderRetryAfter, "1")
	}
	c.Set(fiber.HeaderContentType, "application/problem+json")
	return c.Status(refusal.Status).Send(data)
}

// Identity says who calls, and in which tenant, by what the service has
// verified itself. An error refuses the call.
type Identity func(c *fiber.Ctx) (tenant string, subject authz.Entity, err error)

// Rule says what the calls of one route do.
type Rule struct {
	Action string
	Type   string // of the resource
	// ID names the parameter of the route whose value is the resource's id.
	// Escaped ones are refused unless fiber unescapes paths (UnescapePath).
	// Empty: the resource is the collection, whose id is its type.
	ID string
	// Add puts properties and context onto the request; nil adds nothing. An
	// error refuses the call. What it keeps must be copied out of c.
	Add func(c *fiber.Ctx, req *authz.Request) error
}

// Table maps calls by method and the template of the route that they came by.
// HEAD is what GET is, where it has no rule of its own. A call that no rule
// takes is refused.
func Table(identity Identity, rules map[string]Rule) Mapper {
	return func(c *fiber.Ctx) (authz.Request, error) {
		rule, ok := ruleOf(rules, c.Method(), c.Route().Path)
		if !ok {
			return authz.Request{}, fmt.Errorf("no rule takes %s %s", c.Method(), c.Route().Path)
		}
		if identity == nil {
			return authz.Request{}, errors.New("no identity: nobody says who calls")
		}
		tenant, subject, err := identity(c)
		if err != nil {
			return authz.Request{}, err
		}
		subject.Type, subject.ID = strings.Clone(subject.Type), strings.Clone(subject.ID)
		req := authz.Request{
			Tenant: strings.Clone(tenant), Subject: subject, Action: authz.Action{Name: rule.Action},
			Resource: authz.Entity{Type: rule.Type, ID: rule.Type},
		}
		if rule.ID != "" {
			if req.Resource.ID, err = parameter(c, rule.ID); err != nil {
				return authz.Request{}, err
			}
		}
		if rule.Add != nil {
			if err := rule.Add(c, &req); err != nil {
				return authz.Request{}, err
			}
		}
		return req, nil
	}
}

// parameter reads a parameter as the handler will, too. Where fiber leaves
// escapes in it, the handler may unescape them or not; what is decided on and
// what is done must not differ, so such a one is refused.
func parameter(c *fiber.Ctx, name string) (string, error) {
	value := strings.Clone(c.Params(name))
	if !c.App().Config().UnescapePath && strings.Contains(value, "%") {
		return "", fmt.Errorf("parameter %s is escaped: set UnescapePath in fiber's configuration to take such ids", name)
	}
	return value, nil
}

func ruleOf(rules map[string]Rule, method, template string) (Rule, bool) {
	rule, ok := rules[method+" "+template]
	if !ok && method == fiber.MethodHead {
		rule, ok = rules[fiber.MethodGet+" "+template]
	}
	return rule, ok
}
