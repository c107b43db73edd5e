package matrix

import (
	"context"
	"fmt"
	"maps"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// AddUser registers a user of this server and returns the id.
func (s *Sim) AddUser(name, password string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := s.addUser(name, password)
	return id, plain(err)
}

// plain keeps a nil *Error from becoming an error that is not nil.
func plain(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}

// LoginToken returns a token with which a user logs in once.
func (s *Sim) LoginToken(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := unique()
	s.logins[t] = user
	return t
}

// RevokeTokens logs all devices of a user out.
func (s *Sim) RevokeTokens(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.sessions, func(_ string, as session) bool { return as.user == user })
	s.changed.Announce()
}

// Join lets a user into a room, of this server or, by federation, of another.
func (s *Sim) Join(user, roomID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return plain(s.join(roomID, user))
}

// Leave lets a user leave a room.
func (s *Sim) Leave(user, roomID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return plain(s.leave(roomID, user))
}

// Invite lets a user who is in a room invite another.
func (s *Sim) Invite(by, user, roomID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.joined(roomID, by)
	if err != nil {
		return err
	}
	return plain(s.invite(r, by, user))
}

// SendAs lets a user send an event and returns its id. The rules of the room
// hold, for users of other servers too; errors are of type [*Error].
func (s *Sim) SendAs(user, roomID, kind string, content map[string]any) (string, error) {
	return s.sendAs(roomID, &Event{Sender: user, Type: kind, Content: content})
}

func (s *Sim) sendAs(roomID string, e *Event) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.submit(roomID, e)
	if err != nil {
		return "", err
	}
	return e.ID, nil
}

// React lets a user react to an event with a key such as "✅".
func (s *Sim) React(user, roomID, eventID, key string) (string, error) {
	return s.SendAs(user, roomID, "m.reaction", map[string]any{
		"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": eventID, "key": key},
	})
}

// Reply lets a user answer an event with a text.
func (s *Sim) Reply(user, roomID, eventID, text string) (string, error) {
	return s.SendAs(user, roomID, "m.room.message", map[string]any{
		"msgtype": "m.text", "body": text,
		"m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": eventID}},
	})
}

// Redact lets a user take an event back, or remove another's.
func (s *Sim) Redact(user, roomID, eventID, reason string) (string, error) {
	return s.sendAs(roomID, &Event{
		Sender: user, Type: "m.room.redaction", Redacts: eventID,
		Content: map[string]any{"redacts": eventID, "reason": reason},
	})
}

// EditAsUser lets a user replace the text of an event. The server takes edits
// of other people's events too; it is for clients to ignore them.
func (s *Sim) EditAsUser(user, roomID, eventID, text string) (string, error) {
	return s.SendAs(user, roomID, "m.room.message", map[string]any{
		"msgtype": "m.text", "body": "* " + text,
		"m.new_content": map[string]any{"msgtype": "m.text", "body": text},
		"m.relates_to":  map[string]any{"rel_type": "m.replace", "event_id": eventID},
	})
}

// Inject adds an event that no rule is asked about, as a server that is broken
// or hostile would. Sender, Type, StateKey, Content and Redacts are taken from e.
func (s *Sim) Inject(roomID string, e Event) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[roomID]
	if r == nil {
		return "", fmt.Errorf("there is no room %q", roomID)
	}
	return s.append(r, &Event{Sender: e.Sender, Type: e.Type, StateKey: e.StateKey, Content: maps.Clone(e.Content), Redacts: e.Redacts}).ID, nil
}

// Rooms returns the ids of the rooms that a user is in or invited to.
func (s *Sim) Rooms(user string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, r := range s.rooms {
		if m := r.membership(user); m == "join" || m == "invite" {
			ids = append(ids, id)
		}
	}
	return ids
}

// Events returns all events of a room, the oldest first.
func (s *Sim) Events(roomID string) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[roomID]
	if r == nil {
		return nil
	}
	events := make([]Event, 0, len(r.events))
	for _, e := range r.events {
		copied := *e
		copied.Content = maps.Clone(e.Content)
		events = append(events, copied)
	}
	return events
}

// Shown returns the content of an event as clients show it: the newest edit by
// its own sender counts, edits of others do not; a redacted event is empty.
func (s *Sim) Shown(roomID, eventID string) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[roomID]
	if r == nil || r.event(eventID) == nil {
		return nil, fmt.Errorf("there is no event %q in %q", eventID, roomID)
	}
	e := r.event(eventID)
	if e.RedactedBy != "" {
		return map[string]any{}, nil
	}
	if edit := r.edited(e); edit != nil {
		content, _ := edit.Content["m.new_content"].(map[string]any)
		return maps.Clone(content), nil
	}
	return maps.Clone(e.Content), nil
}

// AwaitEvent returns the oldest event of a room that match accepts, as soon as
// there is one.
func (s *Sim) AwaitEvent(ctx context.Context, roomID string, match func(Event) bool) (Event, error) {
	return world.Await(ctx, &s.changed, func() (Event, bool) {
		for _, e := range s.Events(roomID) {
			if match(e) {
				return e, true
			}
		}
		return Event{}, false
	})
}
