package feishu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/larksuite/oapi-sdk-go/v3/event/dispatcher/callback"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// The events that are taken.
const (
	eventTap     = "card.action.trigger"
	eventMessage = "im.message.receive_v1"
)

// answerWithin is how long taking an event may last: the platform waits for
// three seconds, people for less.
const answerWithin = 900 * time.Millisecond

// maxReason bounds what people write with an answer, in bytes.
const maxReason = 4096

const warn = slog.LevelWarn

func errorAttr(err error) slog.Attr { return slog.String("error", err.Error()) }

// event is what the platform sends, decrypted.
type event struct {
	Schema string `json:"schema"`
	Header struct {
		ID        string `json:"event_id"`
		Type      string `json:"event_type"`
		Token     string `json:"token"`
		AppID     string `json:"app_id"`
		TenantKey string `json:"tenant_key"`
		Created   string `json:"create_time"`
	} `json:"header"`
	Event json.RawMessage `json:"event"`
	at    time.Time
}

// take takes one event that the platform vouches for. Over the long connection
// the platform leaves its token out.
func (b *Bot) take(ctx context.Context, plain []byte, overHTTP bool) (*callback.CardActionTriggerResponse, error) {
	var e event
	if len(plain) > maxBody || json.Unmarshal(plain, &e) != nil {
		return nil, errMalformed
	}
	h := &e.Header
	if !same(h.Token, b.config.VerificationToken) && (overHTTP || h.Token != "") {
		return nil, errToken
	}
	if !same(h.AppID, b.config.AppID) || !same(h.TenantKey, b.config.TenantKey) {
		return nil, errOther
	}
	var ok bool
	if e.at, ok = moment(h.Created); !ok || !fresh(e.at, b.config.Now()) {
		return nil, errStale
	}
	if e.Schema != "2.0" || h.ID == "" || len(h.ID) > 128 {
		return nil, errMalformed
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	switch h.Type {
	case eventTap:
		return b.tap(ctx, &e)
	case eventMessage:
		return &callback.CardActionTriggerResponse{}, b.read(ctx, &e)
	default:
		return nil, errMalformed
	}
}

// tap records an answer, and says what came of it.
func (b *Bot) tap(ctx context.Context, e *event) (*callback.CardActionTriggerResponse, error) {
	var body struct {
		Operator struct {
			TenantKey string `json:"tenant_key"`
			OpenID    string `json:"open_id"`
			UnionID   string `json:"union_id"`
		} `json:"operator"`
		Action struct {
			Tag   string          `json:"tag"`
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
			Form  struct {
				Reason string `json:"reason"`
			} `json:"form_value"`
		} `json:"action"`
		Context struct {
			Message string `json:"open_message_id"`
			Chat    string `json:"open_chat_id"`
		} `json:"context"`
	}
	var about value
	if json.Unmarshal(e.Event, &body) != nil || !about.read(body.Action.Value) {
		return nil, errMalformed
	}
	yes := body.Action.Name == buttonApprove
	switch {
	case body.Action.Tag != "button" || !yes && body.Action.Name != buttonReject:
		return nil, errMalformed
	case !isID(body.Operator.OpenID, "ou_") || !isID(body.Context.Message, "om_") || !isID(body.Context.Chat, "oc_"):
		return nil, errMalformed
	case !same(body.Operator.TenantKey, b.config.TenantKey):
		return toast("error", sayOutsider), nil // of another company, in a shared chat
	case len(body.Action.Form.Reason) > maxReason:
		return toast("error", sayLong), nil
	}
	// A message to one person is in a chat whose id nobody was told: the button
	// says whom it was sent to, and the platform who tapped it.
	switch kind, id, _ := strings.Cut(about.To, ":"); {
	case about.To == "":
		about.To = chatPrefix + body.Context.Chat
	case kind == "user" && id != body.Operator.OpenID, kind == "union" && id != body.Operator.UnionID:
		return toast("error", sayMessage), nil
	}
	view, err := b.config.Answers.Answer(ctx, cheq.Tap{
		Channel: name, Event: e.Header.ID, At: e.at, Platform: body.Operator.OpenID,
		To: about.To, Message: body.Context.Message,
		Case: about.Case, Shown: about.Shown, Yes: yes, Reason: body.Action.Form.Reason,
	})
	if err != nil && !expected(err) {
		b.config.Log.LogAttrs(ctx, slog.LevelError, "an answer from Feishu is not recorded",
			slog.String("case", clean(about.Case)), slog.String("event", clean(e.Header.ID)), errorAttr(err))
	}
	return outcome(&about, yes, view, err), nil
}

// value is what our buttons carry.
type value struct {
	Case  string `json:"case"`
	Shown string `json:"shown"`
	// To is the address of a message to one person.
	To string `json:"to,omitempty"`
}

// read takes an object with just these strings.
func (v *value) read(data []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(v) == nil && v.Case != "" && len(v.Case) <= 128 && v.Shown != "" && len(v.Shown) <= 256 &&
		!strings.HasPrefix(v.To, chatPrefix) && len(v.To) <= 512
}

// isID reports whether a text is one of the platform's ids.
func isID(id, prefix string) bool {
	return strings.HasPrefix(id, prefix) && len(id) > len(prefix) && len(id) <= 128 && clean(id) == id
}

// read takes a message that somebody sent to the bot alone: a short code, by
// itself or after the word bind.
func (b *Bot) read(ctx context.Context, e *event) error {
	var body struct {
		Sender struct {
			ID struct {
				OpenID string `json:"open_id"`
			} `json:"sender_id"`
			Type      string `json:"sender_type"`
			TenantKey string `json:"tenant_key"`
		} `json:"sender"`
		Message struct {
			ID      string `json:"message_id"`
			Chat    string `json:"chat_type"`
			Type    string `json:"message_type"`
			Content string `json:"content"`
		} `json:"message"`
	}
	if json.Unmarshal(e.Event, &body) != nil {
		return errMalformed
	}
	sender, message := &body.Sender, &body.Message
	if b.config.Bind == nil || message.Chat != "p2p" || message.Type != "text" || sender.Type != "user" {
		return nil
	}
	if !same(sender.TenantKey, b.config.TenantKey) {
		return errOther
	}
	var content struct {
		Text string `json:"text"`
	}
	if !isID(sender.ID.OpenID, "ou_") || !isID(message.ID, "om_") || json.Unmarshal([]byte(message.Content), &content) != nil {
		return errMalformed
	}
	code, ok := codeIn(content.Text)
	if !ok || !b.events.first(e.Header.ID, b.config.Now(), e.at.Add(freshness)) {
		return nil
	}
	who, err := b.config.Bind(ctx, name, sender.ID.OpenID, code)
	words := sayBound(who)
	if err != nil {
		words = sayUnbound
		if !errors.Is(err, cheq.ErrCode) {
			words = sayLater
			b.config.Log.LogAttrs(ctx, slog.LevelError, "a Feishu account is not bound", errorAttr(err))
		}
	}
	if err := b.tell(ctx, sender.ID.OpenID, "bind/"+message.ID, words.EN+"\n"+words.ZH); err != nil {
		b.config.Log.LogAttrs(ctx, warn, "a Feishu message is not answered", errorAttr(err))
	}
	return nil
}

// codeIn finds the code in what somebody wrote.
func codeIn(text string) (string, bool) {
	if len(text) > 256 {
		return "", false
	}
	words := strings.Fields(text)
	if len(words) == 2 && (strings.EqualFold(words[0], "bind") || words[0] == "绑定") {
		words = words[1:]
	}
	if len(words) != 1 || len(words[0]) > 64 {
		return "", false
	}
	odd := func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-')
	}
	return words[0], !strings.ContainsFunc(words[0], odd)
}
