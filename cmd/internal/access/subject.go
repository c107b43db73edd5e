package access

import (
	"context"

	"github.com/xiezhi-project/xiezhi/pap"
)

// Subject is a subject of the directory that acts without a token: a part of
// the server, such as a policy source. It may what its roles give it now, and
// nothing once it is disabled. tenant is "" for the platform's own.
func (g *Guard) Subject(ctx context.Context, tenant, name string) (pap.Actor, error) {
	if err := g.refresh(ctx); err != nil {
		return pap.Actor{}, err
	}
	typ, id, err := pap.SplitSubject(name)
	if err != nil {
		return pap.Actor{}, err
	}
	return g.Actor(Caller{Type: typ, ID: id, Tenant: tenant, TokenID: "as " + tenant + "/" + name, Rights: []string{"*"}}), nil
}
