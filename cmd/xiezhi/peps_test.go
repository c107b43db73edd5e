package main

import (
	"strings"
	"testing"
)

func TestPEPsAreOneLineEach(t *testing.T) {
	server, asked := answering(t, 200, `{"items":[
		{"key":"acme/service:shop/s1","id":"s1","connected":true,"revision":"r42.g7","labels":{"zone":"a","ring":"x"},"lag":{"releases":0,"positions":0}},
		{"key":"acme/service:shop/s2","id":"s2","connected":true,"stale":true,"revision":"r41.g5","lag":{"releases":1,"positions":2},
			"rejected":{"release":42,"reason":"no signature\u001b[2J","at":"2026-01-01T00:00:00Z"}},
		{"key":"platform/service:gw/g1","id":"g1","revision":"r40.g1","lag":{"releases":2,"positions":0},"acked_at":"2026-01-02T00:00:00Z",
			"rejected":{"release":40,"reason":"taken since","at":"2026-01-01T00:00:00Z"}}]}`)
	code, stdout, stderr := xiezhi(t, "peps", "list", "--serves", "acme", "--labels", "zone=a,ring=x", "--connected", "--server", server.URL, "--token-file", place(t, "token", "xz"))
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	want := `PEP                     STATE  REVISION  BEHIND  LABELS         REFUSED
acme/service:shop/s1    ok     r42.g7            ring=x,zone=a
acme/service:shop/s2    stale  r41.g5    1r 2g                  release 42: no signature` + "\uFFFD" + `[2J
platform/service:gw/g1  away   r40.g1    2r
`
	if stdout != want {
		t.Errorf("got\n%s\nwant\n%s", stdout, want)
	}
	if request, _ := asked(); request.URL.Query().Encode() != "connected=true&labels=zone%3Da%2Cring%3Dx&limit=100&serves=acme" {
		t.Errorf("asked %s", request.URL)
	}
}

func TestAPEPsKeyIsOneStepOfThePath(t *testing.T) {
	server, asked := answering(t, 200, `{"key":"acme/service:shop/s1","id":"s1","connected":true,"revision":"r42.g7","target":42}`)
	code, stdout, _ := xiezhi(t, "peps", "show", "acme/service:shop/s1", "--server", server.URL, "--token-file", place(t, "token", "xz"))
	if code != 0 || !strings.Contains(stdout, "should hold          release 42\n") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	if request, _ := asked(); request.URL.EscapedPath() != "/api/v1/peps/acme%2Fservice:shop%2Fs1" {
		t.Errorf("asked %s", request.URL)
	}
}

func TestAwaitSaysWhoIsMissing(t *testing.T) {
	server, asked := answering(t, 504, `{"title":"Too few","detail":"1 of 3 connected PEPs hold release 42, and 3 must","missing":[
		{"id":"s2","tenant":"acme","subject":"service:shop","revision":"r41.g5","rejected":"no signature"},{"tenant":"","revision":"r41.g7"}],"missing_more":4}`)
	code, stdout, stderr := xiezhi(t, "release", "await", "42", "--quorum", "90%", "--wait", "1ms", "--server", server.URL, "--token-file", place(t, "token", "xz"))
	want := `xiezhi: 1 of 3 connected PEPs hold release 42, and 3 must
  MISSING                REVISION  REFUSED
  acme/service:shop/s2   r41.g5    no signature
  a PEP of the platform  r41.g7
  and 4 more
`
	if code != exitFailed || stdout != "" || stderr != want {
		t.Errorf("exit code %d, %q\n%s", code, stdout, stderr)
	}
	if request, _ := asked(); request.Method != "POST" || request.URL.Path != "/api/v1/releases/42/await" || request.URL.Query().Get("quorum") != "90%" {
		t.Errorf("asked %s %s", request.Method, request.URL)
	}
}

func TestSelectorsAreLabelsAndIDs(t *testing.T) {
	s, err := parseSelector("ring=canary,e1,zone=,e2")
	if err != nil || s.String() != "ring=canary,zone=,e1,e2" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, text := range []string{"", ",", "a=1,a=2", "=x", "a,,b"} {
		if s, err := parseSelector(text); err == nil {
			t.Errorf("%q was read as %+v", text, s)
		}
	}
}
