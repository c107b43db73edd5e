package matrix

import (
	"maps"
	"net/http"
	"slices"
)

// stateKey names one piece of a room's state.
type stateKey struct{ kind, key string }

type room struct {
	id     string
	events []*Event
	state  map[stateKey]*Event
}

// membership of a user: "join", "invite", "leave", "ban", or "" for a stranger.
func (r *room) membership(user string) string {
	e := r.state[stateKey{"m.room.member", user}]
	if e == nil {
		return ""
	}
	m, _ := e.Content["membership"].(string)
	return m
}

// stateBefore returns the state as it was before a position of the stream.
func (r *room) stateBefore(position int) map[stateKey]*Event {
	state := map[stateKey]*Event{}
	for _, e := range r.events {
		if e.position >= position {
			break
		}
		if e.StateKey != nil {
			state[stateKey{e.Type, *e.StateKey}] = e
		}
	}
	return state
}

// joined finds a room that a user is in.
func (s *Sim) joined(roomID, user string) (*room, *Error) {
	r := s.rooms[roomID]
	if r == nil || r.membership(user) != "join" {
		return nil, forbidden("User %s not in room %s", user, roomID)
	}
	return r, nil
}

func (s *Sim) createRoom(r *http.Request, as session) (any, *Error) {
	var in struct {
		Preset       string         `json:"preset"`
		Visibility   string         `json:"visibility"`
		Name         string         `json:"name"`
		Topic        string         `json:"topic"`
		Invite       []string       `json:"invite"`
		Creation     map[string]any `json:"creation_content"`
		Power        map[string]any `json:"power_level_content_override"`
		InitialState []struct {
			Type     string         `json:"type"`
			StateKey string         `json:"state_key"`
			Content  map[string]any `json:"content"`
		} `json:"initial_state"`
	}
	if err := read(r, &in); err != nil {
		return nil, err
	}
	if in.Preset == "" {
		in.Preset = "private_chat"
		if in.Visibility == "public" {
			in.Preset = "public_chat"
		}
	}
	joinRule := map[string]string{"private_chat": "invite", "trusted_private_chat": "invite", "public_chat": "public"}[in.Preset]
	if joinRule == "" {
		return nil, fail(http.StatusBadRequest, "M_BAD_JSON", "'%s' is not a valid preset", in.Preset)
	}
	made := &room{id: "!" + unique() + ":" + s.cfg.ServerName, state: map[stateKey]*Event{}}
	s.rooms[made.id] = made
	creation := map[string]any{"creator": as.user, "room_version": "10"}
	maps.Copy(creation, in.Creation)
	users := map[string]any{as.user: 100}
	if in.Preset == "trusted_private_chat" {
		for _, user := range in.Invite {
			users[user] = 100
		}
	}
	power := map[string]any{
		"users": users, "users_default": 0, "events_default": 0, "state_default": 50,
		"ban": 50, "kick": 50, "redact": 50, "invite": 50, "historical": 100,
		"events": map[string]any{"m.room.name": 50, "m.room.power_levels": 100, "m.room.history_visibility": 100, "m.room.canonical_alias": 50, "m.room.avatar": 50, "m.room.tombstone": 100, "m.room.server_acl": 100, "m.room.encryption": 100},
	}
	if in.Preset != "public_chat" {
		power["invite"] = 0
	}
	maps.Copy(power, in.Power)
	s.setState(made, as.user, "m.room.create", "", creation)
	s.setState(made, as.user, "m.room.member", as.user, map[string]any{"membership": "join"})
	s.setState(made, as.user, "m.room.power_levels", "", power)
	s.setState(made, as.user, "m.room.join_rules", "", map[string]any{"join_rule": joinRule})
	s.setState(made, as.user, "m.room.history_visibility", "", map[string]any{"history_visibility": "shared"})
	for _, e := range in.InitialState {
		s.setState(made, as.user, e.Type, e.StateKey, e.Content)
	}
	if in.Name != "" {
		s.setState(made, as.user, "m.room.name", "", map[string]any{"name": in.Name})
	}
	if in.Topic != "" {
		s.setState(made, as.user, "m.room.topic", "", map[string]any{"topic": in.Topic})
	}
	for _, user := range in.Invite {
		if err := s.invite(made, as.user, user); err != nil {
			delete(s.rooms, made.id)
			return nil, err
		}
	}
	return map[string]string{"room_id": made.id}, nil
}

func (s *Sim) setState(r *room, sender, kind, key string, content map[string]any) *Event {
	return s.append(r, &Event{Sender: sender, Type: kind, StateKey: &key, Content: content})
}

func (s *Sim) setMember(r *room, sender, user, membership string) {
	s.setState(r, sender, "m.room.member", user, map[string]any{"membership": membership})
}

func (s *Sim) joinRoom(r *http.Request, as session) (any, *Error) {
	id := r.PathValue("room")
	return map[string]string{"room_id": id}, s.join(id, as.user)
}

func (s *Sim) join(roomID, user string) *Error {
	r := s.rooms[roomID]
	if r == nil {
		return fail(http.StatusNotFound, "M_NOT_FOUND", "No known servers")
	}
	if r.closedTo(user) {
		return forbidden("This room has been marked as unfederatable.")
	}
	rule, _ := r.state[stateKey{"m.room.join_rules", ""}].Content["join_rule"].(string)
	switch membership := r.membership(user); {
	case membership == "join":
		return nil
	case membership == "ban":
		return forbidden("%s is banned from the room", user)
	case membership != "invite" && rule != "public":
		return forbidden("You are not invited to this room.")
	}
	s.setMember(r, user, user, "join")
	return nil
}

// closedTo reports whether a room is not for users of the user's server.
func (r *room) closedTo(user string) bool {
	return r.state[stateKey{"m.room.create", ""}].Content["m.federate"] == false && serverOf(user) != serverOf(r.id)
}

func (s *Sim) leaveRoom(r *http.Request, as session) (any, *Error) {
	return struct{}{}, s.leave(r.PathValue("room"), as.user)
}

func (s *Sim) leave(roomID, user string) *Error {
	r := s.rooms[roomID]
	if r == nil || r.membership(user) != "join" && r.membership(user) != "invite" {
		return forbidden("User %s not in room %s", user, roomID)
	}
	s.setMember(r, user, user, "leave")
	return nil
}

func (s *Sim) inviteUser(r *http.Request, as session) (any, *Error) {
	var in struct {
		UserID string `json:"user_id"`
	}
	if err := read(r, &in); err != nil {
		return nil, err
	}
	found, err := s.joined(r.PathValue("room"), as.user)
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.invite(found, as.user, in.UserID)
}

func (s *Sim) invite(r *room, sender, user string) *Error {
	switch {
	case len(user) < 2 || user[0] != '@' || serverOf(user) == "":
		return fail(http.StatusBadRequest, "M_INVALID_PARAM", "Invalid user_id: %s", user)
	case r.membership(user) == "join":
		return forbidden("%s is already in the room.", user)
	case r.membership(user) == "ban":
		return forbidden("%s is banned from the room", user)
	case r.level(sender) < r.needs("invite"):
		return forbidden("You don't have permission to invite users")
	case r.closedTo(user):
		return forbidden("This room has been marked as unfederatable.")
	}
	s.setMember(r, sender, user, "invite")
	return nil
}

func (s *Sim) kickUser(r *http.Request, as session) (any, *Error) {
	var in struct {
		UserID string `json:"user_id"`
	}
	if err := read(r, &in); err != nil {
		return nil, err
	}
	found, err := s.joined(r.PathValue("room"), as.user)
	if err != nil {
		return nil, err
	}
	if level := found.level(as.user); level < found.needs("kick") || level <= found.level(in.UserID) {
		return nil, forbidden("You cannot kick user %s.", in.UserID)
	}
	if m := found.membership(in.UserID); m != "join" && m != "invite" {
		return nil, forbidden("The target user is not in the room")
	}
	s.setMember(found, as.user, in.UserID, "leave")
	return struct{}{}, nil
}

func (s *Sim) joinedRooms(_ *http.Request, as session) (any, *Error) {
	ids := []string{}
	for id, r := range s.rooms {
		if r.membership(as.user) == "join" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return map[string]any{"joined_rooms": ids}, nil
}

func (s *Sim) joinedMembers(r *http.Request, as session) (any, *Error) {
	found, err := s.joined(r.PathValue("room"), as.user)
	if err != nil {
		return nil, err
	}
	members := map[string]any{}
	for key := range found.state {
		if key.kind == "m.room.member" && found.membership(key.key) == "join" {
			members[key.key] = map[string]any{"display_name": nil, "avatar_url": nil}
		}
	}
	return map[string]any{"joined": members}, nil
}

func (s *Sim) getState(r *http.Request, as session) (any, *Error) {
	found, err := s.joined(r.PathValue("room"), as.user)
	if err != nil {
		return nil, err
	}
	return s.renderState(found, found.state, as), nil
}

func (s *Sim) getStateEvent(r *http.Request, as session) (any, *Error) {
	found, err := s.joined(r.PathValue("room"), as.user)
	if err != nil {
		return nil, err
	}
	e := found.state[stateKey{r.PathValue("type"), r.PathValue("key")}]
	if e == nil {
		return nil, fail(http.StatusNotFound, "M_NOT_FOUND", "Event not found.")
	}
	return e.Content, nil
}
