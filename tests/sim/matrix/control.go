package matrix

import (
	"context"
	"net/http"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// Control serves over HTTP what people, other servers and bad luck do: each
// path is a method of [Sim] or of its faults, posted with a JSON object.
func (s *Sim) Control() http.Handler {
	mux := http.NewServeMux()
	type id struct {
		ID string `json:"id"`
	}
	type act struct {
		User    string         `json:"user"`
		By      string         `json:"by"` // who invites
		Room    string         `json:"room"`
		Event   string         `json:"event"`
		Type    string         `json:"type"`
		Key     string         `json:"key"`
		Text    string         `json:"text"`
		Content map[string]any `json:"content"`
	}
	sends := func(path string, send func(act) (string, error)) {
		mux.Handle("POST "+path, world.Verb(func(_ context.Context, in act) (id, error) {
			event, err := send(in)
			return id{event}, err
		}))
	}
	sends("/send", func(in act) (string, error) { return s.SendAs(in.User, in.Room, in.Type, in.Content) })
	sends("/react", func(in act) (string, error) { return s.React(in.User, in.Room, in.Event, in.Key) })
	sends("/reply", func(in act) (string, error) { return s.Reply(in.User, in.Room, in.Event, in.Text) })
	sends("/redact", func(in act) (string, error) { return s.Redact(in.User, in.Room, in.Event, in.Text) })
	sends("/edit", func(in act) (string, error) { return s.EditAsUser(in.User, in.Room, in.Event, in.Text) })
	does := func(path string, do func(act) error) {
		mux.Handle("POST "+path, world.Act(func(_ context.Context, in act) error { return do(in) }))
	}
	does("/join", func(in act) error { return s.Join(in.User, in.Room) })
	does("/leave", func(in act) error { return s.Leave(in.User, in.Room) })
	does("/invite", func(in act) error { return s.Invite(in.By, in.User, in.Room) })
	does("/tokens/revoke", func(in act) error {
		s.RevokeTokens(in.User)
		return nil
	})
	mux.Handle("POST /rooms", world.Verb(func(_ context.Context, in act) ([]string, error) { return s.Rooms(in.User), nil }))
	mux.Handle("POST /shown", world.Verb(func(_ context.Context, in act) (map[string]any, error) { return s.Shown(in.Room, in.Event) }))
	mux.Handle("POST /events", world.Verb(func(_ context.Context, in act) ([]Event, error) { return s.Events(in.Room), nil }))
	mux.Handle("POST /inject", world.Verb(func(_ context.Context, in Event) (id, error) {
		event, err := s.Inject(in.RoomID, in)
		return id{event}, err
	}))
	mux.Handle("POST /users", world.Verb(func(_ context.Context, in struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}) (id, error) {
		user, err := s.AddUser(in.Name, in.Password)
		return id{user}, err
	}))
	mux.Handle("POST /faults", world.Act(func(_ context.Context, f world.Fault) error {
		s.Faults.Add(f)
		return nil
	}))
	mux.Handle("POST /faults/clear", world.Act(func(context.Context, struct{}) error {
		s.Faults.Clear()
		return nil
	}))
	mux.Handle("POST /faults/rate-limit", world.Act(func(_ context.Context, in struct {
		RetryAfterMS int `json:"retry_after_ms"`
		Times        int `json:"times"`
	}) error {
		fault := RateLimited(time.Duration(in.RetryAfterMS) * time.Millisecond)
		fault.Times = in.Times
		s.Faults.Add(fault)
		return nil
	}))
	return mux
}
