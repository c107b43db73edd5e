package httpd

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAnEmergencyIsRequestedByItsOwnTemplate(t *testing.T) {
	r := newDesk(t)
	r.urgent()
	urgent := `,"requested_access":{"emergency":true}`
	plain := deskEvaluation(large, "")
	_, token, expires := r.offered("pep", plain)
	r.do(ask{as: "pep", path: arapPath, body: submissionOf(plain, token, expires, urgent)}).problemIs(t, arapNotRequestable) // it says no why
	id := r.submit(deskEvaluation(large, `,"context":{"justification":"the site is down"}`), urgent)
	k, err := r.node.cases.Case(t.Context(), id)
	if err != nil || k.BreakGlass != "fire" || k.Opens[0].Template != "fire" || k.Reason != "the site is down" {
		t.Errorf("%v %+v", err, k)
	}
}

// What has ended a day ago is no longer told of.
func TestATaskIsToldOfForADay(t *testing.T) {
	r := newDesk(t)
	id := r.submit(deskEvaluation(large, ""), "")
	r.ahead.Store(int64(-taskKept - time.Minute))
	if g := r.do(ask{as: "pep", path: arapPath + "/" + id + "/cancel", body: `{}`}); g.status != http.StatusGone {
		t.Errorf("%d %s", g.status, g.text)
	}
	r.ahead.Store(0)
	r.do(ask{as: "pep", path: arapPath + "/" + id}).problemIs(t, arapTaskExpired)

	kept := r.submit(deskEvaluation(`{"size":14}`, ""), "")
	r.approve(kept)
	g := r.do(ask{as: "pep", path: arapPath + "/" + kept})
	until, err := time.Parse(time.RFC3339Nano, g.at("/result/approval/approved_until").(string))
	end, endErr := time.Parse(time.RFC3339Nano, g.at("/task/expires_at").(string))
	if err != nil || endErr != nil || end.Sub(until) != taskKept {
		t.Errorf("%v %v: %s", err, endErr, g.text)
	}
}

func TestAnApprovalThatIsUsedUpHasExpired(t *testing.T) {
	r := newDesk(t)
	r.publish(map[string]string{"approvals/desk.yaml": deskPolicies()["approvals/desk.yaml"] + "uses: 1\n"})
	id := r.submit(deskEvaluation(large, ""), "")
	r.approve(id)
	done := r.do(ask{as: "pep", path: arapPath + "/" + id})
	body := deskEvaluation(large, fmt.Sprintf(`,"context":{"approval":{"id":%q}}`, done.at("/result/approval/id")))
	if g := r.do(ask{as: "pep", path: "/access/v1/evaluation", body: body}); g.at("/decision") != true {
		t.Fatalf("%s", g.text)
	}
	if g := r.do(ask{as: "pep", path: "/access/v1/evaluation", body: body}); g.at("/decision") != false || g.at("/context/reason") != reasonExpired || g.at("/context/next_action") != "request" {
		t.Errorf("%s", g.text)
	}
}

// What a PEP learns of a task is not who answers it.
func TestATaskNamesNobody(t *testing.T) {
	r := newDesk(t)
	id := r.submit(deskEvaluation(`{"size":12,"pin":"1234"}`, ""), "")
	r.approve(id)
	if g := r.do(ask{as: "pep", path: arapPath + "/" + id}); g.status != 200 || strings.Contains(g.text, "user:") || strings.Contains(g.text, "desk/large") || strings.Contains(g.text, "1234") {
		t.Errorf("%s", g.text)
	}
}
