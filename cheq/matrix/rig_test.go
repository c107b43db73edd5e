package matrix

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// rig is a channel beside its homeserver, and what it is handed.
type rig struct {
	*Channel
	h       *homeserver
	message string // of the case, sent before all else

	mu      sync.Mutex
	batch   string
	saved   chan struct{} // closed at each save
	taps    []cheq.Tap
	answer  func(t cheq.Tap, nth int) error
	codes   []string
	bindErr error
	pauses  []time.Duration
	log     bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{h: newHomeserver(t), saved: make(chan struct{}), answer: func(cheq.Tap, int) error { return nil }}
	c, err := New(Config{
		Homeserver: r.h.URL, UserID: bot, AccessToken: token, ServerName: "here", Answers: r, Identities: r, Position: r,
		Now: func() time.Time { return testNow }, Log: slog.New(slog.NewTextHandler(&logged{r: r}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.pause = func(ctx context.Context, d time.Duration) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.pauses = append(r.pauses, d)
		return ctx.Err()
	}
	r.Channel = c
	v := pending(t)
	if r.message, err = c.Send(t.Context(), room, "cheq-1/matrix/"+room, v); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if strings.Contains(r.log.String(), token) {
			t.Error("the token is in the log")
		}
	})
	return r
}

// logged writes to a rig's log.
type logged struct{ r *rig }

func (l *logged) Write(p []byte) (int, error) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.r.log.Write(p)
}

// run starts reading; it has ended when the test has.
func (r *rig) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// read waits until all that was said by now was read, and returns the taps so
// far.
func (r *rig) read(t *testing.T) []cheq.Tap {
	t.Helper()
	head := r.h.head()
	for {
		r.mu.Lock()
		at, saved, taps := r.batch, r.saved, r.taps
		r.mu.Unlock()
		if n, err := strconv.Atoi(at); err == nil && n >= head {
			return taps
		}
		select {
		case <-saved:
		case <-time.After(20 * time.Second):
			t.Fatal("what was said is not read")
		}
	}
}

func (r *rig) Load(context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.batch, nil
}

func (r *rig) Save(_ context.Context, batch string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batch = batch
	close(r.saved)
	r.saved = make(chan struct{})
	return nil
}

// Answer takes each event once, as the real one does.
func (r *rig) Answer(_ context.Context, tap cheq.Tap) (cheq.View, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, known := range r.taps {
		if known.Event == tap.Event {
			return cheq.View{}, cheq.ErrReplay
		}
	}
	if err := r.answer(tap, len(r.taps)); err != nil {
		return cheq.View{}, err
	}
	r.taps = append(r.taps, tap)
	return cheq.View{}, nil
}

func (r *rig) Bind(_ context.Context, channel, platform, code string) (cheq.Person, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.codes = append(r.codes, channel+" "+platform+" "+code)
	return cheq.Person{Tenant: "acme", Name: "user:wang"}, r.bindErr
}

func pending(t testing.TB) cheq.View {
	t.Helper()
	c := cheq.Case{
		ID: "cheq-1", Tenant: "acme", State: cheq.Pending, Version: 1, Requester: cheq.Person{Tenant: "acme", Name: "user:li.wei"},
		Caller: cheq.Person{Tenant: "acme", Name: "service:deploy"}, Reason: "a window", GrantFor: time.Hour, Uses: 3, DecideBy: testNow.Add(time.Hour),
		Request: authz.Request{Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "ecs.instance.create"},
			Resource: authz.Entity{Type: "ecs.instance", ID: "req-42/web"}},
		Opens: []cheq.Opening{{RuleRef: authz.RuleRef{Rule: "platform/network/ingress"}, Effect: authz.Review, Message: cheq.Text{EN: "Open to all", ZH: "对公网开放"}}},
	}
	var err error
	if c.Shown, err = c.Card().Digest(); err != nil {
		t.Fatal(err)
	}
	return cheq.View{Case: c, Title: cheq.Text{EN: "Public ingress", ZH: "公网入口"},
		Groups: []cheq.GroupState{{Title: cheq.Text{EN: "Security", ZH: "安全"}, Approvals: 2, Denials: 1}}}
}
