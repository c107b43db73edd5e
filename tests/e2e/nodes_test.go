//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/process"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

const (
	// nodesGrantStale is more than the 5 s between heartbeats.
	nodesGrantStale = 9 * time.Second
	// soon is in how long a change must be enforced by the services of every
	// node, on a busy machine; the nodes' poll is a small part of it.
	soon = 3 * time.Second
)

// twin is one of two nodes on one PostgreSQL, and the shop that it serves.
type twin struct {
	*server
	name     string
	database *wiretap
	shop     *service
}

// openTwins starts two nodes with release 1, keys in one folder, and a shop on
// each.
func openTwins(t *testing.T) (a, b *twin) {
	t.Helper()
	location, dir := storetest.PostgresSchema(t), t.TempDir()
	keys, tokenFile := filepath.Join(dir, "keys"), filepath.Join(dir, "token")
	tokens := map[string]string{}
	a, b = &twin{name: "a"}, &twin{name: "b"}
	for _, n := range []*twin{a, b} {
		proxy, through := tap(t, location)
		n.database, n.server = proxy, &server{t: t, output: filepath.Join(dir, n.name+".output"), tokens: tokens}
		urlFile := filepath.Join(dir, n.name+".url")
		if err := os.WriteFile(urlFile, []byte(through), 0o600); err != nil {
			t.Fatal(err)
		}
		state := []string{"--data", filepath.Join(dir, n.name), "--database-url-file", urlFile}
		if n == a {
			tokens["admin"] = bootstrapped(t, append(state, "--policies", minimal(t, files{shopPath: sellsBy(1)})))
		}
		n.serve(append(state, "--keys", keys, "--node", n.name))
	}
	a.must(http.StatusCreated, call{as: "admin", path: "/api/v1/tenants", body: `{"id":"acme"}`})
	pep := a.member("acme", "service:gateway", "pep")
	if err := os.WriteFile(tokenFile, []byte(tokens[pep]), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens["pep"] = tokens[pep]
	for _, n := range []*twin{a, b} {
		n.shop = startShop(t, "--server", n.url, "--token-file", tokenFile, "--trust", filepath.Join(keys, "trust.json"),
			"--data", filepath.Join(dir, "shop-"+n.name), "--id", "shop-"+n.name, "--grant-stale", nodesGrantStale.String())
	}
	for _, n := range []*twin{a, b} {
		n.sells(patience, 1)
	}
	return a, b
}

// bootstrapped makes the first administrator and returns its token.
func bootstrapped(t *testing.T, flags []string) string {
	t.Helper()
	out, err := exec.Command(xiezhi, append([]string{"admin", "bootstrap", "--json"}, flags...)...).Output()
	var made struct {
		Token string `json:"token"`
	}
	if err := errors.Join(err, json.Unmarshal(out, &made)); err != nil {
		t.Fatalf("xiezhi admin bootstrap: %v", err)
	}
	return made.Token
}

// serve runs `xiezhi serve` until the test ends.
func (n *twin) serve(flags []string) {
	n.t.Helper()
	out, err := os.Create(n.output)
	if err != nil {
		n.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(xiezhi, append([]string{"serve", "--listen", "127.0.0.1:0", "--stream-listen", "127.0.0.1:0"}, flags...)...)
	cmd.Env = append(os.Environ(), "XIEZHI_GRANT_STALE="+nodesGrantStale.String())
	cmd.Stdout, cmd.Stderr = out, out
	serving := regexp.MustCompile(`msg=serving address=(\S+)`)
	p, err := process.Start(n.t.Context(), cmd, n.t.TempDir(), syscall.SIGTERM, func(context.Context) error {
		address := serving.FindStringSubmatch(n.printed())
		if address == nil {
			return fmt.Errorf("it does not say that it serves:\n%s", n.printed())
		}
		n.url = "http://" + address[1]
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.t.Logf("node %s printed:\n%s", n.name, n.printed())
		}
		if err := p.Stop(); err != nil {
			n.t.Error(err)
		}
	})
}

// sellsBy is a policy whose rules bear a number: what is dear is reviewed.
func sellsBy(number int) string {
	return strings.Replace(shopRules, "id: sells", fmt.Sprintf("id: sells_%d", number), 1) +
		`  - {id: large, condition: "resource.properties.price > 3", effect: REVIEW, admits: true, message: {en: "Dear.", zh: "贵。"}}` + "\n"
}

// release publishes the policy of a number on this node.
func (n *twin) release(number int) {
	n.t.Helper()
	if a := n.publish("admin", files{shopPath: sellsBy(number)}); a.status != http.StatusCreated {
		n.t.Fatalf("publish on node %s: %d %s", n.name, a.status, a.text)
	}
}

// sells waits until the node's shop decides by the policy of a number.
func (n *twin) sells(limit time.Duration, number int) {
	n.t.Helper()
	rule := fmt.Sprintf("sells_%d", number)
	n.shop.untilAsked(limit, sale(2), "decided by "+rule+" on node "+n.name, func(a shopAnswer) bool {
		return a.Effect == "ALLOW" && a.says(rule) && a.Decided == "in-process" && !a.Stale
	})
}

// answers waits until the node's shop answers so about something dear. With a
// grant it allows it itself; without one it asks its node whether somebody
// approved.
func (n *twin) answers(limit time.Duration, effect string) {
	n.t.Helper()
	n.shop.untilAsked(limit, sale(5), effect+" on node "+n.name, func(a shopAnswer) bool {
		return a.Effect == effect && (effect == "REVIEW" || a.Decided == "in-process")
	})
}

// end revokes a grant on this node.
func (n *twin) end(grant string) {
	n.t.Helper()
	n.must(http.StatusOK, call{as: "admin", method: http.MethodDelete, path: dynamic + "/" + grant})
}

// exchange has each of the nodes change something, and the services of both
// enforce it soon.
func exchange(t *testing.T, a, b *twin, number int) {
	t.Helper()
	nodes := []*twin{a, b}
	for i, from := range nodes {
		other := nodes[1-i]
		began := time.Now()
		from.release(number + i)
		for _, n := range nodes {
			n.sells(soon, number+i)
		}
		released := time.Since(began)

		began = time.Now()
		grant := from.mint("admin", sale(5), satisfies("tenants/acme/shop/large"))
		for _, n := range nodes {
			n.answers(soon, "ALLOW")
		}
		minted := time.Since(began)
		began = time.Now()
		other.end(grant)
		for _, n := range nodes {
			n.answers(soon, "REVIEW")
		}
		t.Logf("from node %s: a release was enforced by both shops after %s, a grant after %s, its end on the other node after %s", from.name,
			released.Round(time.Millisecond), minted.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
}

// Two nodes on one PostgreSQL push what either changes to their own services,
// with PostgreSQL's notifications and without.
func TestServicesOfEveryNodeEnforceWhatAnyNodeChanges(t *testing.T) {
	t.Parallel()
	a, b := openTwins(t)
	exchange(t, a, b, 2)

	a.database.lose()
	b.database.lose()
	exchange(t, a, b, 4)
	for _, n := range []*twin{a, b} {
		if n.database.notificationsLost() == 0 {
			t.Errorf("node %s was told of changes: no notification was lost", n.name)
		}
	}

	for _, n := range []*twin{a, b} {
		if reached := n.must(http.StatusOK, call{as: "admin", method: http.MethodPost, path: "/api/v1/releases/5/await?quorum=all&wait=20s"}); reached.at("/holding") != 2.0 || reached.at("/concerned") != 2.0 {
			t.Errorf("awaited on node %s: %s", n.name, reached.text)
		}
		peps := n.must(http.StatusOK, call{as: "admin", path: "/api/v1/peps?connected=true"})
		on := map[string]string{} // node by PEP
		for i := range 3 {
			if at := fmt.Sprintf("/items/%d", i); peps.at(at) != nil {
				on[peps.textAt(at+"/id")] = peps.textAt(at + "/node")
			}
		}
		if !maps.Equal(on, map[string]string{"shop-a": "a", "shop-b": "b"}) {
			t.Errorf("node %s lists %s", n.name, peps.text)
		}
	}
}

// A change that was begun before another one, on another node, and committed
// after it, is missed by no service, though nobody is told of either.
func TestServicesMissNoChangeThatCommitsInTheOppositeOrder(t *testing.T) {
	t.Parallel()
	a, b := openTwins(t)
	a.database.lose()
	b.database.lose()
	price := 100
	mint := func() call {
		price++
		return call{as: "admin", path: dynamic, body: grant(sale(price), satisfies("tenants/acme/shop/large"))}
	}
	for round := range 6 {
		slow, quick := a, b
		if round%2 == 1 {
			slow, quick = b, a
		}
		first := mint()
		finish := slow.database.holdWriters()
		committed := make(chan error, 1)
		var late answer
		go func() {
			var err error
			late, err = slow.try(first)
			committed <- err
		}()
		await(t, patience, "the first writer has begun", func() bool { return slow.database.writersHeld() > 0 })
		early := quick.must(http.StatusCreated, mint())
		select {
		case err := <-committed:
			t.Fatalf("the first writer was not held: %v %s", err, late.text)
		default:
		}
		finish()
		if err := <-committed; err != nil || late.status != http.StatusCreated {
			t.Fatalf("%v %d %s", err, late.status, late.text)
		}
		if before, after := position(t, early), position(t, late); before >= after {
			t.Fatalf("the first writer stands at %d, before the second at %d", after, before)
		}
		for _, n := range []*twin{a, b} {
			for _, dear := range []int{price - 1, price} {
				n.shop.untilAsked(soon, sale(dear), "allowed by its grant on node "+n.name, func(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" })
			}
			n.must(http.StatusOK, call{as: "admin", method: http.MethodPost, path: "/api/v1/releases/" + late.header.Get("Xiezhi-Revision") + "/await?quorum=all&wait=20s"})
		}
	}
}

// position is the log position that an answer bears.
func position(t *testing.T, a answer) int {
	t.Helper()
	var release, position int
	if _, err := fmt.Sscanf(a.header.Get("Xiezhi-Revision"), "r%d.g%d", &release, &position); err != nil {
		t.Fatalf("revision %q: %v", a.header.Get("Xiezhi-Revision"), err)
	}
	return position
}

// A node that loses the database says so: it takes no changes, its services
// are told of no freshness, and after grant_stale it refuses every caller. It
// recovers by itself, as do its services; nobody misses what changed meanwhile.
func TestANodeThatLosesTheDatabaseGoesStaleAndRecovers(t *testing.T) {
	t.Parallel()
	a, b := openTwins(t)
	grant := a.mint("admin", sale(5), satisfies("tenants/acme/shop/large"))
	for _, n := range []*twin{a, b} {
		n.answers(patience, "ALLOW")
	}
	asked := call{as: "pep", path: "/api/v1/decide", body: encode(sale(2)), outage: true}
	change := call{as: "admin", path: "/api/v1/tenants", body: `{"id":"late"}`, outage: true}

	b.database.sever()
	cut := time.Now()
	await(t, nodesGrantStale, "node b says stale", func() bool { return b.must(http.StatusOK, asked).at("/stale") == true })
	b.must(http.StatusServiceUnavailable, change)
	a.end(grant)
	a.release(2)
	a.sells(soon, 2)
	a.answers(soon, "REVIEW")
	var refused answer
	await(t, nodesGrantStale+patience, "node b refuses callers", func() bool {
		refused = b.do(asked)
		return refused.status != http.StatusOK
	})
	if after := time.Since(cut); after < nodesGrantStale-time.Second || refused.status != http.StatusServiceUnavailable {
		t.Errorf("refused after %s: %d %s", after, refused.status, refused.text)
	}
	b.must(http.StatusServiceUnavailable, change)
	b.shop.untilAsked(patience, sale(2), "stale, by what it knows", func(a shopAnswer) bool { return a.Stale && a.Effect == "ALLOW" && a.says("sells_1") })
	b.answers(patience, "REVIEW") // the grant counts no more, though nobody told it that it was ended

	b.database.heal()
	b.sells(patience, 2)
	b.answers(patience, "REVIEW")
	await(t, patience, "node b answers as before", func() bool {
		now := b.do(asked)
		return now.status == http.StatusOK && now.at("/stale") != true && strings.HasPrefix(now.textAt("/revision"), "r2.")
	})
	b.must(http.StatusCreated, change)
	tenants := a.must(http.StatusOK, call{as: "admin", path: "/api/v1/tenants"})
	if !slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool { return tenants.at(fmt.Sprintf("/items/%d/id", i)) == "late" }) {
		t.Errorf("node a does not know what node b made: %s", tenants.text)
	}
}
