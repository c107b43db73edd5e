//go:build unix

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const guardPath = "platform/guard.policy.yaml"

// guard is a guardrail: nothing above a price is sold.
func guard(most int) string {
	return fmt.Sprintf(`id: guard
name: Guard
rules:
  - {id: sells, condition: "action == 'shop.sell'", effect: ALLOW, message: {en: "Anybody may buy.", zh: "任何人可买。"}}
  - {id: dear, condition: "resource.properties.price > %d", effect: DENY, message: {en: "Too dear.", zh: "太贵。"}}
`, most)
}

// reviewed is an installation of `xiezhi serve` where guardrails wait for a
// second administrator, and a shop that it serves.
type reviewed struct {
	*twin
	second string
}

func openReviewed(t *testing.T) *reviewed {
	t.Helper()
	dir := t.TempDir()
	n := &twin{name: "a", server: &server{t: t, output: filepath.Join(dir, "output"), tokens: map[string]string{}}}
	more := files{guardPath: guard(3), "approvals/policy-change.yaml": shipped(t, "approvals")["approvals/policy-change.yaml"]}
	maps.Copy(more, shipped(t, "self"))
	state := []string{"--data", filepath.Join(dir, "data")}
	n.tokens["admin"] = bootstrapped(t, append(state, "--policies", minimal(t, more)))
	n.serve(append(state, "--keys", filepath.Join(dir, "keys"), "--node", n.name))
	n.must(http.StatusCreated, call{as: "admin", path: "/api/v1/tenants", body: `{"id":"acme"}`})
	pep := n.member("acme", "service:gateway", "pep")
	n.tokens["pep"] = n.tokens[pep]
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(n.tokens[pep]), 0o600); err != nil {
		t.Fatal(err)
	}
	n.shop = startShop(t, "--server", n.url, "--token-file", tokenFile, "--trust", filepath.Join(dir, "keys", "trust.json"), "--data", filepath.Join(dir, "shop"))
	return &reviewed{n, n.member("", "user:second", "admin")}
}

// propose publishes a guardrail, and returns the case that it waits for.
func (r *reviewed) propose(as string, most int) string {
	r.t.Helper()
	a := r.publish(as, files{guardPath: guard(most)})
	if a.status != http.StatusAccepted || a.at("/status") != "PENDING" {
		r.t.Fatalf("publish a guardrail: %d %s", a.status, a.text)
	}
	return a.textAt("/case")
}

func (r *reviewed) look(id string) answer {
	r.t.Helper()
	return r.must(http.StatusOK, call{as: "admin", path: "/api/v1/cheq/" + id})
}

func (r *reviewed) answerCase(as, id, step string) call {
	r.t.Helper()
	return call{as: as, path: "/api/v1/cheq/" + id + "/" + step, body: encode(object{"shown": r.look(id).textAt("/shown")})}
}

// happened lists what a case's timeline tells of.
func happened(a answer) []string {
	var actions []string
	for i := 0; a.at(fmt.Sprintf("/timeline/%d", i)) != nil; i++ {
		actions = append(actions, a.textAt(fmt.Sprintf("/timeline/%d/action", i)))
	}
	return actions
}

// A guardrail is weakened by two people: its author cannot say yes, the case
// shows which recorded decisions would be others, and after the yes of a second
// administrator server and service decide by it.
func TestAGuardrailIsChangedByTwo(t *testing.T) {
	t.Parallel()
	r := openReviewed(t)
	for range 3 {
		r.effect("DENY", sale(5))
	}
	for range 2 {
		r.effect("ALLOW", sale(2))
	}
	await(t, patience, "the decisions are recorded", func() bool {
		return r.must(http.StatusOK, call{as: "admin", path: "/api/v1/audit?tenant=acme&kind=decision"}).at("/items/4") != nil
	})
	r.shop.untilAsked(patience, sale(5), "denied in-process", func(a shopAnswer) bool { return a.Effect == "DENY" && a.Decided == "in-process" })

	id := r.propose("admin", 10)
	if again := r.publish("admin", files{guardPath: guard(10)}); again.textAt("/case") != id {
		t.Errorf("the same again: %d %s", again.status, again.text)
	}
	view := r.look(id)
	if view.at("/card/change/flips/deny_to_allow").(float64) < 3 || view.at("/card/change/flips/allow_to_deny") != 0.0 || view.at("/card/change/flips/unknown") != 0.0 {
		t.Errorf("flips: %s", view.text)
	}
	diff := view.textAt("/card/change/files/0/diff")
	if view.at("/card/change/files/0/path") != guardPath || view.at("/card/change/files/0/added") != 1.0 || !strings.Contains(diff, "price > 3") || !strings.Contains(diff, "price > 10") {
		t.Errorf("difference: %s", view.text)
	}
	if passed, _ := view.at("/card/change/tests/passed").(float64); passed == 0 || view.at("/card/change/base") != 1.0 {
		t.Errorf("tests: %s", view.text)
	}
	r.refused(r.answerCase("admin", id, "approve"), http.StatusForbidden)
	r.effect("DENY", sale(5))
	if r.server.release() != 1 {
		t.Error("it is published before anybody said yes")
	}

	r.must(http.StatusOK, r.answerCase(r.second, id, "approve"))
	await(t, patience, "published, pushed and acknowledged", func() bool {
		said := happened(r.look(id))
		return slices.Contains(said, "acknowledged")
	})
	said := happened(r.look(id))
	for _, step := range []string{"open", "vote.approve", "approved", "published", "pushed", "acknowledged"} {
		i := slices.Index(said, step)
		if i < 0 {
			t.Fatalf("the timeline lacks %s: %v", step, said)
		}
		said = said[i+1:]
	}
	r.effect("ALLOW", sale(5))
	r.shop.untilAsked(patience, sale(5), "allowed in-process", func(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" })
	if r.server.release() != 2 {
		t.Errorf("release %v", r.server.release())
	}

	// A tenant's own policy waits for nobody.
	if a := r.publish("admin", files{shopPath: shopRules}); a.status != http.StatusCreated {
		t.Errorf("a tenant's policy: %d %s", a.status, a.text)
	}
}

// A no changes nothing, and what was proposed for a release that is not the
// newest any more is over.
func TestAChangeThatIsRejectedOrOvertakenIsNotPublished(t *testing.T) {
	t.Parallel()
	r := openReviewed(t)
	rejected := r.propose("admin", 20)
	r.must(http.StatusOK, r.answerCase(r.second, rejected, "reject"))
	r.effect("DENY", sale(5))

	first, other := r.propose("admin", 10), r.propose(r.second, 30)
	r.must(http.StatusOK, r.answerCase(r.second, first, "approve"))
	await(t, patience, "the other is outdated", func() bool { return r.look(other).at("/cause") == "outdated" })
	if !slices.Contains(happened(r.look(first)), "published") && r.server.release() != 2 {
		t.Errorf("the first: %s", r.look(first).text)
	}
	r.refused(r.answerCase("admin", other, "approve"), http.StatusConflict)
	r.effect("ALLOW", sale(5))
	r.effect("DENY", sale(15))
	if r.server.release() != 2 || slices.Contains(happened(r.look(rejected)), "published") {
		t.Errorf("release %v, rejected: %s", r.server.release(), r.look(rejected).text)
	}
}
