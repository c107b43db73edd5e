package authz

import "time"

// AuditKind says what an [AuditRecord] tells of.
type AuditKind string

const (
	AuditDecision AuditKind = "decision" // the PDP answered (X15)
	AuditChange   AuditKind = "change"   // something that can change an answer was written
	AuditAccess   AuditKind = "access"   // a call was refused or a credential used wrongly
	AuditReported AuditKind = "reported" // a caller reported it (X5); only actor, tenant and time are vouched for
)

// AuditRecord is one line of the audit store: who, what, when, result (L16).
// ID is a ULID, so that order by ID is order by time.
type AuditRecord struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Kind     AuditKind `json:"kind"`
	Tenant   string    `json:"tenant,omitempty"` // empty: the platform
	Actor    string    `json:"actor"`            // the credential's subject, "user:li.wei"
	Subject  string    `json:"subject,omitempty"`
	Action   string    `json:"action"`
	Resource string    `json:"resource,omitempty"`
	Effect   string    `json:"effect,omitempty"` // decisions only
	Revision string    `json:"revision,omitempty"`
	// Body holds the masked request and answer of a decision, or the detail
	// of a change, as one JSON value.
	Body Value `json:"body"`
}
