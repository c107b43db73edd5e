package access

import (
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ChangeRequest is the question whether people must say yes before a release
// is published, in a tenant or on the platform. It is about the author's own,
// and no token bounds it: what the author may was asked before.
func (g *Guard) ChangeRequest(author pap.Actor, tenant string, release authz.Entity, more ...authz.Member) authz.Request {
	var roles []string
	if author.Tenant == "" || author.Tenant == tenant {
		roles = g.config.Directory.Roles(author.Tenant, author.Name)
	}
	typ, id, _ := pap.SplitSubject(author.Name) // what has no type is nobody's name, and has no roles
	req := SelfRequest(Caller{Type: typ, ID: id, Tenant: author.Tenant, Rights: []string{"*"}}, roles, "release.change", tenant)
	req.Resource = release
	for _, m := range more {
		req.Context = req.Context.With(m.Name, m.Value)
	}
	return req
}
