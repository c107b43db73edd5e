package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// askedCase is a case that waits, as the server keeps it.
func askedCase() *cheq.Case {
	c := &cheq.Case{
		ID: "cheq-01", Tenant: "acme", State: cheq.Pending, Reason: "for the launch\nof <desks>",
		Requester: cheq.Person{Tenant: "acme", Name: "user:me"}, Caller: cheq.Person{Tenant: "acme", Name: "service:gateway"},
		Request: authz.Request{
			Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "me"}, Action: authz.Action{Name: "desk.take"},
			Resource: authz.Entity{Type: "desk", ID: "7", Properties: authz.MustValue(map[string]any{"size": 12, "tags": []any{"a\u202e", "<b>"}})},
		},
		Digests: []string{"sha256:r"}, GrantFor: 24 * time.Hour, DecideBy: time.Date(2026, 6, 1, 8, 0, 0, 0, time.UTC),
		Opens: []cheq.Opening{{RuleRef: authz.RuleRef{Rule: "tenants/acme/desk/large", Digest: "sha256:1"}, Effect: authz.Review, Template: "desk", Message: cheq.Text{EN: "Large.", ZH: "过大。"}}},
	}
	c.Shown, _ = c.Card().Digest()
	return c
}

// caseServer serves one case, and notes what was done to it.
func caseServer(t *testing.T, c *cheq.Case, shown string) (url string, done func() []string) {
	t.Helper()
	var calls []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodGet {
			calls = append(calls, r.URL.RequestURI()+" "+string(body))
		}
		answer := map[string]any{
			"id": c.ID, "tenant": c.Tenant, "state": c.State, "requester": c.Requester.String(), "caller": c.Caller.String(), "reason": c.Reason,
			"request": json.RawMessage(c.Request.AppendJSON(nil)), "opens": c.Opens, "decide_by": c.DecideBy, "grant_for": c.GrantFor.String(),
			"shown": shown, "votes": []any{}, "card": c.Card(), "title": cheq.Text{EN: "A desk", ZH: "桌子"},
			"groups":   []cheq.GroupState{{Title: cheq.Text{EN: "Security", ZH: "安全"}, Approvals: 2, Yes: 1, Denials: 1}},
			"timeline": []any{map[string]any{"at": c.DecideBy, "action": "open", "actor": "user:me", "detail": "for the launch"}},
		}
		if r.URL.Path == casesPath && r.Method == http.MethodGet {
			answer = map[string]any{"items": []any{answer}}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string { return calls }
}

// xiezhiAsked is xiezhi with somebody at the terminal.
func xiezhiAsked(t *testing.T, says string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(strings.NewReader(says))
	root.SetOut(&out)
	root.SetErr(&err)
	code = report(&err, root.ExecuteContext(t.Context()))
	return code, out.String(), err.String()
}

func TestAnApproverIsShownWhatTheYesIsAbout(t *testing.T) {
	c := askedCase()
	url, done := caseServer(t, c, c.Shown)
	args := []string{"cheq", "approve", "cheq-01", "--reason", "fine", "--server", url, "--token-file", place(t, "token", "xz")}
	for _, says := range []string{"", "\n", "n\n", "nay\n", "yesterday\n"} {
		if code, stdout, stderr := xiezhiAsked(t, says, args...); code != exitFailed || stdout != "" || len(done()) != 0 || !strings.Contains(stderr, "nothing was done") {
			t.Errorf("%q: exit code %d, %q, %q, done %v", says, code, stdout, stderr, done())
		}
	}
	code, stdout, stderr := xiezhiAsked(t, "Y\n", args...)
	want := `cheq-01  A desk  桌子
who        user:me, asked by service:gateway, in acme
what       desk.take desk:7
           resource.size = 12
           resource.tags.0 = "a` + "\uFFFD" + `"
           resource.tags.1 = "<b>"
why        for the launch of <desks>
opens      REVIEW  tenants/acme/desk/large  Large.  过大。
for        24h
decide by  ` + timeText(c.DecideBy) + `
Approve this? [y/N] `
	if code != 0 || stderr != want || stdout != "cheq-01: pending until "+timeText(c.DecideBy)+"\n" {
		t.Errorf("exit code %d, %q\n%s\nwant\n%s", code, stdout, stderr, want)
	}
	if got := done(); len(got) != 1 || got[0] != fmt.Sprintf(`/api/v1/cheq/cheq-01/approve {"reason":"fine","shown":%q}`, c.Shown) {
		t.Errorf("done: %q", got)
	}
	if code, _, _ := xiezhi(t, append(args, "--yes")...); code != 0 || len(done()) != 2 {
		t.Errorf("with --yes: exit code %d, %d answers", code, len(done()))
	}
}

func TestAChangeOfPolicyIsShownWithItsDifference(t *testing.T) {
	c := askedCase()
	c.Change = &cheq.Change{
		Base: 7, Digest: "sha256:aa", Files: []cheq.ChangedFile{{Path: "platform/a.rego", Added: 1, Removed: 2, Diff: "@@ -1 +1 @@\n-  a\n+  b", Cut: 4}},
		Tests: cheq.Tests{Passed: 12}, Flips: cheq.Flips{DenyToAllow: 5, Replayed: 40, Days: 7},
	}
	c.Shown, _ = c.Card().Digest()
	url, done := caseServer(t, c, c.Shown)
	code, _, stderr := xiezhiAsked(t, "y\n", "cheq", "approve", "cheq-01", "--server", url, "--token-file", place(t, "token", "xz"))
	if code != 0 || len(done()) != 1 {
		t.Fatalf("exit code %d, %v: %s", code, done(), stderr)
	}
	for _, want := range []string{
		"changes release 7 into sha256:aa\n", "5 DENY would be ALLOW", "test cases: 12 held",
		"  platform/a.rego +1 −2\n    @@ -1 +1 @@\n    -  a\n    +  b\n    … and 4 lines\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not shown in\n%s", want, stderr)
		}
	}
}

// What is sent is the digest of what was shown, never a number that the server
// states.
func TestACardThatIsNotWhatIsAskedAboutIsNotAnswered(t *testing.T) {
	c := askedCase()
	url, done := caseServer(t, c, "sha256:another")
	at := []string{"--server", url, "--token-file", place(t, "token", "xz")}
	for _, args := range [][]string{{"cheq", "approve", "cheq-01", "--yes"}, {"cheq", "reject", "cheq-01"}, {"cheq", "show", "cheq-01"}} {
		if code, stdout, stderr := xiezhi(t, append(args, at...)...); code != exitFailed || stdout != "" || !strings.Contains(stderr, "something else than the card") {
			t.Errorf("%v: exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
	other := askedCase()
	other.ID = "cheq-02"
	other.Shown, _ = other.Card().Digest()
	url, _ = caseServer(t, other, other.Shown)
	if code, _, _ := xiezhi(t, "cheq", "approve", "cheq-01", "--yes", "--server", url, "--token-file", at[3]); code != exitFailed {
		t.Errorf("another case's card: exit code %d", code)
	}
	if len(done()) != 0 {
		t.Errorf("done: %q", done())
	}
}

func TestCasesAreOneLineEach(t *testing.T) {
	c := askedCase()
	url, _ := caseServer(t, c, c.Shown)
	code, stdout, stderr := xiezhi(t, "cheq", "list", "--state", "pending", "--server", url, "--token-file", place(t, "token", "xz"))
	want := "CASE     STATE    WHO      WHAT              RULES                    FOR  UNTIL                WHY\n" +
		"cheq-01  pending  user:me  desk.take desk:7  tenants/acme/desk/large  24h  " + timeText(c.DecideBy) + "  for the launch of <desks>\n"
	if code != 0 || stdout != want {
		t.Errorf("exit code %d, %q\n%s\nwant\n%s", code, stderr, stdout, want)
	}
	code, stdout, _ = xiezhi(t, "cheq", "list", "--json", "--server", url, "--token-file", place(t, "token", "xz"))
	var list []map[string]any
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 0 || list[0]["grant_for"] != "24h0m0s" {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
}

func TestACaseIsShownWithHowFarItIs(t *testing.T) {
	c := askedCase()
	url, _ := caseServer(t, c, c.Shown)
	code, stdout, stderr := xiezhi(t, "cheq", "show", "cheq-01", "--server", url, "--token-file", place(t, "token", "xz"))
	for _, want := range []string{"state  pending\n", "needs  Security 安全: 1 of 2 yes\n", timeText(c.DecideBy) + "  open  user:me  for the launch\n"} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, %q; want %q in\n%s", code, stderr, want, stdout)
		}
	}
}

func TestWhatIsDoneToACase(t *testing.T) {
	c := askedCase()
	url, done := caseServer(t, c, c.Shown)
	at := []string{"--server", url, "--token-file", place(t, "token", "xz")}
	request := place(t, "request.json", question)
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"cheq", "reject", "cheq-01"}, fmt.Sprintf(`/api/v1/cheq/cheq-01/reject {"reason":"","shown":%q}`, c.Shown)},
		{[]string{"cheq", "cancel", "cheq-01", "--reason", "late"}, `/api/v1/cheq/cheq-01/cancel {"reason":"late"}`},
		{[]string{"cheq", "revoke", "cheq-01", "--wait", "2s"}, `/api/v1/cheq/cheq-01/revoke?wait=2s {"reason":""}`},
		{[]string{"cheq", "review", "cheq-01", "was real"}, `/api/v1/cheq/cheq-01/review {"text":"was real"}`},
		{[]string{"cheq", "open", "-f", request, "--reason", "now", "--break-glass", "fire", "--leave-open", "/context/a", "--leave-open", "/context/b"}, `/api/v1/cheq {"break_glass":"fire","open":["/context/a","/context/b"],"reason":"now","request":` + question + `}`},
		{[]string{"cheq", "extend", "cheq-01", "--reason", "more", "--for", "2h"}, `/api/v1/cheq/cheq-01/extend {"grant_for":"2h0m0s","reason":"more"}`},
		{[]string{"cheq", "delegate", "cheq-01", "user:wang", "--reason", "leave"}, `/api/v1/cheq/cheq-01/delegate {"reason":"leave","to":"user:wang"}`},
		{[]string{"cheq", "comment", "cheq-01", "who?"}, `/api/v1/cheq/cheq-01/comment {"text":"who?"}`},
		{[]string{"cheq", "open", "-f", request, "--reason", "now", "--for", "90m"}, `/api/v1/cheq {"grant_for":"1h30m0s","reason":"now","request":` + question + `}`},
	} {
		code, stdout, stderr := xiezhi(t, append(row.args, at...)...)
		if got := done(); code != 0 || len(got) == 0 || got[len(got)-1] != row.want || !strings.HasPrefix(stdout, "cheq-01: pending until ") {
			t.Errorf("%v: exit code %d, %q, %q: %q, want %q", row.args, code, stdout, stderr, got, row.want)
		}
	}
	before := len(done())
	for _, args := range [][]string{
		{"cheq", "open", "-f", place(t, "request.json", "subject: me"), "--reason", "x"}, {"cheq", "open", "-f", request}, {"cheq", "open", "--reason", "x"},
		{"cheq", "extend", "cheq-01"}, {"cheq", "approve"}, {"cheq", "comment", "cheq-01"}, {"cheq", "appprove", "cheq-01"},
	} {
		if code, _, _ := xiezhi(t, append(args, at...)...); code != exitFailed {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	if len(done()) != before {
		t.Errorf("done: %q", done()[before:])
	}
}

func TestARevokeSaysWhoMayCountTheGrantYet(t *testing.T) {
	server, _ := answering(t, 200, `{"id":"cheq-01","state":"approved","yield":"revoked","grant_end":"2026-06-01T08:00:00Z","unacknowledged":[
		{"id":"s1","tenant":"acme","subject":"service:shop","revision":"r1.g2","honours_until":"2026-06-01T07:00:30Z"},{"tenant":"","revision":"r1.g1"}],"unacknowledged_more":3}`)
	code, stdout, stderr := xiezhi(t, "cheq", "revoke", "cheq-01", "--server", server.URL, "--token-file", place(t, "token", "xz"))
	end, _ := time.Parse(time.RFC3339, "2026-06-01T08:00:00Z")
	until := timeText(end.Add(-time.Hour + 30*time.Second))
	want := "cheq-01: approved, revoked\n" +
		"  MAY COUNT IT YET       REVISION  UNTIL\n  acme/service:shop/s1   r1.g2     " + until + "\n  a PEP of the platform  r1.g1\n  and 3 more\n"
	if code != 0 || stdout != want {
		t.Errorf("exit code %d, %q\n%s\nwant\n%s", code, stderr, stdout, want)
	}
}

func TestAnEmergencyIsSaidTwice(t *testing.T) {
	c := askedCase()
	c.BreakGlass = "fire"
	c.Shown, _ = c.Card().Digest()
	shown, done := caseServer(t, c, c.Shown)
	base, err := url.Parse(shown)
	if err != nil {
		t.Fatal(err)
	}
	yes := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if yes++; yes%3 != 0 { // the second comes too soon
				w.WriteHeader(http.StatusConflict)
				_, _ = io.WriteString(w, `{"title":"An emergency takes a second yes","code":"confirm"}`)
				return
			}
		}
		httputil.NewSingleHostReverseProxy(base).ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	args := []string{"cheq", "approve", "cheq-01", "--server", server.URL, "--token-file", place(t, "token", "xz")}
	if code, _, stderr := xiezhiAsked(t, "y\nn\n", args...); code != exitFailed || yes != 1 || !strings.Contains(stderr, "EMERGENCY  紧急  fire\n") || !strings.Contains(stderr, "This is an emergency") {
		t.Errorf("exit code %d after %d answers, %q", code, yes, stderr)
	}
	yes = 0
	if code, stdout, stderr := xiezhiAsked(t, "y\ny\nyes\n", args...); code != 0 || yes != 3 || len(done()) != 1 || stdout == "" {
		t.Errorf("exit code %d after %d answers, %q", code, yes, stderr)
	}
	yes = 0
	if code, _, stderr := xiezhi(t, append(args, "--yes")...); code != exitFailed || yes != 1 || !strings.Contains(stderr, "second yes") {
		t.Errorf("with --yes: exit code %d after %d answers, %q", code, yes, stderr)
	}
}

func TestSpansAreShort(t *testing.T) {
	for text, want := range map[string]string{"24h0m0s": "24h", "1h30m0s": "1h30m", "10m0s": "10m", "1h0m5s": "1h0m5s", "45s": "45s", "": "", "0s": "0s"} {
		if got := spanText(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
