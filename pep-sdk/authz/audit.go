package authz

import (
	"encoding/json"
	"fmt"
	"time"
)

// AuditKind says what an [AuditRecord] tells of.
type AuditKind string

const (
	AuditDecision AuditKind = "decision" // the PDP answered (X15)
	AuditChange   AuditKind = "change"   // something that can change an answer was written
	AuditAccess   AuditKind = "access"   // a call was refused or a credential used wrongly
	AuditReported AuditKind = "reported" // a caller reported it (X5); only actor, tenant and time are vouched for
)

// MaxAuditDepth is how deep the body of an audit record may nest. It leaves
// room for the members that wrap a request of [MaxDepth]: what could be asked
// can be recorded and read again.
const MaxAuditDepth = MaxDepth + 16

// AuditRecord is one line of the audit store: who, what, when, result (L16).
// ID is a ULID, so that order by ID is order by time.
//
// Its JSON has the members id, time, kind, tenant, actor, subject, action,
// resource, effect, revision and body; those that may be empty are left out
// when they are.
type AuditRecord struct {
	ID       string
	Time     time.Time
	Kind     AuditKind
	Tenant   string // empty: the platform
	Actor    string // the credential's subject, "user:li.wei"
	Subject  string
	Action   string
	Resource string
	Effect   string // decisions only
	Revision string
	// Body holds the masked request and answer of a decision, or the detail
	// of a change, as one JSON value.
	Body Value
	// BodyJSON is the body as JSON that was written already; it counts in place
	// of Body where it is not empty. Of records that were read only those of
	// [ReadAuditRecord] have it.
	BodyJSON []byte
}

// AppendBody appends the body's JSON.
func (r *AuditRecord) AppendBody(buf []byte) []byte {
	if len(r.BodyJSON) > 0 {
		return append(buf, r.BodyJSON...)
	}
	return r.Body.AppendJSON(buf)
}

// AppendJSON appends the record's JSON. Text that is not valid UTF-8 is
// repaired with U+FFFD: a record is never lost for its text.
func (r *AuditRecord) AppendJSON(buf []byte) []byte {
	buf = appendText(append(buf, `{"id":`...), r.ID)
	buf = append(buf, `,"time":"`...)
	buf = r.Time.UTC().AppendFormat(buf, time.RFC3339Nano)
	buf = appendText(append(buf, `","kind":`...), string(r.Kind))
	buf = appendOptional(buf, `,"tenant":`, r.Tenant)
	buf = appendText(append(buf, `,"actor":`...), r.Actor)
	buf = appendOptional(buf, `,"subject":`, r.Subject)
	buf = appendText(append(buf, `,"action":`...), r.Action)
	buf = appendOptional(buf, `,"resource":`, r.Resource)
	buf = appendOptional(buf, `,"effect":`, r.Effect)
	buf = appendOptional(buf, `,"revision":`, r.Revision)
	buf = append(buf, `,"body":`...)
	return append(r.AppendBody(buf), '}')
}

// ParseAuditRecord reads what AppendJSON writes, as strictly as [Parse] but to
// the depth of [MaxAuditDepth]. Errors are [*FieldError]s.
func ParseAuditRecord(data []byte) (AuditRecord, error) {
	var r AuditRecord
	v, err := parseTo(data, MaxAuditDepth+1)
	if err != nil {
		return r, err
	}
	if v.Kind() != KindObject {
		return r, &FieldError{Detail: fmt.Sprintf("want an object, not a %s", v.Kind())}
	}
	for i := range v.Len() {
		if err := r.set(v.Name(i), v.Index(i)); err != nil {
			return AuditRecord{}, Under(err, "/"+escapePointer(v.Name(i)))
		}
	}
	return r, nil
}

func (r *AuditRecord) set(name string, v Value) error {
	if name == "body" {
		r.Body = v
		return nil
	}
	text, err := textOf(v)
	if err != nil {
		return err
	}
	switch name {
	case "id":
		r.ID = text
	case "time":
		r.Time, err = time.Parse(time.RFC3339Nano, text)
		return err
	case "kind":
		r.Kind = AuditKind(text)
	case "tenant":
		r.Tenant = text
	case "actor":
		r.Actor = text
	case "subject":
		r.Subject = text
	case "action":
		r.Action = text
	case "resource":
		r.Resource = text
	case "effect":
		r.Effect = text
	case "revision":
		r.Revision = text
	default:
		return fmt.Errorf("unknown member")
	}
	return nil
}

// ParseAuditBody reads the JSON of [AuditRecord.Body] alone, to the depth of
// [MaxAuditDepth].
func ParseAuditBody(data []byte) (Value, error) { return parseTo(data, MaxAuditDepth) }

// MarshalJSON implements json.Marshaler.
func (r AuditRecord) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler, as [ParseAuditRecord].
func (r *AuditRecord) UnmarshalJSON(data []byte) error {
	parsed, err := ParseAuditRecord(data)
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

var (
	_ json.Marshaler   = AuditRecord{}
	_ json.Unmarshaler = (*AuditRecord)(nil)
)
