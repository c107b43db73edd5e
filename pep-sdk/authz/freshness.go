package authz

import "time"

// Freshness is how far one decision may trust what is known: by the database
// on a server node, by the last signed heartbeat in a PEP.
type Freshness struct {
	Now time.Time
	// Latest is what time it may be at most, where Now is only the earliest
	// that it may be: a grant must still be valid then. Zero: Now is exact.
	Latest time.Time
	// Age is the time since the source last vouched for the active policies;
	// a policy whose stale bound is over denies.
	Age time.Duration
	// Stale says that the source is not heard: every answer says so.
	Stale bool
	// Grants says that grants count. Restrictions count until their end,
	// stale or not.
	Grants bool
	// GrantsAge is the time since the source last vouched for grants: they
	// count no longer than the stale bound of the policies that apply.
	GrantsAge time.Duration
	// StaleBound is the bound of policies that have none of their own; 0: what
	// the decision point is configured with.
	StaleBound time.Duration
}
