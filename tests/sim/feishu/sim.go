package feishu

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// Config is what a simulator is made of. Its zero value is useful.
type Config struct {
	Clock     *world.Clock    // nil: the machine's
	TenantKey string          // of the company; default "tenant-one"
	Choose    func(n int) int // which of n long connections a push goes to; nil: a random one
	Unlimited bool            // no frequency limits, for tests of something else
}

// App is a self-built application of the company.
type App struct {
	ID                string `json:"id"` // cli_ and 16 hex digits
	Secret            string `json:"secret"`
	EncryptKey        string `json:"encrypt_key"` // empty: callbacks come in plain text and unsigned
	VerificationToken string `json:"verification_token"`
	CallbackURL       string `json:"callback_url"`    // where callbacks and events are posted; unused with LongConnection
	LongConnection    bool   `json:"long_connection"` // callbacks and events come over the long connection
	NoUserIDs         bool   `json:"no_user_ids"`     // it may not read user ids: callbacks and events leave them out
}

// User is a person. Ids that are left out are made up.
type User struct {
	Name      string `json:"name"` // how tests call the person; unique
	UserID    string `json:"user_id"`
	UnionID   string `json:"union_id"`
	Email     string `json:"email"`
	Language  string `json:"language"`   // of the person's client: "zh", the default, or "en"
	TenantKey string `json:"tenant_key"` // default: the company's; another one for a guest
}

// Chat is a group with its members.
type Chat struct {
	ID      string   `json:"id"`      // oc_…; made up if left out
	Members []string `json:"members"` // names of users
	Apps    []string `json:"apps"`    // ids of the apps whose bots are in it
	direct  bool     // between one user and one app
}

// Sim is one simulated Feishu. It is an [http.Handler] for what apps call; its
// methods are what people and administrators do. Safe for concurrent use.
type Sim struct {
	clock     *world.Clock
	tenant    string
	choose    func(n int) int
	unlimited bool

	Faults  *world.Faults // what goes wrong with the calls of apps
	changed world.Change
	handler http.Handler
	client  *http.Client // posts callbacks

	ctx     context.Context // ends at Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	apps     map[string]*app
	users    map[string]User
	chats    map[string]*Chat
	messages map[string]*message
	order    []string // message ids, the oldest first
	sent     map[string]sentOnce
	windows  map[string][]time.Time
	updates  map[string]*updateToken
	calls    []*Call
	lose     int // answers of apps that are lost next
	long     longState
}

type app struct {
	App
	tokens []accessToken // the living ones, the oldest first
}

// New returns a simulator without apps and people.
func New(cfg Config) *Sim {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sim{
		clock:     cmp.Or(cfg.Clock, world.MachineClock()),
		tenant:    cmp.Or(cfg.TenantKey, "tenant-one"),
		choose:    cfg.Choose,
		unlimited: cfg.Unlimited,
		client: &http.Client{
			Transport:     &http.Transport{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		ctx:      ctx,
		cancel:   cancel,
		apps:     map[string]*app{},
		users:    map[string]User{},
		chats:    map[string]*Chat{},
		messages: map[string]*message{},
		sent:     map[string]sentOnce{},
		windows:  map[string][]time.Time{},
		updates:  map[string]*updateToken{},
		long:     longState{frames: 1, tickets: map[string]string{}, conns: map[string][]*longConn{}, refusals: map[string]*refusal{}},
	}
	if s.choose == nil {
		s.choose = mathrand.IntN
	}
	s.Faults = world.NewFaults(s.clock)
	s.handler = s.Faults.Guard(s.routes())
	return s
}

// Close ends the long connections and everything under way, and returns when
// no goroutine of the simulator is left; those that serve long connections are
// the server's.
func (s *Sim) Close() error {
	s.cancel()
	s.running.Wait()
	s.client.CloseIdleConnections()
	return nil
}

// ServeHTTP serves what apps call.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Sim) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /open-apis/auth/v3/tenant_access_token/internal", s.issueToken)
	mux.HandleFunc("POST /open-apis/im/v1/messages", s.authorized(s.send))
	mux.HandleFunc("PATCH /open-apis/im/v1/messages/{id}", s.authorized(s.patch))
	mux.HandleFunc("DELETE /open-apis/im/v1/messages/{id}", s.authorized(s.recall))
	mux.HandleFunc("POST /open-apis/interactive/v1/card/update", s.authorized(s.delayedUpdate))
	mux.HandleFunc("POST /callback/ws/endpoint", s.longEndpoint)
	mux.HandleFunc("GET /callback/ws/connect", s.longConnect)
	return mux
}

// AddApp installs an app, or changes how one is set up.
func (s *Sim) AddApp(a App) error {
	if a.ID == "" || a.Secret == "" {
		return errors.New("an app needs an id and a secret")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.apps[a.ID]; ok {
		old.App = a
	} else {
		s.apps[a.ID] = &app{App: a}
	}
	return nil
}

func (s *Sim) appOf(id string) (App, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.apps[id]
	if a == nil {
		return App{}, fmt.Errorf("there is no app %q", id)
	}
	return a.App, nil
}

// AddUser adds a person, or changes one.
func (s *Sim) AddUser(u User) error {
	if u.Name == "" {
		return errors.New("a user needs a name")
	}
	u.UserID = cmp.Or(u.UserID, derived("", "user", u.Name)[:8])
	u.UnionID = cmp.Or(u.UnionID, derived("on_", "union", u.Name))
	u.Email = cmp.Or(u.Email, u.Name+"@company.test")
	u.Language = cmp.Or(u.Language, "zh")
	u.TenantKey = cmp.Or(u.TenantKey, s.tenant)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Name] = u
	return nil
}

// UserOf returns a person with all ids.
func (s *Sim) UserOf(name string) (User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[name]
	if !ok {
		return User{}, fmt.Errorf("there is no user %q", name)
	}
	return u, nil
}

// OpenID returns the id by which one app knows a person; another app knows the
// same person by another.
func (s *Sim) OpenID(appID, user string) string { return derived("ou_", appID, user) }

// AddChat makes a group, or changes who is in it, and returns its id.
func (s *Sim) AddChat(c Chat) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range c.Members {
		if _, ok := s.users[name]; !ok {
			return "", fmt.Errorf("there is no user %q", name)
		}
	}
	for _, id := range c.Apps {
		if s.apps[id] == nil {
			return "", fmt.Errorf("there is no app %q", id)
		}
	}
	c.ID = cmp.Or(c.ID, unique("oc_"))
	c.Members, c.Apps = slices.Clone(c.Members), slices.Clone(c.Apps)
	s.chats[c.ID] = &c
	return c.ID, nil
}

// DirectChat returns the chat between a user and an app's bot.
func (s *Sim) DirectChat(appID, user string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.users[user]; !ok || s.apps[appID] == nil {
		return "", fmt.Errorf("there is no user %q or no app %q", user, appID)
	}
	return s.directChat(appID, user).ID, nil
}

func (s *Sim) directChat(appID, user string) *Chat {
	id := derived("oc_", "direct", appID, user)
	if s.chats[id] == nil {
		s.chats[id] = &Chat{ID: id, Members: []string{user}, Apps: []string{appID}, direct: true}
	}
	return s.chats[id]
}

// unique returns an id that nobody can guess.
func unique(prefix string) string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return prefix + hex.EncodeToString(random[:])
}

// derived returns the same id for the same names.
func derived(prefix string, names ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", names))
	return prefix + hex.EncodeToString(sum[:16])
}
