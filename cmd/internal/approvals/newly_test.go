package approvals_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/approvals"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func (n *node) desk() *approvals.Desk {
	return &approvals.Desk{PDP: n.pdp, Cases: n.Service, Authors: n.Store.(*approvals.Store).Authors, Now: time.Now, Failed: func(*pdp.Obstacles, error) {}}
}

func large(size int, region string) authz.Request {
	return authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "me"}, Action: authz.Action{Name: "desk.open"},
		Resource: authz.Entity{Type: "desk", ID: "d-1", Properties: authz.MustValue(map[string]any{"size": size, "region": region})}}
}

// leaving opens the case of a request that leaves members open.
func (n *node) leaving(t *testing.T, req authz.Request, members ...string) (cheq.Case, error) {
	t.Helper()
	if err := n.feed.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, o, err := n.pdp.Obstacles(t.Context(), n.pdp.Active(), req)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := n.desk().Open(t.Context(), o, pdp.Caller{Name: "service:shop", Tenant: "acme", Asks: &pdp.Asks{Open: members}})
	return c, err
}

const shut = `  - {id: shut, condition: 'resource.properties.region == "mars"', effect: DENY, message: {en: No., zh: 否。}}
`

func TestAYesOpensTheCombinationsThatWereDecidedAndNoOther(t *testing.T) {
	n := newNode(t)
	n.publish(t, map[string]string{
		"tenants/acme/desk.policy.yaml": desk + shut,
		"approvals/desk.yaml": template + `offers:
  - {path: /resource/properties/region, values: [hangzhou, shanghai, mars]}
  - {path: /resource/properties/size, values: ["20", "5"]}
`})
	c, err := n.leaving(t, large(20, "hangzhou"), "/resource/properties/region", "/resource/properties/size")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, of := range c.Newly {
		told = append(told, fmt.Sprintf("%v %s→%s", of.Values, of.Before, of.After))
	}
	const want = `[] REVIEW→ALLOW
[{/resource/properties/region hangzhou} {/resource/properties/size 5}] ALLOW→ALLOW
[{/resource/properties/region shanghai} {/resource/properties/size 20}] REVIEW→ALLOW
[{/resource/properties/region shanghai} {/resource/properties/size 5}] ALLOW→ALLOW
[{/resource/properties/region mars} {/resource/properties/size 20}] DENY→DENY
[{/resource/properties/region mars} {/resource/properties/size 5}] DENY→DENY`
	if got := strings.Join(told, "\n"); got != want {
		t.Errorf("a yes is said to open\n%s\nwant\n%s", got, want)
	}
	if cheq.NewlyAllowed(c.Newly) != 2 || len(c.Digests) != len(c.Newly) {
		t.Errorf("%d newly allowed, %d digests", cheq.NewlyAllowed(c.Newly), len(c.Digests))
	}
	for _, name := range []string{"li", "wang"} {
		if c, err = n.Vote(t.Context(), c.ID, cheq.Vote{Voter: cheq.Person{Tenant: "acme", Name: "user:" + name}, Yes: true, Channel: "api", Shown: c.Shown}); err != nil {
			t.Fatal(err)
		}
	}
	if c.State != cheq.Approved {
		t.Fatalf("%s", c.State)
	}
	for _, row := range []struct {
		size   int
		region string
		want   authz.Effect
	}{{20, "hangzhou", authz.Allow}, {20, "shanghai", authz.Allow}, {20, "mars", authz.Deny}, {21, "hangzhou", authz.Review}, {20, "beijing", authz.Review}} {
		if d, err := n.pdp.Decide(t.Context(), large(row.size, row.region), pdp.Caller{}); err != nil || d.Effect != row.want {
			t.Errorf("size %d in %s: %s, want %s, %v", row.size, row.region, d.Effect, row.want, err)
		}
	}
}

func TestWhatNoTemplateOffersIsNotLeftOpen(t *testing.T) {
	n := newNode(t)
	n.publish(t, map[string]string{"approvals/desk.yaml": template + "offers:\n  - {path: /resource/properties/zone, values: [a]}\n  - {path: /resource/properties/size, values: [big]}\n"})
	for member, why := range map[string]string{
		"/resource/properties/region": "does not offer",
		"/resource/properties/zone":   "no such member",
		"/resource/properties/size":   "cannot be replaced",
	} {
		_, err := n.leaving(t, large(20, "hangzhou"), member)
		var refused *cheq.NotAskableError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", member, err, why)
		}
	}
}

func TestWhoWroteARuleDoesNotAnswerForIt(t *testing.T) {
	n := newNode(t)
	const file = "tenants/acme/desk.policy.yaml"
	n.update(t, func(tx pap.Tx) error {
		return errors.Join(
			tx.PutDocument(pap.Document{Path: file, Version: 1, Release: 1, Layer: "tenant", Tenant: "acme", UpdatedBy: "user:zhao", UpdatedAt: time.Now()}),
			tx.PutDocument(pap.Document{Path: file, Version: 2, Release: 1, Layer: "tenant", Tenant: "acme", UpdatedBy: "user:li", UpdatedAt: time.Now()}),
			tx.PutDocument(pap.Document{Path: file, Version: 3, Draft: true, Layer: "tenant", Tenant: "acme", UpdatedBy: "user:wang", UpdatedAt: time.Now()}),
		)
	})
	c, err := n.leaving(t, large(20, "hangzhou"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.vote(t, c, "li", true); !errors.Is(err, cheq.ErrNotReviewer) {
		t.Errorf("who wrote what is published: %v", err)
	}
	for _, name := range []string{"wang", "zhao"} { // of a draft, and of what was published before
		if _, err := n.vote(t, c, name, true); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
