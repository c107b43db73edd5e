package httpd

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

const (
	policyPath = "tenants/acme/freeze.policy.json"
	policyText = `{"id":"freeze","name":"f","rules":[{"id":"frozen","condition":"action == 'ecs.create'","effect":"DENY","message":{"en":"Frozen.","zh":"冻结。"}}]}`
)

func TestAPolicyLivesFromDraftToRemoval(t *testing.T) {
	r := newRig(t, testPolicies())
	decide := func() any {
		return r.do(ask{as: "shop", path: "/api/v1/decide", body: machineBody(`{"cpu":2}`, "")}).at("/effect")
	}
	place := "/api/v1/policies/" + policyPath

	g := r.do(ask{as: "author", path: "/api/v1/policies", body: `{"path":` + quoted(policyPath) + `,"content":` + quoted(policyText) + `}`})
	if g.status != 201 || g.header.Get("Location") != place || g.header.Get("ETag") != `"1"` || g.at("/draft") != true {
		t.Fatalf("create: %d %s", g.status, g.text)
	}
	if decide() != "ALLOW" {
		t.Error("a draft changed an answer")
	}
	g = r.do(ask{as: "author", path: place})
	if g.status != 200 || g.at("/content") != policyText || g.header.Get("ETag") != `"1"` {
		t.Errorf("read: %d %s", g.status, g.text)
	}
	g = r.do(ask{as: "author", path: "/api/v1/releases", body: `{"drafts":[` + quoted(policyPath) + `],"note":"freeze"}`})
	if g.status != 201 || g.at("/number") != 2.0 || g.at("/author") != "user:author" || g.header.Get("Xiezhi-Revision") != r.head().String() {
		t.Fatalf("publish: %d %s", g.status, g.text)
	}
	if decide() != "DENY" {
		t.Error("the release is not in force when its publication is answered")
	}
	g = r.do(ask{as: "author", method: "PUT", path: place, body: `{"content":` + quoted(strings.Replace(policyText, "ecs.create", "ecs.delete", 1)) + `}`, header: map[string]string{"If-Match": `"1"`}})
	if g.status != 200 || g.header.Get("ETag") != `"2"` {
		t.Fatalf("update: %d %s", g.status, g.text)
	}
	list := r.do(ask{as: "author", path: "/api/v1/policies?drafts=true"})
	if list.at("/items/0/path") != policyPath || list.at("/items/1") != nil || list.at("/items/0/content") != nil {
		t.Errorf("drafts: %s", list.text)
	}
	g = r.do(ask{as: "author", method: "DELETE", path: place, header: map[string]string{"If-Match": `"2"`}})
	if g.status != 200 || g.at("/deleted") != true {
		t.Fatalf("delete: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "author", path: place}); g.status != 404 {
		t.Errorf("read after delete: %d", g.status)
	}
	if g := r.do(ask{as: "author", path: "/api/v1/releases", body: `{}`}); g.status != 201 {
		t.Fatalf("publish: %d %s", g.status, g.text)
	}
	if decide() != "ALLOW" {
		t.Error("the removed policy is still in force")
	}
	diff := r.do(ask{as: "author", path: "/api/v1/releases/1/diff/r2"})
	if diff.at("/files/0/path") != policyPath || diff.at("/files/0/change") != "added" || diff.at("/files/0/after") != policyText || diff.at("/files/0/before") != nil {
		t.Errorf("diff: %s", diff.text)
	}
	g = r.do(ask{as: "author", method: "POST", path: "/api/v1/releases/2/restore"})
	if g.status != 201 || g.at("/number") != 4.0 || g.at("/restores") != 2.0 || decide() != "DENY" {
		t.Errorf("restore: %d %s", g.status, g.text)
	}
	list = r.do(ask{as: "author", path: "/api/v1/releases?limit=3"})
	if list.at("/items/0/number") != 4.0 || list.at("/items/2/number") != 2.0 || list.at("/items/3") != nil {
		t.Errorf("releases: %s", list.text)
	}
	list = r.do(ask{as: "author", path: "/api/v1/releases?limit=3&cursor=" + fmt.Sprint(list.at("/next_cursor"))})
	if list.at("/items/0/number") != 1.0 || list.at("/next_cursor") != nil {
		t.Errorf("next page: %s", list.text)
	}
	release := r.do(ask{as: "author", path: "/api/v1/releases/4"})
	for i := range release.at("/files").([]any) {
		if path := fmt.Sprint(release.at(fmt.Sprintf("/files/%d/path", i))); strings.HasPrefix(path, "self/") || strings.HasPrefix(path, "tables/") {
			t.Errorf("a tenant's author is shown %s", path)
		}
	}
}

func TestAWriteSaysWhichVersionItReplaces(t *testing.T) {
	r := newRig(t, testPolicies())
	place := "/api/v1/policies/" + policyPath
	put := func(header map[string]string) got {
		return r.do(ask{as: "author", method: "PUT", path: place, body: `{"content":"x"}`, header: header})
	}
	for _, row := range []struct {
		name   string
		header map[string]string
		status int
	}{
		{"nothing said", nil, 428},
		{"a version of what is not there", map[string]string{"If-Match": `"1"`}, 404},
		{"new", map[string]string{"If-None-Match": "*"}, 200},
		{"new, but it exists", map[string]string{"If-None-Match": "*"}, 412},
		{"another version", map[string]string{"If-Match": `"2"`}, 412},
		{"a weak tag", map[string]string{"If-Match": `W/"1"`}, 400},
		{"no tag", map[string]string{"If-Match": "1"}, 400},
		{"half a tag", map[string]string{"If-Match": `"1`}, 400},
		{"the other half", map[string]string{"If-Match": `1"`}, 400},
		{"any version", map[string]string{"If-Match": "*"}, 400},
		{"both", map[string]string{"If-Match": `"1"`, "If-None-Match": "*"}, 400},
		{"a tag to be new", map[string]string{"If-None-Match": `"1"`}, 400},
		{"the version", map[string]string{"If-Match": `"1"`}, 200},
		{"the version before", map[string]string{"If-Match": `"1"`}, 412},
	} {
		t.Run(row.name, func(t *testing.T) {
			if g := put(row.header); g.status != row.status {
				t.Errorf("%d %s", g.status, g.text)
			}
		})
	}
	if g := r.do(ask{as: "author", method: "DELETE", path: place}); g.status != 428 {
		t.Errorf("delete: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "author", path: "/api/v1/policies", body: `{"path":` + quoted(policyPath) + `,"content":""}`}); g.status != 409 {
		t.Errorf("create again: %d %s", g.status, g.text)
	}
}

func TestAFaultyCandidateChangesNothingAndNamesItsFaults(t *testing.T) {
	r := newRig(t, testPolicies())
	before := r.head()
	broken := `{"id":"freeze","name":"f","rules":[
{"id":"frozen","condition":"action ==","effect":"DENY","message":{"en":"x","zh":"x"}}]}`
	if g := r.do(ask{as: "author", path: "/api/v1/policies", body: `{"path":` + quoted(policyPath) + `,"content":` + quoted(broken) + `}`}); g.status != 201 {
		t.Fatalf("%d %s", g.status, g.text)
	}
	g := r.do(ask{as: "author", path: "/api/v1/releases", body: `{}`})
	if g.status != 422 || g.code() != "policy_faults" || g.at("/faults/0/file") != policyPath || g.at("/faults/0/line") != 2.0 || g.at("/faults/0/rule") != "frozen" {
		t.Errorf("%d %s", g.status, g.text)
	}
	if after := r.head(); after.Release != before.Release {
		t.Errorf("%s became %s", before, after)
	}
}

func TestAPublicationThatLostTheRaceIsAConflict(t *testing.T) {
	err := (&call{}).published(pap.Release{}, authz.Revision{}, fmt.Errorf("release 7 was published meanwhile: %w", pap.ErrVersion))
	if p, _ := problemOf(err); p.Status != http.StatusConflict || p.Code != "release_raced" {
		t.Errorf("%+v", p)
	}
}

func TestAnAuthorKeepsToItsTenant(t *testing.T) {
	r := newRig(t, testPolicies())
	for _, path := range []string{"platform/x.policy.json", "self/x.cedar", "tenants/globex/x.policy.json", "tables/x.yaml", "attributes.yaml"} {
		g := r.do(ask{as: "author", path: "/api/v1/policies", body: `{"path":` + quoted(path) + `,"content":""}`})
		if g.status != http.StatusForbidden {
			t.Errorf("write %s: %d %s", path, g.status, g.text)
		}
		if g := r.do(ask{as: "author", path: "/api/v1/policies/" + path}); g.status != 404 && g.status != 403 {
			t.Errorf("read %s: %d %s", path, g.status, g.text)
		}
	}
	for _, path := range []string{"tenants/acme/../globex/x.rego", "/etc/passwd", "tenants/acme/.hidden", "", "a\x00b", strings.Repeat("x", 600)} {
		if g := r.do(ask{as: "author", path: "/api/v1/policies", body: `{"path":` + quoted(path) + `,"content":""}`}); g.status != 400 {
			t.Errorf("write %q: %d %s", path, g.status, g.text)
		}
	}
	if g := r.do(ask{as: "author", path: "/api/v1/policies?tenant=globex"}); g.status != 403 {
		t.Errorf("list another's: %d", g.status)
	}
	// An administrator of the platform writes self policies; what would leave
	// no administrator is the gate's to refuse.
	if g := r.do(ask{as: "admin", path: "/api/v1/policies", body: `{"path":"self/x.cedar","content":""}`}); g.status != 201 {
		t.Errorf("platform: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "author", path: "/api/v1/releases", body: `{"drafts":["self/x.cedar"]}`}); g.status != 403 {
		t.Errorf("an author publishes a self policy: %d %s", g.status, g.text)
	}
}

func TestAPathIsReadWhole(t *testing.T) {
	r := newRig(t, testPolicies())
	if g := r.do(ask{as: "author", path: "/api/v1/policies", body: `{"path":"tenants/acme/a b#?%25.rego","content":"x"}`}); g.status != 201 {
		t.Fatalf("%d %s", g.status, g.text)
	} else if g := r.do(ask{as: "author", path: g.header.Get("Location")}); g.status != 200 || g.at("/path") != "tenants/acme/a b#?%25.rego" {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestDynamicPoliciesAreMadeListedAndEnded(t *testing.T) {
	r := newRig(t, testPolicies())
	end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	decide := func() any {
		return r.do(ask{as: "shop", path: "/api/v1/decide", body: machineBody(`{"cpu":2}`, "")}).at("/effect")
	}
	g := r.do(ask{as: "tenantadmin", path: "/api/v1/policy/dynamic", body: `{"type":"DYNAMIC","kind":"restriction","tenant":"acme",
		"rules":[{"condition":"action.startsWith('ecs.')","effect":"DENY","message":"Frozen."}],"validity":{"end":"` + end + `"},"reason":"freeze"}`})
	if g.status != 201 || g.at("/kind") != "restriction" || g.at("/source") != "manual:user:boss" || g.at("/revision") != r.head().String() {
		t.Fatalf("%d %s", g.status, g.text)
	}
	if decide() != "DENY" {
		t.Error("the restriction is not in force when its creation is answered")
	}
	id := fmt.Sprint(g.at("/id"))
	if g := r.do(ask{as: "tenantadmin", path: "/api/v1/policy/dynamic/" + id}); g.at("/id") != id || g.at("/kind") != "restriction" {
		t.Errorf("read: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "tenantadmin", path: "/api/v1/policy/dynamic?kind=restriction"}); g.at("/items/0/id") != id {
		t.Errorf("list: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "globexshop", path: "/api/v1/policy/dynamic/" + id}); g.status != 404 {
		t.Errorf("another tenant reads it: %d %s", g.status, g.text)
	}
	if g := r.do(ask{as: "tenantadmin", method: "DELETE", path: "/api/v1/policy/dynamic/" + id + "?reason=over"}); g.status != 200 || g.at("/revision") == nil {
		t.Errorf("end: %d %s", g.status, g.text)
	}
	if decide() != "ALLOW" {
		t.Error("the lifted restriction is still in force")
	}
}

func TestDynamicPoliciesAreOfOneKind(t *testing.T) {
	r := newRig(t, testPolicies())
	end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	request := `{"subject":{"type":"service","id":"shop"},"action":"acme.run","resource":{"type":"job","id":"j"}}`
	for _, row := range []struct {
		name, body, path string
		status           int
	}{
		{"no type", `{"kind":"grant"}`, "/type", 400},
		{"no kind", `{"type":"DYNAMIC"}`, "/kind", 400},
		{"a grant with rules", `{"type":"DYNAMIC","kind":"grant","rules":[]}`, "/rules", 400},
		{"a grant without uses left", `{"type":"DYNAMIC","kind":"grant","uses":0}`, "/uses", 400},
		{"a restriction that satisfies", `{"type":"DYNAMIC","kind":"restriction","satisfies":[]}`, "/satisfies", 400},
		{"a restriction that waives", `{"type":"DYNAMIC","kind":"restriction","waives":["x"]}`, "/waives", 400},
		{"a restriction with a request", `{"type":"DYNAMIC","kind":"restriction","request":` + request + `}`, "/request", 400},
		{"a restriction with uses", `{"type":"DYNAMIC","kind":"restriction","uses":1}`, "/uses", 400},
		{"its own source", `{"type":"DYNAMIC","kind":"grant","source":"approval-1"}`, "/source", 400},
		{"null rules", `{"type":"DYNAMIC","kind":"restriction","rules":null}`, "/rules", 400},
		{"an effect that opens", `{"type":"DYNAMIC","kind":"restriction","rules":[{"condition":"true","effect":"ALLOW"}],"validity":{"end":"` + end + `"},"reason":"r"}`, "/rules/0/effect", 400},
		{"an unknown effect", `{"type":"DYNAMIC","kind":"restriction","rules":[{"condition":"true","effect":"MAYBE"}]}`, "/rules/0/effect", 400},
		{"a condition that does not compile", `{"type":"DYNAMIC","kind":"restriction","rules":[{"condition":"nonsense(","effect":"DENY"}],"validity":{"end":"` + end + `"},"reason":"r"}`, "/rules/0/condition", 400},
		{"an end that is no time", `{"type":"DYNAMIC","kind":"restriction","validity":{"end":"tomorrow"}}`, "/validity/end", 400},
		{"a malformed request", `{"type":"DYNAMIC","kind":"grant","satisfies":["x"],"request":{"action":"x"}}`, "/request/subject/type", 400},
		{"a request of another tenant", `{"type":"DYNAMIC","kind":"grant","satisfies":["x"],"reason":"r","validity":{"end":"` + end + `"},"request":{"tenant":"globex",` + request[1:] + `}`, "/request/tenant", 400},
		{"another tenant", `{"type":"DYNAMIC","kind":"grant","tenant":"globex","request":` + request + `}`, "-", 403},
		{"a platform rule", `{"type":"DYNAMIC","kind":"grant","satisfies":["platform/machines/public_ip"],"reason":"r","validity":{"end":"` + end + `"},"request":` + request + `}`, "-", 403},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := r.do(ask{as: "tenantadmin", path: "/api/v1/policy/dynamic", body: row.body})
			if g.status != row.status || row.path != "-" && g.at("/errors/0/path") != row.path {
				t.Errorf("%d %s", g.status, g.text)
			}
		})
	}
	if g := r.do(ask{as: "admin", path: "/api/v1/policy/dynamic", body: `{"type":"DYNAMIC","kind":"restriction"}`}); g.status != 400 || g.at("/errors/0/path") != "/tenant" {
		t.Errorf("the platform's without tenant: %d %s", g.status, g.text)
	}
}

func TestARuleDocumentIsAFileNamedByItsID(t *testing.T) {
	r := newRig(t, testPolicies())
	const document = `{"id":"policy-001","name":"Agent registration","version":"1.0","rules":[{"condition":"action == 'agent.register'","effect":"REVIEW"}],"scope":{"business_system":"tianshu"}}`
	for as, place := range map[string]string{"author": "tenants/acme/policy-001.policy.json", "admin": "platform/policy-001.policy.json"} {
		g := r.do(ask{as: as, path: "/api/v1/policies", body: `{"document":` + document + `}`})
		if g.status != 201 || g.at("/path") != place {
			t.Fatalf("as %s: %d %s", as, g.status, g.text)
		}
	}
	if g := r.do(ask{as: "author", path: "/api/v1/releases", body: `{"drafts":["tenants/acme/policy-001.policy.json"],"note":""}`}); g.status != 201 {
		t.Errorf("publish: %d %s", g.status, g.text)
	}
	for body, path := range map[string]string{
		`{"document":` + document + `,"content":"x"}`: "/document",
		`{"document":[]}`:                         "/document",
		`{"document":{"rules":[]}}`:               "/document/id",
		`{"document":{"id":7}}`:                   "/document/id",
		`{"document":{"id":"../../self/rights"}}`: "/path",
		`{"path":"tenants/acme/x.rego"}`:          "/content",
	} {
		if g := r.do(ask{as: "author", path: "/api/v1/policies", body: body}); g.status != 400 || !strings.Contains(g.text, path) {
			t.Errorf("%s: %d %s, want 400 at %s", body, g.status, g.text, path)
		}
	}
}
