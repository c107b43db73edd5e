package feishu

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// redeliveries are the waits before an event that was not taken is sent again.
var redeliveries = []time.Duration{15 * time.Second, 5 * time.Minute, time.Hour, 6 * time.Hour}

type receivedEvent struct {
	Sender  sender   `json:"sender"`
	Message received `json:"message"`
}

type sender struct {
	SenderID   userID `json:"sender_id"`
	SenderType string `json:"sender_type"`
	TenantKey  string `json:"tenant_key"`
}

type userID struct {
	UnionID string `json:"union_id"`
	UserID  string `json:"user_id,omitempty"`
	OpenID  string `json:"open_id"`
}

type received struct {
	MessageID   string    `json:"message_id"`
	CreateTime  string    `json:"create_time"`
	UpdateTime  string    `json:"update_time"`
	ChatID      string    `json:"chat_id"`
	ChatType    string    `json:"chat_type"` // p2p or group
	MessageType string    `json:"message_type"`
	Content     string    `json:"content"`
	Mentions    []mention `json:"mentions,omitempty"`
}

type mention struct {
	Key       string `json:"key"`
	ID        userID `json:"id"`
	Name      string `json:"name"`
	TenantKey string `json:"tenant_key"`
}

// Say lets a person write a text in a chat that an app's bot is in, and returns
// the id of the event once it was delivered, or failed to be for the first
// time; [Sim.AwaitCalls] shows the later attempts. In a group the bot is
// mentioned before the text, as it would hear nothing else.
func (s *Sim) Say(ctx context.Context, user, chatID, appID, text string) (eventID string, err error) {
	s.mu.Lock()
	u, known := s.users[user]
	chat, a := s.chats[chatID], s.apps[appID]
	if !known || chat == nil || a == nil || !slices.Contains(chat.Members, user) || !slices.Contains(chat.Apps, appID) {
		s.mu.Unlock()
		return "", fmt.Errorf("user %q and app %q are not both in the chat %q", user, appID, chatID)
	}
	m := &message{Message: Message{ChatID: chatID, Sender: user, Type: "text"}}
	s.add(m)
	event := receivedEvent{
		Sender: sender{
			SenderID:   userID{UnionID: u.UnionID, UserID: u.UserID, OpenID: s.OpenID(appID, user)},
			SenderType: "user", TenantKey: u.TenantKey,
		},
		Message: received{
			MessageID: m.ID, CreateTime: milliseconds(m.Created), UpdateTime: milliseconds(m.Created),
			ChatID: chatID, ChatType: "p2p", MessageType: "text",
		},
	}
	if a.NoUserIDs {
		event.Sender.SenderID.UserID = ""
	}
	if !chat.direct {
		event.Message.ChatType = "group"
		event.Message.Mentions = []mention{{Key: "@_user_1", ID: userID{OpenID: derived("ou_", "bot", appID)}, Name: "bot", TenantKey: s.tenant}}
		text = "@_user_1 " + strings.TrimSpace(text)
	}
	m.Content = string(compact(map[string]string{"text": text}))
	event.Message.Content = m.Content
	s.mu.Unlock()
	s.changed.Announce()

	call := s.newCall(a.App, "im.message.receive_v1", milliseconds(m.Created), event)
	s.attempt(ctx, call, 0)
	return call.EventID, nil
}

// attempt delivers an event, and sees to the next attempt where it is not taken.
func (s *Sim) attempt(ctx context.Context, c *Call, before int) {
	a, err := s.appOf(c.AppID)
	if err != nil {
		return
	}
	// The next attempt is set before this one, so that a clock which moves
	// while the app is slow meets both.
	again := make(chan bool, 1)
	if before < len(redeliveries) {
		due := make(chan struct{})
		stop := s.clock.AfterFunc(redeliveries[before], func() { close(due) })
		s.running.Go(func() {
			defer stop()
			select {
			case <-s.ctx.Done():
				return
			case needed := <-again:
				if !needed {
					return
				}
			}
			select {
			case <-due:
				s.attempt(s.ctx, c, before+1)
			case <-s.ctx.Done():
			}
		})
	}
	got, err := s.deliver(ctx, a, c)
	again <- err != nil || got.Status != http.StatusOK
}
