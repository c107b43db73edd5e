package authz

// Value returns the request as the object that [RequestOf] reads and that
// policies see as their input. Absent properties and context are left out.
// What was read and not changed since is not made anew.
func (r *Request) Value() Value {
	var s shelf
	return s.object(r.read,
		Member{"action", s.object(part(r.read, "action"), Member{"name", textValue(r.Action.Name)}, Member{"properties", objectOnly(r.Action.Properties)})},
		Member{"context", objectOnly(r.Context)},
		Member{"resource", s.entity(part(r.read, "resource"), &r.Resource)},
		Member{"subject", s.entity(part(r.read, "subject"), &r.Subject)},
		Member{"tenant", textValue(r.Tenant)},
	)
}

func part(v Value, name string) Value {
	member, _ := v.Get(name)
	return member
}

func objectOnly(v Value) Value {
	if v.Kind() != KindObject {
		return Value{}
	}
	return v
}

// shelf makes the objects of one request in one piece of memory.
type shelf struct {
	members []Member
	kept    int // how many members are where they were
}

// requestMembers is how many members a request has, those of its parts included.
const requestMembers = 5 + 2 + 3 + 3

func (s *shelf) entity(was Value, e *Entity) Value {
	return s.object(was, Member{"id", textValue(e.ID)}, Member{"properties", objectOnly(e.Properties)}, Member{"type", textValue(e.Type)})
}

// object returns the object of the members, sorted as given, but for those
// that are null. That is was where it holds the very same.
func (s *shelf) object(was Value, members ...Member) Value {
	old, rest := objectOnly(was).members(), 0
	for _, m := range members {
		if m.Value.kind == KindNull {
			continue
		}
		if rest == len(old) || old[rest].Name != m.Name || !old[rest].Value.same(m.Value) {
			return s.put(members)
		}
		rest++
	}
	if rest != len(old) {
		return s.put(members)
	}
	s.kept += rest
	return was
}

func (s *shelf) put(members []Member) Value {
	if s.members == nil {
		s.members = make([]Member, 0, requestMembers-s.kept)
	}
	start := len(s.members)
	for _, m := range members {
		if m.Value.kind != KindNull {
			s.members = append(s.members, m)
		}
	}
	return membersValue(KindObject, s.members[start:])
}

// MarshalJSON writes the request as the wire has it.
func (r Request) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// UnmarshalJSON is [Parse] followed by [RequestOf].
func (r *Request) UnmarshalJSON(data []byte) error {
	v, err := Parse(data)
	if err != nil {
		return err
	}
	*r, err = RequestOf(v)
	return err
}
