package feishu_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/feishu"
)

// opened is a callback as an app reads it.
type opened struct {
	Type      string `json:"type"`
	Challenge string `json:"challenge"`
	Schema    string `json:"schema"`
	Header    struct {
		EventID   string `json:"event_id"`
		EventType string `json:"event_type"`
		Token     string `json:"token"`
		AppID     string `json:"app_id"`
		TenantKey string `json:"tenant_key"`
	} `json:"header"`
	Event struct {
		Operator struct {
			OpenID  string `json:"open_id"`
			UserID  string `json:"user_id"`
			UnionID string `json:"union_id"`
		} `json:"operator"`
		Token  string `json:"token"`
		Action struct {
			Tag       string         `json:"tag"`
			Name      string         `json:"name"`
			Value     map[string]any `json:"value"`
			FormValue map[string]any `json:"form_value"`
		} `json:"action"`
		Context struct {
			OpenMessageID string `json:"open_message_id"`
			OpenChatID    string `json:"open_chat_id"`
		} `json:"context"`
		Message struct {
			ChatType string `json:"chat_type"`
			Content  string `json:"content"`
			Mentions []any  `json:"mentions"`
		} `json:"message"`
	} `json:"event"`
}

// open decrypts a callback, by other means than the simulator encrypts it. It
// reports whether the signature is right.
func open(r *http.Request) (opened, bool) {
	body, _ := io.ReadAll(r.Body)
	var sealed struct{ Encrypt []byte }
	_ = json.Unmarshal(body, &sealed)
	var out opened
	if len(sealed.Encrypt) < 2*aes.BlockSize {
		return out, false
	}
	secret := sha256.Sum256([]byte(key))
	block, _ := aes.NewCipher(secret[:])
	plain := make([]byte, len(sealed.Encrypt)-aes.BlockSize)
	cipher.NewCBCDecrypter(block, sealed.Encrypt[:aes.BlockSize]).CryptBlocks(plain, sealed.Encrypt[aes.BlockSize:])
	padding := int(plain[len(plain)-1])
	plain = plain[:len(plain)-padding]
	if strings.Contains(string(plain), `": `) || json.Unmarshal(plain, &out) != nil {
		return out, false
	}
	h := sha256.New()
	_, _ = io.WriteString(h, r.Header.Get("X-Lark-Request-Timestamp")+r.Header.Get("X-Lark-Request-Nonce")+key+string(body))
	return out, hex.EncodeToString(h.Sum(nil)) == r.Header.Get("X-Lark-Signature")
}

func TestATapReachesTheApp(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, question)
	var got opened
	var signed bool
	c.respond(func(w http.ResponseWriter, r *http.Request) {
		got, signed = open(r)
		_, _ = io.WriteString(w, `{"toast":{"type":"success","content":"Noted","i18n":{"zh_cn":"已记录","en_us":"Noted"}},"card":{"type":"raw","data":`+done+`}}`)
	})
	seen := c.tap(t, "alice", id, "批准", nil)
	if seen.Error != "" || seen.Toast == nil || *seen.Toast != (feishu.Toast{Type: "success", Text: "已记录"}) {
		t.Errorf("seen: %+v", seen)
	}
	if !signed || got.Schema != "2.0" || got.Header.EventType != "card.action.trigger" || got.Header.EventID != seen.EventID ||
		got.Header.AppID != appID || got.Header.Token != verifying || got.Header.TenantKey != "tenant-one" {
		t.Errorf("signed %v, header %+v", signed, got.Header)
	}
	if e := got.Event; e.Operator.OpenID != c.OpenID(appID, "alice") || e.Action.Value["decision"] != "approve" || e.Action.Name != "approve" ||
		e.Context.OpenMessageID != id || e.Context.OpenChatID != c.chat || e.Token != seen.Token {
		t.Errorf("event: %+v", e)
	}
	for _, user := range []string{"alice", "bob"} {
		if view, err := c.Card(user, id); err != nil || len(view.Texts) != 1 || view.Texts[0] != "done" {
			t.Errorf("%s sees %+v, %v", user, view, err)
		}
	}
}

func TestUserIDsNeedAPermission(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	alice, err := c.UserOf("alice")
	must(t, err)
	var got []opened
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, _ := open(r)
		got = append(got, event)
		_, _ = io.WriteString(w, "{}")
	}))
	defer app.Close()
	id := c.post(t, question)
	for _, hidden := range []bool{false, true} {
		must(t, c.AddApp(feishu.App{ID: appID, Secret: secret, EncryptKey: key, CallbackURL: app.URL, NoUserIDs: hidden}))
		c.tap(t, "alice", id, "approve", nil)
	}
	if a, b := got[0].Event.Operator, got[1].Event.Operator; a.UserID != alice.UserID || b.UserID != "" || b.OpenID != a.OpenID || b.UnionID != alice.UnionID {
		t.Errorf("with the permission %+v, without %+v", a, b)
	}
}

func TestPeopleSeeCardsInTheirLanguage(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, question)
	zh, err := c.Card("alice", id)
	must(t, err)
	en, err := c.Card("bob", id)
	must(t, err)
	if zh.Title != "开门" || en.Title != "Open the door" || zh.Buttons[0].Text != "批准" || en.Buttons[0].Text != "Approve" || zh.Template != "orange" {
		t.Errorf("zh %+v, en %+v", zh, en)
	}
	if _, err := c.Card("mallory", id); err == nil {
		t.Error("an outsider sees the card")
	}
}

func TestAnswersToATapAreChecked(t *testing.T) {
	c := newCompany(t, feishu.Config{Unlimited: true})
	for _, row := range []struct {
		what   string
		status int
		body   string
		code   int
	}{
		{"nothing changes", 200, `{}`, 0},
		{"status 500", 500, `{}`, 200671},
		{"empty body", 200, ``, 200672},
		{"no object", 200, `[]`, 200672},
		{"unknown toast", 200, `{"toast":{"type":"loud","content":"x"}}`, 200672},
		{"card as a string", 200, `{"card":{"type":"raw","data":"{}"}}`, 200673},
		{"card with an unknown tag", 200, `{"card":{"type":"raw","data":` + head + `{"tag":"knob"}` + tail + `}}`, 200673},
		{"card of the old structure", 200, `{"card":{"type":"raw","data":` + old + `}}`, 200673},
	} {
		id := c.post(t, question)
		c.respond(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(row.status)
			_, _ = io.WriteString(w, row.body)
		})
		if seen := c.tap(t, "bob", id, "approve", nil); seen.Code != row.code || (seen.Error == "") != (row.code == 0) {
			t.Errorf("%s: %+v", row.what, seen)
		}
		if m, _ := c.Message(id); m.Content != question {
			t.Errorf("%s: the card changed", row.what)
		}
	}
}

func TestATapTimesOutAfterThreeSeconds(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, question)
	arrived := make(chan struct{})
	c.respond(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		close(arrived)
		<-r.Context().Done()
	})
	seen := make(chan feishu.Seen)
	go func() {
		s, _ := c.Tap(c.ctx, feishu.Tap{User: "alice", Message: id, Button: "approve"})
		seen <- s
	}()
	<-arrived
	c.clock.Advance(3 * time.Second)
	if s := <-seen; s.Code != 200341 || s.Toast != nil {
		t.Errorf("seen: %+v", s)
	}
	c.clock.Advance(24 * time.Hour)
	if n := len(c.Calls()); n != 1 {
		t.Errorf("%d deliveries of a tap, want 1", n)
	}
}

func TestTapsNeedALivingButton(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	form := `{"tag":"form","name":"f","elements":[{"tag":"input","name":"reason","required":true},{"tag":"button","name":"deny","text":{"tag":"plain_text","content":"Deny"},"form_action_type":"submit","behaviors":[{"type":"callback","value":{"decision":"deny"}}]}]}`
	off := `{"tag":"button","name":"off","disabled":true,"text":{"tag":"plain_text","content":"Off"},"behaviors":[{"type":"callback","value":{}}]}`
	link := `{"tag":"button","name":"link","text":{"tag":"plain_text","content":"Link"},"behaviors":[{"type":"open_url","default_url":"https://x.test"}]}`
	id := c.post(t, head+approve+","+form+","+off+","+link+tail)
	for _, tap := range []feishu.Tap{
		{User: "mallory", Button: "approve"},
		{User: "alice", Button: "nothing"},
		{User: "alice", Button: "off"},
		{User: "alice", Button: "link"},
		{User: "alice", Button: "deny"},
		{User: "alice", Button: "deny", Form: map[string]any{"reason": "no", "other": "x"}},
		{User: "alice", Button: "approve", Form: map[string]any{"reason": "no"}},
	} {
		tap.Message = id
		if _, err := c.Tap(c.ctx, tap); err == nil {
			t.Errorf("%+v was possible", tap)
		}
	}
	var got opened
	c.respond(func(w http.ResponseWriter, r *http.Request) {
		got, _ = open(r)
		_, _ = io.WriteString(w, "{}")
	})
	c.tap(t, "alice", id, "deny", map[string]any{"reason": "no"})
	if got.Event.Action.FormValue["reason"] != "no" || got.Event.Action.Value["decision"] != "deny" {
		t.Errorf("action: %+v", got.Event.Action)
	}
	if n := len(c.Calls()); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestCardsFallAsleep(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	now, before := c.post(t, question), c.post(t, oldOwn)
	c.respond(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"card":{"type":"raw","data":`+strings.Replace(oldOwn, "Yes", "No", 1)+`}}`)
	})
	c.clock.Advance(14*24*time.Hour + time.Second)
	if seen := c.tap(t, "alice", now, "approve", nil); seen.Error == "" || seen.EventID != "" {
		t.Errorf("a card of schema 2.0 after 14 days: %+v", seen)
	}
	if seen := c.tap(t, "alice", before, "Yes", nil); seen.Error != "" || seen.Card.Buttons[0].Text != "Yes" {
		t.Errorf("an old card after 14 days answers taps, and is not updated: %+v", seen)
	}
	c.clock.Advance(16 * 24 * time.Hour)
	if seen := c.tap(t, "alice", before, "Yes", nil); seen.Error == "" {
		t.Errorf("an old card after 30 days: %+v", seen)
	}
}

func TestUnsharedCardsAreUpdatedForOneUser(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, oldOwn)
	c.respond(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"card":{"type":"raw","data":`+strings.Replace(oldOwn, "Yes", "No", 1)+`}}`)
	})
	if seen := c.tap(t, "alice", id, "Yes", nil); seen.Card.Buttons[0].Text != "No" {
		t.Errorf("alice sees %+v", seen.Card)
	}
	if view, err := c.Card("bob", id); err != nil || view.Buttons[0].Text != "Yes" {
		t.Errorf("bob sees %+v, %v", view, err)
	}
}

func TestForwardedCards(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	elsewhere, err := c.AddChat(feishu.Chat{Members: []string{"alice", "mallory"}})
	must(t, err)
	closed := c.post(t, strings.Replace(question, `"update_multi":true`, `"update_multi":true,"enable_forward":false`, 1))
	if _, err := c.Forward("alice", closed, elsewhere); err == nil {
		t.Error("a card that may not be forwarded was")
	}
	still, err := c.Forward("alice", c.post(t, question), elsewhere)
	must(t, err)
	if seen := c.tap(t, "mallory", still, "approve", nil); seen.Error == "" || seen.EventID != "" {
		t.Errorf("a copy without enable_forward_interaction: %+v", seen)
	}
	var got opened
	c.respond(func(w http.ResponseWriter, r *http.Request) {
		got, _ = open(r)
		_, _ = io.WriteString(w, "{}")
	})
	lively, err := c.ForwardAnyway("alice", closed, elsewhere)
	must(t, err)
	c.tap(t, "mallory", lively, "approve", nil)
	if got.Event.Context.OpenMessageID != lively || got.Event.Context.OpenChatID != elsewhere || lively == closed {
		t.Errorf("context: %+v", got.Event.Context)
	}
	wantCode(t, "update of a copy", c.patch(t, lively, done), 230012)
}

func TestDelayedUpdates(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	update := func(token, card string) reply {
		return c.call(t, "POST", "/open-apis/interactive/v1/card/update", c.token(t, appID), `{"token":"`+token+`","card":`+card+`}`)
	}
	id := c.post(t, question)
	var early reply
	c.respond(func(w http.ResponseWriter, r *http.Request) {
		got, _ := open(r)
		early = update(got.Event.Token, done)
		_, _ = io.WriteString(w, "{}")
	})
	seen := c.tap(t, "alice", id, "approve", nil)
	wantCode(t, "before the answer", early, 300010)
	wantCode(t, "first use", update(seen.Token, done), 0)
	wantCode(t, "second use", update(seen.Token, done), 0)
	wantCode(t, "third use", update(seen.Token, done), 300010)
	wantCode(t, "unknown token", update("c-nothing", done), 300010)

	seen = c.tap(t, "alice", c.post(t, question), "approve", nil)
	c.clock.Advance(30*time.Minute + time.Second)
	wantCode(t, "after 30 minutes", update(seen.Token, done), 300010)

	c.respond(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
	id = c.post(t, oldOwn)
	seen = c.tap(t, "alice", id, "Yes", nil)
	no := strings.Replace(oldOwn, "Yes", "No", 1)
	wantCode(t, "old card without open_ids", update(seen.Token, no), 300090)
	wantCode(t, "old card with open_ids", update(seen.Token, strings.Replace(no, `{"elements"`, `{"open_ids":["`+c.OpenID(appID, "bob")+`"],"elements"`, 1)), 0)
	if view, err := c.Card("bob", id); err != nil || view.Buttons[0].Text != "No" {
		t.Errorf("bob sees %+v, %v", view, err)
	}
}

func TestReplaysAndForgeries(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, question)
	var bodies []string
	var stamps []string
	c.respond(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies, stamps = append(bodies, string(body)), append(stamps, r.Header.Get("X-Lark-Request-Timestamp"))
		_, _ = io.WriteString(w, "{}")
	})
	c.tap(t, "alice", id, "approve", nil)
	c.clock.Advance(2 * time.Hour)
	_, err := c.Replay(c.ctx, "")
	must(t, err)
	if len(bodies) != 2 || bodies[0] != bodies[1] || stamps[0] != stamps[1] {
		t.Error("the replay differs from what was sent")
	}
	header, body, err := c.Seal(appID, []byte(`{"forged":true}`))
	must(t, err)
	var sealed struct{ Encrypt string }
	must(t, json.Unmarshal(body, &sealed))
	if raw, err := base64.StdEncoding.DecodeString(sealed.Encrypt); err != nil || len(raw)%aes.BlockSize != 0 {
		t.Errorf("sealed: %d bytes, %v", len(raw), err)
	}
	header.Set("X-Lark-Signature", strings.Repeat("0", 64))
	if got, err := c.Post(c.ctx, appID, header, body); err != nil || got.Status != 200 || bodies[2] != string(body) {
		t.Errorf("raw post: %+v, %v", got, err)
	}
}

func TestTheChallengeIsAsked(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	if err := c.VerifyURL(c.ctx, appID); err == nil {
		t.Error("an app that does not return the challenge passed")
	}
	c.respond(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Lark-Signature") != "" {
			t.Error("the challenge is signed")
		}
		got, _ := open(r)
		if got.Type != "url_verification" {
			t.Errorf("type %q", got.Type)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"challenge": got.Challenge})
	})
	must(t, c.VerifyURL(c.ctx, appID))
}

func TestEventsAreSentAgainUntilTheyAreTaken(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	var got []opened
	c.respond(func(w http.ResponseWriter, r *http.Request) {
		event, signed := open(r)
		if !signed {
			t.Error("not signed")
		}
		got = append(got, event)
		if len(got) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	event, err := c.Say(c.ctx, "alice", c.chat, appID, "hello")
	must(t, err)
	deliveries := func(n int) {
		t.Helper()
		_, err := c.AwaitCalls(c.ctx, func(calls []feishu.Call) bool { return len(calls) == n })
		must(t, err)
	}
	deliveries(1)
	c.clock.Advance(15 * time.Second)
	deliveries(2)
	must(t, c.clock.AwaitTimers(c.ctx, 1))
	c.clock.Advance(5 * time.Minute)
	deliveries(3)
	for _, e := range got {
		if e.Header.EventID != event || e.Header.EventType != "im.message.receive_v1" || e.Event.Message.ChatType != "group" ||
			e.Event.Message.Content != `{"text":"@_user_1 hello"}` || len(e.Event.Message.Mentions) != 1 {
			t.Errorf("event: %+v", e)
		}
	}
	direct, err := c.DirectChat(appID, "bob")
	must(t, err)
	if _, err = c.Say(c.ctx, "bob", direct, appID, "hi"); err != nil || got[3].Event.Message.ChatType != "p2p" {
		t.Errorf("direct: %+v, %v", got[3], err)
	}
	if _, err := c.Say(c.ctx, "mallory", c.chat, appID, "hi"); err == nil {
		t.Error("an outsider wrote to the chat")
	}
}

func TestALostAnswerLooksLikeASlowApp(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, question)
	done := 0
	c.respond(func(w http.ResponseWriter, _ *http.Request) {
		done++
		_, _ = io.WriteString(w, "{}")
	})
	c.LoseAnswers(1)
	if seen := c.tap(t, "alice", id, "approve", nil); seen.Code != 200341 || done != 1 {
		t.Errorf("lost: %+v, the app was asked %d times", seen, done)
	}
	if seen := c.tap(t, "alice", id, "approve", nil); seen.Error != "" || done != 2 {
		t.Errorf("the next one: %+v", seen)
	}
	c.LoseAnswers(1)
	_, err := c.Say(c.ctx, "alice", c.chat, appID, "hello")
	must(t, err)
	c.clock.Advance(15 * time.Second)
	_, err = c.AwaitCalls(c.ctx, func(calls []feishu.Call) bool { return len(calls) == 4 && calls[3].Answer != nil })
	must(t, err)
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	c.respond(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	_, err := c.Say(c.ctx, "alice", c.chat, appID, "hello")
	must(t, err)
	must(t, c.AddApp(feishu.App{ID: appID, Secret: secret, LongConnection: true}))
	conn := c.dial(t)
	must(t, c.AwaitConnections(c.ctx, appID, 1))
	must(t, c.Close())
	if _, _, err := conn.Read(c.ctx); err == nil {
		t.Error("a long connection outlives its simulator")
	}
	must(t, c.AwaitConnections(c.ctx, appID, 0))
	c.clock.Advance(time.Hour)
	if n := len(c.Calls()); n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
}

func TestATapThatIsGivenUpIsAnError(t *testing.T) {
	c := newCompany(t, feishu.Config{})
	id := c.post(t, question)
	ctx, cancel := context.WithCancel(c.ctx)
	c.respond(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		cancel()
		<-r.Context().Done()
	})
	if _, err := c.Tap(ctx, feishu.Tap{User: "alice", Message: id, Button: "approve"}); err == nil {
		t.Error("no error")
	}
}
