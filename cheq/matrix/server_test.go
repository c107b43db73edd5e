package matrix

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	bot   = "@xiezhi:here"
	token = "syt_very_secret"
	room  = "!cases:here"
)

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// homeserver plays as much of one as the channel needs. Its stream is one list
// of events; a position is how many were there.
type homeserver struct {
	*httptest.Server
	mu      sync.Mutex
	events  []map[string]any
	members map[string]map[string]string // room → user → membership
	sealed  map[string]bool
	sent    map[string]string // transaction → event
	invites map[string][]any
	joined  []string
	grown   chan struct{} // closed when something was added
	echo    bool          // hands the bot's own events out, whatever the filter
	most    int           // events of a room in a batch; 0: all
	// refuse answers instead, where it returns true.
	refuse func(w http.ResponseWriter, r *http.Request) bool
}

func newHomeserver(t *testing.T) *homeserver {
	h := &homeserver{
		members: map[string]map[string]string{room: {bot: "join", "@wang:here": "join", "@li:here": "join", "@eve:there": "join"}},
		sealed:  map[string]bool{}, sent: map[string]string{}, invites: map[string][]any{}, grown: make(chan struct{}),
	}
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.Close)
	return h
}

func (h *homeserver) add(room, sender, typ string, at time.Time, content any, more map[string]any) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.append(room, sender, typ, at, content, more)
}

func (h *homeserver) append(room, sender, typ string, at time.Time, content any, more map[string]any) string {
	id := fmt.Sprintf("$event%d", len(h.events))
	e := map[string]any{"room_id": room, "event_id": id, "sender": sender, "type": typ, "origin_server_ts": at.UnixMilli(), "content": content}
	maps.Copy(e, more)
	h.events = append(h.events, e)
	close(h.grown)
	h.grown = make(chan struct{})
	return id
}

// say adds an event of now.
func (h *homeserver) say(sender, typ string, content any) string {
	return h.add(room, sender, typ, testNow, content, nil)
}

func (h *homeserver) react(sender, to, key string) string {
	return h.say(sender, "m.reaction", map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": to, "key": key}})
}

func (h *homeserver) reply(sender, to, body string) string {
	return h.say(sender, "m.room.message", map[string]any{
		"msgtype": "m.text", "body": body, "m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": to}},
	})
}

// all returns the contents of the bot's messages, as they are stored.
func (h *homeserver) all(t *testing.T) []notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	var said []notice
	for _, e := range h.events {
		if e["sender"] != bot {
			continue
		}
		var n notice
		if err := json.Unmarshal(e["content"].(json.RawMessage), &n); err != nil {
			t.Fatal(err)
		}
		said = append(said, n)
	}
	return said
}

func (h *homeserver) head() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.events)
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errcode":%q,"error":"told at length"}`, code)
}

func (h *homeserver) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+token {
		fail(w, http.StatusUnauthorized, "M_UNKNOWN_TOKEN")
		return
	}
	h.mu.Lock()
	refuse := h.refuse
	h.mu.Unlock()
	if refuse != nil && refuse(w, r) {
		return
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/_matrix/client/v3/")
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i], _ = url.PathUnescape(parts[i])
	}
	switch {
	case path == "account/whoami":
		json.NewEncoder(w).Encode(map[string]any{"user_id": bot})
	case path == "sync":
		h.sync(w, r)
	case parts[0] == "rooms" && len(parts) > 2:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.room(w, r, parts[1], parts[2:])
	default:
		fail(w, http.StatusNotFound, "M_UNRECOGNIZED")
	}
}

func (h *homeserver) room(w http.ResponseWriter, r *http.Request, room string, parts []string) {
	members := h.members[room]
	if members[bot] != "join" && parts[0] != "join" {
		fail(w, http.StatusForbidden, "M_FORBIDDEN")
		return
	}
	answer := map[string]any{}
	switch parts[0] {
	case "join":
		h.joined = append(h.joined, room)
	case "joined_members":
		joined := map[string]any{}
		for user, membership := range members {
			if membership == "join" {
				joined[user] = map[string]any{}
			}
		}
		answer["joined"] = joined
	case "state":
		switch {
		case parts[1] == "m.room.encryption" && h.sealed[room]:
			answer["algorithm"] = "m.megolm.v1.aes-sha2"
		case parts[1] == "m.room.member" && members[parts[2]] != "":
			answer["membership"] = members[parts[2]]
		default:
			fail(w, http.StatusNotFound, "M_NOT_FOUND")
			return
		}
	case "event":
		for _, e := range h.events {
			if e["event_id"] == parts[1] && e["room_id"] == room {
				answer = e
			}
		}
		if len(answer) == 0 {
			fail(w, http.StatusNotFound, "M_NOT_FOUND")
			return
		}
	case "send":
		id, known := h.sent[parts[1]+parts[2]]
		if !known {
			var content json.RawMessage
			if json.NewDecoder(r.Body).Decode(&content) != nil {
				fail(w, http.StatusBadRequest, "M_NOT_JSON")
				return
			}
			id = h.append(room, bot, parts[1], testNow, content, nil)
			h.sent[parts[1]+parts[2]] = id
		}
		answer["event_id"] = id
	case "messages":
		h.messages(answer, r, room)
	}
	json.NewEncoder(w).Encode(answer)
}

// messages walks back, two at a time.
func (h *homeserver) messages(answer map[string]any, r *http.Request, room string) {
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	to, _ := strconv.Atoi(r.URL.Query().Get("to"))
	chunk := []any{}
	for from > to && len(chunk) < 2 {
		from--
		if h.events[from]["room_id"] == room {
			chunk = append(chunk, h.events[from])
		}
	}
	answer["chunk"] = chunk
	if from > to {
		answer["end"] = strconv.Itoa(from)
	}
}

func (h *homeserver) sync(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Has("since") && query.Get("since") == "" {
		fail(w, http.StatusBadRequest, "M_INVALID_PARAM")
		return
	}
	since, _ := strconv.Atoi(query.Get("since"))
	for {
		h.mu.Lock()
		if len(h.events) > since || len(h.invites) > 0 || query.Get("timeout") == "0" {
			break
		}
		grown := h.grown
		h.mu.Unlock()
		select {
		case <-grown:
		case <-r.Context().Done():
			return
		}
	}
	defer h.mu.Unlock()
	rooms := map[string]any{}
	for room := range h.members {
		events, previous := []any{}, since
		for i, e := range h.events[since:] {
			if e["room_id"] == room && (e["sender"] != bot || h.echo) {
				if events = append(events, e); h.most > 0 && len(events) > h.most {
					events = events[1:]
				}
				if h.most > 0 && len(events) == h.most {
					previous = since + i + 1 - h.most // of one room alone
				}
			}
		}
		rooms[room] = map[string]any{"timeline": map[string]any{
			"events": events, "limited": h.most > 0, "prev_batch": strconv.Itoa(previous),
		}}
	}
	invites := map[string]any{}
	for room, state := range h.invites {
		invites[room] = map[string]any{"invite_state": map[string]any{"events": state}}
	}
	clear(h.invites)
	json.NewEncoder(w).Encode(map[string]any{"next_batch": strconv.Itoa(len(h.events)), "rooms": map[string]any{"join": rooms, "invite": invites}})
}
