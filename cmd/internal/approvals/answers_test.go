package approvals_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/cmd/internal/approvals"
	"github.com/xiezhi-project/xiezhi/cmd/internal/postgres"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/policies"
	"github.com/xiezhi-project/xiezhi/tests/storetest"
)

// databases are the two kinds, each opened empty.
var databases = map[string]func(t *testing.T) database{
	"SQLite": openSQLite,
	"PostgreSQL": func(t *testing.T) database {
		store, err := postgres.Open(t.Context(), storetest.PostgresSchema(t), postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		return store
	},
}

func onEach(t *testing.T, test func(t *testing.T, store database)) {
	t.Helper()
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// chats is a chat platform. What was sent under one key is one message.
type chats struct {
	mu    sync.Mutex
	keys  map[string]string    // key → message
	shows map[string]cheq.View // message → what it shows
	shown chan struct{}        // receives after each call
}

func newChats() *chats {
	return &chats{keys: map[string]string{}, shows: map[string]cheq.View{}, shown: make(chan struct{}, 1000)}
}

func (c *chats) Send(_ context.Context, _, key string, v cheq.View) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, known := c.keys[key]
	if !known {
		id = fmt.Sprintf("om_%d", len(c.keys))
		c.keys[key], c.shows[id] = id, v
	}
	c.shown <- struct{}{}
	return id, nil
}

func (c *chats) Edit(_ context.Context, _, message string, v cheq.View) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shows[message] = v
	c.shown <- struct{}{}
	return nil
}

// until waits until every message shows the version.
func (c *chats) until(t *testing.T, messages, version int) {
	t.Helper()
	all := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, v := range c.shows {
			if v.Case.Version != version {
				return false
			}
		}
		return len(c.shows) == messages
	}
	for patience := time.After(time.Minute); !all(); {
		select {
		case <-c.shown:
		case <-patience:
			t.Fatalf("%d messages, want %d of version %d: %+v", len(c.shows), messages, version, c.shows)
		}
	}
}

// deliver runs deliverers of a node until the test ends.
func (n *node) deliver(t *testing.T, c cheq.Channel) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &cheq.Deliverer{Store: n.Store, Channels: map[string]cheq.Channel{"feishu": c}, Now: time.Now, Log: slog.New(slog.DiscardHandler), Wake: n.store.Wake}
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

const notify = `notify:
  - {channel: feishu, to: 'chat:oc_1'}
  - {channel: feishu, to: 'user:ou_li'}
  - {channel: feishu, to: 'user:ou_wang'}
`

func TestTwoNodesShowACaseOnceInEachPlace(t *testing.T) {
	onEach(t, func(t *testing.T, store database) {
		one, two := join(t, store), join(t, store)
		one.fill(t)
		one.publish(t, map[string]string{"approvals/desk.yaml": template + notify})
		feishu := newChats()
		one.deliver(t, feishu)
		two.deliver(t, feishu)
		c := one.open(t)
		feishu.until(t, 3, 1)
		for i, name := range []string{"li", "wang"} {
			if _, err := two.vote(t, c, name, true); err != nil {
				t.Fatal(err)
			}
			feishu.until(t, 3, i+2)
		}
		if v := feishu.shows["om_0"]; v.Case.State != cheq.Approved || v.Title.ZH != "大件" || v.Groups[0].Yes != 2 || len(feishu.keys) != 3 {
			t.Errorf("in the end %d messages show %+v", len(feishu.keys), v)
		}
	})
}

// counter takes answers of a chat platform on a node.
type counter struct {
	*approvals.Answers
	*node
	now     time.Time
	mu      sync.Mutex
	refused []string
	c       cheq.Case
}

// newCounter opens a case that was sent as om_1 to one chat. Accounts are
// bound as ou_<name>.
func newCounter(t *testing.T, store database) *counter {
	t.Helper()
	n := &counter{node: join(t, store), now: time.Now()}
	n.fill(t)
	files := map[string]string{"approvals/desk.yaml": template + "notify: [{channel: feishu, to: 'chat:oc_1'}]\n"}
	for _, path := range []string{"self/rights.cedar", "self/schema.cedarschema"} {
		text, err := fs.ReadFile(policies.FS(), path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = string(text)
	}
	n.publish(t, files)
	guard := access.New(access.Config{PDP: n.pdp, Directory: n.people, Feed: n.feed, Now: time.Now, Fresh: time.Hour})
	service := pap.New(pap.Config{Store: store, CatchUp: n.feed.Sync, Now: func() time.Time { return n.now }, NewID: newID})
	n.Answers = approvals.NewAnswers(approvals.AnswersConfig{
		Cases: n.Service, Bind: service.BindByCode, Now: func() time.Time { return n.now }, NewID: newID,
		May: func(ctx context.Context, who cheq.Person, right, tenant string) error {
			actor, err := guard.Subject(ctx, who.Tenant, who.Name)
			if err != nil {
				return err
			}
			return actor.May(ctx, right, tenant)
		},
		Refused: func(r *authz.AuditRecord) {
			n.mu.Lock()
			defer n.mu.Unlock()
			kind, _ := r.Body.Get("kind")
			n.refused = append(n.refused, r.Tenant+" "+r.Actor+" "+r.Action+" "+r.Resource+" "+kind.Text())
		},
	})
	free := pap.Actor{Name: "test", May: func(context.Context, string, string) error { return nil }}
	n.put(t, pap.KindSubject, "acme/user:guest", pap.Subject{Tenant: "acme", Type: "user", ID: "guest"})
	for _, name := range []string{"li", "wang", "zhao", "me", "guest"} {
		if _, _, err := service.BindIdentity(t.Context(), free, pap.Identity{Tenant: "acme", Subject: "user:" + name, Channel: "feishu", Platform: "ou_" + name}); err != nil {
			t.Fatal(err)
		}
	}
	n.c = n.open(t)
	n.update(t, func(tx pap.Tx) error {
		return tx.(cheq.Rows).PutDelivery(cheq.Delivery{Case: n.c.ID, Place: cheq.Place{Channel: "feishu", To: "chat:oc_1"}, Message: "om_1", Wanted: 1, Shown: 1})
	})
	return n
}

func (n *counter) tap(name, event string) cheq.Tap {
	return cheq.Tap{
		Channel: "feishu", Event: event, At: n.now, Platform: "ou_" + name, To: "chat:oc_1", Message: "om_1", Case: n.c.ID, Shown: n.c.Shown, Yes: true, Reason: "好",
	}
}

func TestAnAnswerFromAChannelCountsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, store database) {
		n := newCounter(t, store)
		v, err := n.Answer(t.Context(), n.tap("li", "e1"))
		if err != nil || len(v.Case.Votes) != 1 || v.Groups[0].Yes != 1 {
			t.Fatalf("%v: %+v", err, v)
		}
		if got := v.Case.Votes[0]; got.Voter != person("li") || got.Channel != "feishu" || got.Platform != "ou_li" || got.Message != "om_1" || got.Reason != "好" || got.Shown != n.c.Shown {
			t.Errorf("stored %+v", got)
		}
		if _, err := n.Answer(t.Context(), n.tap("li", "e1")); !errors.Is(err, cheq.ErrReplay) {
			t.Errorf("the same again: %v", err)
		}
		if v, err := n.Answer(t.Context(), n.tap("li", "e2")); err != nil || len(v.Case.Votes) != 1 || v.Case.Version != 2 {
			t.Errorf("a double tap: %v, %d votes, version %d", err, len(v.Case.Votes), v.Case.Version)
		}
		if _, err := n.Answer(t.Context(), n.tap("li", "e2")); !errors.Is(err, cheq.ErrReplay) {
			t.Errorf("a double tap again: %v", err)
		}
		v, err = n.Answer(t.Context(), n.tap("wang", "e3"))
		if err != nil || v.Case.State != cheq.Approved {
			t.Errorf("the decisive answer: %v, %s", err, v.Case.State)
		}
		if d := n.decide(t); d.Effect != authz.Allow {
			t.Errorf("decided %s", d.Effect)
		}
		v, err = n.Answer(t.Context(), n.tap("zhao", "e4"))
		if !errors.Is(err, cheq.ErrSettled) || v.Case.State != cheq.Approved || len(v.Case.Votes) != 2 {
			t.Errorf("after the end: %v, %s with %d votes", err, v.Case.State, len(v.Case.Votes))
		}
	})
}

func TestAFirstYesInAnEmergencyIsNotRefused(t *testing.T) {
	n := newCounter(t, openSQLite(t))
	n.c.BreakGlass = "desk"
	n.update(t, func(tx pap.Tx) error { return tx.(cheq.Rows).PutCase(n.c) })
	v, err := n.Answer(t.Context(), n.tap("li", "e1"))
	if !errors.Is(err, cheq.ErrConfirm) || v.Case.ID != n.c.ID || len(v.Case.Votes) != 0 || len(n.refused) != 0 {
		t.Errorf("%v with %+v, told %q", err, v.Case, n.refused)
	}
	if _, err := n.Answer(t.Context(), n.tap("li", "e1")); !errors.Is(err, cheq.ErrReplay) {
		t.Errorf("the same tap confirms: %v", err)
	}
}

func TestTheSameAnswerAtTwoNodesCountsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, store database) {
		n := newCounter(t, store)
		var both sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			both.Go(func() { _, errs[i] = n.Answer(t.Context(), n.tap("li", "e1")) })
		}
		both.Wait()
		taken := 0
		for _, err := range errs {
			if err == nil {
				taken++
			} else if !errors.Is(err, cheq.ErrReplay) {
				t.Error(err)
			}
		}
		if c, err := n.find(t, n.c.ID); taken != 1 || err != nil || len(c.Votes) != 1 {
			t.Errorf("taken %d times, %d votes, %v", taken, len(c.Votes), err)
		}
	})
}

func TestAnswersThatAreNotGoodAreRefusedAndTold(t *testing.T) {
	onEach(t, func(t *testing.T, store database) {
		n := newCounter(t, store)
		n.put(t, pap.KindSubject, "acme/user:wang", pap.Subject{Tenant: "acme", Type: "user", ID: "wang", Disabled: true})
		n.put(t, pap.KindIdentity, "feishu:ou_zhao", pap.Identity{ID: "feishu:ou_zhao", Tenant: "acme", Subject: "user:zhao"}) // unbound
		for i, row := range []struct {
			name   string
			change func(*cheq.Tap)
			want   error
			told   string
		}{
			{"a stranger", func(t *cheq.Tap) { t.Platform = "ou_x" }, cheq.ErrStranger, "acme feishu:ou_x cheq.answer cheq:%s stranger"},
			{"an account that was unbound", func(t *cheq.Tap) { t.Platform = "ou_zhao" }, cheq.ErrStranger, "acme feishu:ou_zhao cheq.answer cheq:%s stranger"},
			{"the same id in another channel", func(t *cheq.Tap) { t.Channel = "matrix" }, cheq.ErrStranger, "acme matrix:ou_li cheq.answer cheq:%s stranger"},
			{"a forged message", func(t *cheq.Tap) { t.Message = "om_2" }, cheq.ErrMessage, "acme user:li cheq.answer cheq:%s message"},
			{"a forwarded message", func(t *cheq.Tap) { t.To, t.Platform = "chat:oc_2", "ou_guest" }, cheq.ErrMessage, "acme user:guest cheq.answer cheq:%s message"},
			{"no message", func(t *cheq.Tap) { t.Message, t.Platform = "", "ou_me" }, cheq.ErrMessage, "acme user:me cheq.answer cheq:%s message"},
			{"the requester", func(t *cheq.Tap) { t.Platform = "ou_me" }, cheq.ErrNotReviewer, "acme user:me cheq.answer cheq:%s not_reviewer"},
			{"a disabled subject", func(t *cheq.Tap) { t.Platform = "ou_wang" }, cheq.ErrNotReviewer, "acme user:wang cheq.answer cheq:%s not_reviewer"},
			{"who has no role", func(t *cheq.Tap) { t.Platform = "ou_guest" }, pap.ErrForbidden, "acme user:guest cheq.answer cheq:%s not_reviewer"},
			{"what is not shown any more", func(t *cheq.Tap) { t.Shown = "sha256:other" }, cheq.ErrShown, "acme user:li cheq.answer cheq:%s shown"},
			{"no such case", func(t *cheq.Tap) { t.Case = "cheq-none" }, cheq.ErrNotFound, " feishu:ou_li cheq.answer cheq:cheq-none no_case"},
			{"a long reason", func(t *cheq.Tap) { t.Reason = strings.Repeat("长", 5000) }, cheq.ErrText, ""},
		} {
			tap := n.tap("li", fmt.Sprint("e", i))
			row.change(&tap)
			for range 3 { // what was refused is refused again, and told once
				if _, err := n.Answer(t.Context(), tap); !errors.Is(err, row.want) {
					t.Errorf("%s: got %v, want %v", row.name, err, row.want)
				}
			}
			if len(n.refused) != i+1 || row.told != "" && n.refused[i] != strings.ReplaceAll(row.told, "%s", n.c.ID) {
				t.Fatalf("%s: told %q", row.name, n.refused)
			}
		}
		if c, err := n.find(t, n.c.ID); err != nil || len(c.Votes) != 0 || c.Version != 1 {
			t.Errorf("something was kept: %+v, %v", c, err)
		}
		n.now = n.now.Add(time.Minute)
		if _, err := n.Answer(t.Context(), n.tap("x", "e0")); !errors.Is(err, cheq.ErrStranger) || len(n.refused) != 13 {
			t.Errorf("a minute later: %v, told %d times", err, len(n.refused))
		}
	})
}

func TestCodesAreTriedSeldom(t *testing.T) {
	onEach(t, func(t *testing.T, store database) {
		n := newCounter(t, store)
		service := pap.New(pap.Config{Store: store, CatchUp: n.feed.Sync, Now: func() time.Time { return n.now }, NewID: newID})
		zhao := pap.Actor{Name: "user:zhao", Tenant: "acme", May: func(context.Context, string, string) error { return nil }}
		code, expires, err := service.NewIdentityCode(t.Context(), zhao)
		if err != nil || expires.Sub(n.now) != 10*time.Minute {
			t.Fatalf("%v, for %s", err, expires.Sub(n.now))
		}
		if _, err := n.Bind(t.Context(), "feishu", "ou_li", code); !errors.Is(err, cheq.ErrCode) {
			t.Errorf("an account that is bound: %v", err)
		}
		for range 5 {
			if _, err := n.Bind(t.Context(), "feishu", "ou_new", "WRONGONE"); !errors.Is(err, cheq.ErrCode) {
				t.Errorf("a wrong code: %v", err)
			}
		}
		if _, err := n.Bind(t.Context(), "feishu", "ou_new", code); !errors.Is(err, cheq.ErrCode) {
			t.Errorf("a sixth try: %v", err)
		}
		if who, err := n.Bind(t.Context(), "feishu", "ou_other", code); err != nil || who != person("zhao") {
			t.Errorf("bound %v, %v", who, err)
		}
		if len(n.refused) != 2 || n.refused[1] != " feishu:ou_new identity.bind identity:feishu:ou_new code" {
			t.Errorf("told %q", n.refused)
		}
		code, expires, err = service.NewIdentityCode(t.Context(), zhao)
		if err != nil {
			t.Fatal(err)
		}
		n.now = expires
		if _, err := n.Bind(t.Context(), "feishu", "ou_new", code); !errors.Is(err, cheq.ErrCode) {
			t.Errorf("a code that is over: %v", err)
		}
		tap := n.tap("other", "e1")
		if v, err := n.Answer(t.Context(), tap); err != nil || v.Case.Votes[0].Voter != person("zhao") {
			t.Errorf("the account that was bound answers: %v", err)
		}
	})
}
