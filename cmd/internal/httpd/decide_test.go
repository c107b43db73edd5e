package httpd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// machine is the shop asking for itself, up to the resource's properties.
const machine = `"subject":{"type":"service","id":"shop"},"action":"ecs.create","resource":{"type":"ecs.instance","id":"i"`

func machineBody(properties, more string) string {
	return `{` + machine + `,"properties":` + properties + `}` + more + `}`
}

func TestDecideAnswersWithEveryReason(t *testing.T) {
	r := newRig(t, testPolicies())
	for _, row := range []struct {
		name, properties, effect string
		reasons                  []string
	}{
		{"allowed", `{"cpu":2}`, "ALLOW", []string{"anybody"}},
		{"denied", `{"cpu":8}`, "DENY", []string{"small_only", "anybody"}},
		{"for review", `{"cpu":2,"public_ip":true}`, "REVIEW", []string{"public_ip", "anybody"}},
		{"denied and for review", `{"cpu":8,"public_ip":true}`, "DENY", []string{"small_only", "public_ip", "anybody"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := r.do(ask{as: "shop", path: "/api/v1/decide", body: machineBody(row.properties, "")})
			if g.status != http.StatusOK || g.at("/effect") != row.effect || g.at("/decision") != (row.effect == "ALLOW") {
				t.Fatalf("%d %s", g.status, g.text)
			}
			var rules []string
			for i := range g.json["reasons"].([]any) {
				rules = append(rules, g.at(fmt.Sprintf("/reasons/%d/rule", i)).(string))
			}
			if !slices.Equal(rules, row.reasons) {
				t.Errorf("reasons %q", rules)
			}
			if g.header.Get("Xiezhi-Revision") != r.head().String() || g.at("/revision") != r.head().String() {
				t.Errorf("revision %q, header %q, want %s", g.at("/revision"), g.header.Get("Xiezhi-Revision"), r.head())
			}
		})
	}
}

func TestAnEvaluationErrorDeniesWithItsPlace(t *testing.T) {
	r := newRig(t, testPolicies())
	g := r.do(ask{as: "shop", path: "/api/v1/decide", body: machineBody(`{"cpu":2,"broken":{}}`, "")})
	if g.at("/effect") != "DENY" || g.at("/reasons/0/rule") != "evaluation_error" || g.at("/reasons/0/failed_rule") != "broken" ||
		!strings.HasPrefix(fmt.Sprint(g.at("/reasons/0/location")), "platform/machines.policy.json:") {
		t.Errorf("%d %s", g.status, g.text)
	}
	metrics := r.do(ask{as: "admin", path: "/metrics"})
	if !strings.Contains(metrics.text, `xiezhi_evaluation_errors_total{cause="policy_error",policy="platform/machines"} 1`) {
		t.Errorf("the error is not counted by policy:\n%s", grep(metrics.text, "xiezhi_"))
	}
}

func TestDecideRefusesMalformedRequestsAndNamesThePlace(t *testing.T) {
	r := newRig(t, testPolicies())
	whole := machineBody(`{"cpu":2}`, "")
	for _, row := range []struct {
		name, body, path string
		status           int
	}{
		{"nothing", ` `, "", 400},
		{"not JSON", `{"subject":`, "/subject", 400},
		{"a list", `[]`, "", 400},
		{"bytes after the value", whole + `{}`, "", 400},
		{"invalid UTF-8", strings.Replace(whole, "shop", "sh\xff", 1), "/subject/id", 400},
		{"half a surrogate", strings.Replace(whole, "shop", `\ud800`, 1), "/subject/id", 400},
		{"a duplicate name", machineBody(`{"cpu":2,"cpu":9}`, ""), "/resource/properties/cpu", 400},
		{"a duplicate name spelt otherwise", machineBody(`{"cpu":2,"\u0063pu":9}`, ""), "/resource/properties/cpu", 400},
		{"deep nesting", machineBody(strings.Repeat(`{"a":`, 80)+`1`+strings.Repeat(`}`, 80), ""), "/resource/properties" + strings.Repeat("/a", 63), 400},
		{"a huge number", machineBody(`{"cpu":1e999}`, ""), "/resource/properties/cpu", 400},
		{"an integer beyond 2^53", machineBody(`{"cpu":9007199254740993}`, ""), "/resource/properties/cpu", 400},
		{"an unknown member", machineBody(`{}`, `,"efect":"ALLOW"`), "/efect", 400},
		{"an unknown member inside", `{"subject":{"type":"service","id":"shop","name":"x"},"action":"a","resource":{"type":"t","id":"i"}}`, "/subject/name", 400},
		{"a number for a name", `{"subject":{"type":"service","id":7},"action":"a","resource":{"type":"t","id":"i"}}`, "/subject/id", 400},
		{"a null", `{"subject":null,"action":"a","resource":{"type":"t","id":"i"}}`, "/subject", 400},
		{"a short subject", `{"subject":"service:shop","action":"a","resource":{"type":"t","id":"i"}}`, "/subject", 400},
		{"no subject", `{"action":"a","resource":{"type":"t","id":"i"}}`, "/subject/type", 400},
		{"no action", `{"subject":{"type":"service","id":"shop"},"resource":{"type":"t","id":"i"}}`, "/action/name", 400},
		{"a tenant that is no string", machineBody(`{}`, `,"tenant":["acme"]`), "/tenant", 400},
		{"a tenant with capitals", machineBody(`{}`, `,"tenant":"Acme"`), "/tenant", 400},
		{"a trusted attribute", `{"subject":{"type":"service","id":"shop","properties":{"roles":["admin"]}},"action":"ecs.create","resource":{"type":"t","id":"i"}}`, "/subject/properties/roles", 400},
		{"a bad revision", machineBody(`{}`, `,"at_least_revision":"r01.g2"`), "/at_least_revision", 400},
		{"a revision that is no string", machineBody(`{}`, `,"at_least_revision":1`), "/at_least_revision", 400},
		{"a permit that is no object", machineBody(`{}`, `,"permit":true`), "/permit", 400},
		{"a permit for nobody", machineBody(`{}`, `,"permit":{}`), "/permit/audience", 400},
		{"a permit with more", machineBody(`{}`, `,"permit":{"audience":"x","ttl":1}`), "/permit/ttl", 400},
		{"a body over the limit", machineBody(`{"x":"`+strings.Repeat("x", MaxBody)+`"}`, ""), "-", 413},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := r.do(ask{as: "shop", path: "/api/v1/decide", body: row.body})
			if g.status != row.status || g.header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%d %s", g.status, g.text)
			}
			if row.path != "-" && g.at("/errors/0/path") != row.path {
				t.Errorf("the place is %q, want %q: %s", g.at("/errors/0/path"), row.path, g.text)
			}
		})
	}
	if recorded := r.record.take(); len(recorded) != 0 {
		t.Errorf("%d malformed requests were decided", len(recorded))
	}
}

func TestDecideRefusesBodiesThatAreNotPlainJSON(t *testing.T) {
	r := newRig(t, testPolicies())
	body := machineBody(`{"cpu":2}`, "")
	for _, row := range []struct {
		name   string
		header map[string]string
		status int
	}{
		{"with a charset", map[string]string{"Content-Type": `application/json; charset="utf-8"`}, 200},
		{"identity", map[string]string{"Content-Encoding": "identity"}, 200},
		{"as a form", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		{"as text", map[string]string{"Content-Type": "text/plain"}, 415},
		{"of no type", map[string]string{"Content-Type": ""}, 415},
		{"in UTF-16", map[string]string{"Content-Type": "application/json; charset=utf-16"}, 415},
		{"compressed", map[string]string{"Content-Encoding": "gzip"}, 415},
	} {
		t.Run(row.name, func(t *testing.T) {
			if g := r.do(ask{as: "shop", path: "/api/v1/decide", body: body, header: row.header}); g.status != row.status {
				t.Errorf("%d %s", g.status, g.text)
			}
		})
	}
}

func TestDecideHoldsTheCallerToTenantAndSubject(t *testing.T) {
	r := newRig(t, testPolicies())
	body := func(tenant, subject string) string {
		if tenant != "" {
			tenant = `"tenant":"` + tenant + `",`
		}
		return `{` + tenant + `"subject":{"type":"service","id":"` + subject + `"},"action":"ecs.create","resource":{"type":"t","id":"i","properties":{"cpu":1}}}`
	}
	for _, row := range []struct {
		name, as, tenant, subject string
		status                    int
		right                     any
	}{
		{"for itself", "shop", "", "shop", 200, nil},
		{"for itself by name", "shop", "acme", "shop", 200, nil},
		{"for another tenant", "shop", "globex", "shop", 403, nil},
		{"for somebody else", "shop", "acme", "other", 403, "decide.on_behalf"},
		{"a namesake in another tenant", "globexshop", "acme", "shop", 403, nil},
		{"a PEP for somebody else", "pep", "acme", "shop", 200, nil},
		{"a PEP for itself", "pep", "", "gateway", 200, nil},
		{"a PEP for another tenant", "pep", "globex", "shop", 403, nil},
		{"an author may not decide", "author", "", "author", 403, "decide.on_behalf"},
		{"the platform names no tenant", "admin", "", "shop", 400, nil},
		{"the platform's administrator asks for nobody else", "admin", "acme", "shop", 403, "decide.on_behalf"},
		{"the platform is no tenant", "shop", "platform", "shop", 403, nil},
		{"an auditor decides nothing", "auditor", "acme", "shop", 403, "decide.on_behalf"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := r.do(ask{as: row.as, path: "/api/v1/decide", body: body(row.tenant, row.subject)})
			if g.status != row.status || g.at("/right") != row.right {
				t.Errorf("%d %s", g.status, g.text)
			}
		})
	}
}

// The platform's user:root is somebody else than a tenant's user:root.
func TestANamesakeOfThePlatformIsSomebodyElse(t *testing.T) {
	r := newRig(t, testPolicies())
	body := `{"tenant":"acme","subject":{"type":"user","id":"root"},"action":"ecs.create","resource":{"type":"t","id":"i","properties":{"cpu":1}}}`
	if g := r.do(ask{as: "admin", path: "/api/v1/decide", body: body}); g.status != 403 || g.at("/right") != "decide.on_behalf" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestACredentialThatIsOverIsRefused(t *testing.T) {
	r := newRig(t, testPolicies())
	ctx, actor := context.Background(), admin.LocalActor()
	body := machineBody(`{"cpu":2}`, "")
	decide := func(as string) int { return r.do(ask{as: as, path: "/api/v1/decide", body: body}).status }
	if decide("shop") != 200 {
		t.Fatal("the shop cannot decide")
	}
	for _, row := range []struct {
		name string
		end  func(pap.Token) error
		undo func() error
	}{
		{"revoked", func(token pap.Token) error {
			_, _, err := r.node.pap.RevokeToken(ctx, actor, token.ID)
			return err
		}, nil},
		{"its subject disabled", func(pap.Token) error {
			_, _, err := r.node.pap.SetSubjectDisabled(ctx, actor, "acme", "service:shop", true)
			return err
		}, func() error {
			_, _, err := r.node.pap.SetSubjectDisabled(ctx, actor, "acme", "service:shop", false)
			return err
		}},
		{"its tenant disabled", func(pap.Token) error {
			_, _, err := r.node.pap.SetTenantDisabled(ctx, actor, "acme", true)
			return err
		}, func() error {
			_, _, err := r.node.pap.SetTenantDisabled(ctx, actor, "acme", false)
			return err
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			token := r.token("ending", "acme", "service:shop", "*")
			if status := decide("ending"); status != 200 {
				t.Fatalf("before: %d", status)
			}
			if err := row.end(token); err != nil {
				t.Fatal(err)
			}
			if status := decide("ending"); status != http.StatusUnauthorized {
				t.Errorf("after: %d", status)
			}
			if row.undo != nil {
				if err := row.undo(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestDecideWaitsForTheRevisionAskedFor(t *testing.T) {
	r := newRig(t, testPolicies())
	at := func(revision authz.Revision, query string) got {
		return r.do(ask{as: "shop", path: "/api/v1/decide" + query, body: machineBody(`{"cpu":2}`, `,"at_least_revision":"`+revision.String()+`"`)})
	}
	now := r.head()
	if g := at(now, ""); g.status != 200 {
		t.Errorf("the active revision: %d %s", g.status, g.text)
	}
	later := authz.Revision{Release: now.Release, Position: now.Position + 1}
	if g := at(later, ""); g.status != 400 || g.code() != "revision_unknown" {
		t.Errorf("one that the store does not hold: %d %s", g.status, g.text)
	}
	// Something is written behind this node's back.
	put := func() {
		t.Helper()
		err := r.node.store.Update(context.Background(), func(tx pap.Tx) error {
			_, err := tx.Put(pap.Record{Kind: pap.KindTenant, Key: "new", Tenant: "new", Body: []byte(`{"id":"new"}`)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put()
	started := time.Now()
	g := at(later, "?revision_wait=20ms")
	if g.status != http.StatusServiceUnavailable || g.code() != "revision_unavailable" || g.header.Get("Retry-After") == "" {
		t.Errorf("one that this node has not applied: %d %s", g.status, g.text)
	}
	if waited := time.Since(started); waited >= defaultRevisionWait {
		t.Errorf("it waited %s", waited)
	}
	answered := make(chan got, 1)
	go func() { answered <- at(later, "?revision_wait=10s") }()
	if err := r.node.feed.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	if g := <-answered; g.status != 200 || g.at("/revision") != later.String() {
		t.Errorf("after the node caught up: %d %s", g.status, g.text)
	}
}

func TestDecideRefusesParametersItDoesNotKnow(t *testing.T) {
	r := newRig(t, testPolicies())
	for query, name := range map[string]string{
		"?wait=61s": "wait", "?wait=-1s": "wait", "?wait=soon": "wait", "?revision_wait=11s": "revision_wait",
		"?wayt=1s": "wayt", "?wait=1s&wait=2s": "wait",
	} {
		g := r.do(ask{as: "shop", path: "/api/v1/decide" + query, body: machineBody(`{"cpu":2}`, `,"at_least_revision":"r1.g1"`)})
		if g.status != 400 || g.at("/errors/0/parameter") != name {
			t.Errorf("%s: %d %s", query, g.status, g.text)
		}
	}
}

func TestWaitAndPermitSayWhatIsNotThereYet(t *testing.T) {
	r := newRigWith(t, testPolicies(), Config{Approvals: noApprovals})
	decide := func(query, properties, more string) got {
		return r.do(ask{as: "shop", path: "/api/v1/decide" + query, body: machineBody(properties, more)})
	}
	if g := decide("?wait=30s", `{"cpu":2}`, ""); g.status != 200 || g.at("/effect") != "ALLOW" {
		t.Errorf("wait with an ALLOW: %d %s", g.status, g.text)
	}
	if g := decide("?wait=30s", `{"cpu":2,"public_ip":1}`, ""); g.status != 501 || g.code() != "approvals_unavailable" {
		t.Errorf("wait with a REVIEW: %d %s", g.status, g.text)
	}
	r.record.take()
	if g := decide("", `{"cpu":2}`, `,"permit":{"audience":"engine"}`); g.status != 501 || g.code() != "permits_unavailable" {
		t.Errorf("permit: %d %s", g.status, g.text)
	}
	if n := len(r.record.take()); n != 0 {
		t.Errorf("a permit that cannot be had was decided on %d times", n)
	}
}

func TestADecisionThatCannotBeRecordedIsNotGiven(t *testing.T) {
	r := newRig(t, testPolicies())
	r.record.breakWith(errors.New("disk full at /secret/path"))
	g := r.do(ask{as: "shop", path: "/api/v1/decide", body: machineBody(`{"cpu":2}`, "")})
	if g.status != http.StatusServiceUnavailable || g.code() != "audit_unavailable" || strings.Contains(g.text, "/secret") || g.json["decision"] != nil {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestADecisionRecordsTheCaller(t *testing.T) {
	r := newRig(t, testPolicies())
	r.do(ask{as: "pep", path: "/api/v1/decide", body: machineBody(`{"cpu":2}`, "")})
	records := r.record.take()
	if len(records) != 1 || records[0].Caller.Name != "service:gateway" || records[0].Request.Subject.ID != "shop" || records[0].Request.Tenant != "acme" {
		t.Errorf("%+v", records)
	}
}

func TestWithoutAReleaseNothingIsAllowed(t *testing.T) {
	r := build(t, nil, Config{})
	if _, err := r.decideOn(context.Background(), authz.Request{}, pdp.Caller{}); !errors.Is(err, pdp.ErrNotReady) {
		t.Errorf("%v", err)
	}
	p, _ := problemOf(pdp.ErrNotReady)
	if p.Status != http.StatusServiceUnavailable || p.Code != "not_ready" {
		t.Errorf("%+v", p)
	}
}

// A counted grant is used once per Idempotency-Key and body.
func TestARetryUnderItsIdempotencyKeyCountsOnce(t *testing.T) {
	r := newRig(t, testPolicies())
	request := `{"subject":{"type":"service","id":"shop"},"action":"acme.run","resource":{"type":"job","id":"j","properties":{"ask":true}}}`
	mint := r.do(ask{as: "tenantadmin", path: "/api/v1/policy/dynamic", body: `{"type":"DYNAMIC","kind":"grant","satisfies":["tenants/acme/own/ask"],
		"request":` + request + `,"validity":{"end":"` + time.Now().Add(time.Hour).Format(time.RFC3339) + `"},"uses":2,"reason":"test"}`})
	if mint.status != http.StatusCreated {
		t.Fatalf("mint: %d %s", mint.status, mint.text)
	}
	decide := func(key, body string) any {
		t.Helper()
		g := r.do(ask{as: "shop", path: "/api/v1/decide", body: body, header: map[string]string{"Idempotency-Key": key}})
		if g.status != 200 {
			t.Fatalf("%d %s", g.status, g.text)
		}
		return g.at("/effect")
	}
	other := strings.Replace(request, `"subject":{"type":"service","id":"shop"}`, `"subject":{"type":"service","id":"shop","properties":{"x":1}}`, 1)
	for i, step := range []struct{ key, body, effect string }{
		{"k1", request, "ALLOW"}, // the first use
		{"k1", request, "ALLOW"}, // its retry
		{"k1", request, "ALLOW"},
		{"k1", other, "ALLOW"}, // the same key with another body: the second use
		{"k2", request, "REVIEW"},
		{"k1", request, "ALLOW"}, // a retry of what was counted
	} {
		if effect := decide(step.key, step.body); effect != step.effect {
			t.Errorf("step %d: %v, want %s", i, effect, step.effect)
		}
	}
}

func grep(text, what string) string {
	var found []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, what) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "\n")
}
