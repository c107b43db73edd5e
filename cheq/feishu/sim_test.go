package feishu_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cheq/feishu"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	sim "github.com/xiezhi-project/xiezhi/tests/sim/feishu"
	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

const simApp = "cli_0123456789abcdef"

// desk is an approvals desk of one case: it takes one answer, from whom is
// bound, on the message that was sent.
type desk struct {
	mu      sync.Mutex
	view    cheq.View
	message string
	to      string
	events  map[string]bool
	bound   map[string]cheq.Person
}

func (d *desk) Answer(_ context.Context, t cheq.Tap) (cheq.View, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	who, known := d.bound[t.Platform]
	switch {
	case d.events[t.Event]:
		return cheq.View{}, cheq.ErrReplay
	case !known:
		return cheq.View{}, cheq.ErrStranger
	case t.Case != d.view.Case.ID:
		return cheq.View{}, cheq.ErrNotFound
	case t.Message != d.message || t.To != d.to:
		return cheq.View{}, cheq.ErrMessage
	case d.view.Case.State.Settled():
		return d.view, cheq.ErrSettled
	}
	d.events[t.Event] = true
	d.view.Case.Votes = append(d.view.Case.Votes, cheq.Vote{Voter: who, Yes: t.Yes, Reason: t.Reason, Channel: t.Channel})
	d.view.Case.State = cheq.Rejected
	if t.Yes {
		d.view.Case.State = cheq.Approved
	}
	return d.view, nil
}

func (d *desk) Bind(_ context.Context, channel, platform, code string) (cheq.Person, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if channel != "feishu" || code != "K7QX-2M9P" {
		return cheq.Person{}, cheq.ErrCode
	}
	who := cheq.Person{Tenant: "acme", Name: "user:alice"}
	d.bound[platform] = who
	return who, nil
}

// office is a company with a bot, before a simulated Feishu.
type office struct {
	*sim.Sim
	*desk
	bot  *feishu.Bot
	chat string
	logs *bytes.Buffer
}

func newOffice(t *testing.T, long bool) *office {
	t.Helper()
	o := &office{Sim: sim.New(sim.Config{}), logs: &bytes.Buffer{}, desk: &desk{events: map[string]bool{}, bound: map[string]cheq.Person{}}}
	server, err := world.Listen("127.0.0.1:0", o.Sim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Close()
		_ = o.Sim.Close()
	})
	calls := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 65<<10))
		if err != nil {
			return
		}
		status, answer := o.bot.Callback(r.Context(), r.Header.Get, body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(answer)
	}))
	t.Cleanup(calls.Close)
	app := sim.App{ID: simApp, Secret: "s3cret", EncryptKey: "key", VerificationToken: "verify", CallbackURL: calls.URL, LongConnection: long}
	if err := o.AddApp(app); err != nil {
		t.Fatal(err)
	}
	for name, language := range map[string]string{"alice": "en", "bob": "zh"} {
		if err := o.AddUser(sim.User{Name: name, Language: language}); err != nil {
			t.Fatal(err)
		}
	}
	if o.chat, err = o.AddChat(sim.Chat{Members: []string{"alice", "bob"}, Apps: []string{simApp}}); err != nil {
		t.Fatal(err)
	}
	o.bot, err = feishu.New(feishu.Config{
		AppID: app.ID, AppSecret: app.Secret, EncryptKey: app.EncryptKey, VerificationToken: app.VerificationToken,
		TenantKey: "tenant-one", BaseURL: server.URL(), Answers: o.desk, Bind: o.desk.Bind, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	request := authz.Request{
		Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: "ecs.instance.create"},
		Resource: authz.Entity{Type: "ecs.instance", ID: "web-1", Properties: authz.MustValue(map[string]any{"region": "cn-hangzhou"})},
	}
	li := cheq.Person{Tenant: "acme", Name: "user:li.wei"}
	o.view = cheq.View{
		Title: cheq.Text{EN: "Public address", ZH: "公网地址"},
		Case: cheq.Case{
			ID: "cheq-1", Tenant: "acme", State: cheq.Pending, Requester: li, Caller: li, Request: request, Reason: "the shop opens",
			Opens:    []cheq.Opening{{RuleRef: authz.RuleRef{Rule: "network/public"}, Effect: authz.Review, Message: cheq.Text{EN: "open to all", ZH: "任何人可访问"}}},
			DecideBy: time.Now().Add(time.Hour), GrantFor: time.Hour, Shown: "sha256:aa",
		},
		Groups: []cheq.GroupState{{Title: cheq.Text{EN: "Security", ZH: "安全"}, Approvals: 1, Denials: 1}},
	}
	return o
}

// send posts the case's card into the chat.
func (o *office) send(t *testing.T) string {
	t.Helper()
	return o.sendTo(t, "chat:"+o.chat)
}

func (o *office) sendTo(t *testing.T, to string) string {
	t.Helper()
	id, err := o.bot.Send(t.Context(), to, "cheq-1/feishu/"+to, o.view)
	if err != nil {
		t.Fatal(err)
	}
	o.message, o.to = id, to
	return id
}

func (o *office) tap(t *testing.T, user, message, button string) sim.Seen {
	t.Helper()
	seen, err := o.Tap(t.Context(), sim.Tap{User: user, Message: message, Button: button, Form: map[string]any{"reason": "fine by me"}})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func (o *office) bindAlice(t *testing.T) {
	t.Helper()
	direct, err := o.DirectChat(simApp, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Say(t.Context(), "alice", direct, simApp, " bind K7QX-2M9P\n"); err != nil {
		t.Fatal(err)
	}
	_, err = o.AwaitMessage(t.Context(), func(m sim.Message) bool {
		return m.ChatID == direct && m.AppID == simApp && strings.Contains(m.Content, "Bound to user:alice.")
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnAnswerThroughFeishu(t *testing.T) {
	for name, long := range map[string]bool{"callbacks": false, "long connection": true} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, long)
			if long {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					o.bot.Run(ctx)
				}()
				defer func() {
					cancel()
					<-done
				}()
				if err := o.AwaitConnections(t.Context(), simApp, 1); err != nil {
					t.Fatal(err)
				}
			} else if err := o.VerifyURL(t.Context(), simApp); err != nil {
				t.Fatal(err)
			}
			id := o.send(t)
			if again := o.send(t); again != id {
				t.Errorf("the same key sends %s, then %s", id, again)
			}
			for user, want := range map[string]string{"alice": "open to all", "bob": "任何人可访问"} {
				if view, err := o.Card(user, id); err != nil || !strings.Contains(strings.Join(view.Texts, "\n"), want) || len(view.Buttons) != 2 {
					t.Errorf("%s sees %+v, %v", user, view, err)
				}
			}
			if seen := o.tap(t, "alice", id, "approve"); seen.Toast == nil || !strings.Contains(seen.Toast.Text, "binding code") {
				t.Errorf("unbound, alice sees %+v", seen)
			}
			o.bindAlice(t)
			seen := o.tap(t, "alice", id, "approve")
			if seen.Error != "" || seen.Toast == nil || seen.Toast.Text != "Approved, by user:alice." || len(seen.Card.Buttons) != 0 {
				t.Errorf("alice sees %+v", seen)
			}
			if view, err := o.Card("bob", id); err != nil || view.Subtitle != "已批准" || len(view.Buttons) != 0 {
				t.Errorf("bob sees %+v, %v", view, err)
			}
			if votes := o.view.Case.Votes; len(votes) != 1 || votes[0].Reason != "fine by me" {
				t.Errorf("votes: %+v", votes)
			}
			answer, err := o.Replay(t.Context(), seen.EventID)
			want := http.StatusUnauthorized // its nonce came before
			if long {
				want = http.StatusOK // with a toast: nothing is signed here
			}
			if err != nil || answer.Status != want || len(o.view.Case.Votes) != 1 {
				t.Errorf("replayed: %d %s, %v", answer.Status, answer.Body, err)
			}
			o.view.Case.Grant, o.view.Case.Yield = "grt-1", cheq.Revoked
			if err := o.bot.Edit(t.Context(), "chat:"+o.chat, id, o.view); err != nil {
				t.Fatal(err)
			}
			if view, err := o.Card("bob", id); err != nil || !strings.Contains(strings.Join(view.Texts, "\n"), "grt-1，已撤销") {
				t.Errorf("bob sees %+v, %v", view, err)
			}
		})
	}
}

func TestAMessageToOnePersonIsAnswered(t *testing.T) {
	o := newOffice(t, false)
	o.bindAlice(t)
	alice, err := o.UserOf("alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"user:" + o.OpenID(simApp, "alice"), "union:" + alice.UnionID, "email:" + alice.Email} {
		o.view.Case.State, o.view.Case.Votes = cheq.Pending, nil
		id := o.sendTo(t, to)
		if err := o.bot.Edit(t.Context(), to, id, o.view); err != nil {
			t.Fatal(err)
		}
		if seen := o.tap(t, "alice", id, "approve"); seen.Toast == nil || seen.Toast.Text != "Approved, by user:alice." {
			t.Errorf("%s: alice sees %+v", to, seen)
		}
	}
}

func TestAForwardedCardCannotBeAnswered(t *testing.T) {
	o := newOffice(t, false)
	id := o.send(t)
	o.bindAlice(t)
	o.message = "om_another" // as if the case's were elsewhere
	if seen := o.tap(t, "alice", id, "approve"); seen.Toast == nil || !strings.Contains(seen.Toast.Text, "forwarded") || len(o.view.Case.Votes) > 0 {
		t.Errorf("alice sees %+v", seen)
	}
}

func TestADroppedConnectionIsMadeAgain(t *testing.T) {
	o := newOffice(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.bot.Run(ctx)
	}()
	if err := o.AwaitConnections(t.Context(), simApp, 1); err != nil {
		t.Fatal(err)
	}
	o.DropConnections(simApp)
	if err := errors.Join(o.AwaitConnections(t.Context(), simApp, 0), o.AwaitConnections(t.Context(), simApp, 1)); err != nil {
		t.Fatal(err)
	}
	id := o.send(t)
	o.bindAlice(t)
	if seen := o.tap(t, "alice", id, "reject"); seen.Toast == nil || seen.Toast.Text != "Rejected, by user:alice." {
		t.Errorf("alice sees %+v", seen)
	}
	cancel()
	<-done
}

func TestAMessageThatIsGoneIsSaid(t *testing.T) {
	o := newOffice(t, false)
	if err := o.bot.Edit(t.Context(), "chat:"+o.chat, "om_unknown", o.view); !errors.Is(err, cheq.ErrGone) {
		t.Errorf("an unknown message: %v", err)
	}
	// Somebody whom the app may not write to can be let in by an administrator.
	for to, gone := range map[string]bool{"chat:oc_unknown": true, "user:ou_unknown": false, "email:nobody@company.test": false} {
		if _, err := o.bot.Send(t.Context(), to, to, o.view); err == nil || errors.Is(err, cheq.ErrGone) != gone {
			t.Errorf("%s: %v", to, err)
		}
	}
	o.Faults.Add(sim.RateLimited(7))
	var later *cheq.LaterError
	if _, err := o.bot.Send(t.Context(), "chat:"+o.chat, "another", o.view); !errors.As(err, &later) || later.After != 7*time.Second {
		t.Errorf("limited: %v", err)
	}
}
