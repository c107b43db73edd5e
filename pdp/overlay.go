package pdp

import "github.com/xiezhi-project/xiezhi/pep-sdk/authz"

// overlay makes a request's objects in memory that the next question gets. They
// live as long as the question; a decision holds none.
type overlay struct {
	members []authz.Member
	starts  []int // of the objects among them
}

// with is [authz.Value.With] into the overlay.
func (o *overlay) with(v authz.Value, name string, value authz.Value) authz.Value {
	start := len(o.members)
	put := false
	for _, m := range v.Members() {
		if !put && m.Name >= name {
			put = true
			o.members = append(o.members, authz.Member{Name: name, Value: value})
			if m.Name == name {
				continue
			}
		}
		o.members = append(o.members, m)
	}
	if !put {
		o.members = append(o.members, authz.Member{Name: name, Value: value})
	}
	return o.since(start)
}

// request is [authz.Request.Value] in the overlay.
func (o *overlay) request(r *authz.Request) authz.Value {
	action := o.object(authz.Member{Name: "name", Value: authz.StringValue(r.Action.Name)}, authz.Member{Name: "properties", Value: r.Action.Properties})
	return o.object(
		authz.Member{Name: "action", Value: action},
		authz.Member{Name: "context", Value: r.Context},
		authz.Member{Name: "resource", Value: o.entity(&r.Resource)},
		authz.Member{Name: "subject", Value: o.entity(&r.Subject)},
		authz.Member{Name: "tenant", Value: authz.StringValue(r.Tenant)},
	)
}

func (o *overlay) entity(e *authz.Entity) authz.Value {
	return o.object(
		authz.Member{Name: "id", Value: authz.StringValue(e.ID)},
		authz.Member{Name: "properties", Value: e.Properties},
		authz.Member{Name: "type", Value: authz.StringValue(e.Type)},
	)
}

// object returns the object of the members that are not null.
func (o *overlay) object(members ...authz.Member) authz.Value {
	start := len(o.members)
	for i := range members {
		if members[i].Value.Kind() != authz.KindNull {
			o.members = append(o.members, members[i])
		}
	}
	return o.since(start)
}

// since returns the object of the members from start on.
func (o *overlay) since(start int) authz.Value {
	o.starts = append(o.starts, start)
	end := len(o.members)
	object, _ := authz.ObjectValue(o.members[start:end:end]...) // no name is twice there
	return object
}

// holds reports whether any part of the value lies in the overlay.
func (o *overlay) holds(v authz.Value) bool {
	members := v.Members()
	if len(members) == 0 {
		return false
	}
	for _, start := range o.starts {
		if &o.members[start] == &members[0] {
			return true
		}
	}
	for i := range members {
		if o.holds(members[i].Value) {
			return true
		}
	}
	return false
}

// reset makes room for the next question.
func (o *overlay) reset() {
	clear(o.members)
	if o.members, o.starts = o.members[:0], o.starts[:0]; cap(o.members) > maxKept {
		o.members = nil
	}
}
