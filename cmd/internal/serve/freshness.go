package serve

import (
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// freshness is how far this node's view of the store can be trusted. A node
// that has lost the database decides on, and says so: grants count for
// grantStale, policies for their stale bound, restrictions until their end.
func freshness(f *feed.Feed, grantStale time.Duration, now time.Time) authz.Freshness {
	age := max(f.Age(), 0)
	return authz.Freshness{
		Now: now, Age: age, GrantsAge: age, Grants: age < grantStale,
		Stale: age > staleAfter && f.Failing() != nil,
	}
}
