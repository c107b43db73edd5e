package authz

// AppendJSON appends the request's JSON, member for member as that of its
// [Request.Value]. The request is valid.
func (r *Request) AppendJSON(buf []byte) []byte {
	buf = AppendQuoted(append(buf, `{"action":{"name":`...), r.Action.Name)
	buf = append(appendProperties(buf, r.Action.Properties), '}')
	if r.Context.Kind() == KindObject {
		buf = r.Context.AppendJSON(append(buf, `,"context":`...))
	}
	buf = r.Resource.appendJSON(append(buf, `,"resource":`...))
	buf = r.Subject.appendJSON(append(buf, `,"subject":`...))
	buf = AppendQuoted(append(buf, `,"tenant":`...), r.Tenant)
	return append(buf, '}')
}

func (e *Entity) appendJSON(buf []byte) []byte {
	buf = AppendQuoted(append(buf, `{"id":`...), e.ID)
	buf = appendProperties(buf, e.Properties)
	return append(AppendQuoted(append(buf, `,"type":`...), e.Type), '}')
}

func appendProperties(buf []byte, properties Value) []byte {
	if properties.Kind() != KindObject {
		return buf
	}
	return properties.AppendJSON(append(buf, `,"properties":`...))
}
