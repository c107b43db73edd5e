package httpd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// deskPolicies hold requests back in every way there is: a review, a DENY that
// is waivable and one that is not, an error, and what nobody allows.
func deskPolicies() map[string]string {
	files := testPolicies()
	maps.Copy(files, map[string]string{
		"tenants/acme/desk.policy.json": `{"id":"desk","name":"Desk","scope":{"actions":["desk.*"]},"masks":["/resource/properties/pin"],"rules":[
			{"id":"anybody","condition":"action != 'desk.steal'","effect":"ALLOW"},
			{"id":"large","condition":"has(resource.properties.size) && resource.properties.size > 10","effect":"REVIEW","admits":false,"template":"desk","message":{"en":"Large.","zh":"过大。"}},
			{"id":"dear","condition":"has(resource.properties.dear)","effect":"DENY","waivable":true,"template":"desk","message":{"en":"Dear.","zh":"昂贵。"}},
			{"id":"cursed","condition":"has(resource.properties.cursed)","effect":"DENY","message":{"en":"Cursed.","zh":"禁用。"}},
			{"id":"untold","condition":"has(resource.properties.untold)","effect":"REVIEW","admits":false,"message":{"en":"Untold.","zh":"未定。"}},
			{"id":"broken","condition":"has(resource.properties.broken) && resource.properties.broken.nowhere == 1","effect":"DENY","message":{"en":"x","zh":"x"}}]}`,
		"approvals/desk.yaml": `title: {en: A desk, zh: 桌子}
decide_by: 8h
grant_for: {default: 1h, ceiling: 24h}
all_of:
  - {title: {en: Security, zh: 安全}, role: security_admin, approvals: 1}
  - {title: {en: Platform, zh: 平台}, role: "platform:admin", approvals: 1}
`,
	})
	return files
}

// newDesk is a rig with people: li and wang, reviewers of acme; hu, one of
// globex; ng, an engineer of acme; me, whom gateway asks for.
func newDesk(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, deskPolicies())
	for _, p := range []struct{ tenant, id, role string }{
		{"acme", "li", "security_admin"}, {"acme", "wang", "security_admin"}, {"globex", "hu", "security_admin"},
		{"acme", "ng", "engineer"}, {"acme", "me", "engineer"}, {"acme", "eye", "auditor"},
	} {
		if err := admin.EnsureSubject(t.Context(), r.node.pap, admin.LocalActor(), pap.Subject{Tenant: p.tenant, Type: "user", ID: p.id}, p.role); err != nil {
			t.Fatal(err)
		}
		r.token(p.id, p.tenant, "user:"+p.id, "*")
	}
	return r
}

// deskCase is the body of an ask for somebody in acme.
func deskCase(subject, properties string) string {
	typ, id, _ := strings.Cut(subject, ":")
	return fmt.Sprintf(`{"request":{"tenant":"acme","subject":{"type":%q,"id":%q},"action":"desk.take","resource":{"type":"desk","id":"7","properties":%s}},"reason":"for the launch"}`, typ, id, properties)
}

// open opens a case for user:me, and returns its path and what was shown.
func (r *rig) open() (path, shown string) {
	r.t.Helper()
	g := r.do(ask{as: "pep", path: "/api/v1/cheq", body: deskCase("user:me", `{"size":12}`)})
	if g.status != http.StatusCreated {
		r.t.Fatalf("open: %d %s", g.status, g.text)
	}
	return "/api/v1/cheq/" + g.at("/id").(string), g.at("/shown").(string)
}

func answer(shown string) string { return fmt.Sprintf(`{"shown":%q,"reason":"fine"}`, shown) }

// decided is what the desk is answered now.
func (r *rig) decided() authz.Effect {
	r.t.Helper()
	var body struct {
		Request json.RawMessage `json:"request"`
	}
	if err := json.Unmarshal([]byte(deskCase("user:me", `{"size":12}`)), &body); err != nil {
		r.t.Fatal(err)
	}
	g := r.do(ask{as: "pep", path: "/api/v1/decide", body: string(body.Request)})
	var effect authz.Effect
	if err := effect.UnmarshalText([]byte(fmt.Sprint(g.at("/effect")))); err != nil {
		r.t.Fatalf("%d %s", g.status, g.text)
	}
	return effect
}

func TestACaseIsAskedAnsweredAndTakenBack(t *testing.T) {
	r := newDesk(t)
	path, shown := r.open()
	again := r.do(ask{as: "pep", path: "/api/v1/cheq", body: deskCase("user:me", `{"size":12}`)})
	if again.status != http.StatusOK || "/api/v1/cheq/"+again.at("/id").(string) != path {
		t.Errorf("the same asked again: %d %s", again.status, again.text)
	}
	view := r.do(ask{as: "li", path: path})
	card, err := cardDigest(view)
	if view.status != 200 || err != nil || card != shown || view.at("/groups/0/title/zh") != "安全" || view.at("/timeline/0/actor") != "user:me" || view.at("/requester") != "user:me" || view.at("/caller") != "service:gateway" {
		t.Errorf("%d, card %s of %s, %v: %s", view.status, card, shown, err, view.text)
	}
	first := r.do(ask{as: "li", path: path + "/approve", body: answer(shown)})
	if first.status != 200 || first.at("/state") != "pending" || first.at("/votes/0/voter") != "user:li" || first.at("/votes/0/channel") != "api" {
		t.Errorf("the first yes: %d %s", first.status, first.text)
	}
	if r.decided() != authz.Review {
		t.Error("one of two opened it")
	}
	second := r.do(ask{as: "admin", path: path + "/approve", body: answer(shown)})
	if second.status != 200 || second.at("/state") != "approved" || second.at("/yield") != "live" || second.at("/votes/1/voter") != "platform:user:root" || second.at("/revision") != second.header.Get(HeaderRevision) {
		t.Fatalf("the decisive yes: %d %s", second.status, second.text)
	}
	if r.decided() != authz.Allow {
		t.Error("it does not open")
	}
	for reader, want := range map[string]int{"me": 200, "pep": 200, "li": 200, "eye": 200, "auditor": 200, "tenantadmin": 200, "ng": 403, "shop": 403, "hu": 404, "globexshop": 404} {
		if g := r.do(ask{as: reader, path: path}); g.status != want {
			t.Errorf("%s reads it: %d, want %d: %s", reader, g.status, want, g.text)
		}
	}
	r.follows("s1", "acme", "service:gateway", "acme", r.head())
	revoked := r.do(ask{as: "me", path: path + "/revoke?wait=0s", body: `{"reason":"done with it"}`})
	if revoked.status != 200 || revoked.at("/yield") != "revoked" || revoked.at("/unacknowledged/0/id") != "s1" || revoked.at("/unacknowledged/0/honours_until") == nil {
		t.Errorf("revoked: %d %s", revoked.status, revoked.text)
	}
	if r.decided() != authz.Review {
		t.Error("what was revoked opens")
	}
	if g := r.do(ask{as: "me", path: path + "/revoke", body: `{}`}); g.status != 409 || g.code() != "case_settled" {
		t.Errorf("revoked twice: %d %s", g.status, g.text)
	}
}

// cardDigest is the digest of the card that a case shows, as whoever reads it
// computes it.
func cardDigest(g got) (string, error) {
	var body struct {
		Card cheq.Card `json:"card"`
	}
	if err := json.Unmarshal([]byte(g.text), &body); err != nil {
		return "", err
	}
	return body.Card.Digest()
}

// follows tells the store of a PEP that is connected and holds a revision.
func (r *rig) follows(id, tenant, subject, serves string, holds authz.Revision) {
	r.t.Helper()
	now := time.Now()
	p := pap.PEP{
		Key: tenant + "/" + subject + "/" + id, ID: id, Tenant: tenant, Subject: subject, Tenants: []string{serves}, Kind: "stream",
		Connected: true, ConnectedAt: now, SeenAt: now, AckedAt: now, HonoursUntil: now.Add(pap.GrantStale), Revision: holds,
	}
	if err := r.node.store.PutPEPs(r.t.Context(), []pap.PEP{p}); err != nil {
		r.t.Fatal(err)
	}
}

func TestWhoMayNotAnswerIsRefusedAndTold(t *testing.T) {
	r := newDesk(t)
	var mu sync.Mutex
	var refused []authz.AuditRecord
	r.config.Refused = func(record *authz.AuditRecord) { mu.Lock(); defer mu.Unlock(); refused = append(refused, *record) }
	path, shown := r.open()
	// The requester has every role that could answer.
	for _, role := range []string{"security_admin", "admin"} {
		if err := admin.EnsureSubject(t.Context(), r.node.pap, admin.LocalActor(), pap.Subject{Tenant: "acme", Type: "user", ID: "me"}, role); err != nil {
			t.Fatal(err)
		}
	}
	r.token("narrow", "acme", "user:li", "cheq.read", "decide")
	wrong := "sha256:" + strings.Repeat("0", 64)
	for _, row := range []struct {
		name, as, step, body string
		status               int
		code                 string
		audited              bool
	}{
		{"the requester, who is a reviewer", "me", "approve", answer(shown), 403, "forbidden", true},
		{"who brought it", "pep", "approve", answer(shown), 403, "forbidden", true},
		{"a reviewer of another tenant", "hu", "approve", answer(shown), 404, "not_found", true},
		{"an engineer", "ng", "approve", answer(shown), 403, "not_reviewer", true},
		{"an administrator, who is in no group", "tenantadmin", "approve", answer(shown), 403, "not_reviewer", true},
		{"an auditor", "eye", "reject", answer(shown), 403, "not_reviewer", true},
		{"a reviewer who saw something else", "li", "approve", answer(wrong), 409, "not_what_was_shown", true},
		{"a reviewer who does not say what it saw", "li", "approve", `{"reason":"x"}`, 400, "invalid_request", false},
		{"a reason of 100 KB", "li", "approve", fmt.Sprintf(`{"shown":%q,"reason":%q}`, shown, strings.Repeat("x", 100_000)), 400, "text_too_long", true},
		{"an unknown member", "li", "approve", fmt.Sprintf(`{"shown":%q,"yes":true}`, shown), 400, "invalid_request", false},
		{"a null", "li", "approve", `{"shown":null}`, 400, "invalid_request", false},
		{"a token that was made to read", "narrow", "approve", answer(shown), 403, "forbidden", true},
		{"a stranger cancels", "ng", "cancel", `{}`, 403, "forbidden", true},
		{"a reviewer cancels", "li", "cancel", `{}`, 403, "not_asker", true},
		{"an administrator cancels", "tenantadmin", "cancel", `{}`, 403, "not_asker", true},
		{"another tenant's administrator cancels", "globexshop", "cancel", `{}`, 404, "not_found", true},
		{"a stranger revokes", "ng", "revoke", `{}`, 403, "forbidden", true},
		{"a revoke of what is not granted", "me", "revoke", `{}`, 409, "case_settled", true},
		{"an extension of what is not granted", "pep", "extend", `{"reason":"more"}`, 409, "case_settled", true},
		{"a stranger comments", "ng", "comment", `{"text":"hello"}`, 403, "forbidden", true},
		{"an auditor comments", "eye", "comment", `{"text":"hello"}`, 403, "forbidden", true},
		{"a comment of 100 KB", "li", "comment", fmt.Sprintf(`{"text":%q}`, strings.Repeat("x", 100_000)), 400, "text_too_long", true},
		{"a comment that says nothing", "li", "comment", `{"text":" "}`, 400, "text_missing", false},
		{"a reason to cancel of 100 KB", "me", "cancel", fmt.Sprintf(`{"reason":%q}`, strings.Repeat("x", 100_000)), 400, "text_too_long", true},
	} {
		mu.Lock()
		refused = nil
		mu.Unlock()
		g := r.do(ask{as: row.as, path: path + "/" + row.step, body: row.body})
		if g.status != row.status || g.code() != row.code {
			t.Errorf("%s: %d %s, want %d %s", row.name, g.status, g.text, row.status, row.code)
		}
		mu.Lock()
		if (len(refused) == 1) != row.audited {
			t.Errorf("%s: %d audit records", row.name, len(refused))
		} else if row.audited && (refused[0].Resource != "cheq:"+strings.TrimPrefix(path, "/api/v1/cheq/") || refused[0].Actor == "") {
			t.Errorf("%s: the audit has %s of %s", row.name, refused[0].Resource, refused[0].Actor)
		}
		mu.Unlock()
	}
	g := r.do(ask{as: "auditor", path: path})
	if votes := g.at("/votes").([]any); len(votes) != 0 || g.at("/state") != "pending" || len(g.at("/timeline").([]any)) != 1 {
		t.Errorf("something was kept: %s", g.text)
	}
}

func TestAVoteCountsOnceAndNotAfterTheEnd(t *testing.T) {
	r := newDesk(t)
	path, shown := r.open()
	key := map[string]string{"Idempotency-Key": "once"}
	one := r.do(ask{as: "li", path: path + "/approve", body: answer(shown), header: key})
	same := r.do(ask{as: "li", path: path + "/approve", body: answer(shown), header: key})
	twice := r.do(ask{as: "li", path: path + "/approve", body: answer(shown)})
	if one.text != same.text || same.header.Get(HeaderReplayed) != "true" {
		t.Errorf("a retry: %s, then %s", one.text, same.text)
	}
	if g := r.do(ask{as: "wang", path: path + "/approve", body: answer(shown)}); g.at("/state") != "pending" || len(twice.at("/votes").([]any)) != 1 || len(g.at("/votes").([]any)) != 2 {
		t.Errorf("two of one group are not one of each: %s", g.text)
	}
	if g := r.do(ask{as: "li", path: path + "/reject", body: answer(shown)}); g.status != 200 || g.at("/state") != "rejected" || g.at("/cause") != "votes" {
		t.Errorf("a change of mind: %d %s", g.status, g.text)
	}
	for as, step := range map[string]string{"admin": "approve", "li": "approve", "wang": "reject"} {
		if g := r.do(ask{as: as, path: path + "/" + step, body: answer(shown)}); g.status != 409 || g.code() != "case_settled" {
			t.Errorf("%s after the end: %d %s", as, g.status, g.text)
		}
	}
	if g := r.do(ask{as: "me", path: path + "/cancel", body: `{"reason":"late"}`}); g.status != 409 || g.code() != "case_settled" {
		t.Errorf("cancelled after the end: %d %s", g.status, g.text)
	}
	if r.decided() != authz.Review {
		t.Error("what was rejected opens")
	}
}

func TestNobodyIsAskedForWhatAYesCannotOpen(t *testing.T) {
	r := newDesk(t)
	r.token("asking", "acme", "service:gateway", "decide.on_behalf")
	for _, row := range []struct {
		name, as, body string
		status         int
		code, names    string
	}{
		{"what is allowed", "pep", deskCase("user:me", `{"size":1}`), 409, "nothing_to_ask", ""},
		{"a DENY that is not waivable", "pep", deskCase("user:me", `{"size":12,"cursed":true}`), 409, "not_waivable", "cursed"},
		{"an error", "pep", deskCase("user:me", `{"size":12,"broken":{}}`), 409, "not_waivable", "evaluation_error"},
		{"what nobody allows", "pep", strings.Replace(deskCase("user:me", `{"size":12}`), "desk.take", "desk.steal", 1), 409, "not_waivable", "no_allow"},
		{"a rule that names no template", "pep", deskCase("user:me", `{"untold":1}`), 409, "not_askable", "tenants/acme/desk/untold"},
		{"a longer grant than there is", "pep", strings.Replace(deskCase("user:me", `{"size":12}`), `"reason"`, `"grant_for":"25h","reason"`, 1), 409, "not_askable", "tenants/acme/desk/large"},
		{"no span", "pep", strings.Replace(deskCase("user:me", `{"size":12}`), `"reason"`, `"grant_for":"soon","reason"`, 1), 400, "invalid_request", "/grant_for"},
		{"a span below zero", "pep", strings.Replace(deskCase("user:me", `{"size":12}`), `"reason"`, `"grant_for":"-2h","reason"`, 1), 400, "invalid_request", "/grant_for"},
		{"no reason", "pep", strings.Replace(deskCase("user:me", `{"size":12}`), "for the launch", " ", 1), 400, "invalid_request", "/reason"},
		{"no request", "pep", `{"reason":"x"}`, 400, "invalid_request", "/request"},
		{"an unknown member", "pep", strings.Replace(deskCase("user:me", `{"size":12}`), `"reason"`, `"state":"approved","reason"`, 1), 400, "invalid_request", "/state"},
		{"an unknown member of the request", "pep", strings.Replace(deskCase("user:me", `{"size":12}`), `"tenant"`, `"grant":1,"tenant"`, 1), 400, "invalid_request", "/request/grant"},
		{"a reason of 100 KB", "pep", strings.Replace(deskCase("user:me", `{"size":12}`), "for the launch", strings.Repeat("x", 100_000), 1), 400, "text_too_long", ""},
		{"somebody else's, without the right", "shop", deskCase("user:me", `{"size":12}`), 403, "forbidden", "cheq.open.on_behalf"},
		{"an administrator, in somebody's name", "admin", deskCase("user:me", `{"size":12}`), 403, "forbidden", "cheq.open.on_behalf"},
		{"a token that was not made for it", "asking", deskCase("user:me", `{"size":12}`), 403, "forbidden", "cheq.open.on_behalf"},
		{"another tenant's", "globexshop", deskCase("service:shop", `{"size":12}`), 403, "forbidden", "acme"},
	} {
		g := r.do(ask{as: row.as, path: "/api/v1/cheq", body: row.body})
		if g.status != row.status || g.code() != row.code || !strings.Contains(g.text, row.names) {
			t.Errorf("%s: %d %.400s, want %d %s with %s", row.name, g.status, g.text, row.status, row.code, row.names)
		}
	}
	if g := r.do(ask{as: "auditor", path: "/api/v1/cheq"}); len(g.at("/items").([]any)) != 0 {
		t.Errorf("cases were opened: %s", g.text)
	}
	waiver := r.do(ask{as: "shop", path: "/api/v1/cheq", body: deskCase("service:shop", `{"dear":true}`)})
	if waiver.status != 201 || waiver.at("/opens/0/effect") != "DENY" || waiver.at("/opens/0/message/zh") != "昂贵。" {
		t.Errorf("a waiver: %d %s", waiver.status, waiver.text)
	}
	for i := range 6 {
		g := r.do(ask{as: "shop", path: "/api/v1/cheq", body: deskCase("service:shop", fmt.Sprintf(`{"dear":%d}`, i))})
		if want := map[bool]int{true: 201, false: 429}[i < 4]; g.status != want || want == 429 && g.code() != "too_many_cases" {
			t.Errorf("case %d: %d %s, want %d", i+2, g.status, g.text, want)
		}
	}
}

func TestListsHoldWhatConcernsTheCaller(t *testing.T) {
	r := newDesk(t)
	var ids []string
	for i := range 3 {
		g := r.do(ask{as: "pep", path: "/api/v1/cheq", body: deskCase("user:me", fmt.Sprintf(`{"size":%d}`, 20+i))})
		ids = append([]string{g.at("/id").(string)}, ids...)
	}
	own := r.do(ask{as: "shop", path: "/api/v1/cheq", body: deskCase("service:shop", `{"size":30}`)}).at("/id").(string)
	all := append([]string{own}, ids...)
	if g := r.do(ask{as: "shop", path: "/api/v1/cheq/" + own + "/cancel", body: `{"reason":"no"}`}); g.at("/state") != "cancelled" {
		t.Fatalf("cancel: %s", g.text)
	}
	for _, row := range []struct {
		as, query string
		want      []string
	}{
		{"auditor", "", all}, {"admin", "?tenant=acme", all}, {"eye", "", all}, {"tenantadmin", "", all}, {"tenantadmin", "?tenant=acme", all},
		{"auditor", "?tenant=globex", nil}, {"li", "", all}, {"me", "", ids}, {"pep", "", ids}, {"shop", "", []string{own}}, {"ng", "", nil},
		{"hu", "", nil}, {"globexshop", "", nil}, {"eye", "?state=pending", ids}, {"eye", "?state=cancelled", []string{own}},
		{"eye", "?requester=user:me", ids}, {"auditor", "?tenant=acme&requester=service:shop", []string{own}}, {"eye", "?requester=platform:user:me", nil},
	} {
		for _, limit := range []int{1, 3, 100} {
			var got []string
			cursor := ""
			for {
				query := row.query + map[bool]string{true: "?", false: "&"}[row.query == ""] + fmt.Sprintf("limit=%d&cursor=%s", limit, cursor)
				g := r.do(ask{as: row.as, path: "/api/v1/cheq" + query})
				if g.status != 200 {
					t.Fatalf("%s lists %s: %d %s", row.as, query, g.status, g.text)
				}
				for _, item := range g.at("/items").([]any) {
					got = append(got, item.(map[string]any)["id"].(string))
				}
				if cursor, _ = g.at("/next_cursor").(string); cursor == "" {
					break
				}
			}
			if strings.Join(got, " ") != strings.Join(row.want, " ") {
				t.Errorf("%s lists %q, %d a page: %v, want %v", row.as, row.query, limit, got, row.want)
			}
		}
	}
	for query, code := range map[string]string{
		"?state=open": "invalid_parameter", "?requester=me": "invalid_parameter", "?tenant=globex": "forbidden", "?limit=0": "invalid_parameter", "?who=me": "invalid_parameter",
	} {
		if g := r.do(ask{as: "eye", path: "/api/v1/cheq" + query}); g.code() != code {
			t.Errorf("%s: %d %s, want %s", query, g.status, g.text, code)
		}
	}
	if g := r.do(ask{as: "auditor", path: "/api/v1/cheq?requester=user:me"}); g.code() != "invalid_parameter" {
		t.Errorf("a requester of no tenant: %d %s", g.status, g.text)
	}
}

func TestAReaderIsHeldUntilTheCaseIsSettled(t *testing.T) {
	r := newDesk(t)
	path, shown := r.open()
	began := time.Now()
	if g := r.do(ask{as: "me", path: path + "?wait=20ms"}); g.status != 200 || g.at("/state") != "pending" || time.Since(began) < 20*time.Millisecond {
		t.Errorf("a wait that is over: %d %s", g.status, g.text)
	}
	answered := make(chan got, 1)
	go func() { answered <- r.do(ask{as: "me", path: path + "?wait=60s"}) }()
	if g := r.do(ask{as: "li", path: path + "/reject", body: answer(shown)}); g.at("/state") != "rejected" {
		t.Fatalf("%d %s", g.status, g.text)
	}
	if g := <-answered; g.status != 200 || g.at("/state") != "rejected" {
		t.Errorf("%d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "me", path: path + "?wait=61s"}); g.code() != "invalid_parameter" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestAnExtensionIsACaseOfItsOwn(t *testing.T) {
	r := newDesk(t)
	approve := func(id string) {
		t.Helper()
		for _, as := range []string{"li", "admin"} {
			shown := r.do(ask{as: as, path: "/api/v1/cheq/" + id}).at("/shown").(string)
			if g := r.do(ask{as: as, path: "/api/v1/cheq/" + id + "/approve", body: answer(shown)}); g.status != 200 {
				t.Fatalf("%s: %d %s", as, g.status, g.text)
			}
		}
	}
	open := func(properties string) string {
		t.Helper()
		id := r.do(ask{as: "pep", path: "/api/v1/cheq", body: deskCase("user:me", properties)}).at("/id").(string)
		approve(id)
		return id
	}
	id := open(`{"size":12}`)
	body := `{"grant_for":"2h","reason":"not done yet"}`
	g := r.do(ask{as: "pep", path: "/api/v1/cheq/" + id + "/extend", body: body})
	if g.status != 201 || g.at("/extends") != id || g.at("/grant_for") != "2h0m0s" || g.at("/requester") != "user:me" {
		t.Fatalf("%d %s", g.status, g.text)
	}
	if joined := r.do(ask{as: "pep", path: "/api/v1/cheq/" + id + "/extend", body: body}); joined.status != 200 || joined.at("/id") != g.at("/id") {
		t.Errorf("the same extension again: %d %s", joined.status, joined.text)
	}
	approve(g.at("/id").(string))
	if g := r.do(ask{as: "eye", path: "/api/v1/policy/dynamic?tenant=acme"}); len(g.at("/items").([]any)) != 2 {
		t.Errorf("grants: %s", g.text)
	}
	masked := open(`{"size":12,"pin":"1234"}`)
	if g := r.do(ask{as: "pep", path: "/api/v1/cheq/" + masked + "/extend", body: body}); g.status != 409 || g.code() != "not_askable" || !strings.Contains(g.text, "masked") {
		t.Errorf("of a request that is masked: %d %s", g.status, g.text)
	}
	for as, want := range map[string]int{"shop": 403, "li": 403, "ng": 403, "globexshop": 404} {
		if g := r.do(ask{as: as, path: "/api/v1/cheq/" + id + "/extend", body: body}); g.status != want {
			t.Errorf("%s extends: %d %s, want %d", as, g.status, g.text, want)
		}
	}
}

func TestCommentsAreInTheTimeline(t *testing.T) {
	r := newDesk(t)
	path, _ := r.open()
	for _, as := range []string{"li", "me", "pep", "tenantadmin"} {
		if g := r.do(ask{as: as, path: path + "/comment", body: `{"text":"by ` + as + `"}`}); g.status != 200 {
			t.Errorf("%s: %d %s", as, g.status, g.text)
		}
	}
	g := r.do(ask{as: "me", path: path})
	if line := g.at("/timeline/1"); fmt.Sprint(line.(map[string]any)["actor"], line.(map[string]any)["detail"]) != "user:liby li" || len(g.at("/timeline").([]any)) != 5 {
		t.Errorf("%s", g.text)
	}
}

func TestAServerThatAsksNobodySaysSo(t *testing.T) {
	r := newRigWith(t, testPolicies(), Config{Approvals: noApprovals})
	for _, route := range cheqRoutes() {
		a := r.sample(&route)
		a.as = "admin"
		if g := r.do(a); g.status != http.StatusNotImplemented || g.code() != "approvals_unavailable" {
			t.Errorf("%s: %d %s", route.Operation, g.status, g.text)
		}
	}
}

// The sensitive is neither in what is stored nor in what is shown.
func TestACaseShowsTheRequestMasked(t *testing.T) {
	r := newDesk(t)
	g := r.do(ask{as: "pep", path: "/api/v1/cheq", body: deskCase("user:me", `{"size":12,"pin":"1234"}`)})
	view := r.do(ask{as: "li", path: "/api/v1/cheq/" + g.at("/id").(string)})
	stored, err := r.node.cases.Case(context.Background(), g.at("/id").(string))
	if err != nil || strings.Contains(g.text+view.text+string(stored.Request.AppendJSON(nil)), "1234") || !strings.Contains(view.text, "***") {
		t.Errorf("%v: %s", err, view.text)
	}
}
