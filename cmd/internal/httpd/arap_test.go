package httpd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
	"github.com/xiezhi-project/xiezhi/pap"
)

// noAccessRequests is of a server that does not serve the profile.
var noAccessRequests = &arap.Tokens{}

// keys are shared by all tests, since none changes them.
var keys struct {
	once sync.Once
	ring *trust.Ring
	err  error
}

func ring(t testing.TB) *trust.Ring {
	t.Helper()
	keys.once.Do(func() { keys.ring, keys.err = trust.NewRing(filepath.Join(t.TempDir(), "keys"), "rig", time.Now()) })
	if keys.err != nil {
		t.Fatal(keys.err)
	}
	return keys.ring
}

// deskEvaluation is what gateway asks for user:me at the desk.
func deskEvaluation(properties, more string) string {
	return single(`{"type":"user","id":"me"}`, `{"name":"desk.take"}`, `{"type":"desk","id":"7","properties":`+properties+`}`, more)
}

const large = `{"size":12}`

// offered is what a denial offers.
func (r *rig) offered(as, body string) (g got, token, expires string) {
	r.t.Helper()
	g = r.do(ask{as: as, path: "/access/v1/evaluation", body: body})
	token, _ = g.at("/context/access_request/binding_token").(string)
	expires, _ = g.at("/context/access_request/expires_at").(string)
	if g.status != 200 || token == "" || expires == "" {
		r.t.Fatalf("nothing is offered: %d %s", g.status, g.text)
	}
	return g, token, expires
}

// submissionOf is the evaluation's body with what binds it.
func submissionOf(body, token, expires, more string) string {
	return strings.TrimSuffix(body, "}") + fmt.Sprintf(`,"denial":{"expires_at":%q,"binding_token":%q}%s}`, expires, token, more)
}

// door makes another door's service in a tenant, and a token for it.
func (r *rig) door(key, tenant, id string) {
	r.t.Helper()
	if err := admin.EnsureSubject(r.t.Context(), r.node.pap, admin.LocalActor(), pap.Subject{Tenant: tenant, Type: "service", ID: id}, "pep"); err != nil {
		r.t.Fatal(err)
	}
	r.token(key, tenant, "service:"+id, "*")
}

// submit asks for what is denied now, and returns the task's id.
func (r *rig) submit(body, more string) string {
	r.t.Helper()
	_, token, expires := r.offered("pep", body)
	g := r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, more)})
	if g.status != http.StatusAccepted {
		r.t.Fatalf("submit: %d %s", g.status, g.text)
	}
	return g.at("/task/id").(string)
}

// approve lets both groups say yes.
func (r *rig) approve(id string) {
	r.t.Helper()
	for _, as := range []string{"li", "admin"} {
		shown := r.do(ask{as: as, path: "/api/v1/cheq/" + id}).at("/shown").(string)
		if g := r.do(ask{as: as, path: "/api/v1/cheq/" + id + "/approve", body: answer(shown)}); g.status != 200 {
			r.t.Fatalf("%s: %d %s", as, g.status, g.text)
		}
	}
}

// problemIs expects one of the profile's problems.
func (g got) problemIs(t *testing.T, name string) {
	t.Helper()
	if want := arapProblems[name].status; g.status != want || g.at("/type") != "urn:openid:authzen:access-request:error:"+name ||
		g.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d, want %d %s: %s", g.status, want, name, g.text)
	}
}

func TestADenialSaysThatPeopleCanBeAsked(t *testing.T) {
	r := newDesk(t)
	for name, row := range map[string]struct {
		as, properties string
		offered        bool
	}{
		"a review":                         {"pep", large, true},
		"a DENY that is waivable":          {"pep", `{"dear":1}`, true},
		"both":                             {"pep", `{"size":12,"dear":1}`, true},
		"an ALLOW":                         {"pep", `{"size":1}`, false},
		"a DENY that is not":               {"pep", `{"cursed":1}`, false},
		"a DENY that is not, and a review": {"pep", `{"size":12,"cursed":1}`, false},
		"a review without a template":      {"pep", `{"untold":1}`, false},
		"an error":                         {"pep", `{"size":12,"broken":{}}`, false},
		"a caller without the right":       {"narrow", large, false},
	} {
		t.Run(name, func(t *testing.T) {
			if r.tokens["narrow"] == "" {
				r.token("narrow", "acme", "service:gateway", "decide.on_behalf")
			}
			g := r.do(ask{as: row.as, path: "/access/v1/evaluation", body: deskEvaluation(row.properties, "")})
			hint, offered := g.at("/context/access_request").(map[string]any)
			if g.status != 200 || offered != row.offered || offered && (g.at("/decision") != false || hint["endpoint"] != r.url+arapPath ||
				hint["template"] != "desk" || g.at("/context/reason") != "approval_required" || g.at("/context/evaluation_id") != g.at("/context/decision_id")) {
				t.Errorf("%d %s", g.status, g.text)
			}
		})
	}
	if g := r.do(ask{as: "li", path: "/api/v1/cheq"}); len(g.at("/items").([]any)) != 0 {
		t.Errorf("an evaluation opened a case: %s", g.text)
	}
	if g := r.do(ask{path: "/.well-known/authzen-configuration"}); g.at("/access_request_endpoint") != r.url+arapPath || g.at("/jwks_uri") != r.url+jwksPath || g.at("/capabilities/0") != arapCapability {
		t.Errorf("%s", g.text)
	}
	if g := r.do(ask{path: jwksPath}); g.status != 200 || g.at("/keys/0/crv") != "Ed25519" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestAnAccessRequestIsAskedAnsweredAndRevoked(t *testing.T) {
	r := newDesk(t)
	body := deskEvaluation(large, `,"context":{"justification":"for the launch"}`)
	_, token, expires := r.offered("pep", body)
	g := r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, ""), header: map[string]string{"Idempotency-Key": "k"}})
	id, _ := g.at("/task/id").(string)
	place := "/access/v1/requests/" + id
	if g.status != 202 || g.at("/task/status") != "pending" || g.header.Get("Location") != r.url+place || g.at("/task/status_endpoint") != r.url+place || g.header.Get("Retry-After") == "" {
		t.Fatalf("%d %v %s", g.status, g.header, g.text)
	}
	k, err := r.node.cases.Case(t.Context(), id)
	if err != nil || k.Reason != "for the launch" || k.Requester.Name != "user:me" || k.Caller.Name != "service:gateway" {
		t.Errorf("%v %+v", err, k)
	}
	if g := r.do(ask{as: "pep", path: place}); g.status != 200 || g.at("/task/status") != "pending" || g.at("/result") != nil || g.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", g.status, g.text)
	}
	r.approve(id)
	done := r.do(ask{as: "pep", path: place})
	if done.status != 200 || done.at("/task/status") != "approved" || done.at("/result/mode") != "reevaluate" || done.header.Get("Retry-After") != "" {
		t.Fatalf("%d %s", done.status, done.text)
	}
	approval, err := json.Marshal(done.at("/result/approval"))
	if err != nil {
		t.Fatal(err)
	}
	again := func() got {
		return r.do(ask{as: "pep", path: "/access/v1/evaluation", body: deskEvaluation(large, `,"context":{"justification":"for the launch","approval":`+string(approval)+`}`)})
	}
	if g := again(); g.at("/decision") != true {
		t.Errorf("re-evaluated: %s", g.text)
	}
	if g := r.do(ask{as: "me", path: "/api/v1/cheq/" + id + "/revoke?wait=0s", body: `{}`}); g.status != 200 {
		t.Fatalf("%d %s", g.status, g.text)
	}
	if g := again(); g.at("/decision") != false || g.at("/context/reason") != "approval_expired" || g.at("/context/next_action") != "request" || g.at("/context/access_request/binding_token") == nil {
		t.Errorf("revoked: %s", g.text)
	}
}

// What binds a request to its denial, and how each of it is attacked.
func TestABindingTokenIsForOneDenialOfOneCaller(t *testing.T) {
	r := newDesk(t)
	r.door("side", "acme", "side")
	r.door("far", "globex", "gateway")
	body := deskEvaluation(large, "")
	_, token, expires := r.offered("pep", body)
	parts := strings.Split(token, ".")
	none := "eyJhbGciOiJub25lIiwidHlwIjoieGllemhpLWRlbmlhbCtqd3QifQ." + parts[1] + "."
	for name, row := range map[string]struct {
		as, body, want string
	}{
		"no token":                        {"pep", strings.TrimSuffix(body, "}") + `,"denial":{"expires_at":"` + expires + `","evaluation_id":"x"}}`, arapBinding},
		"another caller's":                {"side", submissionOf(body, token, expires, ""), arapBinding},
		"another subject's":               {"pep", submissionOf(strings.Replace(body, `"me"`, `"ng"`, 1), token, expires, ""), arapBinding},
		"another resource's":              {"pep", submissionOf(strings.Replace(body, `"7"`, `"8"`, 1), token, expires, ""), arapBinding},
		"another size":                    {"pep", submissionOf(deskEvaluation(`{"size":13}`, ""), token, expires, ""), arapBinding},
		"another action's":                {"pep", submissionOf(strings.Replace(body, "desk.take", "desk.sell", 1), token, expires, ""), arapBinding},
		"a property of the subject more":  {"pep", submissionOf(strings.Replace(body, `"id":"me"`, `"id":"me","properties":{"x":1}`, 1), token, expires, ""), arapBinding},
		"a later end":                     {"pep", submissionOf(body, token, "2099-01-01T00:00:00Z", ""), arapBinding},
		"no algorithm":                    {"pep", submissionOf(body, none, expires, ""), arapBinding},
		"a signature of something else's": {"pep", submissionOf(body, parts[0]+"."+parts[1]+"."+strings.Repeat("A", 86), expires, ""), arapBinding},
	} {
		t.Run(name, func(t *testing.T) {
			r.do(ask{as: row.as, path: arapPath, body: row.body}).problemIs(t, row.want)
		})
	}
	r.do(ask{as: "far", path: arapPath, body: submissionOf(body, token, expires, "")}).problemIs(t, arapBinding)
	// A platform credential speaks for any tenant, one at a time.
	r.door("wide", "", "gateway")
	in := func(tenant, path, body string) got {
		return r.do(ask{as: "wide", path: path, body: body, header: map[string]string{HeaderTenant: tenant}})
	}
	wide := in("acme", "/access/v1/evaluation", body)
	if token, _ := wide.at("/context/access_request/binding_token").(string); token == "" {
		t.Errorf("%d %s", wide.status, wide.text)
	} else {
		in("globex", arapPath, submissionOf(body, token, wide.at("/context/access_request/expires_at").(string), "")).problemIs(t, arapBinding)
	}
	if g := r.do(ask{as: "far", path: arapPath, body: submissionOf(body, token, expires, ""), header: map[string]string{HeaderTenant: "acme"}}); g.status != 403 {
		t.Errorf("in another tenant: %d %s", g.status, g.text)
	}
	for place, more := range map[string]string{
		"/items": `,"items":[]`, "/callback": `,"callback":{"endpoint":"http://169.254.169.254/"}`,
		"/requested_access/requested_until": `,"requested_access":{"requested_until":"2020-01-01T00:00:00Z"}`,
		"/requested_access/emergency":       `,"requested_access":{"emergency":"yes"}`,
	} {
		if g := r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, more)}); g.status != 400 || g.at("/errors/0/path") != place {
			t.Errorf("%s: %d %s", place, g.status, g.text)
		}
	}
	for _, more := range []string{`,"requested_access":{"emergency":true}`, `,"requested_access":{"requested_until":"` + time.Now().Add(1000*time.Hour).Format(time.RFC3339) + `"}`} {
		r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, more)}).problemIs(t, arapNotRequestable)
	}
	if g := r.do(ask{as: "li", path: "/api/v1/cheq"}); len(g.at("/items").([]any)) != 0 {
		t.Errorf("a case was opened: %s", g.text)
	}
	r.ahead.Store(int64(denialLives))
	r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, "")}).problemIs(t, arapExpired)
}

func TestWhatChangedSinceTheDenialIsNotAsked(t *testing.T) {
	r := newDesk(t)
	body := deskEvaluation(large, "")
	_, token, expires := r.offered("pep", body)
	files := deskPolicies()
	r.publish(map[string]string{"tenants/acme/desk.policy.json": strings.Replace(files["tenants/acme/desk.policy.json"], "size > 10", "size > 99", 1)})
	r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, "")}).problemIs(t, arapNotRequestable)
	r.publish(map[string]string{"tenants/acme/desk.policy.json": strings.Replace(files["tenants/acme/desk.policy.json"], "has(resource.properties.cursed)", "true", 1)})
	r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, "")}).problemIs(t, arapNotRequestable)
}

func TestASubmissionCountsOnce(t *testing.T) {
	r := newDesk(t)
	body := deskEvaluation(large, "")
	_, token, expires := r.offered("pep", body)
	keyed := func(text string) got {
		return r.do(ask{as: "pep", path: arapPath, body: text, header: map[string]string{"Idempotency-Key": "one"}})
	}
	first := keyed(submissionOf(body, token, expires, ""))
	if again := keyed(submissionOf(body, token, expires, "")); again.status != 202 || again.at("/task/id") != first.at("/task/id") || again.header.Get("Location") != first.header.Get("Location") {
		t.Errorf("the same again: %d %s", again.status, again.text)
	}
	keyed(submissionOf(body, token, expires, `,"client":{"id":"x"}`)).problemIs(t, arapDuplicate)

	id := first.at("/task/id").(string)
	if g := r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, "")}); g.status != 202 || g.at("/task/id") != id {
		t.Errorf("without a key: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "me", path: arapPath + "/" + id + "/cancel", body: `{"reason":"mistake","comment":"not now"}`}); g.status != 200 || g.at("/task/status") != "cancelled" {
		t.Fatalf("%d %s", g.status, g.text)
	}
	// What has ended is not asked again by the same token; another denial may be.
	if g := r.do(ask{as: "pep", path: arapPath, body: submissionOf(body, token, expires, "")}); g.status != 201 || g.at("/task/id") != id || g.at("/task/status") != "cancelled" {
		t.Errorf("a used token: %d %s", g.status, g.text)
	}
	if next := r.submit(body, ""); next == id {
		t.Error("a case that ended was joined")
	}
}

func TestATaskIsItsOwnTenants(t *testing.T) {
	r := newDesk(t)
	id := r.submit(deskEvaluation(large, ""), "")
	place := arapPath + "/" + id
	for as, want := range map[string]int{"pep": 200, "me": 200, "li": 200, "tenantadmin": 200, "auditor": 200, "ng": 403} {
		if g := r.do(ask{as: as, path: place}); g.status != want {
			t.Errorf("%s: %d %s", as, g.status, g.text)
		}
	}
	for _, as := range []string{"hu", "globexshop"} {
		r.do(ask{as: as, path: place}).problemIs(t, arapUnknownTask)
		r.do(ask{as: as, path: place + "/cancel", body: `{}`}).problemIs(t, arapUnknownTask)
	}
	r.do(ask{as: "pep", path: arapPath + "/cheq-none"}).problemIs(t, arapUnknownTask)
	r.do(ask{as: "admin", path: place, header: map[string]string{HeaderTenant: "globex"}}).problemIs(t, arapUnknownTask)
	if g := r.do(ask{as: "li", path: place + "/cancel", body: `{}`}); g.status != 403 {
		t.Errorf("a reviewer cancels: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "pep", method: http.MethodPost, path: place + "/cancel"}); g.status != 200 || g.at("/task/status") != "cancelled" || g.at("/task/links") != nil {
		t.Errorf("cancel: %d %s", g.status, g.text)
	}
	r.do(ask{as: "pep", path: place + "/cancel", body: `{}`}).problemIs(t, arapTaskState)
}

func TestStatusesOfTasks(t *testing.T) {
	r := newDesk(t)
	denied := r.submit(deskEvaluation(large, ""), "")
	shown := r.do(ask{as: "li", path: "/api/v1/cheq/" + denied}).at("/shown").(string)
	if g := r.do(ask{as: "li", path: "/api/v1/cheq/" + denied + "/reject", body: answer(shown)}); g.status != 200 {
		t.Fatal(g.text)
	}
	if g := r.do(ask{as: "pep", path: arapPath + "/" + denied}); g.at("/task/status") != "denied" || g.at("/result") != nil {
		t.Errorf("%s", g.text)
	}
	late := r.submit(deskEvaluation(large, ""), `,"requested_access":{"requested_until":"`+time.Now().Add(2*time.Hour).Format(time.RFC3339Nano)+`"}`)
	if k, err := r.node.cases.Case(t.Context(), late); err != nil || k.GrantFor < 119*time.Minute || k.GrantFor > 2*time.Hour {
		t.Errorf("%v: for %s", err, k.GrantFor)
	}
	r.ahead.Store(int64(9 * time.Hour))
	if _, err := r.node.cases.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := r.do(ask{as: "pep", path: arapPath + "/" + late}); g.at("/task/status") != "expired" {
		t.Errorf("%s", g.text)
	}
}

// An approval is no permission: it only explains.
func TestAnApprovalThatDoesNotHelpIsExplained(t *testing.T) {
	r := newDesk(t)
	id := r.submit(deskEvaluation(large, ""), "")
	r.approve(id)
	done := r.do(ask{as: "pep", path: arapPath + "/" + id})
	grant, state := done.at("/result/approval/id").(string), done.at("/result/approval/state").(string)
	second := r.submit(deskEvaluation(`{"size":14}`, ""), "")
	r.approve(second)
	another := r.do(ask{as: "pep", path: arapPath + "/" + second}).at("/result/approval/id").(string)
	manual := r.do(ask{as: "tenantadmin", path: "/api/v1/policy/dynamic", body: fmt.Sprintf(
		`{"type":"DYNAMIC","kind":"grant","tenant":"acme","satisfies":["tenants/acme/desk/large"],"request":%s,"validity":{"end":%q},"reason":"x"}`,
		deskEvaluation(`{"size":99}`, ""), time.Now().Add(time.Hour).Format(time.RFC3339))})
	other, err := ring(t).Sign(trust.KindRelease, map[string]string{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ properties, approval, reason, next string }{
		"another size":              {`{"size":13}`, `{"id":"` + grant + `"}`, reasonScope, "request"},
		"another size, with state":  {`{"size":13}`, `{"id":"` + grant + `","state":"` + state + `"}`, reasonScope, "request"},
		"what cannot be asked":      {`{"cursed":1}`, `{"id":"` + grant + `"}`, reasonScope, "none"},
		"an id of nothing":          {`{"size":13}`, `{"id":"grt-none"}`, reasonUnverifiable, "none"},
		"no id":                     {`{"size":13}`, `{}`, reasonUnverifiable, "none"},
		"no object":                 {`{"size":13}`, `"yes"`, reasonUnverifiable, "none"},
		"a grant made by hand":      {`{"size":13}`, fmt.Sprintf(`{"id":%q}`, manual.at("/id")), reasonUnverifiable, "none"},
		"another's state":           {`{"size":13}`, `{"id":"` + grant + `","state":"` + other + `"}`, reasonUnverifiable, "none"},
		"a state of another id":     {`{"size":13}`, `{"id":"` + another + `","state":"` + state + `"}`, reasonUnverifiable, "none"},
		"a state that is no string": {`{"size":13}`, `{"id":"` + grant + `","state":{}}`, reasonUnverifiable, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			g := r.do(ask{as: "pep", path: "/access/v1/evaluation", body: deskEvaluation(row.properties, `,"context":{"approval":`+row.approval+`}`)})
			_, hint := g.at("/context/access_request").(map[string]any)
			if g.at("/decision") != false || g.at("/context/reason") != row.reason || g.at("/context/next_action") != row.next || hint != (row.next == "request") {
				t.Errorf("%s", g.text)
			}
		})
	}
	t.Run("another tenant's", func(t *testing.T) {
		r.door("far", "globex", "gateway")
		g := r.do(ask{as: "far", path: "/access/v1/evaluation", body: deskEvaluation(large, `,"context":{"approval":{"id":"`+grant+`"}}`)})
		if g.at("/decision") != false || g.at("/context/reason") != reasonUnverifiable {
			t.Errorf("%d %s", g.status, g.text)
		}
	})
	t.Run("a rule that still denies", func(t *testing.T) {
		r.publish(map[string]string{"tenants/acme/more.policy.json": `{"id":"more","name":"More","scope":{"actions":["desk.*"]},"rules":[
			{"id":"shut","condition":"true","effect":"DENY","message":{"en":"Shut.","zh":"关。"}}]}`})
		g := r.do(ask{as: "pep", path: "/access/v1/evaluation", body: deskEvaluation(large, `,"context":{"approval":{"id":"`+grant+`"}}`)})
		if g.at("/decision") != false || g.at("/context/reason") != reasonPolicy || g.at("/context/next_action") != "none" {
			t.Errorf("%s", g.text)
		}
	})
}

// A node that has not read the grant yet says when to ask again.
func TestAGrantThatIsNotHereYetIsWaitedFor(t *testing.T) {
	r := newDesk(t)
	id := r.submit(deskEvaluation(large, ""), "")
	behind := r.node.pdp.Active()
	r.approve(id)
	done := r.do(ask{as: "pep", path: arapPath + "/" + id})
	r.node.pdp.Activate(behind)
	g := r.do(ask{as: "pep", path: "/access/v1/evaluation", body: deskEvaluation(large, fmt.Sprintf(`,"context":{"approval":{"id":%q}}`, done.at("/result/approval/id")))})
	if g.at("/decision") != false || g.at("/context/reason") != reasonPending || g.at("/context/next_action") != "retry" || g.at("/context/retry_after") != 1.0 || g.at("/context/access_request") != nil {
		t.Errorf("%s", g.text)
	}
}

func TestPoliciesDoNotSeeApprovals(t *testing.T) {
	r := newDesk(t)
	r.publish(map[string]string{"tenants/acme/fool.policy.json": `{"id":"fool","name":"Fool","scope":{"actions":["fool"]},"reads":["context.approval"],"rules":[
		{"id":"fooled","condition":"has(context.approval)","effect":"ALLOW"}]}`})
	body := single(`{"type":"user","id":"me"}`, `{"name":"fool"}`, record1, `,"context":{"approval":{"id":"x"}}`)
	if g := r.do(ask{as: "pep", path: "/access/v1/evaluation", body: body}); g.at("/decision") != false {
		t.Errorf("%s", g.text)
	}
	if g := r.do(ask{as: "pep", path: "/access/v1/evaluations", body: `{"evaluations":[` + body + `]}`}); g.at("/evaluations/0/decision") != false {
		t.Errorf("%s", g.text)
	}
}

func TestAServerWithoutTheProfileSaysSo(t *testing.T) {
	r := newRigWith(t, deskPolicies(), Config{AccessRequests: noAccessRequests})
	for _, route := range arapRoutes() {
		a := r.sample(&route)
		a.as = "pep"
		if g := r.do(a); g.status != http.StatusNotImplemented || g.code() != "access_requests_unavailable" {
			t.Errorf("%s: %d %s", route.Operation, g.status, g.text)
		}
	}
	if g := r.do(ask{as: "pep", path: "/access/v1/evaluation", body: deskEvaluation(large, "")}); g.at("/context/effect") != "REVIEW" || g.at("/context/access_request") != nil {
		t.Errorf("%s", g.text)
	}
	if g := r.do(ask{path: "/.well-known/authzen-configuration"}); g.at("/capabilities") != nil || g.at("/jwks_uri") != nil {
		t.Errorf("%s", g.text)
	}
}
