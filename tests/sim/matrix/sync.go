package matrix

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filter is what a client wants of a sync.
type filter struct {
	Room struct {
		Rooms    []string `json:"rooms"` // nil: all
		Timeline struct {
			Limit int      `json:"limit"`
			Types []string `json:"types"` // nil: all
		} `json:"timeline"`
	} `json:"room"`
}

func (s *Sim) putFilter(r *http.Request, _ session) (any, *Error) {
	var f filter
	if err := read(r, &f); err != nil {
		return nil, err
	}
	id := strconv.Itoa(len(s.filters))
	s.filters[id] = f
	return map[string]string{"filter_id": id}, nil
}

// token is a place in the stream: after the event of that position.
func token(position int) string { return "s" + strconv.Itoa(position) }

func parseToken(text string) (int, *Error) {
	digits, ok := strings.CutPrefix(text, "s")
	position, err := strconv.Atoi(digits)
	if !ok || err != nil || position < 0 {
		return 0, fail(http.StatusBadRequest, "M_UNKNOWN", "Invalid stream token")
	}
	return position, nil
}

// syncAnswer is the body of a sync.
type syncAnswer struct {
	NextBatch string `json:"next_batch"`
	Rooms     struct {
		Join   map[string]any `json:"join,omitempty"`
		Invite map[string]any `json:"invite,omitempty"`
		Leave  map[string]any `json:"leave,omitempty"`
	} `json:"rooms"`
}

func (a *syncAnswer) empty() bool {
	return len(a.Rooms.Join)+len(a.Rooms.Invite)+len(a.Rooms.Leave) == 0
}

func (s *Sim) sync(w http.ResponseWriter, r *http.Request) {
	as, err := s.bearer(r)
	var since int
	var f filter
	query := r.URL.Query()
	if err == nil && query.Has("since") {
		since, err = parseToken(query.Get("since"))
	}
	if err == nil {
		f, err = s.filterOf(query.Get("filter"))
	}
	milliseconds, notNumber := strconv.Atoi(query.Get("timeout"))
	if err == nil && notNumber != nil && query.Get("timeout") != "" {
		err = fail(http.StatusBadRequest, "M_INVALID_PARAM", "Query parameter timeout must be an integer")
	}
	if err != nil {
		respond(w, nil, err)
		return
	}
	ctx, cancel := s.clock.WithTimeout(r.Context(), time.Duration(milliseconds)*time.Millisecond)
	defer cancel()
	for {
		next := s.changed.Next()
		s.mu.Lock()
		out := s.since(since, query.Has("since"), query.Get("full_state") == "true", f, as)
		s.mu.Unlock()
		if !out.empty() || !query.Has("since") || milliseconds <= 0 || ctx.Err() != nil || s.ctx.Err() != nil {
			respond(w, out, nil)
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		if _, err := s.bearer(r); err != nil { // logged out meanwhile
			respond(w, nil, err)
			return
		}
	}
}

// filterOf finds a filter by its id, or reads it where it stands.
func (s *Sim) filterOf(text string) (filter, *Error) {
	var f filter
	switch {
	case text == "":
	case text[0] == '{':
		if json.Unmarshal([]byte(text), &f) != nil {
			return f, fail(http.StatusBadRequest, "M_NOT_JSON", "Invalid filter JSON")
		}
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		known := false
		if f, known = s.filters[text]; !known {
			return f, fail(http.StatusNotFound, "M_NOT_FOUND", "No such filter")
		}
	}
	if f.Room.Timeline.Limit <= 0 {
		f.Room.Timeline.Limit = s.cfg.TimelineLimit
	}
	return f, nil
}

// since is what happened after a position, for one device. It is called with
// the lock held.
func (s *Sim) since(since int, incremental, full bool, f filter, as session) *syncAnswer {
	out := &syncAnswer{NextBatch: token(s.stream)}
	out.Rooms.Join, out.Rooms.Invite, out.Rooms.Leave = map[string]any{}, map[string]any{}, map[string]any{}
	for id, r := range s.rooms {
		member := r.state[stateKey{"m.room.member", as.user}]
		if member == nil || f.Room.Rooms != nil && !slices.Contains(f.Room.Rooms, id) {
			continue
		}
		switch r.membership(as.user) {
		case "join":
			fresh := !incremental || full || member.position > since && r.membershipAt(as.user, since) != "join"
			if part, news := s.timeline(r, since, s.stream, fresh, f, as); news || fresh {
				out.Rooms.Join[id] = part
			}
		case "invite":
			if !incremental || member.position > since {
				out.Rooms.Invite[id] = map[string]any{"invite_state": map[string]any{"events": stripped(r, member)}}
			}
		default:
			if incremental && member.position > since && r.membershipAt(as.user, member.position-1) == "join" {
				part, _ := s.timeline(r, since, member.position, false, f, as)
				out.Rooms.Leave[id] = part
			}
		}
	}
	return out
}

// membershipAt is a membership as it was at a position.
func (r *room) membershipAt(user string, position int) string {
	e := r.stateBefore(position + 1)[stateKey{"m.room.member", user}]
	if e == nil {
		return ""
	}
	m, _ := e.Content["membership"].(string)
	return m
}

// timeline is one room's part of a sync: the newest events up to a position,
// and the state that they do not tell.
func (s *Sim) timeline(r *room, since, until int, fresh bool, f filter, as session) (part map[string]any, news bool) {
	from := since
	if fresh {
		from = 0
	}
	var events []*Event
	for _, e := range r.events {
		wanted := f.Room.Timeline.Types == nil || slices.Contains(f.Room.Timeline.Types, e.Type)
		if e.position > from && e.position <= until && wanted {
			events = append(events, e)
		}
	}
	limited := len(events) > f.Room.Timeline.Limit
	if limited {
		events = events[len(events)-f.Room.Timeline.Limit:]
	}
	start := until + 1
	if len(events) > 0 {
		start = events[0].position
	}
	state := map[stateKey]*Event{}
	for key, e := range r.stateBefore(start) {
		if (fresh || e.position > since) && !slices.Contains(events, e) {
			state[key] = e
		}
	}
	return map[string]any{
		"timeline":             map[string]any{"events": s.renderAll(r, events, as), "limited": limited, "prev_batch": token(start - 1)},
		"state":                map[string]any{"events": s.renderState(r, state, as)},
		"account_data":         map[string]any{"events": []any{}},
		"ephemeral":            map[string]any{"events": []any{}},
		"unread_notifications": map[string]int{"notification_count": 0, "highlight_count": 0},
		"summary":              map[string]any{},
	}, len(events)+len(state) > 0
}

// stripped is what somebody who is invited sees of a room.
func stripped(r *room, member *Event) []any {
	var events []any
	for _, kind := range []string{"m.room.create", "m.room.join_rules", "m.room.name", "m.room.topic", "m.room.encryption"} {
		if e := r.state[stateKey{kind, ""}]; e != nil {
			events = append(events, map[string]any{"type": e.Type, "state_key": "", "content": e.Content, "sender": e.Sender})
		}
	}
	return append(events, map[string]any{"type": member.Type, "state_key": *member.StateKey, "content": member.Content, "sender": member.Sender})
}
