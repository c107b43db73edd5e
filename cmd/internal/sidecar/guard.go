package sidecar

import (
	"context"
	"fmt"
	"slices"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/pap"
)

// guard lets whoever reaches the door ask for anybody in the tenants that the
// PEP serves: the socket is the boundary. What else a server does is not here.
type guard struct {
	tenants []string // "*" is every tenant
}

var _ httpd.Guard = guard{}

// Authenticate knows one caller. It is of the one tenant that is served, so
// that requests need not name it, or of none.
func (g guard) Authenticate(context.Context, string) (access.Caller, error) {
	c := access.Caller{Type: "local", ID: "sidecar"}
	if len(g.tenants) == 1 && g.tenants[0] != everyTenant {
		c.Tenant = g.tenants[0]
	}
	return c, nil
}

// everyTenant stands for all tenants in a configuration.
const everyTenant = "*"

// localRights are rights that concern the sidecar itself.
var localRights = []string{httpd.RightStatus, httpd.RightMetrics}

// Allow implements httpd.Guard.
func (g guard) Allow(_ context.Context, _ access.Caller, right, tenant string) error {
	served := slices.Contains(g.tenants, tenant) || slices.Contains(g.tenants, everyTenant) && tenant != pap.Platform
	switch {
	case tenant == pap.Platform && slices.Contains(localRights, right):
		return nil
	case served && (right == httpd.RightDecide || right == access.RightOnBehalf):
		return nil
	case right == httpd.RightDecide || right == access.RightOnBehalf:
		return fmt.Errorf("%w: this sidecar does not serve tenant %s; see --tenants", pap.ErrForbidden, tenant)
	default:
		return fmt.Errorf("%w: a sidecar has no right %s to give", pap.ErrForbidden, right)
	}
}

// Actor implements httpd.Guard. No door of a sidecar writes.
func (g guard) Actor(c access.Caller) pap.Actor {
	may := func(ctx context.Context, right, tenant string) error { return g.Allow(ctx, c, right, tenant) }
	return pap.Actor{Name: c.Name(), Tenant: c.Tenant, May: may, Could: may}
}
