package feishu_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/feishu"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

const (
	appID     = "cli_0123456789abcdef"
	otherApp  = "cli_fedcba9876543210"
	secret    = "app-secret"
	key       = "encrypt-key"
	verifying = "verification-token"
)

// company is a simulated Feishu with an app, which posts callbacks to a server
// of the test.
type company struct {
	*feishu.Sim
	clock  *world.Clock
	server *world.Server
	chat   string
	ctx    context.Context

	mu     sync.Mutex
	answer http.HandlerFunc // of the app, to callbacks
}

func newCompany(t *testing.T, cfg feishu.Config) *company {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	c := &company{clock: world.StoppedClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), ctx: ctx}
	cfg.Clock = c.clock
	c.Sim = feishu.New(cfg)
	server, err := world.Listen("127.0.0.1:0", c.Sim)
	must(t, err)
	c.server = server
	c.respond(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		answer := c.answer
		c.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(app.Close)
	t.Cleanup(func() {
		must(t, server.Close())
		must(t, c.Close())
	})
	must(t, c.AddApp(feishu.App{ID: appID, Secret: secret, EncryptKey: key, VerificationToken: verifying, CallbackURL: app.URL}))
	must(t, c.AddApp(feishu.App{ID: otherApp, Secret: secret}))
	must(t, c.AddUser(feishu.User{Name: "alice"}))
	must(t, c.AddUser(feishu.User{Name: "bob", Language: "en"}))
	must(t, c.AddUser(feishu.User{Name: "mallory"}))
	c.chat, err = c.AddChat(feishu.Chat{Members: []string{"alice", "bob"}, Apps: []string{appID}})
	must(t, err)
	return c
}

func (c *company) respond(answer http.HandlerFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reply is what the simulator answers to an app.
type reply struct {
	status int
	header http.Header
	Code   int    `json:"code"`
	Msg    string `json:"msg"`
	Token  string `json:"tenant_access_token"`
	Expire int    `json:"expire"`
	Data   struct {
		MessageID    string `json:"message_id"`
		ChatID       string `json:"chat_id"`
		URL          string
		ClientConfig map[string]int
	} `json:"data"`
}

func (c *company) call(t *testing.T, method, path, bearer string, body any) reply {
	t.Helper()
	got, err := c.try(method, path, bearer, body)
	must(t, err)
	return got
}

func (c *company) try(method, path, bearer string, body any) (reply, error) {
	text, isText := body.(string)
	if !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		text = string(encoded)
	}
	r, err := http.NewRequestWithContext(c.ctx, method, c.server.URL()+path, strings.NewReader(text))
	if err != nil {
		return reply{}, err
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	got := reply{status: response.StatusCode, header: response.Header}
	return got, json.NewDecoder(response.Body).Decode(&got)
}

func (c *company) token(t *testing.T, app string) string {
	t.Helper()
	got := c.call(t, "POST", "/open-apis/auth/v3/tenant_access_token/internal", "", map[string]string{"app_id": app, "app_secret": secret})
	if got.Code != 0 || got.Token == "" {
		t.Fatalf("no token: %+v", got)
	}
	return got.Token
}

func (c *company) send(t *testing.T, idType, id, kind, content, uuid string) reply {
	t.Helper()
	return c.call(t, "POST", "/open-apis/im/v1/messages?receive_id_type="+idType, c.token(t, appID),
		map[string]string{"receive_id": id, "msg_type": kind, "content": content, "uuid": uuid})
}

// post sends a card to the chat and returns its message id.
func (c *company) post(t *testing.T, card string) string {
	t.Helper()
	got := c.send(t, "chat_id", c.chat, "interactive", card, "")
	if got.Code != 0 {
		t.Fatalf("card refused: %+v", got)
	}
	return got.Data.MessageID
}

func (c *company) patch(t *testing.T, id, card string) reply {
	t.Helper()
	return c.call(t, "PATCH", "/open-apis/im/v1/messages/"+id, c.token(t, appID), map[string]string{"content": card})
}

func (c *company) tap(t *testing.T, user, message, button string, form map[string]any) feishu.Seen {
	t.Helper()
	seen, err := c.Tap(c.ctx, feishu.Tap{User: user, Message: message, Button: button, Form: form})
	must(t, err)
	return seen
}

func wantCode(t *testing.T, what string, got reply, code int) {
	t.Helper()
	if got.Code != code {
		t.Errorf("%s: code %d (%s), want %d", what, got.Code, got.Msg, code)
	}
	if code != 0 && got.header.Get("X-Tt-Logid") == "" && got.status != http.StatusTooManyRequests {
		t.Errorf("%s: no log id", what)
	}
}

// The cards of the tests.
const (
	head     = `{"schema":"2.0","config":{"update_multi":true},"header":{"title":{"tag":"plain_text","content":"Open the door","i18n_content":{"zh_cn":"开门","en_us":"Open the door"}},"template":"orange"},"body":{"elements":[`
	approve  = `{"tag":"button","name":"approve","text":{"tag":"plain_text","content":"Approve","i18n_content":{"zh_cn":"批准"}},"behaviors":[{"type":"callback","value":{"decision":"approve"}}]}`
	tail     = `]}}`
	question = head + approve + tail
	done     = `{"schema":"2.0","config":{"update_multi":true},"body":{"elements":[{"tag":"markdown","content":"done"}]}}`
	old      = `{"config":{"update_multi":true},"elements":[{"tag":"action","actions":[{"tag":"button","text":{"tag":"plain_text","content":"Yes"},"value":{"a":"b"}}]}]}`
	oldOwn   = `{"elements":[{"tag":"action","actions":[{"tag":"button","text":{"tag":"plain_text","content":"Yes"},"value":{"a":"b"}}]}]}`
)

func TestTokensLiveTwoHours(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	first := c.token(t, appID)
	c.clock.Advance(time.Hour)
	if c.token(t, appID) != first {
		t.Error("a living token was replaced")
	}
	c.clock.Advance(31 * time.Minute)
	second := c.token(t, appID)
	if second == first {
		t.Error("a token in its last half hour was not replaced")
	}
	path := "/open-apis/im/v1/messages?receive_id_type=chat_id"
	wantCode(t, "first token, both alive", c.call(t, "POST", path, first, map[string]string{}), 230001)
	c.clock.Advance(30 * time.Minute)
	wantCode(t, "first token, expired", c.call(t, "POST", path, first, map[string]string{}), 99991663)
	wantCode(t, "no token", c.call(t, "POST", path, "", map[string]string{}), 99991661)
	c.RevokeTokens(appID)
	wantCode(t, "revoked token", c.call(t, "POST", path, second, map[string]string{}), 99991663)
	got := c.call(t, "POST", "/open-apis/auth/v3/tenant_access_token/internal", "", map[string]string{"app_id": appID, "app_secret": "wrong"})
	wantCode(t, "wrong secret", got, 10014)
}

func TestSendingIsChecked(t *testing.T) {
	c := newCompany(t, feishu.Config{Unlimited: true})
	alice, err := c.UserOf("alice")
	must(t, err)
	outside, err := c.AddChat(feishu.Chat{Members: []string{"alice"}})
	must(t, err)
	text := `{"text":"hello"}`
	for _, row := range []struct {
		what, idType, id, kind, content string
		code                            int
	}{
		{"open id", "open_id", c.OpenID(appID, "alice"), "text", text, 0},
		{"union id", "union_id", alice.UnionID, "text", text, 0},
		{"user id", "user_id", alice.UserID, "text", text, 0},
		{"email", "email", alice.Email, "text", text, 0},
		{"chat", "chat_id", c.chat, "text", text, 0},
		{"unknown id type", "name", "alice", "text", text, 99992402},
		{"prefix of another type", "open_id", c.chat, "text", text, 230001},
		{"open id of another app", "open_id", c.OpenID(otherApp, "alice"), "text", text, 99992361},
		{"nobody", "open_id", "ou_nobody", "text", text, 230013},
		{"chat without the bot", "chat_id", outside, "text", text, 230002},
		{"content that is no JSON", "chat_id", c.chat, "text", "hello", 230001},
		{"empty text", "chat_id", c.chat, "text", `{}`, 230001},
		{"unknown kind", "chat_id", c.chat, "card", question, 230001},
		{"card of 30 KB", "chat_id", c.chat, "interactive", strings.Replace(done, "done", strings.Repeat("x", 30<<10-len(done)+4), 1), 0},
		{"card of more", "chat_id", c.chat, "interactive", strings.Replace(done, "done", strings.Repeat("x", 30<<10-len(done)+5), 1), 230025},
	} {
		wantCode(t, row.what, c.send(t, row.idType, row.id, row.kind, row.content, ""), row.code)
	}
	got := c.call(t, "POST", "/open-apis/im/v1/messages?receive_id_type=chat_id", c.token(t, appID),
		`{"receive_id":"`+c.chat+`","msg_type":"interactive","content":`+question+`}`)
	wantCode(t, "content as an object", got, 9499)
}

func TestOneUUIDSendsOneMessageAnHour(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	first := c.send(t, "chat_id", c.chat, "interactive", question, "u-1")
	c.clock.Advance(59 * time.Minute)
	if again := c.send(t, "chat_id", c.chat, "interactive", question, "u-1"); again.Data.MessageID != first.Data.MessageID {
		t.Error("the same uuid sent another message")
	}
	c.clock.Advance(time.Minute)
	if later := c.send(t, "chat_id", c.chat, "interactive", question, "u-1"); later.Data.MessageID == first.Data.MessageID {
		t.Error("the uuid was remembered for more than an hour")
	}
	if n := len(c.Messages()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func TestCardsAreChecked(t *testing.T) {
	c := newCompany(t, feishu.Config{Unlimited: true})
	with := func(element string) string { return head + element + tail }
	input := `{"tag":"input","name":"reason","required":true}`
	submit := `{"tag":"button","name":"go","text":{"tag":"plain_text","content":"Go"},"form_action_type":"submit"}`
	for _, row := range []struct {
		what, card string
		ok         bool
	}{
		{"buttons", question, true},
		{"old structure", old, true},
		{"form", with(`{"tag":"form","name":"f","elements":[` + input + `,` + submit + `]}`), true},
		{"columns", with(`{"tag":"column_set","columns":[{"tag":"column","elements":[` + approve + `]}]}`), true},
		{"wrapped in card", `{"card":` + question + `}`, false},
		{"schema 3", strings.Replace(question, "2.0", "3.0", 1), false},
		{"unknown tag", with(`{"tag":"knob"}`), false},
		{"action of the old structure", with(`{"tag":"action","actions":[]}`), false},
		{"column outside of a set", with(`{"tag":"column","elements":[]}`), false},
		{"unknown attribute of the card", strings.Replace(question, `"schema"`, `"elements":[],"schema"`, 1), false},
		{"unknown attribute of the config", strings.Replace(question, `"update_multi":true`, `"wide_screen_mode":true`, 1), false},
		{"not shared", strings.Replace(question, `"update_multi":true`, `"update_multi":false`, 1), false},
		{"unknown colour", strings.Replace(question, "orange", "pink", 1), false},
		{"no body", `{"schema":"2.0","header":{"title":{"tag":"plain_text","content":"x"}}}`, false},
		{"button value as a string", with(strings.Replace(approve, `"behaviors"`, `"value":"x","behaviors"`, 1)), false},
		{"callback value as a string", with(strings.Replace(approve, `{"decision":"approve"}`, `"approve"`, 1)), false},
		{"unknown attribute of a button", with(strings.Replace(approve, `"name"`, `"colour":"red","name"`, 1)), false},
		{"text object without a tag", with(strings.Replace(approve, `"tag":"plain_text",`, "", 1)), false},
		{"element id twice", with(`{"tag":"hr","element_id":"a"},{"tag":"hr","element_id":"a"}`), false},
		{"name twice in a form", with(`{"tag":"form","name":"f","elements":[` + input + `,` + input + `]}`), false},
		{"201 elements", with(strings.Repeat(`{"tag":"hr"},`, 200) + `{"tag":"hr"}`), false},
	} {
		want := 230099
		if row.ok {
			want = 0
		}
		wantCode(t, row.what, c.send(t, "chat_id", c.chat, "interactive", row.card, ""), want)
	}
}

func TestUpdatesAreChecked(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, question)
	wantCode(t, "update", c.patch(t, id, done), 0)
	if m, _ := c.Message(id); m.Content != done || m.Updates != 1 {
		t.Errorf("after the update: %+v", m)
	}
	wantCode(t, "unknown message", c.patch(t, "om_nothing", done), 230001)
	wantCode(t, "card without update_multi", c.patch(t, id, strings.Replace(done, `"config":{"update_multi":true},`, "", 1)), 230001)
	wantCode(t, "card of the other structure", c.patch(t, id, old), 230099)
	wantCode(t, "card that was not shared", c.patch(t, c.post(t, oldOwn), old), 230001)
	wantCode(t, "text", c.patch(t, c.send(t, "chat_id", c.chat, "text", `{"text":"x"}`, "").Data.MessageID, done), 230001)
	got := c.call(t, "PATCH", "/open-apis/im/v1/messages/"+id, c.token(t, otherApp), map[string]string{"content": done})
	wantCode(t, "card of another app", got, 230012)
	got = c.call(t, "DELETE", "/open-apis/im/v1/messages/"+id, c.token(t, appID), "")
	wantCode(t, "recall", got, 0)
	wantCode(t, "recalled card", c.patch(t, id, done), 230011)
	if _, err := c.Card("alice", id); err == nil {
		t.Error("a recalled card is still seen")
	}

	id = c.post(t, question)
	c.clock.Advance(14 * 24 * time.Hour)
	wantCode(t, "after 14 days", c.patch(t, id, done), 0)
	c.clock.Advance(time.Second)
	wantCode(t, "after more", c.patch(t, id, done), 230031)
}

func TestFrequencyIsLimited(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, question)
	for range 5 {
		wantCode(t, "update", c.patch(t, id, done), 0)
	}
	wantCode(t, "sixth update of a message in a second", c.patch(t, id, done), 230020)
	c.clock.Advance(time.Second)
	wantCode(t, "a second later", c.patch(t, id, done), 0)
	for range 5 {
		c.post(t, question)
	}
	wantCode(t, "sixth message to a chat in a second", c.send(t, "chat_id", c.chat, "interactive", question, ""), 230020)

	c.clock.Advance(time.Minute)
	for range 50 {
		wantCode(t, "updates of an app", c.patch(t, "om_nothing", done), 230001)
	}
	got := c.patch(t, "om_nothing", done)
	wantCode(t, "51st in a second", got, 99991400)
	if got.status != http.StatusTooManyRequests || got.header.Get("X-Ogw-Ratelimit-Reset") == "" {
		t.Errorf("status %d, header %v", got.status, got.header)
	}
	for range 19 {
		c.clock.Advance(time.Second)
		for range 50 {
			c.patch(t, "om_nothing", done)
		}
	}
	c.clock.Advance(time.Second)
	wantCode(t, "1001st in a minute", c.patch(t, "om_nothing", done), 99991400)
}

func TestFaultsAtTheDoor(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	c.token(t, appID)
	messages := "/open-apis/im/v1/messages?receive_id_type=chat_id"
	in := map[string]string{"receive_id": c.chat, "msg_type": "interactive", "content": question, "uuid": "u-1"}
	token := c.token(t, appID)

	c.Faults.Add(world.Fault{Path: "/messages", Lose: true, Times: 1})
	if _, err := c.try("POST", messages, token, in); err == nil {
		t.Error("a lost answer arrived")
	}
	if n := len(c.Messages()); n != 1 {
		t.Errorf("%d messages after a lost answer, want 1", n)
	}
	c.Faults.Add(world.Fault{Path: "/messages", Cut: true, Times: 1})
	if _, err := c.try("POST", messages, token, in); err == nil {
		t.Error("a cut request was answered")
	}
	limited := feishu.RateLimited(7)
	limited.Times = 1
	c.Faults.Add(limited)
	if got := c.call(t, "POST", messages, token, in); got.status != 429 || got.Code != 99991400 || got.header.Get("X-Ogw-Ratelimit-Reset") != "7" {
		t.Errorf("429: %+v", got)
	}
	c.Faults.Add(world.Fault{Status: 502, Body: "{}", Times: 1})
	if got := c.call(t, "POST", messages, token, in); got.status != 502 {
		t.Errorf("status %d", got.status)
	}
	c.Faults.Add(world.Fault{Delay: 30 * time.Second, Times: 1})
	answered := make(chan error, 1)
	go func() {
		_, err := c.try("POST", messages, token, in)
		answered <- err
	}()
	must(t, c.clock.AwaitTimers(c.ctx, 1))
	c.clock.Advance(30 * time.Second)
	must(t, <-answered)

	c.server.Down()
	if _, err := c.try("POST", messages, token, in); err == nil {
		t.Error("a server that is down answered")
	}
	must(t, c.server.Up())
	wantCode(t, "after it came back", c.call(t, "POST", messages, token, in), 0)
	if n := len(c.Messages()); n != 1 {
		t.Errorf("%d messages under one uuid, want 1", n)
	}
}

func TestControlSpeaksJSON(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	control := httptest.NewServer(c.Control())
	defer control.Close()
	id := c.post(t, question)
	post := func(path, body string) (int, string) {
		response, err := http.Post(control.URL+path, "application/json", bytes.NewBufferString(body))
		must(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		must(t, err)
		return response.StatusCode, string(text)
	}
	if status, text := post("/card", `{"user":"alice","message":"`+id+`"}`); status != 200 || !strings.Contains(text, `"title":"开门"`) {
		t.Errorf("card: %d %s", status, text)
	}
	if status, text := post("/tap", `{"user":"alice","message":"`+id+`","button":"approve"}`); status != 200 || !strings.Contains(text, `"error":""`) {
		t.Errorf("tap: %d %s", status, text)
	}
	if status, text := post("/tap", `{"user":"mallory","message":"`+id+`","button":"approve"}`); status != 400 || !strings.Contains(text, "not in the chat") {
		t.Errorf("tap by an outsider: %d %s", status, text)
	}
	if status, _ := post("/tap", `{"who":"alice"}`); status != 400 {
		t.Errorf("unknown field: %d", status)
	}
}
