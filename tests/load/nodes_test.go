//go:build unix

package load

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

// pair is two nodes on one PostgreSQL, with an administrator and an
// enforcement point of tenant acme.
type pair struct {
	at         place // of a
	a, b       *server
	admin, pep string // tokens
}

func startPair(t *testing.T) pair {
	t.Helper()
	p := pair{at: onPostgres(t)}
	p.admin = p.at.bootstrap(t, policies(t, nil))
	p.a, p.b = start(t, p.at), start(t, p.at.another(t))
	p.pep = enrol(t, p.a.as(p.admin))
	await(t, patience, func() string { return differs(http.StatusOK, p.b.as(p.pep).do(t, order)) }) // the token travels too
	return p
}

// order asks for what the policies allow.
var order = call{path: "/api/v1/decide", body: request("order.place", 1)}

// within is in how long a revocation must hold on every node: the fastest of
// several, as the machine may be busy with others.
const within = time.Second

func TestTokenThatOneNodeRevokesIsRefusedByTheOtherWithinASecond(t *testing.T) {
	p := startPair(t)
	admin := p.a.as(p.admin)
	fastest := patience
	for range sized(5, 50) {
		made := newToken(t, admin, "acme", "service:gateway")
		pep := p.b.as(made.Token)
		await(t, patience, func() string { return differs(http.StatusOK, pep.do(t, order)) })
		admin.must(t, http.StatusOK, call{method: http.MethodDelete, path: "/api/v1/tokens/" + made.ID})
		revoked := time.Now()
		await(t, patience, func() string { return differs(http.StatusUnauthorized, pep.do(t, order)) })
		fastest = min(fastest, time.Since(revoked))
		t.Logf("refused after %s", time.Since(revoked).Round(time.Millisecond))
	}
	if fastest > within {
		t.Errorf("the fastest was refused after %s", fastest)
	}
}

func TestRightThatOneNodeTakesIsGoneOnTheOtherWithinASecond(t *testing.T) {
	p := startPair(t)
	admin, pep := p.a.as(p.admin), p.b.as(p.pep)
	fastest := patience
	for range 3 {
		b := list[struct{ ID, Subject, Role string }](t, admin, "/api/v1/bindings", url.Values{"tenant": {"acme"}})[0]
		admin.must(t, http.StatusOK, call{method: http.MethodDelete, path: "/api/v1/bindings/" + b.ID})
		taken := time.Now()
		await(t, patience, func() string { return differs(http.StatusForbidden, pep.do(t, order)) })
		fastest = min(fastest, time.Since(taken))
		admin.must(t, http.StatusCreated, call{path: "/api/v1/bindings", body: object{"tenant": "acme", "subject": b.Subject, "role": b.Role}})
		await(t, patience, func() string { return differs(http.StatusOK, pep.do(t, order)) })
	}
	if fastest > within {
		t.Errorf("the fastest was gone after %s", fastest)
	}
}

// differs says how an answer is not the one that is awaited.
func differs(status int, a answer) string {
	if a.status == status {
		return ""
	}
	return fmt.Sprintf("it still answers %d %.300s", a.status, a.body)
}

func TestReleaseOfOneNodeAnswersOnTheOther(t *testing.T) {
	p := startPair(t)
	for n := 2; n < 2+sized(5, 50); n++ {
		from, to := p.a, p.b
		if n%2 == 1 {
			from, to = to, from
		}
		revision := publish(t, from.as(p.admin), marked(n), n)
		asked := request("marker.read", 1)
		asked["at_least_revision"] = revision
		d := to.as(p.pep).decide(t, asked)
		if err := checkMarks(d); err != nil || d.Revision != revision {
			t.Errorf("after %s was published on the other node: %s, %v", revision, d.Revision, err)
		}
	}
}

// grant mints a grant for the request, counted where uses is not 0.
func grant(t *testing.T, admin caller, asked object, uses int) (id, revision string) {
	t.Helper()
	body := object{
		"type": "DYNAMIC", "kind": "grant", "tenant": "acme", "satisfies": []string{"platform/orders/large"}, "request": asked,
		"validity": object{"end": time.Now().Add(time.Hour).Format(time.RFC3339)}, "reason": "a test",
	}
	if uses > 0 {
		body["uses"] = uses
	}
	a := admin.must(t, http.StatusCreated, call{path: "/api/v1/policy/dynamic", body: body})
	return read[struct{ ID string }](t, a).ID, a.revision()
}

func TestWriteOfOneNodeIsSeenByTheOtherAtItsRevision(t *testing.T) {
	p := startPair(t)
	admin, pep := p.a.as(p.admin), p.b.as(p.pep)
	for i := range sized(5, 50) {
		large := request("order.place", 2000+i)
		large["subject"] = object{"type": "user", "id": fmt.Sprintf("u-%d", i)}
		id, minted := grant(t, admin, large, 0)
		large["at_least_revision"] = minted
		if d := pep.decide(t, large); d.Effect != "ALLOW" {
			t.Errorf("at %s: %s %v, want the grant to hold", minted, d.Effect, d.Reasons)
		}
		ended := admin.must(t, http.StatusOK, call{method: http.MethodDelete, path: "/api/v1/policy/dynamic/" + id}).revision()
		large["at_least_revision"] = ended
		if d := pep.decide(t, large); d.Effect != "REVIEW" {
			t.Errorf("at %s: %s, though the grant was revoked", ended, d.Effect)
		}
	}
	future := request("order.place", 1)
	future["at_least_revision"] = "r1.g1000000"
	if a := pep.do(t, call{path: "/api/v1/decide", body: future}); a.status != http.StatusBadRequest || a.code() != "revision_unknown" {
		t.Errorf("a revision that no node has made: %d %s", a.status, a.body)
	}
}

func TestUsesOfAGrantAreCountedAcrossNodes(t *testing.T) {
	p := startPair(t)
	const uses, clients, each = 50, 8, 12 // clients of each node
	large := request("order.place", 2000)
	_, revision := grant(t, p.a.as(p.admin), large, uses)
	large["at_least_revision"] = revision

	var mu sync.Mutex
	effects := map[string]int{}
	var busy sync.WaitGroup
	for i := range 2 * clients {
		pep := [...]*server{p.a, p.b}[i%2].as(p.pep)
		busy.Go(func() {
			for range each {
				a, err := pep.try(t.Context(), call{path: "/api/v1/decide", body: large})
				var d decision
				if err == nil {
					err = json.Unmarshal(a.body, &d)
				}
				mu.Lock()
				if effects[d.Effect]++; err != nil || a.status != http.StatusOK {
					t.Errorf("%v %d %s", err, a.status, a.body)
				}
				mu.Unlock()
			}
		})
	}
	busy.Wait()
	if effects["ALLOW"] != uses || effects["ALLOW"]+effects["REVIEW"] != 2*clients*each {
		t.Errorf("%v, want %d ALLOW and REVIEW else", effects, uses)
	}
}

func TestRetryOnAnotherNodeCountsOneUse(t *testing.T) {
	p := startPair(t)
	const uses = 3
	large := request("order.place", 3000)
	_, revision := grant(t, p.a.as(p.admin), large, uses)
	large["at_least_revision"] = revision
	try := func(key string) (effects []string) {
		var mu sync.Mutex
		var busy sync.WaitGroup
		for i := range 8 {
			pep := [...]*server{p.a, p.b}[i%2].as(p.pep)
			busy.Go(func() {
				a, err := pep.try(t.Context(), call{path: "/api/v1/decide", body: large, header: map[string]string{"Idempotency-Key": key}})
				var d decision
				if err == nil {
					err = json.Unmarshal(a.body, &d)
				}
				mu.Lock()
				defer mu.Unlock()
				if effects = append(effects, d.Effect); err != nil || a.status != http.StatusOK {
					t.Errorf("%v %d %s", err, a.status, a.body)
				}
			})
		}
		busy.Wait()
		return effects
	}
	for i := range uses + 1 {
		want := "ALLOW"
		if i == uses {
			want = "REVIEW"
		}
		for _, effect := range try(fmt.Sprintf("key-%d", i)) {
			if effect != want {
				t.Errorf("use %d of %d, retried: %s, want %s", i+1, uses, effect, want)
			}
		}
	}
}

// TestNodesOutliveTheirDatabaseConnections cuts every connection of both
// nodes: they go on by themselves, and miss no change.
func TestNodesOutliveTheirDatabaseConnections(t *testing.T) {
	p := startPair(t)
	for range sized(2, 20) {
		made := newToken(t, p.a.as(p.admin), "acme", "service:gateway")
		onA, onB := p.a.as(made.Token), p.b.as(made.Token)
		await(t, patience, func() string { return differs(http.StatusOK, onB.do(t, order)) })

		p.at.cutConnections(t)
		for _, c := range []caller{onA, onB} {
			await(t, patience, func() string {
				a := c.do(t, order)
				if a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
					t.Fatalf("%d %s", a.status, a.body)
				}
				return differs(http.StatusOK, a)
			})
		}
		p.a.as(p.admin).must(t, http.StatusOK, call{method: http.MethodDelete, path: "/api/v1/tokens/" + made.ID})
		await(t, within, func() string { return differs(http.StatusUnauthorized, onB.do(t, order)) })
	}
}

// cutConnections ends the servers' connections, as an administrator of
// PostgreSQL or a broken network would.
func (p place) cutConnections(t *testing.T) {
	t.Helper()
	storetest.PostgresExec(t, p.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '"+p.name+"' AND pid <> pg_backend_pid()")
}
