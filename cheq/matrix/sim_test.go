package matrix

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	sim "github.com/xiezhi-project/xiezhi/tests/sim/matrix"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

func TestOnTheSimulator(t *testing.T) {
	homeserver := sim.New(sim.Config{SharedSecret: "shared", ServerName: "localhost"})
	server := httptest.NewServer(homeserver)
	defer server.Close()
	defer homeserver.Close()
	onHomeserver(t, server.URL, "shared")
}

// simulated is a channel whose bot is in a room of the simulator with @wang.
func simulated(t *testing.T, config sim.Config) (s *sim.Sim, c *Channel, h *heard, room, wang string) {
	t.Helper()
	config.SharedSecret, config.ServerName = "shared", "localhost"
	s = sim.New(config)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(func() { s.Close() })
	bot, person := register(t, server.URL, "shared", "xiezhi"), register(t, server.URL, "shared", "wang")
	room = person.room(bot)
	bot.join(room)
	h = &heard{make(chan cheq.Tap, 100), make(chan string, 100)}
	base := newRig(t).config
	base.Homeserver, base.UserID, base.AccessToken, base.ServerName = server.URL, bot.id, bot.token, "localhost"
	base.Answers, base.Identities, base.Position, base.Now = h, h, h, time.Now
	c, err := New(base)
	if err != nil {
		t.Fatal(err)
	}
	return s, c, h, room, person.id
}

func TestALostAnswerSendsNoSecondNotice(t *testing.T) {
	s, c, _, room, _ := simulated(t, sim.Config{})
	s.Faults.Add(world.Fault{Method: http.MethodPut, Times: 1, Lose: true})
	if _, err := c.Send(t.Context(), room, "k", pending(t)); err == nil || errors.Is(err, cheq.ErrGone) {
		t.Fatalf("the answer was lost: %v", err)
	}
	message, err := c.Send(t.Context(), room, "k", pending(t))
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, e := range s.Events(room) {
		if e.Type == "m.room.message" {
			sent++
		}
	}
	if shown, err := s.Shown(room, message); err != nil || sent != 1 || shown["body"] == "" {
		t.Errorf("%d messages, %v", sent, err)
	}
}

func TestARateLimitSaysWhenToComeAgain(t *testing.T) {
	_, c, _, room, _ := simulated(t, sim.Config{MessagesPerSecond: 0.1, MessageBurst: 1})
	if _, err := c.Send(t.Context(), room, "first", pending(t)); err != nil {
		t.Fatal(err)
	}
	var later *cheq.LaterError
	if _, err := c.Send(t.Context(), room, "second", pending(t)); !errors.As(err, &later) || later.After <= 5*time.Second || later.After > 10*time.Second {
		t.Errorf("limited: %v", err)
	}
}

// Events that no homeserver should hand out, of people who are not in the room.
func TestWhatABrokenHomeserverInjectsIsNotTaken(t *testing.T) {
	s, c, h, room, wang := simulated(t, sim.Config{})
	message, err := c.Send(t.Context(), room, "k", pending(t))
	if err != nil {
		t.Fatal(err)
	}
	reaction := map[string]any{"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": message, "key": "✅"}}
	for _, sender := range []string{"@eve:evil", "@nobody:localhost", "@wang:localhost:80", ""} {
		if _, err := s.Inject(room, sim.Event{Sender: sender, Type: "m.reaction", Content: reaction}); err != nil {
			t.Fatal(err)
		}
	}
	good, err := s.React(wang, room, message, "❌")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if tap := next(t, h.taps); tap.Event != good {
		t.Errorf("tap %+v", tap)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
