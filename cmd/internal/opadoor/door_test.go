package opadoor_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/admin"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/cmd/internal/opabundle"
	"github.com/xiezhi-project/xiezhi/cmd/internal/opadoor"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func (r *rig) bundle(as, name string, header map[string]string) got {
	r.t.Helper()
	return r.ask(as, http.MethodGet, r.door+"/bundles/"+name, "", header)
}

func TestBundlesAreGivenToWhoMaySubscribe(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	for _, c := range []struct {
		as, name string
		status   int
	}{
		{"", "acme", 401}, {"acme", "acme", 200}, {"acme", "platform", 200}, {"acme", "globex", 403}, {"acme", "all", 403}, {"acme", "acme,globex", 403},
		{"auditor", "acme", 403}, {"auditor", "platform", 403}, {"platform", "all", 200}, {"platform", "acme,globex", 200}, {"platform", "platform", 200},
		{"platform", "globex,acme", 404}, {"platform", "acme,acme", 404}, {"platform", "..", 404}, {"platform", "Acme", 404}, {"platform", "acme,all", 404},
	} {
		if g := r.bundle(c.as, c.name, nil); g.status != c.status {
			t.Errorf("%s asks for %s: %d %.200s", c.as, c.name, g.status, g.text)
		}
	}
	if len(r.refused) != 5 || r.refused[0].Kind != authz.AuditAccess || r.refused[0].Actor != "service:agent" {
		t.Errorf("%d refusals are told of: %+v", len(r.refused), r.refused)
	}
}

func TestAnAgentThatHasTheBundleIsToldSo(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	first := r.bundle("acme", "acme", nil)
	etag := first.header.Get("ETag")
	if first.header.Get("Content-Type") != opabundle.ContentType || etag == "" {
		t.Fatalf("%v", first.header)
	}
	for known, want := range map[string]int{
		etag: 304, `"x", ` + etag: 304, "W/" + etag: 304, "": 200, `"x"`: 200, `"r2-of-another-node"`: 304, `"r1-other"`: 200, `"r0-old"`: 200,
	} {
		if g := r.bundle("acme", "acme", map[string]string{"If-None-Match": known}); g.status != want {
			t.Errorf("If-None-Match %s: %d, want %d", known, g.status, want)
		}
	}
}

func TestEveryNodeBuildsTheSameBytes(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	here := r.bundle("acme", "acme", nil)
	other := opadoor.New(opadoor.Config{
		Guard: r.guard, PDP: r.pdp, Content: r.content, Signer: sign(r), Now: time.Now, NewID: func() string { return "" }, Log: quiet(),
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { other.Run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	content, err := r.content(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	other.Update(feed.Update{Head: authz.Revision{Release: 1}, Content: content})
	there := serveOnce(t, other, r.tokens["acme"], "/bundles/acme")
	if there.Code != http.StatusOK || there.Header().Get("ETag") != here.header.Get("ETag") || there.Body.String() != here.text {
		t.Errorf("%d, %s and %s", there.Code, there.Header().Get("ETag"), here.header.Get("ETag"))
	}
}

func TestALongPollEndsWithTheNextRelease(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	etag := r.bundle("acme", "acme", nil).header.Get("ETag")
	held := map[string]string{"If-None-Match": etag, "Prefer": "modes=snapshot,delta;wait=30"}
	answers := make(chan got, 1)
	go func() { answers <- r.bundle("acme", "acme", held) }()
	await(t, "the agent is held", func() bool { return r.doors.Waiting() == 1 })
	select {
	case g := <-answers:
		t.Fatalf("answered at once: %d", g.status)
	default:
	}
	r.publish(toyFiles("b"))
	if g := <-answers; g.status != http.StatusOK || !strings.HasPrefix(g.header.Get("ETag"), `"r2-`) {
		t.Errorf("%d %v", g.status, g.header)
	}
	held["Prefer"] = "modes=snapshot,delta;wait=0"
	held["If-None-Match"] = r.bundle("acme", "acme", nil).header.Get("ETag")
	if g := r.bundle("acme", "acme", held); g.status != http.StatusNotModified {
		t.Errorf("%d", g.status)
	}
}

func TestARevokedAgentIsGivenNothingAfterItsWait(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	etag := r.bundle("acme", "acme", nil).header.Get("ETag")
	answers := make(chan got, 1)
	go func() {
		answers <- r.bundle("acme", "acme", map[string]string{"If-None-Match": etag, "Prefer": "wait=30"})
	}()
	await(t, "the agent is held", func() bool { return r.doors.Waiting() == 1 })
	if _, _, err := r.pap.SetSubjectDisabled(t.Context(), admin.LocalActor(), "acme", "service:agent", true); err != nil {
		t.Fatal(err)
	}
	r.publish(toyFiles("b"))
	if g := <-answers; g.status != http.StatusUnauthorized {
		t.Errorf("%d %v", g.status, g.header)
	}
}

func TestStockAgentsKeepTheBaseUntilARolloutIsDone(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	r.publish(toyFiles("b"))
	content, err := r.content(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		state pap.RolloutState
		want  string
	}{{pap.RolloutRunning, `"r1-`}, {pap.RolloutHalted, `"r1-`}, {pap.RolloutDone, `"r2-`}} {
		body, err := json.Marshal(pap.Rollout{Release: 2, Base: 1, State: c.state, Stages: []pap.Selector{{Labels: map[string]string{"stage": "canary"}}}})
		if err != nil {
			t.Fatal(err)
		}
		r.doors.Update(feed.Update{
			Head: authz.Revision{Release: 2}, Content: content, Records: []pap.Record{{Kind: pap.KindRollout, Key: "rollout", Body: body}},
		})
		await(t, fmt.Sprintf("a rollout that is %s is honoured", c.state), func() bool {
			return strings.HasPrefix(r.bundle("acme", "acme", nil).header.Get("ETag"), c.want)
		})
	}
}

func TestANewKeySignsANewBundle(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	before := r.bundle("acme", "acme", nil).header.Get("ETag")
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	r.mu.Lock()
	r.newerKey = key
	r.mu.Unlock()
	r.doors.Update(feed.Update{Head: authz.Revision{Release: 1}})
	await(t, "another signature", func() bool { return r.bundle("acme", "acme", nil).header.Get("ETag") != before })
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func logged(id, tenant, more string) string {
	return fmt.Sprintf(`{"decision_id":%q,"labels":{"id":"x"},"bundles":{"xiezhi":{"revision":"r1"}},"path":"p/deny","timestamp":"2026-06-01T08:00:00.5Z",
		"input":{"tenant":%q,"subject":{"type":"user","id":"u"},"action":{"name":"logged"}},"result":[]%s}`, id, tenant, more)
}

func (r *rig) kept(tenant string) []authz.AuditRecord {
	r.t.Helper()
	return must[[]authz.AuditRecord](r.t)(r.store.QueryAudit(r.t.Context(), pap.AuditFilter{Tenant: tenant, Action: "logged"}, 100_000))
}

func TestALogThatIsSentAgainIsKeptOnce(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	body := zipped(t, "["+logged("d1", "acme", "")+","+logged("d2", "acme", "")+"]")
	for range 3 {
		if g := r.ask("acme", http.MethodPost, r.door+"/logs", body, map[string]string{"Content-Encoding": "gzip"}); g.status != http.StatusNoContent {
			t.Fatalf("%d %s", g.status, g.text)
		}
	}
	if n := len(r.kept("acme")); n != 2 {
		t.Errorf("%d records", n)
	}
	// Another caller's decision of the same id is another decision.
	if g := r.ask("platform", http.MethodPost, r.door+"/logs/part/1", "["+logged("d1", "acme", "")+"]", nil); g.status != http.StatusNoContent {
		t.Fatalf("%d %s", g.status, g.text)
	}
	if n := len(r.kept("acme")); n != 3 {
		t.Errorf("%d records", n)
	}
}

func TestALogIsAcceptedOnlyWhenItIsKept(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	r.insert = func(context.Context, []authz.AuditRecord) error { return errors.Join(pap.ErrStoreUnavailable) }
	if g := r.ask("acme", http.MethodPost, r.door+"/logs", "["+logged("d1", "acme", "")+"]", nil); g.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", g.status, g.text)
	}
}

func TestATenantsLogIsItsOwnWhateverItSays(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	r.ask("acme", http.MethodPost, r.door+"/logs", "["+logged("d1", "globex", "")+"]", nil)
	r.ask("platform", http.MethodPost, r.door+"/logs", "["+logged("d2", "globex", "")+"]", nil)
	mine, theirs := r.kept("acme"), r.kept("globex")
	if len(mine) != 1 || len(theirs) != 1 || !strings.Contains(string(mine[0].Body.AppendJSON(nil)), `"asked_tenant":"globex"`) {
		t.Errorf("%d of acme, %d of globex: %+v", len(mine), len(theirs), mine)
	}
	if g := r.ask("auditor", http.MethodPost, r.door+"/logs", "[]", nil); g.status != http.StatusForbidden {
		t.Errorf("%d", g.status)
	}
}

func TestWhatPoliciesCallSensitiveIsMaskedInLogs(t *testing.T) {
	files := toyFiles("a")
	files["platform/toy.rego"] = strings.Replace(files["platform/toy.rego"], "# title: Toy\n", "# title: Toy\n# custom:\n#   masks: [/context/secret]\n", 1)
	r := newRig(t, files)
	event := strings.Replace(logged("d1", "acme", ""), `"action"`, `"context":{"secret":"hunter2"},"action"`, 1)
	event = strings.Replace(event, `"result":[]`, `"result":[{"msg":"hunter2 is bad"}],"error":{"message":"hunter2"}`, 1)
	if g := r.ask("acme", http.MethodPost, r.door+"/logs", "["+event+"]", nil); g.status != http.StatusNoContent {
		t.Fatalf("%d %s", g.status, g.text)
	}
	text := string(r.kept("acme")[0].Body.AppendJSON(nil))
	if strings.Contains(text, "hunter2") || !strings.Contains(text, `"secret":"***"`) || !strings.Contains(text, "*** is bad") {
		t.Error(text)
	}
}

func TestLogsThatNoAgentSendsAreRefused(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	bomb := zipped(t, "["+strings.Repeat(" ", 40<<20)+"]")
	for name, c := range map[string]struct {
		body   string
		zip    bool
		status int
	}{
		"no array": {body: `{}`, status: 400}, "no objects": {body: `[1]`, status: 400}, "cut off": {body: `[{"decision_id":"a"`, status: 400},
		"no end": {body: `[`, status: 400}, "more": {body: `[] []`, status: 400}, "no id": {body: `[{}]`, status: 400}, "a wrong type": {body: `[{"decision_id":1}]`, status: 400},
		"no gzip": {body: `[]`, zip: true, status: 400}, "half gzip": {body: zipped(t, "["+logged("d", "acme", "")+"]")[:60], zip: true, status: 400},
		"a bomb": {body: bomb, zip: true, status: 413}, "empty": {body: ``, status: 400}, "nothing to keep": {body: `[]`, status: 204},
	} {
		header := map[string]string{}
		if c.zip {
			header["Content-Encoding"] = "gzip"
		}
		if g := r.ask("acme", http.MethodPost, r.door+"/logs", c.body, header); g.status != c.status {
			t.Errorf("%s: %d %s", name, g.status, g.text)
		}
	}
	if g := r.ask("acme", http.MethodPost, r.door+"/logs", "[]", map[string]string{"Content-Encoding": "br"}); g.status != http.StatusUnsupportedMediaType {
		t.Errorf("%d", g.status)
	}
	if n := len(r.kept("acme")); n != 0 {
		t.Errorf("%d records", n)
	}
}

func TestOddEventsDoNotHoldUpALog(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	deep := strings.Repeat("[", 500) + strings.Repeat("]", 500)
	events := []string{
		strings.Replace(logged("old", "acme", ""), "2026-06", "1970-01", 1),
		strings.Replace(logged("far", "acme", ""), "2026-06", "9000-01", 1),
		strings.Replace(logged("long", "acme", ""), `"result":[]`, `"result":"`+strings.Repeat("x", 2<<20)+`"`, 1),
		strings.Replace(logged("deep", "acme", ""), `"result":[]`, `"result":`+deep, 1),
		strings.Replace(logged("number", "acme", ""), `"result":[]`, `"result":123456789012345678901234567890`, 1),
		logged("new", "acme", `,"from_a_later_version":{"a":1}`),
	}
	if g := r.ask("acme", http.MethodPost, r.door+"/logs", "["+strings.Join(events, ",")+"]", nil); g.status != http.StatusNoContent {
		t.Fatalf("%d %s", g.status, g.text)
	}
	all := must[[]authz.AuditRecord](t)(r.store.QueryAudit(t.Context(), pap.AuditFilter{Tenant: "acme", Kind: authz.AuditDecision}, 100))
	if len(all) != len(events) {
		t.Errorf("%d records of %d events", len(all), len(events))
	}
}

func TestAStatusReportBecomesAPEP(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	body := `{"labels":{"id":"agent-7","version":"1.22.2","region":"cn"},"bundles":{
		"xiezhi":{"name":"xiezhi","active_revision":"r41","last_successful_activation":"2026-06-01T08:00:00Z","code":"bundle_error","message":"bad","errors":[{"code":"x"}]},
		"own":{"name":"own","active_revision":"2026-w12","code":"theirs"}},"plugins":{"bundle":{"state":"OK"}},"metrics":{"prometheus":{}}}`
	if g := r.ask("acme", http.MethodPost, r.door+"/status/part", body, nil); g.status != http.StatusNoContent {
		t.Fatalf("%d %s", g.status, g.text)
	}
	p := r.reports["acme/service:agent/agent-7"]
	if p.Revision.Release != 41 || p.Labels["region"] != "cn" || len(p.Labels) != 1 || p.Version != "opa 1.22.2" || p.Rejects != 1 ||
		!strings.Contains(p.Rejected.Reason, "bundle_error: bad") || p.Connected || p.Node != "node-1" {
		t.Errorf("%+v %+v", p, p.Rejected)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"labels":{"id":""}}`, `{"labels":{"id":"a\u0000"}}`, `{"labels":{"id":"a"}} x`, `{"labels":{"id":"` + strings.Repeat("a", 300) + `"}}`} {
		if g := r.ask("acme", http.MethodPost, r.door+"/status", bad, nil); g.status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, g.status)
		}
	}
}

func TestATenantThatUploadsSlowlyHoldsUpNobodyElse(t *testing.T) {
	r := newRig(t, toyFiles("a"))
	entered := make(chan struct{}, 100)
	r.mu.Lock()
	r.between = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			entered <- struct{}{}
			next.ServeHTTP(w, req)
		})
	}
	r.mu.Unlock()
	for range 40 { // more than are read at once
		conn := must[net.Conn](t)(net.Dial("tcp", strings.TrimPrefix(r.door, "http://")))
		defer func() { _ = conn.Close() }()
		_, err := fmt.Fprintf(conn, "POST /logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 9\r\n\r\n[", r.tokens["acme"])
		must[struct{}](t)(struct{}{}, err)
		<-entered
	}
	report, began := `{"labels":{"id":"agent-1"},"bundles":{}}`, time.Now()
	for _, as := range []string{"globex", "platform"} {
		if g := r.ask(as, http.MethodPost, r.door+"/status", report, nil); g.status != http.StatusNoContent {
			t.Errorf("%s: %d %s", as, g.status, g.text)
		}
	}
	if waited := time.Since(began); waited > 20*time.Second { // a slow upload is cut off after 30 s
		t.Errorf("they waited %s for the others to be cut off", waited)
	}
}
