package feishu

import (
	"context"
	"net/http"
	"slices"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// RateLimited is the fault of an app that calls too often: 429, and the
// seconds after which it may call again.
func RateLimited(resetSeconds int) world.Fault {
	return world.Fault{
		Status: http.StatusTooManyRequests,
		Header: limitHeader(resetSeconds),
		Body:   `{"code":99991400,"msg":"request trigger frequency limit"}`,
	}
}

// Control serves over HTTP what people, administrators and bad luck do: each
// path is a method of [Sim] or of its faults, posted with a JSON object.
func (s *Sim) Control() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /apps", world.Act(func(_ context.Context, a App) error { return s.AddApp(a) }))
	mux.Handle("POST /users", world.Verb(func(_ context.Context, u User) (User, error) {
		if err := s.AddUser(u); err != nil {
			return User{}, err
		}
		return s.UserOf(u.Name)
	}))
	type id struct {
		ID string `json:"id"`
	}
	mux.Handle("POST /open-id", world.Verb(func(_ context.Context, in struct {
		App  string `json:"app"`
		User string `json:"user"`
	}) (id, error) {
		return id{s.OpenID(in.App, in.User)}, nil
	}))
	mux.Handle("POST /chats", world.Verb(func(_ context.Context, c Chat) (id, error) {
		made, err := s.AddChat(c)
		return id{made}, err
	}))
	mux.Handle("POST /direct-chat", world.Verb(func(_ context.Context, in struct {
		App  string `json:"app"`
		User string `json:"user"`
	}) (id, error) {
		found, err := s.DirectChat(in.App, in.User)
		return id{found}, err
	}))
	mux.Handle("POST /tap", world.Verb(s.Tap))
	mux.Handle("POST /forward", world.Verb(func(_ context.Context, in struct {
		User    string `json:"user"`
		Message string `json:"message"`
		Chat    string `json:"chat"`
		Anyway  bool   `json:"anyway"`
	}) (id, error) {
		made, err := s.forward(in.User, in.Message, in.Chat, in.Anyway)
		return id{made}, err
	}))
	mux.Handle("POST /card", world.Verb(func(_ context.Context, in struct {
		User    string `json:"user"`
		Message string `json:"message"`
	}) (View, error) {
		return s.Card(in.User, in.Message)
	}))
	mux.Handle("POST /messages", world.Verb(func(_ context.Context, in struct {
		Chat string `json:"chat"` // empty: of all chats
	}) ([]Message, error) {
		return slices.DeleteFunc(s.Messages(), func(m Message) bool { return in.Chat != "" && m.ChatID != in.Chat }), nil
	}))
	mux.Handle("POST /say", world.Verb(func(ctx context.Context, in struct {
		User string `json:"user"`
		Chat string `json:"chat"`
		App  string `json:"app"`
		Text string `json:"text"`
	}) (id, error) {
		event, err := s.Say(ctx, in.User, in.Chat, in.App, in.Text)
		return id{event}, err
	}))
	mux.Handle("POST /calls", world.Verb(func(context.Context, struct{}) ([]Call, error) { return s.Calls(), nil }))
	mux.Handle("POST /replay", world.Verb(func(ctx context.Context, in struct {
		Event string `json:"event"` // empty: the last one
	}) (Answer, error) {
		return s.Replay(ctx, in.Event)
	}))
	mux.Handle("POST /post", world.Verb(func(ctx context.Context, in struct {
		App    string      `json:"app"`
		Header http.Header `json:"header"`
		Body   []byte      `json:"body"`
		Seal   bool        `json:"seal"` // sign and encrypt the body, and send the headers of that
	}) (Answer, error) {
		if in.Seal {
			var err error
			if in.Header, in.Body, err = s.Seal(in.App, in.Body); err != nil {
				return Answer{}, err
			}
		}
		return s.Post(ctx, in.App, in.Header, in.Body)
	}))
	mux.Handle("POST /verify-url", world.Act(func(ctx context.Context, in struct {
		App string `json:"app"`
	}) error {
		return s.VerifyURL(ctx, in.App)
	}))
	s.controlFaults(mux)
	return mux
}

func (s *Sim) controlFaults(mux *http.ServeMux) {
	type app struct {
		App string `json:"app"`
	}
	mux.Handle("POST /tokens/revoke", world.Act(func(_ context.Context, in app) error {
		s.RevokeTokens(in.App)
		return nil
	}))
	mux.Handle("POST /faults", world.Act(func(_ context.Context, f world.Fault) error {
		s.Faults.Add(f)
		return nil
	}))
	mux.Handle("POST /faults/lose-answers", world.Act(func(_ context.Context, in struct {
		Times int `json:"times"`
	}) error {
		s.LoseAnswers(in.Times)
		return nil
	}))
	mux.Handle("POST /faults/clear", world.Act(func(context.Context, struct{}) error {
		s.Faults.Clear()
		return nil
	}))
	mux.Handle("POST /faults/rate-limit", world.Act(func(_ context.Context, in struct {
		ResetSeconds int `json:"reset_seconds"`
		Times        int `json:"times"`
	}) error {
		fault := RateLimited(in.ResetSeconds)
		fault.Times = in.Times
		s.Faults.Add(fault)
		return nil
	}))
	mux.Handle("POST /long/refuse", world.Act(func(_ context.Context, in struct {
		App   string `json:"app"`
		Code  int    `json:"code"`
		Times int    `json:"times"`
	}) error {
		s.RefuseLong(in.App, in.Code, in.Times)
		return nil
	}))
	mux.Handle("POST /long/split", world.Act(func(_ context.Context, in struct {
		Frames   int  `json:"frames"`
		Reversed bool `json:"reversed"`
	}) error {
		s.SplitPushes(in.Frames, in.Reversed)
		return nil
	}))
	mux.Handle("POST /long/drop", world.Act(func(_ context.Context, in app) error {
		s.DropConnections(in.App)
		return nil
	}))
	mux.Handle("POST /long/deafen", world.Act(func(_ context.Context, in app) error {
		s.DeafenConnections(in.App)
		return nil
	}))
}
