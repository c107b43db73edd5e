package serve

import (
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
)

// accessRequests signs what AuthZEN's Access Request and Approval Profile hands
// out; nil where it is not served.
func (n *Node) accessRequests(c config.Server) *arap.Tokens {
	if c.ARAPVersion == config.ARAPOff {
		return nil
	}
	return &arap.Tokens{Ring: n.push.keys.ring, Now: time.Now}
}
