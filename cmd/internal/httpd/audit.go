package httpd

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Rights of the audit doors.
const (
	rightAuditRead   = "audit.read"
	rightAuditReport = "audit.report"
	rightAuditShip   = "audit.ship"
)

func auditRoutes() []Route {
	return []Route{
		{
			Method: http.MethodGet, Path: "/api/v1/audit", Operation: "queryAudit", Rights: []string{rightAuditRead},
			Summary: "Read audit records, the newest first: decisions, changes, refusals, reports",
			Query:   []string{"tenant", "subject", "actor", "action", "effect", "kind", "from", "to", "limit", "cursor"},
			Status:  http.StatusOK, Answer: "AuditList", handle: (*call).queryAudit,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/audit", Operation: "reportAudit", Rights: []string{rightAuditReport},
			Summary: "Report an event; actor, tenant and time are the credential's and the server's",
			Headers: []string{"Idempotency-Key"}, Body: "AuditReport",
			Status: http.StatusCreated, Answer: "AuditRecord", Replay: true, handle: (*call).reportAudit,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/audit/decisions", Operation: "shipDecisions", Rights: []string{rightAuditShip},
			Summary: "Ship records of decisions that a PEP made by itself; sending one again changes nothing", Body: "DecisionRecords", MaxBody: MaxShipBody,
			Status: http.StatusOK, Answer: "ShippedDecisions", handle: (*call).shipDecisions,
		},
	}
}

// queryAudit answers GET /api/v1/audit. The platform's readers see all
// tenants' records, or one's; "platform" names the platform's own.
func (c *call) queryAudit() error {
	filter := pap.AuditFilter{
		Subject: c.query("subject"), Actor: c.query("actor"), Action: c.query("action"),
		Effect: c.query("effect"), Kind: authz.AuditKind(c.query("kind")),
	}
	named := c.query("tenant")
	tenant, err := c.tenant(named)
	if err != nil {
		return err
	}
	where := tenant
	switch {
	case named == pap.Platform:
		filter.Tenant, where = pap.Platform, ""
	case tenant == "":
		filter.Tenant = pap.AnyTenant
	default:
		filter.Tenant = tenant
	}
	if filter.Effect != "" && !slices.Contains([]string{"ALLOW", "DENY", "REVIEW"}, filter.Effect) {
		return &parameterError{Name: "effect", Detail: "want ALLOW, DENY or REVIEW"}
	}
	kinds := []authz.AuditKind{"", authz.AuditDecision, authz.AuditChange, authz.AuditAccess, authz.AuditReported}
	if !slices.Contains(kinds, filter.Kind) {
		return &parameterError{Name: "kind", Detail: "want decision, change, access or reported"}
	}
	if filter.From, err = c.queryTime("from"); err != nil {
		return err
	}
	if filter.To, err = c.queryTime("to"); err != nil {
		return err
	}
	var limit int
	if filter.Before, limit, err = c.page(); err != nil {
		return err
	}
	if err := c.allow(rightAuditRead, where); err != nil {
		return err
	}
	records, err := c.config.Store.QueryAudit(c.ctx, filter, limit+1)
	if err != nil {
		return fmt.Errorf("query audit: %w", err)
	}
	page := pap.Page[authz.AuditRecord]{Items: records}
	if len(records) > limit {
		page.Items, page.Next = records[:limit], records[limit-1].ID
	}
	return c.answer(http.StatusOK, pageOf(page, itself[authz.AuditRecord]))
}

// reportAudit answers POST /api/v1/audit (X5): what the caller says is kept as
// the caller's word. Only actor, tenant and time are vouched for.
func (c *call) reportAudit() error {
	body, err := decode[struct {
		Action   string      `json:"action"`
		Subject  string      `json:"subject"`
		Resource string      `json:"resource"`
		Body     authz.Value `json:"body"`
	}](c)
	if err != nil {
		return err
	}
	for _, name := range []struct{ path, text string }{{"/action", body.Action}, {"/subject", body.Subject}, {"/resource", body.Resource}} {
		if len(name.text) > authz.MaxIDLength {
			return &authz.FieldError{Path: name.path, Detail: fmt.Sprintf("longer than %d bytes", authz.MaxIDLength)}
		}
	}
	if body.Action == "" {
		return &authz.FieldError{Path: "/action", Detail: "required: what happened"}
	}
	if err := c.allow(rightAuditReport, c.caller.Tenant); err != nil {
		return err
	}
	record := authz.AuditRecord{
		ID: c.config.NewID(), Time: c.config.Now().UTC(), Kind: authz.AuditReported,
		Tenant: c.caller.Tenant, Actor: c.caller.Name(),
		Subject: body.Subject, Action: body.Action, Resource: body.Resource, Body: body.Body,
	}
	if err := c.storeReport(record); err != nil {
		return err
	}
	return c.answer(http.StatusCreated, record)
}

func (c *call) storeReport(record authz.AuditRecord) error {
	err := c.config.Store.Update(c.ctx, func(tx pap.Tx) error { return tx.Audit(record) })
	if err != nil {
		return fmt.Errorf("store the report: %w", err)
	}
	return nil
}
