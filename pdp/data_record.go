package pdp

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// DataRecord is a query of `data` as it is written down: masked, and the
// numbers that a request could not carry as text.
type DataRecord struct {
	ID       string
	Tenant   string
	Path     string // "xiezhi/platform/network/deny"
	Strict   bool
	Revision authz.Revision
	Input    authz.Value // null where there was none
	Result   authz.Value // null where it is undefined
	Error    string
}

// maxRecorded bounds the values of one side of a record.
const maxRecorded = 20_000

func (s *Snapshot) dataRecord(q *DataQuery, a *DataAnswer, failed error) *DataRecord {
	r := &DataRecord{ID: a.ID, Tenant: q.Tenant, Path: strings.Join(q.Path, "/"), Strict: q.Strict, Revision: a.Revision}
	var input, result any
	if q.Input != nil {
		input = *q.Input
	}
	if a.Result != nil {
		result = decoded(a.Result)
	}
	r.Input, r.Result = s.MaskedData(q.Tenant, input, result)
	if failed != nil {
		var m masking
		m.data(s.masks(q.Tenant), recordable(input))
		r.Error = m.scrub(failed.Error())
	}
	return r
}

// decoded reads JSON of our own making.
func decoded(text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return string(text)
	}
	return v
}

// MaskedData returns an input that was given to a tenant's policies, and what
// they made of it, as a record may hold them: without what any of these
// policies calls sensitive. Both are what encoding/json decodes; values that
// no record can hold are told as text.
func (s *Snapshot) MaskedData(tenant string, input, result any) (maskedInput, maskedResult authz.Value) {
	var m masking
	maskedInput = m.data(s.masks(tenant), recordable(input))
	maskedResult = recordable(result)
	if len(m.hidden) > 0 {
		maskedResult = m.scrubValue(maskedResult)
	}
	return maskedInput, maskedResult
}

// masks are those of every policy that can speak for the tenant.
func (s *Snapshot) masks(tenant string) []string {
	var all []string
	for _, p := range s.Release.policies {
		if p.Layer == LayerPlatform || p.Layer == LayerTenant && p.Tenant == tenant {
			all = append(all, p.Masks...)
		}
	}
	return all
}

// data hides in an input what the pointers name.
func (m *masking) data(pointers []string, v authz.Value) authz.Value {
	for _, pointer := range pointers {
		steps := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
		for i := range steps {
			steps[i] = strings.ReplaceAll(strings.ReplaceAll(steps[i], "~1", "/"), "~0", "~")
		}
		v = m.value(v, steps)
	}
	return v
}

// scrubValue replaces what was hidden wherever it stands, names included.
func (m *masking) scrubValue(v authz.Value) authz.Value {
	switch v.Kind() {
	case authz.KindString:
		return authz.StringValue(m.scrub(v.Text()))
	case authz.KindInt, authz.KindFloat:
		if shown := fillValue(v); m.scrub(shown) != shown {
			return authz.StringValue(Masked)
		}
		return v
	case authz.KindList:
		return v.Map(func(_ string, elem authz.Value) authz.Value { return m.scrubValue(elem) })
	case authz.KindObject:
		members := make([]authz.Member, v.Len())
		for i := range members {
			members[i] = authz.Member{Name: m.scrub(v.Name(i)), Value: m.scrubValue(v.Index(i))}
		}
		object, err := authz.ObjectValue(members...)
		if err != nil { // two names became one
			return authz.StringValue(Masked)
		}
		return object
	default:
		return v
	}
}

// recordable converts what encoding/json decoded. What a record cannot hold
// (a long number, what is too deep or too much) becomes text.
func recordable(data any) authz.Value {
	left := maxRecorded
	return recordableAt(data, 0, &left)
}

func recordableAt(data any, depth int, left *int) authz.Value {
	if *left--; *left < 0 || depth > authz.MaxDepth {
		return authz.StringValue("… left out of the record")
	}
	switch data := data.(type) {
	case []any:
		elems := make([]authz.Value, len(data))
		for i, elem := range data {
			elems[i] = recordableAt(elem, depth+1, left)
		}
		return authz.ListValue(elems...)
	case map[string]any:
		members := make([]authz.Member, 0, len(data))
		for name, elem := range data {
			members = append(members, authz.Member{Name: strings.ToValidUTF8(name, "\uFFFD"), Value: recordableAt(elem, depth+1, left)})
		}
		object, err := authz.ObjectValue(members...)
		if err != nil {
			return authz.StringValue("… left out of the record: " + err.Error())
		}
		return object
	case string:
		return authz.StringValue(strings.ToValidUTF8(data, "\uFFFD"))
	case json.Number:
		if v, err := authz.ValueOf(data); err == nil {
			return v
		}
		return authz.StringValue(data.String())
	default:
		if v, err := authz.ValueOf(data); err == nil {
			return v
		}
		return authz.Value{}
	}
}

// audit is the record as audit stores keep it: a decision without an effect,
// since no findings were combined.
func (r *Record) auditData() (authz.AuditRecord, error) {
	d := r.Data
	members := []authz.Member{
		{Name: "path", Value: authz.StringValue(strings.ToValidUTF8(d.Path, "\uFFFD"))},
		{Name: "strict_builtin_errors", Value: authz.BoolValue(d.Strict)},
		{Name: "input", Value: d.Input},
	}
	if d.Error != "" {
		members = append(members, authz.Member{Name: "error", Value: authz.StringValue(strings.ToValidUTF8(d.Error, "\uFFFD"))})
	} else {
		members = append(members, authz.Member{Name: "result", Value: d.Result})
	}
	query, err := authz.ObjectValue(members...)
	if err != nil {
		return authz.AuditRecord{}, err
	}
	body, err := authz.ObjectValue(authz.Member{Name: "data", Value: query})
	if err != nil {
		return authz.AuditRecord{}, err
	}
	subject, action, resource := AskedOf(d.Input)
	return authz.AuditRecord{
		ID: d.ID, Time: r.Time.UTC(), Kind: authz.AuditDecision, Tenant: d.Tenant, Actor: r.Caller.Name,
		Subject: subject, Action: action, Resource: resource, Revision: d.Revision.String(), Body: body,
	}, nil
}

// AskedOf reads who asks for what out of an input that has a request's form,
// as audit records name it; what is not there is empty.
func AskedOf(input authz.Value) (subject, action, resource string) {
	text := func(pointer string) string {
		v, _ := input.Lookup(pointer)
		if len(v.Text()) > authz.MaxIDLength {
			return ""
		}
		return v.Text()
	}
	if id := text("/subject/id"); id != "" {
		subject = text("/subject/type") + ":" + id
	}
	if id := text("/resource/id"); id != "" {
		resource = text("/resource/type") + ":" + id
	}
	return subject, text("/action/name"), resource
}
