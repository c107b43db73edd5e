package matrix

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // Synapse's registration asks for it
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// TestOnSynapse runs the channel against a real homeserver:
//
//	scripts/synapse.sh go test -count=1 -run OnSynapse ./cheq/matrix
func TestOnSynapse(t *testing.T) {
	at, secret := os.Getenv("XIEZHI_TEST_SYNAPSE"), os.Getenv("XIEZHI_TEST_SYNAPSE_SECRET")
	if at == "" {
		t.Skip("set XIEZHI_TEST_SYNAPSE and XIEZHI_TEST_SYNAPSE_SECRET; scripts/synapse.sh does")
	}
	onHomeserver(t, at, secret)
}

// person is somebody who is logged in on a homeserver.
type person struct {
	t         *testing.T
	at        string
	id, token string
	txn       int // of its last event
	status    int // of its last call
}

// register makes a user of a name that nobody has.
func register(t *testing.T, at, secret, name string) *person {
	t.Helper()
	p := &person{t: t, at: at}
	nonce := p.call(http.MethodGet, "/_synapse/admin/v1/register", nil)["nonce"].(string)
	name += strings.ToLower(rand.Text()[:8])
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = io.WriteString(mac, strings.Join([]string{nonce, name, "p4ssword", "notadmin"}, "\x00"))
	made := p.call(http.MethodPost, "/_synapse/admin/v1/register", map[string]any{
		"nonce": nonce, "username": name, "password": "p4ssword", "admin": false, "mac": hex.EncodeToString(mac.Sum(nil)),
	})
	p.id, p.token = made["user_id"].(string), made["access_token"].(string)
	return p
}

// call makes a call that may fail by the rules of Matrix; its status is noted.
func (p *person) call(method, path string, body any) map[string]any {
	p.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		p.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(p.t.Context(), method, p.at+path, bytes.NewReader(data))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+p.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		p.t.Fatalf("%s %s: %d: %v", method, path, response.StatusCode, err)
	}
	if p.status = response.StatusCode; p.status >= 500 {
		p.t.Fatalf("%s %s: %d %v", method, path, p.status, answer)
	}
	return answer
}

func (p *person) v3(method, path string, body any) map[string]any {
	p.t.Helper()
	return p.call(method, "/_matrix/client/v3/"+path, body)
}

func (p *person) room(invite ...*person) string {
	p.t.Helper()
	ids := []string{} // Synapse fails over null
	for _, other := range invite {
		ids = append(ids, other.id)
	}
	made := p.v3(http.MethodPost, "createRoom", map[string]any{"preset": "private_chat", "invite": ids, "creation_content": map[string]any{"m.federate": false}})
	id, ok := made["room_id"].(string)
	if !ok {
		p.t.Fatalf("no room: %v", made)
	}
	return id
}

func (p *person) join(room string) {
	p.t.Helper()
	if p.v3(http.MethodPost, "rooms/"+url.PathEscape(room)+"/join", map[string]any{}); p.status != http.StatusOK {
		p.t.Fatalf("%s does not get into %s: %d", p.id, room, p.status)
	}
}

// say sends an event, and returns its id, "" where the homeserver refused it.
func (p *person) say(room, typ string, content any) string {
	p.t.Helper()
	p.txn++
	sent := p.v3(http.MethodPut, fmt.Sprintf("rooms/%s/send/%s/t%d", url.PathEscape(room), typ, p.txn), content)
	id, _ := sent["event_id"].(string)
	return id
}

func (p *person) react(room, to, key string) string {
	p.t.Helper()
	return p.say(room, "m.reaction", map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": to, "key": key}})
}

func (p *person) reply(room, to, body string) string {
	p.t.Helper()
	return p.say(room, "m.room.message", map[string]any{
		"msgtype": "m.text", "body": body, "m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": to}},
	})
}

// told are the texts that the bot said in a room, the newest first.
func (p *person) told(room, bot string) []string {
	p.t.Helper()
	var texts []string
	messages, _ := p.v3(http.MethodGet, "rooms/"+url.PathEscape(room)+"/messages?dir=b&limit=100", nil)["chunk"].([]any)
	for _, m := range messages {
		e, _ := m.(map[string]any)
		content, _ := e["content"].(map[string]any)
		if body, ok := content["body"].(string); ok && e["sender"] == bot {
			texts = append(texts, body)
		}
	}
	return texts
}

// heard receives what the channel hands on.
type heard struct {
	taps  chan cheq.Tap
	codes chan string
}

func (h *heard) Answer(_ context.Context, t cheq.Tap) (cheq.View, error) {
	h.taps <- t
	if t.Reason == "too late" {
		return cheq.View{}, cheq.ErrSettled
	}
	return cheq.View{}, nil
}

func (h *heard) Bind(_ context.Context, _, platform, code string) (cheq.Person, error) {
	h.codes <- platform + " " + code
	return cheq.Person{Name: "user:root"}, nil
}

func (h *heard) Load(context.Context) (string, error) { return "", nil }
func (h *heard) Save(context.Context, string) error   { return nil }

// next receives, or fails after a while.
func next[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is handed on")
		panic("unreachable")
	}
}

// onHomeserver goes through what people do.
func onHomeserver(t *testing.T, at, secret string) {
	bot, wang, li, out := register(t, at, secret, "xiezhi"), register(t, at, secret, "wang"), register(t, at, secret, "li"), register(t, at, secret, "out")
	_, server, _ := strings.Cut(bot.id, ":")
	h := &heard{make(chan cheq.Tap, 100), make(chan string, 100)}
	r := newRig(t)
	config := r.config
	config.Homeserver, config.UserID, config.AccessToken, config.ServerName = at, bot.id, bot.token, server
	config.Answers, config.Identities, config.Position, config.Now = h, h, h, time.Now
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()

	// The bot follows an invitation; until then it has no business there.
	cases := wang.room(bot, li)
	li.join(cases)
	v := pending(t)
	key := "cheq-1/matrix/" + cases
	message := ""
	for deadline := time.Now().Add(20 * time.Second); ; {
		if message, err = c.Send(t.Context(), cases, key, v); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if again, err := c.Send(t.Context(), cases, key, v); err != nil || again != message {
		t.Fatalf("sent again: %q, %v, want %q", again, err, message)
	}

	yes := wang.react(cases, message, "✅")
	if tap := next(t, h.taps); tap.Event != yes || tap.Platform != wang.id || !tap.Yes || tap.To != cases || tap.Message != message || tap.Case != "cheq-1" || tap.Shown != v.Case.Shown {
		t.Errorf("tap %+v", tap)
	}
	wang.react(cases, message, "✅") // refused by some homeservers as a duplicate
	if id := out.react(cases, message, "✅"); id != "" {
		t.Errorf("who is not in the room reacted: %s", id)
	}
	wang.react(cases, wang.say(cases, "m.room.message", map[string]any{"msgtype": "m.text", "body": "x", cheqMember: shown{"cheq-1", v.Case.Shown}}), "✅")

	v.Case.Version = 2
	if err := c.Edit(t.Context(), cases, message, v); err != nil {
		t.Fatal(err)
	}
	no := li.reply(cases, message, "reject no ticket")
	tap := next(t, h.taps)
	for tap.Platform == wang.id && tap.Yes && tap.Message == message { // the duplicate
		tap = next(t, h.taps)
	}
	if tap.Event != no || tap.Platform != li.id || tap.Yes || tap.Reason != "no ticket" || tap.Shown != v.Case.Shown {
		t.Errorf("tap %+v after an edit", tap)
	}
	li.say(cases, decisionType, map[string]any{
		"case": "cheq-1", "shown": "sha256:00", "yes": true, "reason": "too late", "m.relates_to": map[string]any{"rel_type": "m.reference", "event_id": message},
	})
	if tap := next(t, h.taps); tap.Shown != "sha256:00" || !tap.Yes || tap.Platform != li.id {
		t.Errorf("tap %+v of a decision", tap)
	}

	// A reaction that is removed after it was counted changes nothing.
	wang.v3(http.MethodPut, fmt.Sprintf("rooms/%s/redact/%s/r1", url.PathEscape(cases), url.PathEscape(yes)), map[string]any{})
	direct := wang.room(bot)
	for deadline := time.Now().Add(20 * time.Second); ; {
		members, _ := wang.v3(http.MethodGet, "rooms/"+url.PathEscape(direct)+"/joined_members", nil)["joined"].(map[string]any)
		if members[bot.id] != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the bot did not come")
		}
	}
	wang.say(direct, "m.room.message", map[string]any{"msgtype": "m.text", "body": "bind K7PQ-4M2X"})
	if code := next(t, h.codes); code != wang.id+" K7PQ-4M2X" {
		t.Errorf("code %q", code)
	}
	last := li.react(cases, message, "❌")
	if tap := next(t, h.taps); tap.Event != last || tap.Yes {
		t.Errorf("tap %+v", tap)
	}
	// By then all before it was read, and what was to be said was said.
	texts := wang.told(cases, bot.id)
	for _, want := range []cheq.Text{textSettled, textStands} {
		if !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, want.EN) }) {
			t.Errorf("nobody was told %q in\n%s", want.EN, strings.Join(texts, "\n---\n"))
		}
	}
	if len(h.taps) != 0 {
		t.Errorf("one more tap: %+v", <-h.taps)
	}

	sealed := wang.room(bot)
	bot.join(sealed)
	wang.v3(http.MethodPut, "rooms/"+url.PathEscape(sealed)+"/state/m.room.encryption", map[string]any{"algorithm": "m.megolm.v1.aes-sha2"})
	for name, room := range map[string]string{"encrypted": sealed, "not joined": out.room(), "not there": "!nothing:" + server} {
		_, err := c.Send(t.Context(), room, name, v)
		if !errors.Is(err, cheq.ErrGone) || strings.Contains(err.Error(), "cannot write or read") != (name == "encrypted") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
