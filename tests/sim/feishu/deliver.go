package feishu

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

var errNoConnection = errors.New("there is neither a callback URL nor a long connection")

// Call is one callback or one delivery of an event, as it was sent.
type Call struct {
	AppID   string      `json:"app_id"`
	EventID string      `json:"event_id"`
	Type    string      `json:"type"`  // card.action.trigger or im.message.receive_v1
	Plain   []byte      `json:"plain"` // before it was encrypted
	Header  http.Header `json:"header"`
	Body    []byte      `json:"body"`   // as it was posted; empty over the long connection
	Answer  *Answer     `json:"answer"` // nil: there was none
	Error   string      `json:"error"`  // why there was none
}

// newCall puts an event into the envelope of schema 2.0. The created time is
// given in the unit that the kind of event uses.
func (s *Sim) newCall(a App, kind, created string, event any) *Call {
	type header struct {
		EventID    string `json:"event_id"`
		Token      string `json:"token"`
		CreateTime string `json:"create_time"`
		EventType  string `json:"event_type"`
		TenantKey  string `json:"tenant_key"`
		AppID      string `json:"app_id"`
	}
	id := unique("")
	return &Call{AppID: a.ID, EventID: id, Type: kind, Plain: compact(struct {
		Schema string `json:"schema"`
		Header header `json:"header"`
		Event  any    `json:"event"`
	}{"2.0", header{id, a.VerificationToken, created, kind, s.tenant, a.ID}, event})}
}

// LoseAnswers lets the next answers of apps to callbacks and events get lost:
// the app has done its part, and Feishu takes it for too slow.
func (s *Sim) LoseAnswers(times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose = times
}

// deliver sends a call the way the app is set up for, waits for the answer, and
// keeps a copy of both.
func (s *Sim) deliver(ctx context.Context, a App, c *Call) (Answer, error) {
	sent := *c
	var got Answer
	var err error
	switch {
	case a.LongConnection:
		got, err = s.Push(ctx, a.ID, c.Plain)
	case a.CallbackURL == "":
		err = errNoConnection
	default:
		if sent.Header, sent.Body, err = s.Seal(a.ID, c.Plain); err == nil {
			got, err = s.Post(ctx, a.ID, sent.Header, sent.Body)
		}
	}
	s.mu.Lock()
	if err == nil && s.lose > 0 {
		s.lose--
		err = errTooSlow
	}
	if err != nil {
		sent.Error = err.Error()
	} else {
		sent.Answer = &got
	}
	s.calls = append(s.calls, &sent)
	s.mu.Unlock()
	s.changed.Announce()
	return got, err
}

// Calls returns the callbacks and the deliveries of events so far that were
// answered or given up, the oldest first.
func (s *Sim) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Call, 0, len(s.calls))
	for _, c := range s.calls {
		all = append(all, *c)
	}
	return all
}

// AwaitCalls returns the calls as soon as match accepts all of them together.
func (s *Sim) AwaitCalls(ctx context.Context, match func([]Call) bool) ([]Call, error) {
	return world.Await(ctx, &s.changed, func() ([]Call, bool) {
		calls := s.Calls()
		return calls, match(calls)
	})
}

// Replay sends a call again as it was, headers and signature included, as one
// who has overheard it would; an empty id means the last call. Over the long
// connection the same payload is pushed again. What the app answers changes
// nothing at Feishu.
func (s *Sim) Replay(ctx context.Context, eventID string) (Answer, error) {
	calls := s.Calls()
	for i := len(calls) - 1; i >= 0; i-- {
		c := calls[i]
		if eventID != "" && c.EventID != eventID {
			continue
		}
		if c.Body == nil {
			return s.Push(ctx, c.AppID, c.Plain)
		}
		return s.Post(ctx, c.AppID, c.Header, c.Body)
	}
	return Answer{}, fmt.Errorf("there was no call %q", eventID)
}
