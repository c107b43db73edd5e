package serve

import (
	"context"

	"github.com/xiezhi-project/xiezhi/cmd/internal/approvals"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/pap"
)

// approvals is how the doors ask people.
func (c *Core) approvals() *httpd.Approvals {
	return &httpd.Approvals{
		Cases: c.Cases, Open: c.desk.Open, Approval: approvals.Approval, Waiters: c.waiters, CatchUp: c.Feed.Read,
	}
}

// settled releases who waits here for cases that any node settled.
func (c *Core) settled(u feed.Update) {
	for i := range u.Records {
		if r := &u.Records[i]; r.Kind == pap.KindCase {
			c.desk.Settled(r.Key)
			c.waiters.Settled(r.Key)
		}
	}
}

// sweep looks after the cases that are due, all of them.
func (n *Node) sweep(ctx context.Context) error {
	for {
		looked, err := n.Cases.Sweep(ctx)
		if err != nil || looked == 0 {
			return err
		}
	}
}
