package feishu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	interactive1 = 30 * 24 * time.Hour // from sending, cards of the old structure
	interactive2 = 14 * 24 * time.Hour // from sending, cards of schema 2.0
)

// What the client says where a tap fails, beside a code.
const (
	codeNoCallback  = 200340 // the app has no callback URL, or no long connection
	codeTimeout     = 200341 // the app did not answer in time
	codeBadStatus   = 200671 // the app answered with another status than 200
	codeBadBody     = 200672 // the answer is malformed
	codeBadCard     = 200673 // the card in the answer is
	codeUnreachable = 200343 // the app could not be reached
)

// Tap is a person who taps a button.
type Tap struct {
	User    string         `json:"user"`    // name
	Message string         `json:"message"` // id
	Button  string         `json:"button"`  // its name, its element_id or its text in any language
	Form    map[string]any `json:"form"`    // what was filled in before, by name
}

// Seen is what the person who tapped sees then.
type Seen struct {
	Toast   *Toast `json:"toast"`
	Error   string `json:"error"`    // what the client says where the tap failed; empty: it did not
	Code    int    `json:"code"`     // beside the error, if it has one
	EventID string `json:"event_id"` // of the callback; empty: the app was not asked
	Token   string `json:"token"`    // for delayed updates
	Card    View   `json:"card"`
}

// Toast is a note that pops up and goes away.
type Toast struct {
	Type string `json:"type"` // "info", "success", "warning" or "error"
	Text string `json:"text"` // in the language of the person's client
}

// updateToken lets an app update the card of one tap, later.
type updateToken struct {
	app, message, user string
	created            time.Time
	answered           bool // the tap's own answer is in, or given up
	uses               int
}

// actionEvent is the event of card.action.trigger.
type actionEvent struct {
	Operator operator `json:"operator"`
	Token    string   `json:"token"`
	Action   action   `json:"action"`
	Host     string   `json:"host"`
	Context  struct {
		OpenMessageID string `json:"open_message_id"`
		OpenChatID    string `json:"open_chat_id"`
	} `json:"context"`
}

type operator struct {
	TenantKey string `json:"tenant_key"`
	UserID    string `json:"user_id,omitempty"`
	OpenID    string `json:"open_id"`
	UnionID   string `json:"union_id"`
}

type action struct {
	Value     map[string]any `json:"value,omitempty"`
	Tag       string         `json:"tag"`
	Name      string         `json:"name,omitempty"`
	Timezone  string         `json:"timezone,omitempty"`
	FormValue map[string]any `json:"form_value,omitempty"`
}

// Tap lets a person tap a button and returns what the person sees. It is an
// error to tap what the person cannot: a card that is not there, a button that
// is disabled, a form whose required fields are empty.
func (s *Sim) Tap(ctx context.Context, t Tap) (Seen, error) {
	s.mu.Lock()
	m, u, err := s.visible(t.User, t.Message)
	var b Button
	if err == nil {
		b, err = tapped(m.cardOf(t.User), t)
	}
	if err != nil {
		s.mu.Unlock()
		return Seen{}, err
	}
	if why := s.asleep(m); why != "" {
		s.mu.Unlock()
		return s.seen(t, Seen{Error: why}), nil
	}
	event := s.actionOf(m, u, b, t.Form)
	token := &updateToken{app: m.AppID, message: m.ID, user: t.User, created: s.clock.Now()}
	s.updates[event.Token] = token
	a := s.apps[m.AppID].App
	s.mu.Unlock()

	call := s.newCall(a, "card.action.trigger", strconv.FormatInt(s.clock.Now().UnixMicro(), 10), event)
	seen := Seen{EventID: call.EventID, Token: event.Token}
	got, err := s.deliver(ctx, a, call)
	if ctx.Err() != nil {
		return Seen{}, ctx.Err() // the test gave up, not Feishu
	}
	s.mu.Lock()
	token.answered = true
	switch {
	case err == nil:
		s.apply(m, u, got, &seen)
	case errors.Is(err, errTooSlow):
		seen.Error, seen.Code = "the request timed out", codeTimeout
	case errors.Is(err, errNoConnection):
		seen.Error, seen.Code = "no callback is set up", codeNoCallback
	default:
		seen.Error, seen.Code = "the app cannot be reached", codeUnreachable
	}
	s.mu.Unlock()
	s.changed.Announce()
	return s.seen(t, seen), nil
}

func (s *Sim) seen(t Tap, seen Seen) Seen {
	seen.Card, _ = s.Card(t.User, t.Message) // empty where it was recalled meanwhile
	return seen
}

// asleep says why a card's buttons do nothing any more; empty: they do.
func (s *Sim) asleep(m *message) string {
	age := s.clock.Now().Sub(m.Created)
	switch {
	case m.frozen:
		return "a forwarded card cannot be interacted with"
	case m.card.schema2 && age > interactive2:
		return "this card was sent over 14 days ago and cannot be interacted with"
	case age > interactive1:
		return "this card was sent over 30 days ago and cannot be interacted with"
	}
	return ""
}

// tapped finds the button, and what stands against tapping it.
func tapped(c *card, t Tap) (Button, error) {
	var found []Button
	for _, language := range []string{"zh", "en"} {
		for i, b := range c.view(language).Buttons {
			if t.Button != "" && slices.Contains([]string{b.Name, b.ID, b.Text}, t.Button) {
				found = append(found, c.view("zh").Buttons[i])
			}
		}
		if len(found) > 0 {
			break
		}
	}
	if len(found) != 1 {
		return Button{}, fmt.Errorf("%d buttons are called %q", len(found), t.Button)
	}
	b := found[0]
	switch {
	case b.Disabled:
		return Button{}, fmt.Errorf("the button %q is disabled", t.Button)
	case !b.Callback:
		return Button{}, fmt.Errorf("the button %q sends nothing to the app", t.Button)
	case b.submits == nil && len(t.Form) > 0:
		return Button{}, fmt.Errorf("the button %q submits no form", t.Button)
	case b.submits == nil:
		return b, nil
	}
	fields := map[string]bool{}
	for _, f := range c.view("zh").Fields {
		if f.Form != b.Form {
			continue
		}
		fields[f.Name] = true
		if value := t.Form[f.Name]; f.Required && (value == nil || value == "") {
			return Button{}, fmt.Errorf("the field %q is required", f.Name)
		}
	}
	for name := range t.Form {
		if !fields[name] {
			return Button{}, fmt.Errorf("the form has no field %q", name)
		}
	}
	return b, nil
}

func (s *Sim) actionOf(m *message, u User, b Button, form map[string]any) actionEvent {
	event := actionEvent{
		Operator: operator{TenantKey: u.TenantKey, UserID: u.UserID, OpenID: s.OpenID(m.AppID, u.Name), UnionID: u.UnionID},
		Token:    unique("c-"),
		Action:   action{Tag: "button", Value: b.Value, Name: b.Name, Timezone: "Asia/Shanghai"},
		Host:     "im_message",
	}
	if s.apps[m.AppID].NoUserIDs {
		event.Operator.UserID = ""
	}
	if b.submits != nil {
		event.Action.FormValue = form
	}
	event.Context.OpenMessageID, event.Context.OpenChatID = m.ID, m.ChatID
	return event
}

// apply shows what the app answered. It is called with the lock held.
func (s *Sim) apply(m *message, u User, got Answer, seen *Seen) {
	if got.Status != http.StatusOK {
		seen.Error, seen.Code = "the app answered with status "+strconv.Itoa(got.Status), codeBadStatus
		return
	}
	var out struct {
		Toast *struct {
			Type    string            `json:"type"`
			Content string            `json:"content"`
			I18n    map[string]string `json:"i18n"`
		} `json:"toast"`
		Card *struct {
			Type string          `json:"type"`
			Data json.RawMessage `json:"data"`
		} `json:"card"`
	}
	if err := json.Unmarshal(got.Body, &out); err != nil || len(got.Body) == 0 || got.Body[0] != '{' {
		seen.Error, seen.Code = "the app's answer is malformed", codeBadBody
		return
	}
	if out.Toast != nil {
		if !slices.Contains([]string{"", "info", "success", "warning", "error"}, out.Toast.Type) {
			seen.Error, seen.Code = "the app's answer is malformed", codeBadBody
			return
		}
		seen.Toast = &Toast{Type: out.Toast.Type, Text: out.Toast.Content}
		if text, ok := out.Toast.I18n[locale(u.Language)]; ok {
			seen.Toast.Text = text
		}
	}
	if out.Card == nil {
		return
	}
	bad := func(why string) {
		seen.Toast, seen.Error, seen.Code = nil, "the card in the app's answer is wrong: "+why, codeBadCard
	}
	if out.Card.Type != "raw" {
		bad(fmt.Sprintf("cards of type %q are not simulated", out.Card.Type))
		return
	}
	c, fail := checkContent("interactive", string(out.Card.Data))
	switch {
	case fail != nil:
		bad(fail.msg)
	case c.schema2 != m.card.schema2:
		bad("the schema of a card can not change")
	case s.clock.Now().Sub(m.Created) > updatable || m.Recalled: // nothing is updated, and nothing said
	case c.schema2 || c.shared():
		_ = m.replace(c) // the schemas are equal
	default:
		m.own[u.Name] = c
	}
}
