package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheSimulatorsRunBesideEachOther(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ready := filepath.Join(t.TempDir(), "ready")
	lines, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"--stopped-clock", "2026-01-02T03:04:05Z", "--ready-file", ready}, out, io.Discard)
		out.Close()
		ended <- err
	}()
	urls := map[string]string{}
	printed := bufio.NewScanner(lines)
	for len(urls) < 3 && printed.Scan() {
		name, url, _ := strings.Cut(printed.Text(), " ")
		urls[name] = url
	}
	if len(urls) != 3 {
		t.Fatal(<-ended)
	}
	post := func(url, body string) (int, string) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	control := urls["control"]
	if status, text := post(control+"/clock", `{"advance_ms":1000}`); status != 200 || !strings.Contains(text, "2026-01-02T03:04:06Z") {
		t.Errorf("clock: %d %s", status, text)
	}
	if status, text := post(control+"/feishu/apps", `{"id":"cli_0123456789abcdef","secret":"s"}`); status != 200 {
		t.Errorf("app: %d %s", status, text)
	}
	if status, text := post(urls["feishu"]+"/open-apis/auth/v3/tenant_access_token/internal", `{"app_id":"cli_0123456789abcdef","app_secret":"s"}`); status != 200 || !strings.Contains(text, "tenant_access_token") {
		t.Errorf("token: %d %s", status, text)
	}
	if status, text := post(control+"/matrix/users", `{"name":"alice","password":"pw"}`); status != 200 || !strings.Contains(text, "@alice:sim.test") {
		t.Errorf("user: %d %s", status, text)
	}
	login := `{"type":"m.login.password","user":"alice","password":"pw"}`
	if status, text := post(control+"/matrix/down", `{}`); status != 200 {
		t.Errorf("down: %d %s", status, text)
	}
	if status, text := post(urls["matrix"]+"/_matrix/client/v3/login", login); status != 0 {
		t.Errorf("login while it is down: %d %s", status, text)
	}
	if status, text := post(control+"/matrix/up", `{}`); status != 200 {
		t.Errorf("up: %d %s", status, text)
	}
	if status, text := post(urls["matrix"]+"/_matrix/client/v3/login", login); status != 200 {
		t.Errorf("login: %d %s", status, text)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	var written map[string]string
	text, err := os.ReadFile(ready)
	if err != nil || json.Unmarshal(text, &written) != nil || written["feishu"] != urls["feishu"] || written["control"] != control {
		t.Errorf("ready file: %s, %v", text, err)
	}
}

func TestTheControlStaysOnTheLoopback(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80"} {
		if err := run(ctx, []string{"--control-listen", address}, io.Discard, io.Discard); err == nil {
			t.Errorf("--control-listen %s was taken", address)
		}
	}
}
