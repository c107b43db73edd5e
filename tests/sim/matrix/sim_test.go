package matrix_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/matrix"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

const v3 = "/_matrix/client/v3"

// town is a homeserver with a bot, two users and a room that they are in.
type town struct {
	*matrix.Sim
	clock  *world.Clock
	server *world.Server
	ctx    context.Context
	tokens map[string]string // access tokens by localpart
	room   string
}

const (
	bot     = "@bot:sim.test"
	alice   = "@alice:sim.test"
	bob     = "@bob:sim.test"
	mallory = "@mallory:evil.test"
)

func newTown(t *testing.T, cfg matrix.Config) *town {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	w := &town{clock: world.StoppedClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), ctx: ctx, tokens: map[string]string{}}
	cfg.Clock, cfg.SharedSecret = w.clock, "shared"
	w.Sim = matrix.New(cfg)
	server, err := world.Listen("127.0.0.1:0", w.Sim)
	must(t, err)
	w.server = server
	t.Cleanup(func() {
		must(t, w.Close())
		must(t, server.Close())
	})
	for _, name := range []string{"bot", "alice", "bob"} {
		_, err := w.AddUser(name, "pw-"+name)
		must(t, err)
		w.tokens[name] = w.login(t, name, "").text("access_token")
	}
	made := w.call(t, "bot", "POST", v3+"/createRoom", map[string]any{
		"preset": "private_chat", "name": "approvals", "invite": []string{alice, bob},
		"creation_content": map[string]any{"m.federate": true},
	})
	w.room = made.text("room_id")
	for _, name := range []string{"alice", "bob"} {
		got := w.call(t, name, "POST", v3+"/rooms/"+url.PathEscape(w.room)+"/join", nil)
		if got.status != 200 {
			t.Fatalf("join: %+v", got)
		}
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type reply struct {
	status int
	header http.Header
	body   map[string]any
}

func (r reply) text(name string) string {
	text, _ := r.body[name].(string)
	return text
}

// at goes down into the body; nil where there is nothing.
func (r reply) at(path ...string) any {
	var v any = r.body
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func (w *town) call(t *testing.T, as, method, path string, body any) reply {
	t.Helper()
	got, err := w.try(as, method, path, body)
	must(t, err)
	return got
}

func (w *town) try(as, method, path string, body any) (reply, error) {
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	r, err := http.NewRequestWithContext(w.ctx, method, w.server.URL()+path, bytes.NewReader(text))
	if err != nil {
		return reply{}, err
	}
	if as != "" {
		token, known := w.tokens[as]
		if !known {
			token = as
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	got := reply{status: response.StatusCode, header: response.Header}
	err = json.NewDecoder(response.Body).Decode(&got.body)
	return got, err
}

func (w *town) login(t *testing.T, name, device string) reply {
	t.Helper()
	return w.call(t, "", "POST", v3+"/login", map[string]any{
		"type": "m.login.password", "identifier": map[string]string{"type": "m.id.user", "user": name},
		"password": "pw-" + name, "device_id": device,
	})
}

func (w *town) inRoom(path string) string { return v3 + "/rooms/" + url.PathEscape(w.room) + path }

func (w *town) put(t *testing.T, as, kind, txn string, content any) reply {
	t.Helper()
	return w.call(t, as, "PUT", w.inRoom("/send/"+kind+"/"+txn), content)
}

func text(body string) map[string]any { return map[string]any{"msgtype": "m.text", "body": body} }

func reaction(event, key string) map[string]any {
	return map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": event, "key": key}}
}

func wantError(t *testing.T, what string, got reply, status int, code string) {
	t.Helper()
	if got.status != status || got.text("errcode") != code {
		t.Errorf("%s: %d %v, want %d %s", what, got.status, got.body, status, code)
	}
}

func TestRegistrationNeedsTheSharedSecret(t *testing.T) {
	w := newTown(t, matrix.Config{})
	const path = "/_synapse/admin/v1/register"
	register := func(secret, name string) reply {
		nonce := w.call(t, "", "GET", path, nil).text("nonce")
		mac := hmac.New(sha1.New, []byte(secret))
		_, _ = io.WriteString(mac, nonce+"\x00"+name+"\x00pw\x00notadmin")
		return w.call(t, "", "POST", path, map[string]any{"nonce": nonce, "username": name, "password": "pw", "admin": false, "mac": hex.EncodeToString(mac.Sum(nil))})
	}
	if got := register("shared", "carol"); got.status != 200 || got.text("user_id") != "@carol:sim.test" || got.text("access_token") == "" {
		t.Errorf("register: %+v", got)
	}
	wantError(t, "taken name", register("shared", "carol"), 400, "M_USER_IN_USE")
	wantError(t, "bad name", register("shared", "Carol!"), 400, "M_INVALID_USERNAME")
	wantError(t, "wrong secret", register("guessed", "dave"), 403, "M_FORBIDDEN")
	wantError(t, "unknown nonce", w.call(t, "", "POST", path, map[string]any{"nonce": "x"}), 400, "M_UNKNOWN")
}

func TestDevicesLogIn(t *testing.T) {
	w := newTown(t, matrix.Config{})
	whoami := func(token string) reply { return w.call(t, token, "GET", v3+"/account/whoami", nil) }
	first := w.login(t, "alice", "PHONE")
	if got := whoami(first.text("access_token")); got.text("user_id") != alice || got.text("device_id") != "PHONE" {
		t.Errorf("whoami: %+v", got)
	}
	second := w.login(t, "alice", "PHONE")
	wantError(t, "token of a device that logged in again", whoami(first.text("access_token")), 401, "M_UNKNOWN_TOKEN")
	byToken := map[string]any{"type": "m.login.token", "token": w.LoginToken(bob)}
	if got := w.call(t, "", "POST", v3+"/login", byToken); got.text("user_id") != bob {
		t.Errorf("login by token: %+v", got)
	}
	wantError(t, "the same login token again", w.call(t, "", "POST", v3+"/login", byToken), 403, "M_FORBIDDEN")
	wantError(t, "wrong password", w.call(t, "", "POST", v3+"/login", map[string]any{"type": "m.login.password", "user": "alice", "password": "x"}), 403, "M_FORBIDDEN")
	wantError(t, "unknown type", w.call(t, "", "POST", v3+"/login", map[string]any{"type": "m.login.magic"}), 400, "M_UNKNOWN")
	wantError(t, "no token", whoami(""), 401, "M_MISSING_TOKEN")
	wantError(t, "unknown path", w.call(t, "bot", "GET", v3+"/nothing", nil), 404, "M_UNRECOGNIZED")
	w.RevokeTokens(alice)
	got := whoami(second.text("access_token"))
	wantError(t, "revoked token", got, 401, "M_UNKNOWN_TOKEN")
	if got.body["soft_logout"] != false {
		t.Errorf("soft_logout: %+v", got.body)
	}
}

func TestNoncesLiveAMinute(t *testing.T) {
	w := newTown(t, matrix.Config{})
	const path = "/_synapse/admin/v1/register"
	nonce := w.call(t, "", "GET", path, nil).text("nonce")
	mac := hmac.New(sha1.New, []byte("shared"))
	_, _ = io.WriteString(mac, nonce+"\x00carol\x00pw\x00notadmin")
	w.clock.Advance(time.Minute + time.Second)
	got := w.call(t, "", "POST", path, map[string]any{"nonce": nonce, "username": "carol", "password": "pw", "mac": hex.EncodeToString(mac.Sum(nil))})
	wantError(t, "a nonce after a minute", got, 400, "M_UNKNOWN")
}

func TestOneTransactionSendsOneEvent(t *testing.T) {
	w := newTown(t, matrix.Config{})
	first := w.put(t, "bot", "m.room.message", "t1", text("hello")).text("event_id")
	wantError(t, "an event of 64 KB", w.put(t, "bot", "m.room.message", "t0", text(strings.Repeat("x", 65536))), 413, "M_TOO_LARGE")
	if again := w.put(t, "bot", "m.room.message", "t1", text("hello")).text("event_id"); again != first || first == "" {
		t.Errorf("%q, then %q", first, again)
	}
	if other := w.put(t, "alice", "m.room.message", "t1", text("hello")).text("event_id"); other == first {
		t.Error("two users share a transaction")
	}
}

func TestReactionsAreUnique(t *testing.T) {
	w := newTown(t, matrix.Config{})
	notice := w.put(t, "bot", "m.room.message", "t1", text("approve?")).text("event_id")
	yes := w.put(t, "alice", "m.reaction", "a1", reaction(notice, "✅")).text("event_id")
	wantError(t, "the same again", w.put(t, "alice", "m.reaction", "a2", reaction(notice, "✅")), 400, "M_DUPLICATE_ANNOTATION")
	if got := w.put(t, "alice", "m.reaction", "a3", reaction(notice, "❌")); got.status != 200 {
		t.Errorf("another key: %+v", got)
	}
	if _, err := w.React(bob, w.room, notice, "✅"); err != nil {
		t.Errorf("another user: %v", err)
	}
	wantError(t, "unknown event", w.put(t, "alice", "m.reaction", "a4", reaction("$nothing", "✅")), 400, "M_UNKNOWN")
	taken := w.call(t, "alice", "PUT", w.inRoom("/redact/"+url.PathEscape(yes)+"/r1"), map[string]any{"reason": "changed my mind"})
	if taken.status != 200 {
		t.Errorf("redact: %+v", taken)
	}
	got := w.call(t, "bot", "GET", w.inRoom("/event/"+url.PathEscape(yes)), nil)
	if content, _ := got.at("content").(map[string]any); len(content) != 0 || got.at("unsigned", "redacted_because", "redacts") != yes {
		t.Errorf("redacted: %+v", got.body)
	}
	if _, err := w.React(alice, w.room, notice, "✅"); err != nil {
		t.Errorf("after it was taken back: %v", err)
	}
}

func TestOutsidersAreForbidden(t *testing.T) {
	w := newTown(t, matrix.Config{})
	_, err := w.AddUser("eve", "pw-eve")
	must(t, err)
	w.tokens["eve"] = w.login(t, "eve", "").text("access_token")
	wantError(t, "send", w.put(t, "eve", "m.room.message", "t1", text("hi")), 403, "M_FORBIDDEN")
	wantError(t, "join", w.call(t, "eve", "POST", w.inRoom("/join"), nil), 403, "M_FORBIDDEN")
	wantError(t, "members", w.call(t, "eve", "GET", w.inRoom("/joined_members"), nil), 403, "M_FORBIDDEN")
	wantError(t, "messages", w.call(t, "eve", "GET", w.inRoom("/messages?dir=b"), nil), 403, "M_FORBIDDEN")
	if _, err := w.React(mallory, w.room, "$x", "✅"); err == nil {
		t.Error("a user of another server who is not in the room reacted")
	}
	must(t, w.Invite(alice, mallory, w.room))
	must(t, w.Join(mallory, w.room))
	notice := w.put(t, "bot", "m.room.message", "t1", text("approve?")).text("event_id")
	if _, err := w.React(mallory, w.room, notice, "✅"); err != nil {
		t.Errorf("a user of another server who was invited: %v", err)
	}
	got := w.call(t, "bot", "GET", w.inRoom("/joined_members"), nil)
	if members, _ := got.at("joined").(map[string]any); len(members) != 4 || got.at("joined", mallory) == nil {
		t.Errorf("members: %+v", got.body)
	}

	local := w.call(t, "bot", "POST", v3+"/createRoom", map[string]any{"preset": "public_chat", "creation_content": map[string]any{"m.federate": false}}).text("room_id")
	if err := w.Join(mallory, local); err == nil {
		t.Error("a room that is not federated took a user of another server")
	}
	id, err := w.Inject(local, matrix.Event{Sender: mallory, Type: "m.room.message", Content: text("I am here")})
	if err != nil || id == "" {
		t.Errorf("inject: %v", err)
	}
}

func TestPowerLevels(t *testing.T) {
	w := newTown(t, matrix.Config{})
	wantError(t, "state by a member", w.call(t, "alice", "PUT", w.inRoom("/state/m.room.topic"), map[string]any{"topic": "x"}), 403, "M_FORBIDDEN")
	if got := w.call(t, "bot", "PUT", w.inRoom("/state/m.room.topic/"), map[string]any{"topic": "x"}); got.status != 200 {
		t.Errorf("state by the creator: %+v", got)
	}
	if got := w.call(t, "alice", "GET", w.inRoom("/state/m.room.topic"), nil); got.text("topic") != "x" {
		t.Errorf("topic: %+v", got)
	}
	power := w.call(t, "bot", "GET", w.inRoom("/state/m.room.power_levels"), nil).body
	power["users"] = map[string]any{bot: 100, alice: 50}
	power["events_default"] = 50
	if got := w.call(t, "bot", "PUT", w.inRoom("/state/m.room.power_levels"), power); got.status != 200 {
		t.Errorf("power levels: %+v", got)
	}
	wantError(t, "message below the level", w.put(t, "bob", "m.room.message", "t1", text("hi")), 403, "M_FORBIDDEN")
	notice := w.put(t, "bot", "m.room.message", "t1", text("hi")).text("event_id")
	if got := w.call(t, "alice", "PUT", w.inRoom("/redact/"+url.PathEscape(notice)+"/r1"), map[string]any{}); got.status != 200 {
		t.Errorf("redaction by a moderator: %+v", got)
	}
	power["events"] = map[string]any{"m.room.power_levels": 50}
	w.call(t, "bot", "PUT", w.inRoom("/state/m.room.power_levels"), power)
	power["users"] = map[string]any{bot: 100, alice: 100}
	wantError(t, "more than one has", w.call(t, "alice", "PUT", w.inRoom("/state/m.room.power_levels"), power), 403, "M_FORBIDDEN")
	wantError(t, "kick without the level", w.call(t, "bob", "POST", w.inRoom("/kick"), map[string]any{"user_id": alice}), 403, "M_FORBIDDEN")
	wantError(t, "kick of somebody higher", w.call(t, "alice", "POST", w.inRoom("/kick"), map[string]any{"user_id": bot}), 403, "M_FORBIDDEN")
	if got := w.call(t, "alice", "POST", w.inRoom("/kick"), map[string]any{"user_id": bob}); got.status != 200 {
		t.Errorf("kick: %+v", got)
	}
	power["users"], power["invite"] = map[string]any{bot: 100}, 50
	w.call(t, "bot", "PUT", w.inRoom("/state/m.room.power_levels"), power)
	wantError(t, "invitation below the level", w.call(t, "alice", "POST", w.inRoom("/invite"), map[string]any{"user_id": bob}), 403, "M_FORBIDDEN")
	wantError(t, "joining after a kick", w.call(t, "bob", "POST", w.inRoom("/join"), nil), 403, "M_FORBIDDEN")
}

func TestEditsCountFromTheirSenderOnly(t *testing.T) {
	w := newTown(t, matrix.Config{})
	notice := w.put(t, "bot", "m.room.message", "t1", text("pending")).text("event_id")
	_, err := w.EditAsUser(alice, w.room, notice, "approved by alice")
	must(t, err)
	if shown, err := w.Shown(w.room, notice); err != nil || shown["body"] != "pending" {
		t.Errorf("after another's edit: %v, %v", shown, err)
	}
	_, err = w.EditAsUser(bot, w.room, notice, "approved")
	must(t, err)
	if shown, err := w.Shown(w.room, notice); err != nil || shown["body"] != "approved" {
		t.Errorf("after its own: %v, %v", shown, err)
	}
	got := w.call(t, "alice", "GET", w.inRoom("/event/"+url.PathEscape(notice)), nil)
	if got.at("content", "body") != "pending" || got.at("unsigned", "m.relations", "m.replace", "sender") != bot {
		t.Errorf("event: %+v", got.body)
	}
	relations := w.call(t, "bot", "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(w.room)+"/relations/"+url.PathEscape(notice)+"/m.replace", nil)
	if chunk, _ := relations.at("chunk").([]any); len(chunk) != 2 {
		t.Errorf("relations: %+v", relations.body)
	}
	_, err = w.Redact(alice, w.room, notice, "")
	if e, ok := errors.AsType[*matrix.Error](err); !ok || e.Code != "M_FORBIDDEN" {
		t.Errorf("redaction of another's event: %v", err)
	}
}

func TestSendingTooFastIsLimited(t *testing.T) {
	w := newTown(t, matrix.Config{MessagesPerSecond: 0.2, MessageBurst: 2})
	for _, txn := range []string{"t1", "t2"} {
		if got := w.put(t, "bot", "m.room.message", txn, text("x")); got.status != 200 {
			t.Errorf("%s: %+v", txn, got)
		}
	}
	got := w.put(t, "bot", "m.room.message", "t3", text("x"))
	wantError(t, "third at once", got, 429, "M_LIMIT_EXCEEDED")
	if got.body["retry_after_ms"] != 5000.0 || got.header.Get("Retry-After") != "5" {
		t.Errorf("%+v %v", got.body, got.header)
	}
	if again := w.put(t, "bot", "m.room.message", "t1", text("x")); again.status != 200 {
		t.Errorf("a repeated transaction: %+v", again)
	}
	w.clock.Advance(5 * time.Second)
	if got := w.put(t, "bot", "m.room.message", "t3", text("x")); got.status != 200 {
		t.Errorf("after the wait: %+v", got)
	}
}

func TestFaultsAtTheDoor(t *testing.T) {
	w := newTown(t, matrix.Config{})
	w.Faults.Add(world.Fault{Path: "/send/", Lose: true, Times: 1})
	if _, err := w.try("bot", "PUT", w.inRoom("/send/m.room.message/t1"), text("x")); err == nil {
		t.Error("a lost answer arrived")
	}
	limited := matrix.RateLimited(1500 * time.Millisecond)
	limited.Times = 1
	w.Faults.Add(limited)
	got := w.put(t, "bot", "m.room.message", "t1", text("x"))
	wantError(t, "429", got, 429, "M_LIMIT_EXCEEDED")
	if got.body["retry_after_ms"] != 1500.0 || got.header.Get("Retry-After") != "2" {
		t.Errorf("%+v %v", got.body, got.header)
	}
	w.put(t, "bot", "m.room.message", "t1", text("x"))
	messages := 0
	for _, e := range w.Events(w.room) {
		if e.Type == "m.room.message" {
			messages++
		}
	}
	if messages != 1 {
		t.Errorf("%d messages under one transaction, want 1", messages)
	}
	w.server.Down()
	if _, err := w.try("bot", "GET", v3+"/account/whoami", nil); err == nil {
		t.Error("a server that is down answered")
	}
	must(t, w.server.Up())
	if got := w.call(t, "bot", "GET", v3+"/account/whoami", nil); got.status != 200 {
		t.Errorf("after it came back: %+v", got)
	}
}

func TestControlSpeaksJSON(t *testing.T) {
	w := newTown(t, matrix.Config{})
	control := httptest.NewServer(w.Control())
	defer control.Close()
	post := func(path string, body any) (int, string) {
		encoded, err := json.Marshal(body)
		must(t, err)
		response, err := http.Post(control.URL+path, "application/json", bytes.NewReader(encoded))
		must(t, err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		must(t, err)
		return response.StatusCode, string(answer)
	}
	notice := w.put(t, "bot", "m.room.message", "t1", text("approve?")).text("event_id")
	react := map[string]any{"user": alice, "room": w.room, "event": notice, "key": "✅"}
	if status, answer := post("/react", react); status != 200 || !strings.Contains(answer, `"id":"$`) {
		t.Errorf("react: %d %s", status, answer)
	}
	if status, answer := post("/react", react); status != 400 || !strings.Contains(answer, "M_DUPLICATE_ANNOTATION") {
		t.Errorf("twice: %d %s", status, answer)
	}
	if status, answer := post("/events", map[string]any{"room": w.room}); status != 200 || !strings.Contains(answer, "m.reaction") {
		t.Errorf("events: %d %s", status, answer)
	}
}
