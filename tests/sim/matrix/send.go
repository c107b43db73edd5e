package matrix

import "net/http"

// once serves a call under a transaction id: a device that repeats it gets the
// same event id.
func (s *Sim) once(r *http.Request, as session, do func() (*Event, *Error)) (any, *Error) {
	key := as.user + " " + as.device + " " + r.URL.EscapedPath()
	if id, done := s.sent[key]; done {
		return map[string]string{"event_id": id}, nil
	}
	if err := s.limit(as.user); err != nil {
		return nil, err
	}
	e, err := do()
	if err != nil {
		return nil, err
	}
	e.txn, e.device = r.PathValue("txn"), as.device
	s.sent[key] = e.ID
	return map[string]string{"event_id": e.ID}, nil
}

func (s *Sim) putEvent(r *http.Request, as session) (any, *Error) {
	return s.once(r, as, func() (*Event, *Error) {
		e := &Event{Sender: as.user, Type: r.PathValue("type")}
		if err := read(r, &e.Content); err != nil {
			return nil, err
		}
		if e.Type == "m.room.redaction" {
			e.Redacts, _ = e.Content["redacts"].(string)
		}
		return s.submit(r.PathValue("room"), e)
	})
}

func (s *Sim) putRedaction(r *http.Request, as session) (any, *Error) {
	return s.once(r, as, func() (*Event, *Error) {
		e := &Event{Sender: as.user, Type: "m.room.redaction", Redacts: r.PathValue("event")}
		if err := read(r, &e.Content); err != nil {
			return nil, err
		}
		return s.submit(r.PathValue("room"), e)
	})
}

func (s *Sim) putState(r *http.Request, as session) (any, *Error) {
	key := r.PathValue("key")
	e := &Event{Sender: as.user, Type: r.PathValue("type"), StateKey: &key}
	if err := read(r, &e.Content); err != nil {
		return nil, err
	}
	if e.Type == "m.room.member" {
		return nil, fail(http.StatusBadRequest, "M_UNRECOGNIZED", "memberships are changed by join, leave, invite and kick here")
	}
	if err := s.limit(as.user); err != nil {
		return nil, err
	}
	e, err := s.submit(r.PathValue("room"), e)
	if err != nil {
		return nil, err
	}
	return map[string]string{"event_id": e.ID}, nil
}
