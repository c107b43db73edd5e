package feed

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Roles is the directory as an attribute source: it knows subject.roles. What
// it answered counts while the directory is the same.
type Roles struct {
	directory *pap.Directory

	mu      sync.RWMutex
	version uint64 // of the directory, that known is of
	known   map[subject]authz.Value
}

// subject is whose roles are asked for.
type subject struct{ tenant, typ, id string }

// maxKnown bounds the memory that requests can fill.
const maxKnown = 10_000

// RolesOf returns the source that answers from the directory.
func RolesOf(directory *pap.Directory) *Roles { return &Roles{directory: directory} }

// Attribute returns the roles bound to the subject in the request's tenant.
func (r *Roles) Attribute(_ context.Context, q pdp.AttributeQuery) (authz.Value, bool, error) {
	if q.Name != "subject.roles" {
		return authz.Value{}, false, fmt.Errorf("the directory does not know %s", q.Name)
	}
	// The version is read first, so that no answer is kept under a later one.
	version, asked := r.directory.Version(), subject{q.Tenant, q.Entity.Type, q.Entity.ID}
	if roles, ok := r.recall(version, asked); ok {
		return roles, true, nil
	}
	roles := authz.Strings(r.directory.Roles(q.Tenant, pap.SubjectName(q.Entity.Type, q.Entity.ID))...)
	r.keep(version, asked, roles)
	return roles, true, nil
}

func (r *Roles) recall(version uint64, s subject) (roles authz.Value, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.version != version {
		return authz.Value{}, false
	}
	roles, ok = r.known[s]
	return roles, ok
}

func (r *Roles) keep(version uint64, s subject, roles authz.Value) {
	// The names are parts of a whole request.
	s = subject{strings.Clone(s.tenant), strings.Clone(s.typ), strings.Clone(s.id)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.version != version || r.known == nil || len(r.known) >= maxKnown {
		r.version, r.known = version, map[subject]authz.Value{}
	}
	r.known[s] = roles
}

// Local reports that answers come from memory.
func (*Roles) Local() bool { return true }
