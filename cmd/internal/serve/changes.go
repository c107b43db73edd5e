package serve

import (
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/changes"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// reviewChanges has publications wait for people where the self policies say
// so.
func (c *Core) reviewChanges() *changes.Desk {
	desk := changes.New(changes.Config{
		PAP: c.PAP, PDP: c.PDP, Cases: c.Cases, Decisions: c.Store, Subject: c.guard.Subject, Request: c.guard.ChangeRequest,
		Candidate: gated, CatchUp: c.Feed.Sync, Now: time.Now,
	})
	c.PAP.Review = desk.Review
	return desk
}

// PublishUnreviewed has nobody asked about publications: on the machine of who
// writes the policies, each save is one. Call it before Serve.
func (n *Node) PublishUnreviewed() { n.PAP.Review = nil }

// gated is what passed this node's gate.
func gated(c pap.Candidate) (*pdp.Release, cheq.Tests) {
	of := c.(candidate) // the gate's own
	return of.snapshot.Release, of.tests
}
