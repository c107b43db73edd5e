package matrix

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// Config is what a homeserver is made of. Its zero value is useful.
type Config struct {
	Clock             *world.Clock // nil: the machine's
	ServerName        string       // default "sim.test"
	SharedSecret      string       // for registration; empty: nobody registers over HTTP
	TimelineLimit     int          // events of a room in one sync; default 10
	MessagesPerSecond float64      // that one user may send in the long run; 0: as many as they like
	MessageBurst      int          // and at once
}

// Sim is one simulated homeserver. It is an [http.Handler] for clients; its
// other methods are what people, other servers and bad luck do. Safe for
// concurrent use.
type Sim struct {
	clock   *world.Clock
	cfg     Config
	Faults  *world.Faults // what goes wrong with the calls of clients
	changed world.Change
	handler http.Handler
	ctx     context.Context // ends at Close
	cancel  context.CancelFunc

	mu       sync.Mutex
	stream   int // position of the newest event
	accounts map[string]*account
	sessions map[string]session // by access token
	nonces   map[string]time.Time
	logins   map[string]string // user ids by one-time login token
	rooms    map[string]*room
	filters  map[string]filter
	sent     map[string]string // event ids by device, path and transaction
	buckets  map[string]bucket // by user id
}

type account struct {
	id       string
	password string
}

// session is one device that is logged in.
type session struct {
	user, device string
}

// New returns a homeserver without users and rooms.
func New(cfg Config) *Sim {
	ctx, cancel := context.WithCancel(context.Background())
	cfg.ServerName = cmp.Or(cfg.ServerName, "sim.test")
	cfg.TimelineLimit = cmp.Or(cfg.TimelineLimit, 10)
	s := &Sim{
		clock:    cmp.Or(cfg.Clock, world.MachineClock()),
		cfg:      cfg,
		ctx:      ctx,
		cancel:   cancel,
		accounts: map[string]*account{},
		sessions: map[string]session{},
		nonces:   map[string]time.Time{},
		logins:   map[string]string{},
		rooms:    map[string]*room{},
		filters:  map[string]filter{},
		sent:     map[string]string{},
		buckets:  map[string]bucket{},
	}
	s.Faults = world.NewFaults(s.clock)
	s.handler = s.Faults.Guard(s.routes())
	return s
}

// Close ends the syncs that wait.
func (s *Sim) Close() error {
	s.cancel()
	return nil
}

// ServeHTTP serves the client-server API.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Sim) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, nil, fail(http.StatusNotFound, "M_UNRECOGNIZED", "Unrecognized request"))
	})
	mux.HandleFunc("GET /_matrix/client/versions", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, map[string]any{"versions": []string{"v1.1", "v1.6", "v1.11", "v1.12"}, "unstable_features": map[string]bool{}}, nil)
	})
	mux.HandleFunc("GET /_synapse/admin/v1/register", s.registerNonce)
	mux.HandleFunc("POST /_synapse/admin/v1/register", s.register)
	const v3 = "/_matrix/client/v3"
	mux.HandleFunc("GET "+v3+"/login", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, map[string]any{"flows": []map[string]string{{"type": "m.login.password"}, {"type": "m.login.token"}}}, nil)
	})
	mux.HandleFunc("POST "+v3+"/login", s.login)
	for pattern, serve := range map[string]func(*http.Request, session) (any, *Error){
		"POST /logout":                            s.logout,
		"GET /account/whoami":                     s.whoami,
		"POST /user/{user}/filter":                s.putFilter,
		"GET /joined_rooms":                       s.joinedRooms,
		"POST /createRoom":                        s.createRoom,
		"POST /join/{room}":                       s.joinRoom,
		"POST /rooms/{room}/join":                 s.joinRoom,
		"POST /rooms/{room}/leave":                s.leaveRoom,
		"POST /rooms/{room}/invite":               s.inviteUser,
		"POST /rooms/{room}/kick":                 s.kickUser,
		"GET /rooms/{room}/joined_members":        s.joinedMembers,
		"GET /rooms/{room}/state":                 s.getState,
		"GET /rooms/{room}/state/{type}":          s.getStateEvent,
		"GET /rooms/{room}/state/{type}/{key...}": s.getStateEvent,
		"PUT /rooms/{room}/state/{type}":          s.putState,
		"PUT /rooms/{room}/state/{type}/{key...}": s.putState,
		"PUT /rooms/{room}/send/{type}/{txn}":     s.putEvent,
		"PUT /rooms/{room}/redact/{event}/{txn}":  s.putRedaction,
		"GET /rooms/{room}/event/{event}":         s.getEvent,
		"GET /rooms/{room}/messages":              s.getMessages,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+v3+path, s.loggedIn(serve))
	}
	for _, path := range []string{"", "/{rel}", "/{rel}/{type}"} {
		mux.HandleFunc("GET /_matrix/client/v1/rooms/{room}/relations/{event}"+path, s.loggedIn(s.getRelations))
	}
	mux.HandleFunc("GET "+v3+"/sync", s.sync)
	return mux
}

// unique returns a string that nobody can guess.
func unique() string {
	var random [18]byte
	_, _ = rand.Read(random[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// serverOf returns the server part of an id such as @user:server.
func serverOf(id string) string {
	_, server, _ := strings.Cut(id, ":")
	return server
}
