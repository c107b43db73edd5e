package feishu

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

const (
	delayedLife = 30 * time.Minute // of a token for delayed updates
	delayedUses = 2
)

// delayedUpdate updates the card of one tap after the tap was answered.
func (s *Sim) delayedUpdate(r *http.Request, a *app) (any, *failure) {
	var in struct {
		Token string          `json:"token"`
		Card  json.RawMessage `json:"card"`
	}
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	bad := func(why string) *failure { return refuse(http.StatusBadRequest, 300010, "invalid token: %s", why) }
	token := s.updates[in.Token]
	switch {
	case token == nil || token.app != a.ID:
		return nil, bad("it is not known")
	case !token.answered:
		return nil, bad("the callback is not answered yet")
	case s.clock.Now().Sub(token.created) > delayedLife:
		return nil, bad("it has expired")
	case token.uses >= delayedUses:
		return nil, bad("it is used up")
	}
	m := s.messages[token.message]
	if m.Recalled {
		return nil, refuse(http.StatusBadRequest, 230011, "The message is recalled.")
	}
	c, fail := checkContent("interactive", string(in.Card))
	if fail != nil {
		return nil, fail
	}
	if c.schema2 || c.shared() {
		if err := m.replace(c); err != nil {
			return nil, err.failure()
		}
		token.uses++
		return success(map[string]any{}), nil
	}
	// A card of the old structure that is not shared names who sees the update.
	ids, _ := c.root["open_ids"].([]any)
	if len(ids) == 0 {
		return nil, refuse(http.StatusBadRequest, 300090, "openid empty")
	}
	if m.card.schema2 {
		return nil, (&cardError{code: 200830, msg: "the schema of a card can not change"}).failure()
	}
	for _, name := range s.chats[m.ChatID].Members {
		if slices.Contains(ids, any(s.OpenID(a.ID, name))) {
			m.own[name] = c
		}
	}
	token.uses++
	return success(map[string]any{}), nil
}
