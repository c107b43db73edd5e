package feishu

import (
	"errors"
	"fmt"
	"slices"
)

// Forward lets a person forward a card to another chat, and returns the id of
// the copy. Cards say in their config whether they may be forwarded, and
// whether the copy can be interacted with.
func (s *Sim) Forward(user, messageID, chatID string) (string, error) {
	return s.forward(user, messageID, chatID, false)
}

// ForwardAnyway is [Sim.Forward] by a client that does not keep to the card's
// config.
func (s *Sim) ForwardAnyway(user, messageID, chatID string) (string, error) {
	return s.forward(user, messageID, chatID, true)
}

func (s *Sim) forward(user, messageID, chatID string, anyway bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, _, err := s.visible(user, messageID)
	if err != nil {
		return "", err
	}
	to := s.chats[chatID]
	if to == nil || !slices.Contains(to.Members, user) {
		return "", fmt.Errorf("%s is not in the chat %q", user, chatID)
	}
	if m.card.config("enable_forward") == false && !anyway {
		return "", errors.New("the card may not be forwarded")
	}
	shown := m.cardOf(user)
	forwarded := &message{
		Message: Message{ChatID: chatID, AppID: m.AppID, Sender: user, Type: m.Type, Content: shown.text, ForwardedFrom: m.ID},
		card:    shown,
		frozen:  m.card.schema2 && m.card.config("enable_forward_interaction") != true && !anyway,
	}
	s.add(forwarded)
	s.changed.Announce()
	return forwarded.ID, nil
}
