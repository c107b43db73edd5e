package matrix

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

func (s *Sim) getEvent(r *http.Request, as session) (any, *Error) {
	found, err := s.joined(r.PathValue("room"), as.user)
	if err != nil {
		return nil, err
	}
	e := found.event(r.PathValue("event"))
	if e == nil {
		return nil, fail(http.StatusNotFound, "M_NOT_FOUND", "Event not found.")
	}
	return s.render(found, e, as), nil
}

// getMessages goes through a room's events, from the gap of a limited timeline
// backwards, or forwards.
func (s *Sim) getMessages(r *http.Request, as session) (any, *Error) {
	found, err := s.joined(r.PathValue("room"), as.user)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	backwards := query.Get("dir") == "b"
	if !backwards && query.Get("dir") != "f" {
		return nil, fail(http.StatusBadRequest, "M_MISSING_PARAM", "Missing or invalid query parameter: dir")
	}
	from, to := 0, s.stream
	if backwards {
		from, to = s.stream, 0
	}
	for name, position := range map[string]*int{"from": &from, "to": &to} {
		if query.Has(name) {
			if *position, err = parseToken(query.Get(name)); err != nil {
				return nil, err
			}
		}
	}
	var wanted struct {
		Types []string `json:"types"`
	}
	if text := query.Get("filter"); text != "" && json.Unmarshal([]byte(text), &wanted) != nil {
		return nil, fail(http.StatusBadRequest, "M_NOT_JSON", "Invalid filter JSON")
	}
	events := slices.DeleteFunc(slices.Clone(found.events), func(e *Event) bool {
		return e.position <= min(from, to) || e.position > max(from, to) || wanted.Types != nil && !slices.Contains(wanted.Types, e.Type)
	})
	if backwards {
		slices.Reverse(events)
	}
	limit, _ := strconv.Atoi(query.Get("limit"))
	limit = cmp.Or(max(limit, 0), 10)
	out := map[string]any{"start": token(from)}
	if len(events) > limit {
		events = events[:limit]
		end := events[limit-1].position
		if backwards {
			end--
		}
		out["end"] = token(end)
	}
	out["chunk"] = s.renderAll(found, events, as)
	return out, nil
}

// getRelations returns what relates to an event, the newest first.
func (s *Sim) getRelations(r *http.Request, as session) (any, *Error) {
	found, err := s.joined(r.PathValue("room"), as.user)
	if err != nil {
		return nil, err
	}
	rel, kind := r.PathValue("rel"), r.PathValue("type")
	events := slices.DeleteFunc(slices.Clone(found.events), func(e *Event) bool {
		k, target, _ := e.relation()
		return k == "" || target != r.PathValue("event") || rel != "" && rel != k || kind != "" && kind != e.Type
	})
	slices.Reverse(events)
	query := r.URL.Query()
	if query.Has("from") {
		from, err := parseToken(query.Get("from"))
		if err != nil {
			return nil, err
		}
		events = slices.DeleteFunc(events, func(e *Event) bool { return e.position > from })
	}
	limit, _ := strconv.Atoi(query.Get("limit"))
	limit = cmp.Or(max(limit, 0), 5)
	out := map[string]any{}
	if len(events) > limit {
		events = events[:limit]
		out["next_batch"] = token(events[limit-1].position - 1)
	}
	out["chunk"] = s.renderAll(found, events, as)
	return out, nil
}
