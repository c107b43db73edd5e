//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/tests/sim/matrix"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// homeserver is a simulated Matrix with a bot in a room.
type homeserver struct {
	*matrix.Sim
	t    *testing.T
	url  string
	room string
}

// matrixCall calls the client API as somebody.
func matrixCall(t *testing.T, url, token string, body, answer any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s, %v", url, response.Status, err)
	}
}

func openHomeserver(t *testing.T, people ...string) (h *homeserver, botToken string) {
	t.Helper()
	h = &homeserver{Sim: matrix.New(matrix.Config{ServerName: "acme.test"}), t: t}
	door, err := world.Listen("127.0.0.1:0", h.Sim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		_ = door.Close()
	})
	h.url = door.URL()
	for _, name := range append(people, "xiezhi") {
		if _, err := h.AddUser(name, "password"); err != nil {
			t.Fatal(err)
		}
	}
	var in struct {
		Token string `json:"access_token"`
	}
	matrixCall(t, h.url+"/_matrix/client/v3/login", "", object{"type": "m.login.token", "token": h.LoginToken("@xiezhi:acme.test")}, &in)
	var made struct {
		Room string `json:"room_id"`
	}
	matrixCall(t, h.url+"/_matrix/client/v3/createRoom", in.Token, object{"preset": "private_chat"}, &made)
	h.room = made.Room
	for _, name := range people {
		id := "@" + name + ":acme.test"
		if err := h.Invite("@xiezhi:acme.test", id, h.room); err != nil {
			t.Fatal(err)
		}
		if err := h.Join(id, h.room); err != nil {
			t.Fatal(err)
		}
	}
	return h, in.Token
}

// notice waits for a message of the bot's that is shown so.
func (h *homeserver) notice(what string, texts ...string) matrix.Event {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	e, err := h.AwaitEvent(ctx, h.room, func(e matrix.Event) bool {
		shown, err := h.Shown(h.room, e.ID)
		body, _ := shown["body"].(string)
		if err != nil || e.Sender != "@xiezhi:acme.test" || e.Type != "m.room.message" {
			return false
		}
		for _, text := range texts {
			if !strings.Contains(body, text) {
				return false
			}
		}
		return true
	})
	if err != nil {
		for _, e := range h.Events(h.room) {
			h.t.Logf("%s %s %s %v", e.ID, e.Sender, e.Type, e.Content["body"])
		}
		h.t.Fatalf("no notice: %s: %v", what, err)
	}
	return e
}

func (h *homeserver) react(user string, on matrix.Event, key string) {
	h.t.Helper()
	if _, err := h.React("@"+user+":acme.test", h.room, on.ID, key); err != nil {
		h.t.Fatal(err)
	}
}

// matrixStaff are who they are in acme.
var matrixStaff = map[string]string{"till": "till", "boss1": "boss", "boss2": "boss", "guest": "visitor"}

// openRoom starts a server whose cases are shown in a room, and a shop.
func openRoom(t *testing.T, template string) (*homeserver, *installation, *service) {
	t.Helper()
	h, token := openHomeserver(t, "till", "boss1", "boss2", "guest")
	channels := object{"matrix_homeserver": h.url, "matrix_user": "@xiezhi:acme.test", "matrix_token_file": saved(t, token)}
	there := strings.NewReplacer("channel: feishu", "channel: matrix", "chat:oc_desk", h.room)
	server := installWith(t, minimal(t, files{
		"tenants/acme/shop.policy.yaml": dear, "approvals/dear.yaml": there.Replace(template), "approvals/fire.yaml": there.Replace(fireTemplate),
	}), "--channels", saved(t, encode(channels)))
	for _, role := range []string{"till", "boss", "visitor"} {
		server.must(http.StatusCreated, call{as: "admin", path: "/api/v1/roles", body: encode(object{"tenant": "acme", "name": role})})
	}
	for name, role := range matrixStaff {
		server.subject("acme", "user:"+name, "")
		server.must(http.StatusCreated, call{as: "admin", path: "/api/v1/bindings", body: encode(object{"tenant": "acme", "subject": "user:" + name, "role": role})})
		server.must(http.StatusCreated, call{as: "admin", path: "/api/v1/identities", body: encode(object{
			"tenant": "acme", "subject": "user:" + name, "channel": "matrix", "platform": "@" + name + ":acme.test"})})
	}
	shop := openShop(t, server)
	shop.untilAsked(patience, sale(2), "decided in-process", allowed)
	return h, server, shop
}

func allowed(a shopAnswer) bool { return a.Effect == "ALLOW" && a.Decided == "in-process" }

// says lets somebody answer again and again until the case is in a state.
func (h *homeserver) says(server *installation, user string, on matrix.Event, text, state string) {
	h.t.Helper()
	await(h.t, patience, "the case is "+state, func() bool {
		if strings.Contains(server.must(http.StatusOK, call{as: "admin", path: "/api/v1/cheq?tenant=acme"}).text, `"state":"`+state+`"`) {
			return true
		}
		if _, err := h.Reply("@"+user+":acme.test", h.room, on.ID, text); err != nil {
			h.t.Fatal(err)
		}
		return false
	})
}

// An emergency takes two yes of one boss.
func TestAnEmergencyInMatrix(t *testing.T) {
	t.Parallel()
	h, server, shop := openRoom(t, dearTemplate)
	server.must(http.StatusCreated, call{as: "pep", path: "/api/v1/cheq", body: encode(object{"request": sale(5), "reason": "the till burns", "break_glass": "fire"})})
	notice := h.notice("the emergency", "the till burns")
	h.react("boss1", notice, "✅")
	if a := shop.ask(sale(5)); a.Effect != "REVIEW" {
		t.Errorf("after a first yes: %+v", a)
	}
	h.says(server, "boss1", notice, "approve", "approved")
	shop.untilAsked(patience, sale(5), "allowed by the service itself", allowed)
}

// While the bosses do not answer, others may; and what nobody answers ends
// shut.
func TestEscalationInMatrix(t *testing.T) {
	t.Parallel()
	h, server, shop := openRoom(t, slowTemplate)
	shop.ask(sale(5))
	notice := h.notice("a case is open", "shop.sell")
	h.says(server, "guest", notice, "approve", "approved")
	shop.untilAsked(patience, sale(5), "allowed by a visitor", allowed)
	shop.ask(sale(6))
	await(t, patience, "a case that nobody answers is over", func() bool {
		return strings.Contains(server.must(http.StatusOK, call{as: "admin", path: "/api/v1/cheq?tenant=acme"}).text, `"state":"expired"`)
	})
	h.notice("its end is shown", "6", "Expired")
	if a := shop.ask(sale(6)); a.Effect != "REVIEW" {
		t.Errorf("after nobody answered: %+v", a)
	}
}

// A REVIEW of the service becomes a notice; a till and two bosses react with
// yes, one of them by a reply; the service allows by itself until the grant has
// ended; then a no leaves it shut.
func TestPeopleAnswerInMatrix(t *testing.T) {
	t.Parallel()
	h, server, shop := openRoom(t, dearTemplate)
	shop.ask(sale(5))
	notice := h.notice("a case is open", "shop.sell")
	if _, err := h.Inject(h.room, matrix.Event{Sender: "@boss1:evil.test", Type: "m.reaction", Content: object{
		"m.relates_to": object{"rel_type": "m.annotation", "event_id": notice.ID, "key": "✅"}}}); err != nil {
		t.Fatal(err)
	}
	h.react("guest", notice, "✅")
	h.react("till", notice, "✅")
	h.react("boss1", notice, "✅")
	if _, err := h.Reply("@boss2:acme.test", h.room, notice.ID, "approve it is needed"); err != nil {
		t.Fatal(err)
	}
	shop.untilAsked(patience, sale(5), "allowed by the service itself", allowed)
	h.notice("the case is approved", "boss2", "it is needed")
	shop.untilAsked(patience, sale(5), "held back again when the grant has ended", func(a shopAnswer) bool { return a.Effect == "REVIEW" })

	// Another notice than the first one shows the case that was opened then.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again, err := h.AwaitEvent(ctx, h.room, func(e matrix.Event) bool {
		_, edits := e.Content["m.new_content"]
		return e.Sender == notice.Sender && e.Type == notice.Type && e.ID != notice.ID && !edits && e.Content["dev.xiezhi.cheq"] != nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.react("till", again, "❌")
	await(t, patience, "the case is rejected", func() bool {
		return strings.Contains(server.must(http.StatusOK, call{as: "admin", path: "/api/v1/cheq?tenant=acme"}).text, `"state":"rejected"`)
	})
	if a := shop.ask(sale(5)); a.Effect != "REVIEW" {
		t.Errorf("after a no: %+v", a)
	}
}
