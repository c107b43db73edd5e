package pdp

import (
	"context"
	"fmt"
	"strings"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Roles are the roles of subjects, by tenant, where the directory itself is
// not at hand. It is immutable: [Roles.With] returns a changed copy. It is an
// [AttributeSource] that knows subject.roles; the zero value answers that
// nobody has any.
type Roles struct {
	bySubject index[roleHolder, authz.Value]
}

type roleHolder struct{ tenant, typ, id string }

// SubjectRoles are all roles of one subject, "user:li.wei", in one tenant.
type SubjectRoles struct {
	Tenant  string
	Subject string
	Roles   []string
}

// With returns the roles with the changes made.
func (r *Roles) With(changes []SubjectRoles) *Roles {
	if len(changes) == 0 {
		return r
	}
	e := r.bySubject.edit()
	for _, c := range changes {
		typ, id, _ := strings.Cut(c.Subject, ":")
		if holder := (roleHolder{c.Tenant, typ, id}); len(c.Roles) > 0 {
			e.put(holder, authz.Strings(c.Roles...))
		} else {
			e.remove(holder)
		}
	}
	return &Roles{e.index}
}

// Attribute implements [AttributeSource].
func (r *Roles) Attribute(_ context.Context, q AttributeQuery) (authz.Value, bool, error) {
	if q.Name != "subject.roles" {
		return authz.Value{}, false, fmt.Errorf("the directory does not know %s", q.Name)
	}
	holder := roleHolder{q.Tenant, q.Entity.Type, q.Entity.ID}
	if typ, rest, colon := strings.Cut(q.Entity.Type, ":"); colon { // "a:b" and "c" are the subject "a:b:c"
		holder.typ, holder.id = typ, rest+":"+q.Entity.ID
	}
	roles, ok := r.bySubject.get(holder)
	if !ok {
		roles = authz.Strings()
	}
	return roles, true, nil
}

// Local implements [AttributeSource].
func (r *Roles) Local() bool { return true }
