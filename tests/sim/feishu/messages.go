package feishu

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

const (
	updatable  = 14 * 24 * time.Hour // from sending, for all cards
	dedupeSpan = time.Hour           // in which one uuid sends one message
	maxUUID    = 50                  // characters
)

// Message is a message as it stands now.
type Message struct {
	ID            string    `json:"id"` // om_…, the open_message_id
	ChatID        string    `json:"chat_id"`
	AppID         string    `json:"app_id"`         // whose card or text it is; empty for what a user wrote
	Sender        string    `json:"sender"`         // the user who wrote or forwarded it; empty for an app's
	Type          string    `json:"type"`           // "interactive" or "text"
	Content       string    `json:"content"`        // JSON, as all see it
	ForwardedFrom string    `json:"forwarded_from"` // the message it is a copy of
	Created       time.Time `json:"created"`
	Updates       int       `json:"updates"` // how often its card was replaced, in whatever way
	Recalled      bool      `json:"recalled"`
}

type message struct {
	Message
	card   *card            // nil for a text
	own    map[string]*card // what one user sees instead, by name
	frozen bool             // a copy whose buttons do nothing
}

// sentOnce is what a uuid has sent.
type sentOnce struct {
	message string
	at      time.Time
}

func (s *Sim) send(r *http.Request, a *app) (any, *failure) {
	var in struct {
		ReceiveID string `json:"receive_id"`
		MsgType   string `json:"msg_type"`
		Content   string `json:"content"`
		UUID      string `json:"uuid"`
	}
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	chat, fail := s.receiver(a, r.URL.Query().Get("receive_id_type"), in.ReceiveID)
	if fail != nil {
		return nil, fail
	}
	m := &message{Message: Message{ChatID: chat.ID, AppID: a.ID, Type: in.MsgType, Content: in.Content}}
	if m.card, fail = checkContent(in.MsgType, in.Content); fail != nil {
		return nil, fail
	}
	if len(in.UUID) > maxUUID {
		return nil, invalid("uuid is too long.")
	}
	now := s.clock.Now()
	key := a.ID + " " + in.UUID
	if once, ok := s.sent[key]; ok && in.UUID != "" && now.Sub(once.at) < dedupeSpan {
		return success(s.sentMessage(s.messages[once.message])), nil
	}
	if !s.within("send "+chat.ID, time.Second, 5) {
		return nil, refuse(http.StatusBadRequest, 230020, "This operation triggers the frequency limit.")
	}
	s.add(m)
	if in.UUID != "" {
		s.sent[key] = sentOnce{message: m.ID, at: now}
	}
	return success(s.sentMessage(m)), nil
}

func (s *Sim) add(m *message) {
	m.ID, m.Created, m.own = unique("om_"), s.clock.Now(), map[string]*card{}
	s.messages[m.ID] = m
	s.order = append(s.order, m.ID)
}

func (s *Sim) sentMessage(m *message) any {
	return map[string]any{
		"message_id": m.ID, "msg_type": m.Type, "chat_id": m.ChatID, "deleted": m.Recalled, "updated": m.Updates > 0,
		"create_time": milliseconds(m.Created), "update_time": milliseconds(m.Created),
		"sender": map[string]string{"id": m.AppID, "id_type": "app_id", "sender_type": "app", "tenant_key": s.tenant},
		"body":   map[string]string{"content": m.Content},
	}
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// receiver finds the chat that a message goes to.
func (s *Sim) receiver(a *app, idType, id string) (*Chat, *failure) {
	prefix, known := map[string]string{"open_id": "ou_", "union_id": "on_", "chat_id": "oc_", "user_id": "", "email": ""}[idType]
	if !known {
		return nil, refuse(http.StatusBadRequest, 99992402, "field validation failed: receive_id_type is optional, options: [open_id,user_id,union_id,email,chat_id]")
	}
	if id == "" || !strings.HasPrefix(id, prefix) {
		return nil, invalid("invalid receive_id.")
	}
	if idType == "chat_id" {
		chat := s.chats[id]
		if chat == nil {
			return nil, invalid("invalid receive_id.")
		}
		if !slices.Contains(chat.Apps, a.ID) {
			return nil, refuse(http.StatusBadRequest, 230002, "The bot can not be outside the group.")
		}
		return chat, nil
	}
	for name, u := range s.users {
		switch id {
		case map[string]string{"open_id": s.OpenID(a.ID, name), "union_id": u.UnionID, "user_id": u.UserID, "email": u.Email}[idType]:
			return s.directChat(a.ID, name), nil
		}
		for other := range s.apps {
			if other != a.ID && id == s.OpenID(other, name) {
				return nil, refuse(http.StatusBadRequest, 99992361, "open_id cross app")
			}
		}
	}
	return nil, refuse(http.StatusBadRequest, 230013, "Bot has NO availability to this user.")
}

// checkContent checks a message's content, JSON in a string. It returns the card.
func checkContent(kind, content string) (*card, *failure) {
	if !json.Valid([]byte(content)) {
		return nil, invalid("content is not a string in json format.")
	}
	tooLong := refuse(http.StatusBadRequest, 230025, "The length of the message content reaches its limit.")
	switch kind {
	case "text":
		var text struct {
			Text string `json:"text"`
		}
		if len(content) > maxText {
			return nil, tooLong
		}
		if json.Unmarshal([]byte(content), &text) != nil || text.Text == "" {
			return nil, invalid("text is empty.")
		}
		return nil, nil
	case "interactive":
		if len(content) > maxCard {
			return nil, tooLong
		}
		c, err := parseCard(content)
		if err != nil {
			return nil, err.failure()
		}
		return c, nil
	}
	return nil, invalid("invalid msg_type.")
}

func (s *Sim) patch(r *http.Request, a *app) (any, *failure) {
	var in struct {
		Content string `json:"content"`
	}
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	m, fail := s.own(r, a)
	if fail != nil {
		return nil, fail
	}
	switch {
	case m.card == nil:
		return nil, invalid("This message is NOT a card.")
	case m.Recalled:
		return nil, refuse(http.StatusBadRequest, 230011, "The message is recalled.")
	case s.clock.Now().Sub(m.Created) > updatable:
		return nil, refuse(http.StatusBadRequest, 230031, "Message can only be modified within 14 days after sending.")
	case !s.within("patch "+m.ID, time.Second, 5):
		return nil, refuse(http.StatusBadRequest, 230020, "This operation triggers the frequency limit.")
	}
	c, fail := checkContent("interactive", in.Content)
	if fail != nil {
		return nil, fail
	}
	if !m.card.shared() || !c.shared() {
		return nil, invalid("update_multi is not true in the config of the card before and after.")
	}
	if err := m.replace(c); err != nil {
		return nil, err.failure()
	}
	return success(map[string]any{}), nil
}

// replace shows another card to all.
func (m *message) replace(c *card) *cardError {
	if c.schema2 != m.card.schema2 {
		return &cardError{code: 200830, msg: "the schema of a card can not change"}
	}
	m.card, m.Content = c, c.text
	m.Updates++
	clear(m.own)
	return nil
}

func (s *Sim) recall(r *http.Request, a *app) (any, *failure) {
	m, fail := s.own(r, a)
	if fail != nil {
		return nil, fail
	}
	if m.Recalled {
		return nil, refuse(http.StatusBadRequest, 230011, "The message is recalled.")
	}
	m.Recalled = true
	return success(map[string]any{}), nil
}

// own finds the message of a call, which must be the app's.
func (s *Sim) own(r *http.Request, a *app) (*message, *failure) {
	m := s.messages[r.PathValue("id")]
	if m == nil {
		return nil, invalid("invalid message_id.")
	}
	if m.AppID != a.ID || m.Sender != "" {
		return nil, refuse(http.StatusBadRequest, 230012, "Bot is NOT the sender of the message.")
	}
	return m, nil
}

// Message returns one message.
func (s *Sim) Message(id string) (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.messages[id]
	if !ok {
		return Message{}, false
	}
	return m.Message, true
}

// Messages returns all messages, the oldest first.
func (s *Sim) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Message, 0, len(s.order))
	for _, id := range s.order {
		all = append(all, s.messages[id].Message)
	}
	return all
}

// AwaitMessage returns the oldest message that match accepts, as soon as there
// is one: a card that was posted, or one that was updated.
func (s *Sim) AwaitMessage(ctx context.Context, match func(Message) bool) (Message, error) {
	return world.Await(ctx, &s.changed, func() (Message, bool) {
		for _, m := range s.Messages() {
			if match(m) {
				return m, true
			}
		}
		return Message{}, false
	})
}
