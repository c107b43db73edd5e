//go:build unix

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/feishu"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

const onceTemplate = `title: {en: Something dear, zh: 贵重物品}
decide_by: 1h
grant_for: {default: 1h, ceiling: 1h}
notify: [{channel: feishu, to: "chat:oc_desk"}]
all_of:
  - {title: {en: Tills, zh: 收银}, role: till, approvals: 1}
`

// A server that dies at any step from the vote to the push, and is started
// again, has minted one grant, which the services enforce, and shows one final
// card. Where the vote was lost, its voter was told nothing, and votes again.
func TestACrashBetweenVoteAndPushLosesAndRepeatsNothing(t *testing.T) {
	for _, moment := range []string{"case settled", "answer taken", "log read", "log distributed"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			c := openCompany(t, "callback", onceTemplate)
			armed := filepath.Join(t.TempDir(), "armed")
			c.server.kill()
			c.server.fault = moment + "=" + armed
			c.server.run()
			c.server.effect("REVIEW", sale(5)) // asked here: the shop may not have found the server again
			card := c.card("a case is open", open)
			if err := os.WriteFile(armed, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			_, _ = c.Tap(t.Context(), feishu.Tap{User: "till", Message: card.ID, Button: "approve"}) // an error for who taps, where it dies before it answers
			select {
			case <-c.server.process.Exited():
			case <-time.After(patience):
				t.Fatal("the server did not die")
			}
			c.server.fault = ""
			c.server.run()
			c.settledOnce(card)
		})
	}
}

// A server that dies while it shows how a case ended shows it once, after all.
func TestACrashWhileACardIsUpdatedRepeatsNoCard(t *testing.T) {
	for name, fault := range map[string]world.Fault{
		"before it is":           {Method: http.MethodPatch, Status: http.StatusServiceUnavailable},
		"before that is noted":   {Method: http.MethodPatch, Lose: true},
		"a card is sent at last": {Method: http.MethodPost, Path: "/im/v1/messages", Lose: true, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := openCompany(t, "callback", onceTemplate)
			c.Faults.Add(fault)
			c.server.effect("REVIEW", sale(5)) // asked here: the shop may not have found the server again
			card := c.card("a case is open", open)
			c.tap("till", card, "approve")
			c.server.kill()
			c.Faults.Clear()
			c.server.run()
			c.settledOnce(card)
		})
	}
}

// settledOnce lets the till vote where its vote was lost, and expects one
// grant, one card, and that the service allows.
func (c *company) settledOnce(card feishu.Message) {
	c.t.Helper()
	await(c.t, patience, "the case is approved", func() bool {
		list := c.server.must(http.StatusOK, call{as: "admin", path: "/api/v1/cheq?tenant=acme"}).text
		if !strings.Contains(list, `"state":"approved"`) {
			_, _ = c.Tap(c.t.Context(), feishu.Tap{User: "till", Message: card.ID, Button: "approve"})
			return false
		}
		return true
	})
	c.shop.untilAsked(patience, sale(5), "allowed by the service itself", func(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" })
	c.card("the case is approved", func(v feishu.View) bool { return !open(v) && shows(v, "till") })
	if grants := c.server.must(http.StatusOK, call{as: "admin", path: dynamic + "?tenant=acme"}).text; strings.Count(grants, `"kind":"grant"`) != 1 {
		c.t.Errorf("not one grant: %s", grants)
	}
	cards := slices.DeleteFunc(c.Messages(), func(m feishu.Message) bool { return m.Type != "interactive" })
	if len(cards) != 1 {
		c.t.Errorf("%d cards: %+v", len(cards), cards)
	}
}
