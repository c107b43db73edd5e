package httpd

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestAwaitReturnsWhenTheQuorumOfAllNodesPEPsAcknowledged(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		there := s.node() // the PEPs are another node's
		var peps []pap.PEP
		for i := range 10 {
			peps = append(peps, s.pep("acme", fmt.Sprint("p", i), 2, nil))
		}
		off := s.pep("acme", "off", 1, nil)
		off.Connected = false
		s.seen(append(peps, off)...)
		s.publish(nil) // release 3
		for _, p := range peps[:4] {
			s.acks(p, 3)
		}
		type answer struct {
			reached pap.Acknowledged
			err     error
		}
		answers := map[string]chan answer{}
		for _, quorum := range []string{"4", "50%", "all"} {
			q, err := pap.ParseQuorum(quorum)
			s.must(err)
			c := make(chan answer, 1)
			answers[quorum] = c
			go func() {
				reached, err := there.AwaitRelease(t.Context(), admin.LocalActor(), 3, q, time.Minute)
				c <- answer{reached, err}
			}()
		}
		is := func(quorum string, want pap.Acknowledged) {
			t.Helper()
			if got := <-answers[quorum]; got.err != nil || got.reached != want {
				t.Errorf("%s: %+v, %v", quorum, got.reached, got.err)
			}
		}
		is("4", pap.Acknowledged{Needed: 4, Holding: 4, Concerned: 10})
		s.acks(peps[4], 3)
		is("50%", pap.Acknowledged{Needed: 5, Holding: 5, Concerned: 10})
		for _, p := range peps[5:] {
			s.acks(p, 3)
		}
		is("all", pap.Acknowledged{Needed: 10, Holding: 10, Concerned: 10})
	})
}

func TestAwaitSaysWhoIsMissing(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		n := s.nodes[0]
		gateway := s.pep("", "gw", 2, nil)
		slow := s.pep("acme", "slow", 2, nil)
		slow.Rejected = &pap.Rejection{Release: 3, Reason: "no signature"}
		s.seen(gateway, slow, s.pep("acme", "quick", 3, nil), s.pep("globex", "other", 2, nil))
		s.publish(nil)
		ask := func(actor pap.Actor, number uint64) *pap.QuorumError {
			t.Helper()
			var late *pap.QuorumError
			if _, err := n.AwaitRelease(t.Context(), actor, number, pap.Quorum{}, 0); !errors.As(err, &late) {
				t.Fatalf("%v", err)
			}
			return late
		}
		all := ask(admin.LocalActor(), 3)
		if len(all.Missing) != 3 || all.Acknowledged != (pap.Acknowledged{Needed: 4, Holding: 1, Concerned: 4}) {
			t.Errorf("the platform: %+v", all)
		}
		own := ask(tenantActor("acme", "user:boss"), 3)
		if len(own.Missing) != 2 || own.Concerned != 3 {
			t.Fatalf("the tenant: %+v", own)
		}
		if m := own.Missing[0]; m.ID != "slow" || m.Rejected != "no signature" || m.Revision.Release != 2 {
			t.Errorf("its own: %+v", m)
		}
		if m := own.Missing[1]; m.ID != "" || m.Subject != "" || m.Tenant != "" {
			t.Errorf("the platform's PEP is named to a tenant: %+v", m)
		}
		if _, err := n.AwaitRelease(t.Context(), admin.LocalActor(), 9, pap.Quorum{}, time.Minute); !errors.Is(err, pap.ErrNotFound) {
			t.Errorf("a release that is not there: %v", err)
		}
		var many []pap.PEP
		for i := range 250 {
			many = append(many, s.pep("acme", fmt.Sprintf("m%03d", i), 2, nil))
		}
		s.seen(many...)
		if late := ask(admin.LocalActor(), 3); len(late.Missing) != 100 || late.More != 153 {
			t.Errorf("%d listed and %d more", len(late.Missing), late.More)
		}
	})
}

func TestAwaitOfARolloutEndsWhenItIsHalted(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		c1 := s.pep("acme", "c1", 2, canary.Labels)
		s.seen(c1, s.pep("acme", "other", 2, nil))
		s.publish([]pap.Selector{canary})
		waited := make(chan error, 1)
		go func() {
			_, err := s.nodes[0].AwaitRelease(t.Context(), admin.LocalActor(), 3, pap.Quorum{}, time.Minute)
			waited <- err
		}()
		s.rejects(c1, 3, "bad")
		s.step(s.nodes[0])
		if err := <-waited; !errors.Is(err, pap.ErrRolloutHalted) || !strings.Contains(err.Error(), "bad") {
			t.Errorf("%v", err)
		}
	})
}

func TestAwaitOfARevisionLeavesOutWhoKnowsNoPositions(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		opa := s.pep("acme", "opa", 2, nil)
		opa.Kind, opa.Revision.Position = pap.KindOPA, 0
		s.seen(opa, s.pep("acme", "p", 2, nil))
		reached, err := s.nodes[0].AwaitRevision(t.Context(), admin.LocalActor(), s.head(), pap.Quorum{}, 0)
		if err != nil || reached.Concerned != 1 {
			t.Errorf("%+v, %v", reached, err)
		}
		if _, err := s.nodes[0].AwaitRevision(t.Context(), admin.LocalActor(), authz.Revision{Release: 2, Position: 1 << 40}, pap.Quorum{}, 0); !errors.Is(err, pap.ErrNotFound) {
			t.Errorf("a revision that is not there: %v", err)
		}
	})
}

func TestRevokingSaysWhoMayCountItYet(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		n := s.nodes[0]
		restrict := func() authz.Restriction {
			t.Helper()
			r, _, err := n.CreateRestriction(t.Context(), admin.LocalActor(), pap.RestrictionSpec{
				Tenant: "acme", Reason: "test", Validity: authz.Validity{End: s.now().Add(time.Hour)},
				Rules: []authz.RestrictionRule{{Condition: "true", Effect: authz.Deny, Message: "No."}},
			})
			s.must(err)
			return r
		}
		grant := s.mint("tenants/acme/own/ask", "acme.deploy")
		quick, slow := s.pep("acme", "quick", 2, nil), s.pep("acme", "slow", 2, nil)
		gateway, other := s.pep("", "gw", 2, nil), s.pep("globex", "other", 2, nil)
		off, gone, opa := s.pep("acme", "off", 2, nil), s.pep("acme", "gone", 2, nil), s.pep("acme", "opa", 2, nil)
		off.Connected, off.HonoursUntil = false, s.now().Add(10*time.Second)
		gone.Connected, gone.HonoursUntil = false, s.now().Add(-time.Second)
		opa.Kind = pap.KindOPA
		s.seen(quick, slow, gateway, other, off, gone, opa)

		acked := make(chan struct{})
		go func() { // as soon as the end is in the log
			defer close(acked)
			before := quick.Revision.Position
			for s.head().Position == before {
				if t.Context().Err() != nil {
					return
				}
			}
			s.acks(quick, 2)
		}()
		at := s.now()
		ended, revision, err := n.EndDynamic(t.Context(), tenantActor("acme", "user:boss"), grant.ID, "over", time.Second)
		s.must(err)
		<-acked
		if revision != s.head() || ended.ID != grant.ID || ended.More != 0 {
			t.Errorf("%+v at %s", ended, revision)
		}
		names := func(e pap.Ended) (list string) {
			for _, m := range e.Unacknowledged {
				list += m.ID + ","
			}
			return list
		}
		if names(ended) != "off,slow,," {
			t.Fatalf("not acknowledged: %q", names(ended))
		}
		for i, least := range []time.Duration{10 * time.Second, pap.GrantStale, pap.GrantStale} {
			if until := ended.Unacknowledged[i].HonoursUntil.Sub(at); until < least-time.Second || until > least+time.Second {
				t.Errorf("%d honours it for %s, want %s", i, until, least)
			}
		}

		// A lifted restriction holds on where nobody hears of it, to its end.
		r := restrict()
		ended, _, err = n.EndDynamic(t.Context(), admin.LocalActor(), r.ID, "over", 0)
		s.must(err)
		if names(ended) != "gone,off,quick,slow,gw," {
			t.Errorf("not acknowledged: %q", names(ended))
		}
		for _, m := range ended.Unacknowledged {
			if !m.HonoursUntil.Equal(r.Validity.End) {
				t.Errorf("%s holds it until %s", m.ID, m.HonoursUntil)
			}
		}

		r = restrict()
		for _, p := range []pap.PEP{quick, slow, gateway, off, gone} {
			p.Connected = true
			p.Revision.Position = s.head().Position + 1 // what ends it
			p.SeenAt = s.now()
			s.seen(p)
		}
		ended, _, err = n.EndDynamic(t.Context(), admin.LocalActor(), r.ID, "over", time.Minute)
		s.must(err)
		if ended.Unacknowledged == nil || len(ended.Unacknowledged) != 0 {
			t.Errorf("all acknowledged: %+v", ended)
		}
	})
}

func TestQuorumsAreReadAndCounted(t *testing.T) {
	for text, of10 := range map[string]int{"": 10, "all": 10, "1%": 1, "90%": 9, "91%": 10, "100%": 10, "5": 5, "50": 50} {
		q, err := pap.ParseQuorum(text)
		if err != nil || q.Of(10) != of10 {
			t.Errorf("%q of 10: %d, %v", text, q.Of(10), err)
		}
		if again, err := pap.ParseQuorum(q.String()); err != nil || again != q {
			t.Errorf("%q is written %q: %v", text, q, err)
		}
	}
	for _, text := range []string{"0", "0%", "101%", "-1", "05", "5.5%", "half", " 5", "+5", "%"} {
		if _, err := pap.ParseQuorum(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// putPEPs stores PEPs as a node's stream would.
func (r *rig) putPEPs(peps ...pap.PEP) {
	r.t.Helper()
	for i := range peps {
		p := &peps[i]
		owner := p.Tenant
		if owner == "" {
			owner = pap.Platform
		}
		p.Key, p.Subject, p.Kind, p.SeenAt = owner+"/service:shop/"+p.ID, "service:shop", "stream", time.Now()
	}
	if err := r.node.store.PutPEPs(r.t.Context(), peps); err != nil {
		r.t.Fatal(err)
	}
}

func TestPEPsAreListedWithWhatTheyLackToThoseWhoMaySeeThem(t *testing.T) {
	r := newRig(t, testPolicies())
	r.subject("reader", "globex", "user", "reader")
	head := r.head()
	r.putPEPs(
		pap.PEP{ID: "a", Tenant: "acme", Tenants: []string{"acme"}, Labels: map[string]string{"zone": "a", "kind": "x"}, Connected: true, Revision: head},
		pap.PEP{ID: "b", Tenant: "acme", Tenants: []string{"acme"}, Labels: map[string]string{"zone": "b"}, Connected: true, Stale: true, Revision: authz.Revision{Position: head.Position - 3}},
		pap.PEP{ID: "b", Tenant: "globex", Tenants: []string{"globex"}},
		pap.PEP{ID: "gw", Tenants: []string{"*"}, Connected: true, Revision: head},
	)
	for _, row := range []struct{ as, query, want string }{
		{"admin", "", "acme/a acme/b globex/b platform/gw"},
		{"auditor", "?connected=true", "acme/a acme/b platform/gw"},
		{"admin", "?serves=globex", "globex/b platform/gw"},
		{"admin", "?tenant=acme&labels=zone%3Da,kind%3Dx", "acme/a"},
		{"admin", "?id=b", "acme/b globex/b"},
		{"author", "", "acme/a acme/b"},
		{"author", "?serves=globex", ""},
	} {
		g := r.do(ask{as: row.as, path: "/api/v1/peps" + row.query})
		var keys []string
		items, _ := g.at("/items").([]any)
		for _, item := range items {
			keys = append(keys, strings.Replace(item.(map[string]any)["key"].(string), "service:shop/", "", 1))
		}
		if got := strings.Join(keys, " "); g.status != 200 || got != row.want {
			t.Errorf("%s%s: %d %q, want %q", row.as, row.query, g.status, got, row.want)
		}
	}
	g := r.do(ask{as: "admin", path: "/api/v1/peps?limit=1"})
	if next := r.do(ask{as: "admin", path: "/api/v1/peps?limit=1&cursor=" + strings.ReplaceAll(g.at("/next_cursor").(string), "/", "%2F")}); next.at("/items/0/id") != "b" {
		t.Errorf("second page: %s", next.text)
	}

	b := r.do(ask{as: "author", path: "/api/v1/peps/b"}) // globex has one of the same id, which is not its business
	if b.at("/lag/positions") != 3.0 || b.at("/lag/releases") != 1.0 || b.at("/stale") != true || b.at("/connected") != true || b.at("/target") != 1.0 {
		t.Errorf("%s", b.text)
	}
	for _, row := range []struct {
		as, name string
		status   int
	}{
		{"admin", "b", 409}, {"admin", "acme%2Fservice:shop%2Fb", 200}, {"admin", "platform%2Fservice:shop%2Fgw", 200},
		{"author", "gw", 404}, {"author", "globex%2Fservice:shop%2Fb", 404}, {"admin", "none", 404}, {"reader", "b", 403},
	} {
		if g := r.do(ask{as: row.as, path: "/api/v1/peps/" + row.name}); g.status != row.status {
			t.Errorf("%s reads %s: %d %s", row.as, row.name, g.status, g.text)
		}
	}
	for _, query := range []string{"?labels=zone", "?labels=%3Da", "?labels=a%3D1,a%3D2", "?connected=yes", "?tenants=acme"} {
		if g := r.do(ask{as: "admin", path: "/api/v1/peps" + query}); g.code() != "invalid_parameter" {
			t.Errorf("%s: %s", query, g.text)
		}
	}
}

func TestAPEPThatNobodySeesIsStaleAndNotConnected(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, s *site) {
		s.seen(s.pep("acme", "p", 2, nil))
		state := func() pap.PEPState {
			t.Helper()
			p, err := s.nodes[0].PEP(t.Context(), admin.LocalActor(), "p")
			s.must(err)
			return p
		}
		if p := state(); p.Stale || !p.Connected {
			t.Errorf("%+v", p)
		}
		s.ahead.Add(int64(pap.PEPSilence + time.Second))
		if p := state(); !p.Stale || p.Connected {
			t.Errorf("%+v", p)
		}
		s.must(s.nodes[0].ForgetPEPs(t.Context()))
		state()
		s.ahead.Add(int64(pap.PEPsKept))
		s.must(s.nodes[0].ForgetPEPs(t.Context()))
		if _, err := s.nodes[0].PEP(t.Context(), admin.LocalActor(), "p"); !errors.Is(err, pap.ErrNotFound) {
			t.Errorf("after a day: %v", err)
		}
	})
}

func TestPushReachesTheCallersPEPsOnly(t *testing.T) {
	r := newRig(t, testPolicies())
	r.putPEPs(
		pap.PEP{ID: "a", Tenant: "acme", Labels: map[string]string{"zone": "a"}, Connected: true},
		pap.PEP{ID: "g", Tenant: "globex", Labels: map[string]string{"zone": "a"}, Connected: true},
	)
	for as, connected := range map[string]float64{"admin": 2, "tenantadmin": 1} {
		g := r.do(ask{as: as, path: "/api/v1/policy/push", body: `{"labels":{"zone":"a"}}`})
		if g.status != 200 || g.at("/connected") != connected || g.at("/revision") != r.head().String() {
			t.Errorf("%s: %d %s", as, g.status, g.text)
		}
	}
	for _, row := range []struct {
		as, body string
		status   int
	}{{"author", `{}`, 403}, {"admin", `{"ids":[""]}`, 400}, {"admin", `{"tenant":"globex"}`, 400}} {
		if g := r.do(ask{as: row.as, path: "/api/v1/policy/push", body: row.body}); g.status != row.status {
			t.Errorf("%s %s: %d %s", row.as, row.body, g.status, g.text)
		}
	}
	for _, row := range []struct {
		push       pap.Push
		tenant, id string
		want       bool
	}{
		{pap.Push{}, "acme", "a", true}, {pap.Push{Tenant: "acme"}, "acme", "a", true}, {pap.Push{Tenant: "acme"}, "", "a", false},
		{pap.Push{Tenant: "acme", Selector: pap.Selector{IDs: []string{"b"}}}, "acme", "a", false},
		{pap.Push{Tenant: "acme", Selector: pap.Selector{IDs: []string{"a"}}}, "globex", "a", false},
	} {
		if got := row.push.Reaches(row.tenant, row.id, nil); got != row.want {
			t.Errorf("%+v reaches %s of %q: %v", row.push, row.id, row.tenant, got)
		}
	}
}

func TestAwaitAndRolloutsOverHTTP(t *testing.T) {
	r := newRig(t, testPolicies())
	r.putPEPs(pap.PEP{ID: "c", Tenant: "acme", Tenants: []string{"acme"}, Labels: map[string]string{"ring": "canary"}, Connected: true, Revision: r.head()})
	for _, row := range []struct {
		path   string
		status int
		code   string
	}{
		{"/api/v1/releases/1/await", 200, ""}, {"/api/v1/releases/r1/await?quorum=1", 200, ""},
		{"/api/v1/releases/" + r.head().String() + "/await?quorum=90%25&wait=0s", 200, ""},
		{"/api/v1/releases/1/await?quorum=2&wait=0s", 504, "quorum_missed"}, {"/api/v1/releases/2/await", 404, "not_found"},
		{"/api/v1/releases/1/await?quorum=0", 400, "invalid_parameter"}, {"/api/v1/releases/1/await?wait=61s", 400, "invalid_parameter"},
		{"/api/v1/releases/x/await", 400, "invalid_parameter"},
	} {
		g := r.do(ask{as: "admin", method: http.MethodPost, path: row.path})
		if g.status != row.status || g.code() != row.code {
			t.Errorf("%s: %d %s", row.path, g.status, g.text)
		}
	}
	draft := func() {
		t.Helper()
		const path = "/api/v1/policies/tenants/acme/turns.policy.json"
		version := r.do(ask{as: "admin", path: path}).header.Get("ETag")
		header := map[string]string{"If-Match": version}
		if version == "" {
			header = map[string]string{"If-None-Match": "*"}
		}
		text := strings.ReplaceAll(`{"content":"{\"id\":\"turns\",\"name\":\"NAME\",\"rules\":[{\"id\":\"yes\",\"condition\":\"action == 'turn'\",\"effect\":\"ALLOW\"}]}"}`, "NAME", newTestID())
		if g := r.do(ask{as: "admin", method: http.MethodPut, path: path, body: text, header: header}); g.status >= 300 {
			t.Fatal(g.text)
		}
	}
	draft()
	staged := ask{as: "admin", path: "/api/v1/releases", body: `{"stages":[{"labels":{"ring":"canary"}}],"min_stage_seconds":3600}`}
	if g := r.do(ask{as: "author", path: staged.path, body: staged.body}); g.code() != "forbidden" || g.at("/right") != "release.rollout" {
		t.Errorf("an author's rollout: %s", g.text)
	}
	if g := r.do(staged); g.status != 201 {
		t.Fatalf("%d %s", g.status, g.text)
	}
	draft()
	if g := r.do(ask{as: "admin", path: "/api/v1/releases", body: `{}`}); g.status != 409 || g.code() != "rollout_in_progress" {
		t.Errorf("a publication meanwhile: %s", g.text)
	}
	if g := r.do(ask{as: "admin", path: "/api/v1/releases/2/rollout"}); g.at("/state") != "running" || g.at("/progress/0/connected") != 1.0 || g.at("/progress/0/holding") != 0.0 {
		t.Errorf("%s", g.text)
	}
	if g := r.do(ask{as: "author", path: "/api/v1/releases/2/rollout"}); g.status != 403 {
		t.Errorf("a tenant's reader: %s", g.text)
	}
	if g := r.do(ask{as: "admin", path: "/api/v1/releases/1/rollout"}); g.status != 404 {
		t.Errorf("a release without one: %s", g.text)
	}
	for _, row := range []struct {
		as, body string
		status   int
	}{{"tenantadmin", `{"action":"abort"}`, 403}, {"admin", `{"action":"stop"}`, 400}, {"admin", `{"action":"abort","reason":"no"}`, 200}, {"admin", `{"action":"advance"}`, 409}} {
		if g := r.do(ask{as: row.as, path: "/api/v1/releases/2/rollout", body: row.body}); g.status != row.status {
			t.Errorf("%s %s: %d %s", row.as, row.body, g.status, g.text)
		}
	}
	if g := r.do(ask{as: "admin", method: http.MethodPost, path: "/api/v1/releases/2/await"}); g.code() != "rollout_halted" {
		t.Errorf("await of what was halted: %s", g.text)
	}
	if g := r.do(ask{as: "admin", path: "/api/v1/releases/3"}); g.at("/author") != pap.RolloutActor || g.at("/restores") != 1.0 {
		t.Errorf("%s", g.text)
	}
}

func TestTheAnswerToARevocationListsPEPsOverHTTP(t *testing.T) {
	r := newRig(t, testPolicies())
	body := `{"type":"DYNAMIC","kind":"restriction","tenant":"acme","rules":[{"condition":"true","effect":"DENY","message":"No."}],"validity":{"end":"` + time.Now().Add(time.Hour).Format(time.RFC3339) + `"},"reason":"test"}`
	made := r.do(ask{as: "admin", path: "/api/v1/policy/dynamic", body: body})
	r.putPEPs(pap.PEP{ID: "c", Tenant: "acme", Tenants: []string{"acme"}, Connected: true, Revision: r.head()})
	path := "/api/v1/policy/dynamic/" + made.at("/id").(string)
	if g := r.do(ask{as: "admin", method: http.MethodDelete, path: path + "?wait=31s"}); g.code() != "invalid_parameter" {
		t.Errorf("%s", g.text)
	}
	g := r.do(ask{as: "admin", method: http.MethodDelete, path: path + "?wait=0s&reason=over"})
	if g.status != 200 || g.at("/unacknowledged/0/id") != "c" || g.at("/unacknowledged/0/honours_until") == nil || g.at("/revision") != r.head().String() {
		t.Errorf("%d %s", g.status, g.text)
	}
}
