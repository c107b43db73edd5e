// Package pep is what a service embeds to ask Xiezhi before it acts: a policy
// enforcement point.
//
//	p, err := pep.New(ctx, pep.Config{
//		Server: "https://xiezhi.example", Token: pep.TokenFile("/run/secrets/xiezhi"),
//		Tenants: []string{"acme"}, Trust: root, Dir: "/var/lib/shop/xiezhi", Engine: local.New(),
//	})
//	…
//	err = p.Guard(ctx, request, func(ctx context.Context) error { return ship(ctx, order) })
//
// [PEP.Decide] answers in-process from signed policies, grants and roles that
// the server pushes, and asks the server where a decision needs what only it
// has: an attribute source, the count of a grant's uses, people. [PEP.Guard]
// enforces: it meets the obligations and runs the action only on ALLOW.
//
// # When the server is away
//
// The PEP goes on from its last known good state, also after a restart: it is
// kept on disk and verified again when read. Answers then say Stale. Grants
// stop counting after [Config.GrantStale], policies deny after their stale
// bound, restrictions count until their end. With no state at all everything
// is denied. Decisions are recorded on disk and reach the server's audit when
// it is back, none twice.
//
// # What time it is
//
// While heartbeats come, now is the newest signed time and the monotonic time
// since; the local clock counts for nothing. Before the first heartbeat of a
// process it is the later of the local clock and the newest signed time on
// disk, and no grant counts.
package pep
