package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const question = `{"tenant":"acme","subject":{"type":"user","id":"li.wei"},"action":"ecs.instance.create","resource":{"type":"ecs.instance","id":"i-1"}}`

// place writes a file for one test and returns its name.
func place(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// xiezhi runs a command in this process.
func xiezhi(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&err)
	code = report(&err, root.ExecuteContext(t.Context()))
	return code, out.String(), err.String()
}

// answering is a server that gives one answer and notes what it was asked.
func answering(t *testing.T, status int, answer string) (server *httptest.Server, asked func() (*http.Request, string)) {
	t.Helper()
	var request *http.Request
	var body []byte
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return server, func() (*http.Request, string) { return request, string(body) }
}

func TestAServerIsAskedAsTheOwnerOfTheToken(t *testing.T) {
	server, asked := answering(t, 200, `{"decision_id":"01K","effect":"REVIEW","decision":false,"revision":"r42.g7","stale":true,
		"reasons":[{"policy":"platform/network","rule":"public_ip","effect":"REVIEW","message":"A public IP.","message_zh":"公网。"}],
		"obligations":[],"limits":[],"route":null,"approval":{"id":"cheq-1","status":"PENDING","expires_at":"2026-06-01T08:00:00Z"},"permit":null}`)
	code, stdout, stderr := xiezhi(t, "decide", "-f", place(t, "q.json", question), "--server", server.URL+"/base/", "--token-file", place(t, "token", "xz_secret\n"))
	if code != exitReview || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, want := range []string{"REVIEW  r42.g7  01K  stale\n", "platform/network/public_ip  A public IP.", "cheq-1  PENDING"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("got %q, want it to hold %q", stdout, want)
		}
	}
	request, body := asked()
	if request.Method != "POST" || request.URL.Path != "/base/api/v1/decide" || body != question ||
		request.Header.Get("Authorization") != "Bearer xz_secret" || request.Header.Get("Content-Type") != "application/json" {
		t.Errorf("asked %s %s with %v and %q", request.Method, request.URL, request.Header, body)
	}
}

func TestServerAndTokenComeFromTheEnvironment(t *testing.T) {
	server, asked := answering(t, 200, `{"effect":"ALLOW","decision":true,"revision":"r1.g1"}`)
	t.Setenv("XIEZHI_SERVER", server.URL)
	t.Setenv("XIEZHI_TOKEN_FILE", place(t, "token", "xz_secret"))
	file := place(t, "q.json", question)
	if code, _, stderr := xiezhi(t, "decide", "-f", file); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if request, _ := asked(); request == nil {
		t.Fatal("the server was not asked")
	}
	// A flag that only this machine can follow asks this machine.
	if code, stdout, _ := xiezhi(t, "decide", "-f", file, "--roles", "engineer"); code != exitDeny || !strings.Contains(stdout, "r0.g0") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

func TestWhatIsNoDecisionIsNoAnswer(t *testing.T) {
	for _, row := range []struct {
		name, answer string
		status       int
		want         string
	}{
		{"a problem", `{"title":"Forbidden","status":403,"detail":"the right decide is missing\u001b[2J"}`, 403, "403 Forbidden: Forbidden: the right decide is missing\uFFFD[2J"},
		{"a failure without words", "<html>", 502, "502 Bad Gateway\n"},
		{"no JSON", "ok", 200, "is no decision"},
		{"no effect", `{"decision":true}`, 200, "effect and decision are missing or differ"},
		{"two answers in one", `{"effect":"DENY","decision":true}`, 200, "effect and decision are missing or differ"},
		{"a review that allows", `{"effect":"REVIEW","decision":true}`, 200, "effect and decision are missing or differ"},
		{"an unknown effect", `{"effect":"MAYBE","decision":false}`, 200, "is no decision"},
		{"too long", strings.Repeat(" ", maxAnswer+1), 200, "longer than"},
	} {
		t.Run(row.name, func(t *testing.T) {
			server, _ := answering(t, row.status, row.answer)
			code, stdout, stderr := xiezhi(t, "decide", "-f", place(t, "q.json", question), "--server", server.URL, "--token-file", place(t, "token", "xz"))
			if code != exitFailed || stdout != "" || !strings.Contains(stderr, row.want) {
				t.Errorf("exit code %d, %q, %q; want %q", code, stdout, stderr, row.want)
			}
		})
	}
}

func TestATokenFollowsNoRedirect(t *testing.T) {
	elsewhere, asked := answering(t, 200, `{"effect":"ALLOW","decision":true,"revision":"r1.g1"}`)
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(server.Close)
	code, _, stderr := xiezhi(t, "decide", "-f", place(t, "q.json", question), "--server", server.URL, "--token-file", place(t, "token", "xz"))
	if code != exitFailed || !strings.Contains(stderr, "307 Temporary Redirect") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if request, _ := asked(); request != nil {
		t.Error("the redirect was followed")
	}
}

func TestATokenNeverTravelsInTheClear(t *testing.T) {
	token, file := place(t, "token", "xz_secret"), place(t, "q.json", question)
	for _, row := range []struct{ server, want string }{
		{"http://xiezhi.example", "plain HTTP would show the token"},
		{"http://10.0.0.1:8080", "plain HTTP would show the token"},
		{"http://localhost.example:8080", "plain HTTP would show the token"},
		{"http://127.0.0.1.example", "plain HTTP would show the token"},
		{"ftp://localhost", "want https"},
		{"localhost:8080", "want"},
		{"//localhost", "want https"},
		{"https://user:secret@localhost", "a URL holds no credential"},
		{"https://localhost?token=1", "want a URL"},
		{"", "file"},
	} {
		args := []string{"decide", "-f", file, "--server", row.server, "--token-file", token}
		if row.server == "" {
			args = []string{"decide", "-f", file, "--server", "https://localhost"}
			row.want = "no token: name its file"
		}
		if code, _, stderr := xiezhi(t, args...); code != exitFailed || !strings.Contains(stderr, row.want) || strings.Contains(stderr, "secret") {
			t.Errorf("%s: exit code %d, %q; want %q", row.server, code, stderr, row.want)
		}
	}
	for _, wrong := range []string{"two tokens", "first\nsecond", "x\x00y", " \n", "тайна"} {
		code, _, stderr := xiezhi(t, "decide", "-f", file, "--server", "https://localhost", "--token-file", place(t, "token", wrong))
		if code != exitFailed || strings.Contains(stderr, strings.TrimSpace(wrong)+"\"") {
			t.Errorf("token %q: exit code %d, %q", wrong, code, stderr)
		}
	}
}

func TestTheServersCertificateIsVerified(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"effect":"ALLOW","decision":true,"revision":"r1.g1"}`)
	}))
	t.Cleanup(server.Close)
	args := []string{"decide", "-f", place(t, "q.json", question), "--server", server.URL, "--token-file", place(t, "token", "xz")}
	if code, _, stderr := xiezhi(t, args...); code != exitFailed || !strings.Contains(stderr, "certificate") {
		t.Errorf("exit code %d, %q; want the certificate refused", code, stderr)
	}
}
