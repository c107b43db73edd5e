package approvals_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Whatever people, clocks, nodes and policies do, what is decided on any node
// opens only by a case that was approved: for the request that was shown, for
// the rule that was shown, within its time, and not after a revoke was
// acknowledged.
func TestWhateverHappensOnlyWhatWasShownIsAllowedAndOnlyWhileItHolds(t *testing.T) {
	runs := 40
	if os.Getenv("XIEZHI_TEST_LONG") != "" {
		runs = 400
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{T: t, random: rand.New(rand.NewPCG(seed, 0)), store: openSQLite(t)}
	w.nodes = []*node{joinAt(t, w.store, w.now), joinAt(t, w.store, w.now)}
	w.nodes[0].fill(t)
	for run := range runs {
		w.run(run)
	}
	if w.allowed == 0 || w.revoked == 0 || w.changed == 0 || w.over == 0 {
		t.Errorf("too little happened to tell: %d answers were ALLOW; %d cases were revoked, %d had another rule, %d were over", w.allowed, w.revoked, w.changed, w.over)
	}
}

// world is two nodes on one store, and a clock that jumps.
type world struct {
	*testing.T
	random *rand.Rand
	store  database
	nodes  []*node
	ahead  time.Duration

	allowed, revoked, changed, over int
}

func (w *world) now() time.Time { return time.Now().Add(w.ahead) }

func (w *world) node() *node { return w.nodes[w.random.IntN(len(w.nodes))] }

func (w *world) sync() {
	w.Helper()
	for _, n := range w.nodes {
		if err := n.feed.Sync(w.Context()); err != nil {
			w.Fatal(err)
		}
	}
}

// run asks about one request and lets things happen.
func (w *world) run(run int) {
	w.Helper()
	w.sync()
	req := large(20, fmt.Sprintf("region-%d", run))
	_, o, err := w.nodes[0].pdp.Obstacles(w.Context(), w.nodes[0].pdp.Active(), req)
	if err != nil {
		w.Fatal(err)
	}
	c, _, err := w.nodes[0].desk().Open(w.Context(), o, pdp.Caller{Name: "service:shop", Tenant: "acme"})
	if err != nil {
		w.Fatal(err)
	}
	acknowledged := false
	for range 4 + w.random.IntN(16) {
		switch w.random.IntN(12) {
		default:
			who := cheq.Person{Tenant: "acme", Name: []string{"user:li", "user:wang", "user:zhao", "user:me", "user:nobody"}[w.random.IntN(5)]}
			_, _ = w.node().Vote(w.Context(), c.ID, cheq.Vote{Voter: who, Yes: w.random.IntN(12) > 0, Channel: "api", Shown: c.Shown})
		case 0:
			w.ahead = time.Duration(w.random.IntN(12)-1) * 20 * time.Minute
		case 1:
			text := strings.Replace(desk, "Large.", fmt.Sprintf("Large%d.", w.random.IntN(2)), 1)
			w.nodes[0].publish(w.T, map[string]string{"tenants/acme/desk.policy.yaml": text})
		case 2, 5:
			if _, err := w.node().Revoke(w.Context(), c.ID, cheq.Person{Tenant: "acme", Name: "user:li"}, ""); err == nil {
				acknowledged = true
				w.revoked++
			}
		case 3:
			_, _ = w.node().Sweep(w.Context())
		case 4: // one node crashes, another takes its place
			next := joinAt(w.T, w.store, w.now)
			next.files, next.next = w.nodes[0].files, w.nodes[0].next
			w.nodes = []*node{next, w.nodes[0]}
		}
		w.check(&c, req, acknowledged)
	}
	w.ahead = 0
}

// check decides on all nodes.
func (w *world) check(c *cheq.Case, req authz.Request, acknowledged bool) {
	w.Helper()
	w.sync()
	now, err := w.nodes[0].Case(w.Context(), c.ID)
	if err != nil {
		w.Fatal(err)
	}
	for _, n := range w.nodes {
		another := req
		another.Resource.ID = "d-2"
		if d, err := n.pdp.Decide(w.Context(), another, pdp.Caller{}); err != nil || d.Allowed() {
			w.Fatalf("what nobody was shown: %s, %v", d.Effect, err)
		}
		d, err := n.pdp.Decide(w.Context(), req, pdp.Caller{})
		if err != nil {
			w.Fatal(err)
		}
		rule, _ := n.pdp.Active().Release.Rule(c.Opens[0].Rule)
		same, over := rule.Digest.String() == c.Opens[0].Digest, !w.now().Before(now.GrantEnd)
		switch {
		case !d.Allowed():
			if now.State == cheq.Approved && !same {
				w.changed++
			}
			if now.State == cheq.Approved && over {
				w.over++
			}
		case now.State != cheq.Approved || acknowledged || !same || over:
			w.Fatalf("ALLOW though the case is %s, revoked %t, its rule the same %t, over %t", now.State, acknowledged, same, over)
		default:
			w.allowed++
		}
	}
}
