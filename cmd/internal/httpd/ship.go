package httpd

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// maxShipped bounds how many records one call ships.
const maxShipped = 2000

// shipDecisions answers POST /api/v1/audit/decisions (X15). A record that
// cannot be taken is refused alone: it must not hold up those behind it.
func (c *call) shipDecisions() error {
	data, err := c.body()
	if err != nil {
		return err
	}
	var body struct {
		Records []jsontext.Value `json:"records"`
	}
	if err := json.Unmarshal(data, &body, json.RejectUnknownMembers(true)); err != nil {
		return decodeError(err)
	}
	if len(body.Records) == 0 || len(body.Records) > maxShipped {
		return &authz.FieldError{Path: "/records", Detail: fmt.Sprintf("%d records: want 1 to %d", len(body.Records), maxShipped)}
	}
	var unread []pap.Refused
	records := make([]authz.AuditRecord, 0, len(body.Records))
	for i, text := range body.Records {
		record, err := authz.ParseAuditRecord(text)
		if err != nil {
			unread = append(unread, pap.Refused{ID: idOf(text), Reason: fmt.Sprintf("/records/%d: %v", i, err)})
			continue
		}
		records = append(records, record)
	}
	shipped, err := c.config.PAP.ShipDecisions(c.ctx, c.actor(), records)
	if err == nil && !c.asked { // nothing could be read, so that no right was asked for
		err = c.allow(rightAuditShip, c.caller.Tenant)
	}
	if err != nil {
		return fmt.Errorf("ship decisions: %w", err)
	}
	shipped.Refused = append(shipped.Refused, unread...)
	return c.answer(http.StatusOK, shipped)
}

// idOf reads the id of a record that is otherwise unreadable, or returns "".
func idOf(text jsontext.Value) string {
	var record struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(text, &record); err != nil && !errors.As(err, new(*json.SemanticError)) {
		return ""
	}
	return record.ID
}
