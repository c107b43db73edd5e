package matrix

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
)

// maxEvent bounds an event, in bytes.
const maxEvent = 65536

// Event is one event of a room, as it was sent: an edit is an event of its own,
// and a redaction empties the content.
type Event struct {
	ID       string         `json:"event_id"`
	RoomID   string         `json:"room_id"`
	Sender   string         `json:"sender"`
	Type     string         `json:"type"`
	StateKey *string        `json:"state_key,omitempty"`
	Content  map[string]any `json:"content"`
	Redacts  string         `json:"redacts,omitempty"`
	Time     int64          `json:"origin_server_ts"` // ms

	RedactedBy string `json:"-"` // the id of the redaction
	position   int    // in the stream of the server
	txn        string // of the sender's device
	device     string
}

// relation returns what an event says of another.
func (e *Event) relation() (kind, target, key string) {
	relates, _ := e.Content["m.relates_to"].(map[string]any)
	kind, _ = relates["rel_type"].(string)
	target, _ = relates["event_id"].(string)
	key, _ = relates["key"].(string)
	return kind, target, key
}

// append adds an event without asking whether it may be.
func (s *Sim) append(r *room, e *Event) *Event {
	s.stream++
	e.ID, e.RoomID, e.position = "$"+unique()+unique()[:19], r.id, s.stream
	e.Time = s.clock.Now().UnixMilli()
	if e.Content == nil {
		e.Content = map[string]any{}
	}
	r.events = append(r.events, e)
	if e.StateKey != nil {
		r.state[stateKey{e.Type, *e.StateKey}] = e
	}
	if target := r.event(e.Redacts); e.Type == "m.room.redaction" && target != nil {
		target.RedactedBy = e.ID
		target.Content = pruned(target)
	}
	s.changed.Announce()
	return e
}

// pruned is what a redaction leaves of an event's content.
func pruned(e *Event) map[string]any {
	kept := map[string][]string{
		"m.room.member":             {"membership"},
		"m.room.create":             {"creator", "room_version", "m.federate"},
		"m.room.join_rules":         {"join_rule"},
		"m.room.power_levels":       {"users", "users_default", "events", "events_default", "state_default", "ban", "kick", "redact"},
		"m.room.history_visibility": {"history_visibility"},
	}[e.Type]
	content := maps.Clone(e.Content)
	maps.DeleteFunc(content, func(name string, _ any) bool { return !slices.Contains(kept, name) })
	return content
}

func (r *room) event(id string) *Event {
	if i := slices.IndexFunc(r.events, func(e *Event) bool { return e.ID == id }); i >= 0 {
		return r.events[i]
	}
	return nil
}

// number reads a level out of a power_levels content.
func number(v any, otherwise int) int {
	switch n := v.(type) {
	case int:
		return n
	case float64:
		return int(n)
	}
	return otherwise
}

func (r *room) power() map[string]any { return r.state[stateKey{"m.room.power_levels", ""}].Content }

func (r *room) level(user string) int {
	users, _ := r.power()["users"].(map[string]any)
	return number(users[user], number(r.power()["users_default"], 0))
}

// needs is the level for an action: "invite", "kick", "redact".
func (r *room) needs(action string) int {
	if action == "invite" {
		return number(r.power()[action], 0)
	}
	return number(r.power()[action], 50)
}

func (r *room) needsFor(kind string, state bool) int {
	events, _ := r.power()["events"].(map[string]any)
	otherwise := number(r.power()["events_default"], 0)
	if state {
		otherwise = number(r.power()["state_default"], 50)
	}
	return number(events[kind], otherwise)
}

// submit adds an event of a user if the rules of the room allow it.
func (s *Sim) submit(roomID string, e *Event) (*Event, *Error) {
	r, err := s.joined(roomID, e.Sender)
	if err != nil {
		return nil, err
	}
	if r.closedTo(e.Sender) {
		return nil, forbidden("This room has been marked as unfederatable.")
	}
	if have, need := r.level(e.Sender), r.needsFor(e.Type, e.StateKey != nil); have < need {
		return nil, forbidden("You don't have permission to post that to the room. user_level (%d) < send_level (%d)", have, need)
	}
	if text, encoding := json.Marshal(e.Content); encoding != nil || len(text) > maxEvent {
		return nil, fail(http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "event too large")
	}
	switch {
	case e.Type == "m.room.power_levels" && e.StateKey != nil:
		err = r.checkPower(e)
	case e.Type == "m.room.redaction":
		err = r.checkRedaction(e)
	case e.StateKey == nil:
		err = r.checkRelation(e)
	}
	if err != nil {
		return nil, err
	}
	return s.append(r, e), nil
}

// checkPower lets nobody give more than they have, or take from their equals.
func (r *room) checkPower(e *Event) *Error {
	mine := r.level(e.Sender)
	before, _ := r.power()["users"].(map[string]any)
	after, _ := e.Content["users"].(map[string]any)
	for user := range maps.Keys(union(before, after)) {
		was, will := number(before[user], 0), number(after[user], 0)
		if was != will && (will > mine || was >= mine && user != e.Sender) {
			return forbidden("You don't have permission to change the level of %s", user)
		}
	}
	for name := range union(r.power(), e.Content) {
		was, will := r.power()[name], e.Content[name]
		if name != "users" && !reflect.DeepEqual(was, will) && (number(was, 0) > mine || number(will, 0) > mine) {
			return forbidden("You don't have permission to change %s", name)
		}
	}
	return nil
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(b)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, a)
	return all
}

func (r *room) checkRedaction(e *Event) *Error {
	target := r.event(e.Redacts)
	if target == nil {
		return fail(http.StatusNotFound, "M_NOT_FOUND", "Could not find event %s", e.Redacts)
	}
	if target.Sender != e.Sender && r.level(e.Sender) < r.needs("redact") {
		return forbidden("You don't have permission to redact events")
	}
	return nil
}

func (r *room) checkRelation(e *Event) *Error {
	kind, target, key := e.relation()
	if kind == "" {
		return nil
	}
	if r.event(target) == nil {
		return fail(http.StatusBadRequest, "M_UNKNOWN", "Can't send relation to unknown event")
	}
	if kind != "m.annotation" {
		return nil
	}
	for _, other := range r.events {
		k, t, was := other.relation()
		if other.Sender == e.Sender && other.Type == e.Type && k == kind && t == target && was == key {
			return fail(http.StatusBadRequest, "M_DUPLICATE_ANNOTATION", "Can't send same reaction twice")
		}
	}
	return nil
}

// edited returns the newest edit of an event by its own sender, or nil.
func (r *room) edited(e *Event) *Event {
	for _, other := range slices.Backward(r.events) {
		kind, target, _ := other.relation()
		if kind == "m.replace" && target == e.ID && other.Sender == e.Sender && other.Type == e.Type && other.RedactedBy == "" {
			return other
		}
	}
	return nil
}

// render is an event as a device gets it.
func (s *Sim) render(r *room, e *Event, to session) any {
	unsigned := map[string]any{"age": s.clock.Now().UnixMilli() - e.Time}
	if e.txn != "" && e.Sender == to.user && e.device == to.device {
		unsigned["transaction_id"] = e.txn
	}
	if e.RedactedBy != "" {
		unsigned["redacted_because"] = r.event(e.RedactedBy)
	} else if edit := r.edited(e); edit != nil {
		unsigned["m.relations"] = map[string]any{"m.replace": edit}
	}
	return struct {
		*Event
		Unsigned map[string]any `json:"unsigned"`
	}{e, unsigned}
}

func (s *Sim) renderAll(r *room, events []*Event, to session) []any {
	all := make([]any, 0, len(events))
	for _, e := range events {
		all = append(all, s.render(r, e, to))
	}
	return all
}

func (s *Sim) renderState(r *room, state map[stateKey]*Event, to session) []any {
	events := slices.SortedFunc(maps.Values(state), func(a, b *Event) int { return cmp.Compare(a.position, b.position) })
	return s.renderAll(r, events, to)
}
