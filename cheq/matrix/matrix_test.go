package matrix

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

func TestACaseIsOneNotice(t *testing.T) {
	r := newRig(t)
	v := pending(t)
	again, err := r.Send(t.Context(), room, "cheq-1/matrix/"+room, v)
	if err != nil || again != r.message {
		t.Fatalf("sent again: %q, %v, want %q", again, err, r.message)
	}
	said := r.h.all(t)
	if len(said) != 1 {
		t.Fatalf("%d messages were sent", len(said))
	}
	n := said[0]
	if n.Type != "m.notice" || n.Cheq == nil || *n.Cheq != (shown{"cheq-1", v.Case.Shown}) {
		t.Errorf("notice %+v", n)
	}
	for _, want := range []string{
		"Approval needed · 待审批: Public ingress · 公网入口", "user:li.wei ← service:deploy", "a window", "ecs.instance.create → ecs.instance req-42/web",
		"REVIEW platform/network/ingress: Open to all · 对公网开放", "1h0m0s, 3 ×", "Security · 安全: ✔ 0/2, ✘ 0/1", "2026-03-01T13:00:00Z", v.Case.Shown, "同意",
	} {
		if !strings.Contains(n.Body, want) || !strings.Contains(n.FormattedBody, want) {
			t.Errorf("%q is not shown in\n%s", want, n.Body)
		}
	}
}

func TestAnEditShowsTheSameCard(t *testing.T) {
	r := newRig(t)
	v := pending(t)
	v.Case.Version, v.Case.State, v.Case.Cause, v.Case.SettledAt = 2, cheq.Approved, "votes", testNow
	v.Case.Grant, v.Case.GrantEnd, v.Case.Yield = "grt-7", testNow.Add(time.Hour), cheq.Live
	v.Case.Votes = []cheq.Vote{{Voter: cheq.Person{Tenant: "acme", Name: "user:wang"}, Yes: true, Reason: "fine", At: testNow, Channel: "matrix"}}
	for range 2 { // the second is the same transaction
		if err := r.Edit(t.Context(), room, r.message, v); err != nil {
			t.Fatal(err)
		}
	}
	said := r.h.all(t)
	if len(said) != 2 {
		t.Fatalf("%d messages were sent, want the notice and one edit", len(said))
	}
	edit := said[1]
	if edit.RelatesTo == nil || edit.RelatesTo.Type != "m.replace" || edit.RelatesTo.Event != r.message || edit.NewContent == nil {
		t.Fatalf("edit %+v", edit)
	}
	if *edit.Cheq != *said[0].Cheq || *edit.NewContent.Cheq != *said[0].Cheq {
		t.Error("the edit shows another case or digest")
	}
	for _, want := range []string{"Approved · 已批准", "✔ user:wang", "fine", "grt-7", "2026-03-01T13:00:00Z"} {
		if !strings.Contains(edit.NewContent.Body, want) {
			t.Errorf("%q is not shown in\n%s", want, edit.NewContent.Body)
		}
	}
	if strings.Contains(edit.NewContent.Body, "react with") {
		t.Error("a settled case asks for answers")
	}
}

func TestRoomsThatCannotBeUsedAreGone(t *testing.T) {
	r := newRig(t)
	r.h.sealed[room] = true
	for name, to := range map[string]string{"encrypted": room, "not joined": "!other:here", "no room": "#alias:here", "empty": ""} {
		_, err := r.Send(t.Context(), to, name, pending(t))
		if !errors.Is(err, cheq.ErrGone) || name == "encrypted" && !strings.Contains(err.Error(), "encrypted") {
			t.Errorf("%s: Send: %v", name, err)
		}
		if err := r.Edit(t.Context(), to, r.message, pending(t)); !errors.Is(err, cheq.ErrGone) {
			t.Errorf("%s: Edit: %v", name, err)
		}
	}
	if said := r.h.all(t); len(said) != 1 {
		t.Errorf("%d messages were sent", len(said))
	}
}

func TestFailuresOfTheHomeserverAreToldApart(t *testing.T) {
	r := newRig(t)
	var later *cheq.LaterError
	for _, row := range []struct {
		name, header, body string
		status             int
		check              func(error) bool
	}{
		{"limited", "", `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}`, 429, func(err error) bool { return errors.As(err, &later) && later.After == 1500*time.Millisecond }},
		{"limited by header", "7", `{}`, 429, func(err error) bool { return errors.As(err, &later) && later.After == 7*time.Second }},
		{"limited for ages", "", `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1e300}`, 429, func(err error) bool { return errors.As(err, &later) && later.After == longestWait }},
		{"limited backwards", "", `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":-5}`, 429, func(err error) bool { return errors.As(err, &later) && later.After > 0 }},
		{"forbidden", "", `{"errcode":"M_FORBIDDEN"}`, 403, func(err error) bool { return errors.Is(err, cheq.ErrGone) }},
		{"not found", "", `{"errcode":"M_NOT_FOUND"}`, 404, func(err error) bool { return errors.Is(err, cheq.ErrGone) }},
		{"a proxy's page", "", `<html>`, 404, func(err error) bool { return !errors.Is(err, cheq.ErrGone) }},
		{"token", "", `{"errcode":"M_UNKNOWN_TOKEN"}`, 401, func(err error) bool { return !errors.Is(err, cheq.ErrGone) }},
		{"broken", "", `{"errcode":"M_UNKNOWN"}`, 500, func(err error) bool { return !errors.Is(err, cheq.ErrGone) }},
		{"redirect", "", ``, 302, func(err error) bool { return !errors.Is(err, cheq.ErrGone) }},
		{"odd", "", `[`, 200, func(err error) bool { return !errors.Is(err, cheq.ErrGone) }},
		{"no id", "", `{}`, 200, func(err error) bool { return !errors.Is(err, cheq.ErrGone) }},
	} {
		r.h.mu.Lock()
		r.h.refuse = func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method != http.MethodPut {
				return false
			}
			w.Header().Set("Retry-After", row.header)
			w.Header().Set("Location", "http://192.0.2.1/"+strings.Repeat("x", 100))
			w.WriteHeader(row.status)
			_, _ = w.Write([]byte(row.body))
			return true
		}
		r.h.mu.Unlock()
		_, err := r.Send(t.Context(), room, row.name, pending(t))
		if err == nil || !row.check(err) || len(err.Error()) > 200 || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	r.h.Close()
	if _, err := r.Send(t.Context(), room, "away", pending(t)); err == nil || errors.Is(err, cheq.ErrGone) || strings.Contains(err.Error(), "/_matrix") {
		t.Errorf("away: %v", err)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	r := newRig(t)
	for name, change := range map[string]func(*Config){
		"plain http":      func(c *Config) { c.Homeserver = "http://matrix.example" },
		"password in url": func(c *Config) { c.Homeserver = "https://u:p4ss@matrix.example" },
		"no url":          func(c *Config) { c.Homeserver = "matrix p4ss" },
		"other server":    func(c *Config) { c.ServerName = "there" },
		"no user":         func(c *Config) { c.UserID = "xiezhi:here" },
		"no server":       func(c *Config) { c.ServerName, c.UserID = "", "@xiezhi:" },
		"no token":        func(c *Config) { c.AccessToken = "" },
		"two lines":       func(c *Config) { c.AccessToken = "p4ss\r\nX: y" },
		"no answers":      func(c *Config) { c.Answers = nil },
	} {
		c := Config{Homeserver: "https://matrix.example", UserID: bot, AccessToken: token, ServerName: "here", Answers: r, Identities: r, Position: r, Now: time.Now, Log: slog.Default()}
		if _, err := New(c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := New(c); err == nil || strings.Contains(err.Error(), "p4ss") || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
