package pdp

import "github.com/xiezhi-project/xiezhi/pep-sdk/authz"

// overlay makes changed copies of a request's objects in memory that the next
// question gets. They live as long as the question; a decision holds none.
type overlay struct {
	members []authz.Member
	starts  []int // of the objects among them
}

// with is [authz.Value.With] into the overlay.
func (o *overlay) with(v authz.Value, name string, value authz.Value) authz.Value {
	start := len(o.members)
	o.starts = append(o.starts, start)
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
	object, _ := authz.ObjectValue(o.members[start:len(o.members):len(o.members)]...) // no name is twice there
	return object
}

// entity returns the request with other properties of its subject or resource.
func (o *overlay) entity(request authz.Value, name string, before, after authz.Value) authz.Value {
	if same(before, after) {
		return request
	}
	entity, _ := request.Get(name)
	return o.with(request, name, o.with(entity, "properties", after))
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

// same reports whether both are the same object in the same place.
func same(a, b authz.Value) bool {
	before, after := a.Members(), b.Members()
	return len(before) == len(after) && (len(before) == 0 || &before[0] == &after[0])
}
