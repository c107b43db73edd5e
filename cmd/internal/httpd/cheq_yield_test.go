package httpd

import (
	"net/http"
	"strings"
	"testing"
)

// approved is a case whose grant opens, for as often as the template says.
func (r *rig) approved() (path, grant string) {
	r.t.Helper()
	path, shown := r.open()
	r.do(ask{as: "li", path: path + "/approve", body: answer(shown)})
	g := r.do(ask{as: "admin", path: path + "/approve", body: answer(shown)})
	if g.at("/yield") != "live" {
		r.t.Fatalf("%d %s", g.status, g.text)
	}
	return path, g.at("/grant").(string)
}

// swept is what a case says of its grant once time was looked after, and the
// last line of its timeline.
func (r *rig) swept(path string) (yield, action, detail any) {
	r.t.Helper()
	for range 2 { // the second finds nothing to do
		if _, err := r.node.cases.Sweep(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	g := r.do(ask{as: "auditor", path: path})
	timeline := g.at("/timeline").([]any)
	last := timeline[len(timeline)-1].(map[string]any)
	return g.at("/yield"), last["action"], last["detail"]
}

func TestWhatEndsAGrantEndsItsCase(t *testing.T) {
	for _, row := range []struct {
		name          string
		end           func(r *rig, path, grant string)
		yield, action string
		detail        string
	}{
		{"its end through the interface of grants", func(r *rig, _, grant string) {
			if g := r.do(ask{as: "admin", method: http.MethodDelete, path: "/api/v1/policy/dynamic/" + grant + "?reason=an+incident"}); g.status != http.StatusOK {
				r.t.Fatalf("%d %s", g.status, g.text)
			}
		}, "revoked", "grant.end", "revoked by user:root: an incident"},
		{"another rule", func(r *rig, _, _ string) {
			r.publish(map[string]string{"tenants/acme/desk.policy.json": strings.Replace(deskPolicies()["tenants/acme/desk.policy.json"], "size > 10", "size > 11", 1)})
		}, "revoked", "grant.end", "rule tenants/acme/desk/large changed"},
		{"its end, before anybody looks, and a revoke", func(r *rig, path, grant string) {
			r.do(ask{as: "admin", method: http.MethodDelete, path: "/api/v1/policy/dynamic/" + grant + "?reason=first"})
			if g := r.do(ask{as: "me", path: path + "/revoke", body: `{}`}); g.status != 409 || g.code() != "case_settled" {
				r.t.Errorf("a revoke of what has ended: %d %s", g.status, g.text)
			}
		}, "revoked", "grant.end", "revoked by user:root: first"},
		{"a release that changes something else", func(r *rig, _, _ string) {
			r.publish(map[string]string{"approvals/chair.yaml": deskPolicies()["approvals/desk.yaml"]})
		}, "live", "approved", "votes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newDesk(t)
			path, grant := r.approved()
			row.end(r, path, grant)
			if yield, action, detail := r.swept(path); yield != row.yield || action != row.action || detail != row.detail {
				t.Errorf("%v, %v: %v; want %s, %s: %s", yield, action, detail, row.yield, row.action, row.detail)
			}
		})
	}
}

func TestTheLastUseEndsTheCase(t *testing.T) {
	r := newDesk(t)
	r.publish(map[string]string{"approvals/desk.yaml": deskPolicies()["approvals/desk.yaml"] + "uses: 2\n"})
	path, _ := r.approved()
	for use, want := range []string{"live", "used_up"} {
		if got := r.decided().String(); got != "ALLOW" {
			t.Fatalf("use %d: %s", use+1, got)
		}
		if yield, action, _ := r.swept(path); yield != want || (action == "grant.used_up") != (want == "used_up") {
			t.Errorf("after use %d: %v, %v", use+1, yield, action)
		}
	}
	if got := r.decided().String(); got != "REVIEW" {
		t.Errorf("after the last use: %s", got)
	}
	if g := r.do(ask{as: "pep", path: path + "/extend", body: `{"reason":"more"}`}); g.status != 409 || g.code() != "case_settled" {
		t.Errorf("what is used up is extended: %d %s", g.status, g.text)
	}
}
