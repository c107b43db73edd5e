package matrix

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/tests/sim/world"
)

// nonceLife is how long a nonce for registration is good.
const nonceLife = time.Minute

var localpart = regexp.MustCompile(`^[a-z0-9._=/+-]+$`)

// Error is a standard error of the API.
type Error struct {
	Status  int
	Code    string // M_…
	Message string
	RetryMS int64 // with M_LIMIT_EXCEEDED
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d): %s", e.Code, e.Status, e.Message) }

func fail(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) *Error {
	return fail(http.StatusForbidden, "M_FORBIDDEN", format, args...)
}

func respond(w http.ResponseWriter, data any, err *Error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		body := map[string]any{"errcode": err.Code, "error": err.Message}
		if err.Code == "M_LIMIT_EXCEEDED" {
			body["retry_after_ms"] = err.RetryMS
			w.Header().Set("Retry-After", strconv.FormatInt((err.RetryMS+999)/1000, 10))
		}
		if err.Code == "M_UNKNOWN_TOKEN" {
			body["soft_logout"] = false
		}
		w.WriteHeader(err.Status)
		data = body
	}
	_ = json.NewEncoder(w).Encode(data)
}

// read decodes a body that must be an object; an empty one is {}.
func read(r *http.Request, into any) *Error {
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) > 0 && !json.Valid(body) {
		return fail(http.StatusBadRequest, "M_NOT_JSON", "Content not JSON.")
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	if json.Unmarshal(body, into) != nil {
		return fail(http.StatusBadRequest, "M_BAD_JSON", "Content must be a JSON object.")
	}
	return nil
}

// RateLimited is the fault of a client that calls too often.
func RateLimited(retryAfter time.Duration) world.Fault {
	ms := retryAfter.Milliseconds()
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("Retry-After", strconv.FormatInt((ms+999)/1000, 10))
	return world.Fault{
		Status: http.StatusTooManyRequests,
		Header: h,
		Body:   fmt.Sprintf(`{"errcode":"M_LIMIT_EXCEEDED","error":"Too Many Requests","retry_after_ms":%d}`, ms),
	}
}

func (s *Sim) registerNonce(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	nonce := unique()
	s.nonces[nonce] = s.clock.Now()
	respond(w, map[string]string{"nonce": nonce}, nil)
}

func (s *Sim) register(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Nonce    string `json:"nonce"`
		Username string `json:"username"`
		Password string `json:"password"`
		Admin    bool   `json:"admin"`
		MAC      string `json:"mac"`
	}
	if err := read(r, &in); err != nil {
		respond(w, nil, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	made, known := s.nonces[in.Nonce]
	delete(s.nonces, in.Nonce)
	role := "notadmin"
	if in.Admin {
		role = "admin"
	}
	mac := hmac.New(sha1.New, []byte(s.cfg.SharedSecret))
	_, _ = io.WriteString(mac, strings.Join([]string{in.Nonce, in.Username, in.Password, role}, "\x00"))
	switch {
	case s.cfg.SharedSecret == "":
		respond(w, nil, fail(http.StatusBadRequest, "M_UNKNOWN", "Shared secret registration is not enabled"))
		return
	case !known || s.clock.Now().Sub(made) > nonceLife:
		respond(w, nil, fail(http.StatusBadRequest, "M_UNKNOWN", "unrecognised nonce"))
		return
	case !hmac.Equal([]byte(in.MAC), []byte(hex.EncodeToString(mac.Sum(nil)))):
		respond(w, nil, forbidden("HMAC incorrect"))
		return
	}
	id, err := s.addUser(in.Username, in.Password)
	if err != nil {
		respond(w, nil, err)
		return
	}
	respond(w, s.newSession(id, ""), nil)
}

func (s *Sim) addUser(name, password string) (string, *Error) {
	id := "@" + name + ":" + s.cfg.ServerName
	switch {
	case !localpart.MatchString(name):
		return "", fail(http.StatusBadRequest, "M_INVALID_USERNAME", "User ID can only contain characters a-z, 0-9, or '=_-./+'")
	case s.accounts[id] != nil:
		return "", fail(http.StatusBadRequest, "M_USER_IN_USE", "User ID already taken.")
	}
	s.accounts[id] = &account{id: id, password: password}
	return id, nil
}

// newSession logs a device in; what was logged in on it before is not any more.
func (s *Sim) newSession(user, device string) any {
	device = cmp.Or(device, strings.ToUpper(unique()[:10]))
	for token, other := range s.sessions {
		if other == (session{user, device}) {
			delete(s.sessions, token)
		}
	}
	token := "syt_" + unique()
	s.sessions[token] = session{user, device}
	return map[string]string{"user_id": user, "access_token": token, "device_id": device, "home_server": s.cfg.ServerName}
}

func (s *Sim) login(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Type       string `json:"type"`
		Identifier struct {
			Type string `json:"type"`
			User string `json:"user"`
		} `json:"identifier"`
		User     string `json:"user"` // of old clients
		Password string `json:"password"`
		Token    string `json:"token"`
		DeviceID string `json:"device_id"`
	}
	if err := read(r, &in); err != nil {
		respond(w, nil, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch in.Type {
	case "m.login.password":
		id := cmp.Or(in.Identifier.User, in.User)
		if !strings.HasPrefix(id, "@") {
			id = "@" + id + ":" + s.cfg.ServerName
		}
		if a := s.accounts[id]; a == nil || a.password != in.Password {
			respond(w, nil, forbidden("Invalid username or password"))
			return
		}
		respond(w, s.newSession(id, in.DeviceID), nil)
	case "m.login.token":
		id, known := s.logins[in.Token]
		delete(s.logins, in.Token)
		if !known {
			respond(w, nil, forbidden("Invalid login token"))
			return
		}
		respond(w, s.newSession(id, in.DeviceID), nil)
	default:
		respond(w, nil, fail(http.StatusBadRequest, "M_UNKNOWN", "Unknown login type %s", in.Type))
	}
}

func (s *Sim) logout(_ *http.Request, as session) (any, *Error) {
	for token, other := range s.sessions {
		if other == as {
			delete(s.sessions, token)
		}
	}
	return struct{}{}, nil
}

func (s *Sim) whoami(_ *http.Request, as session) (any, *Error) {
	return map[string]any{"user_id": as.user, "device_id": as.device, "is_guest": false}, nil
}

// bearer finds whose token a call bears.
func (s *Sim) bearer(r *http.Request) (session, *Error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return session{}, fail(http.StatusUnauthorized, "M_MISSING_TOKEN", "Missing access token")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	as, known := s.sessions[token]
	if !known {
		return session{}, fail(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "Invalid access token passed.")
	}
	return as, nil
}

// loggedIn holds the lock while a call of a user is served.
func (s *Sim) loggedIn(serve func(*http.Request, session) (any, *Error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		as, err := s.bearer(r)
		if err != nil {
			respond(w, nil, err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		data, err := serve(r, as)
		respond(w, data, err)
		s.changed.Announce()
	}
}

// bucket holds what a user may still send.
type bucket struct {
	left float64
	at   time.Time
}

// limit takes one message from a user's bucket.
func (s *Sim) limit(user string) *Error {
	if s.cfg.MessagesPerSecond <= 0 {
		return nil
	}
	now := s.clock.Now()
	b, known := s.buckets[user]
	full := float64(max(s.cfg.MessageBurst, 1))
	if !known {
		b = bucket{left: full, at: now}
	}
	b.left, b.at = min(full, b.left+now.Sub(b.at).Seconds()*s.cfg.MessagesPerSecond), now
	if b.left < 1 {
		s.buckets[user] = b
		err := fail(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "Too Many Requests")
		err.RetryMS = int64(math.Ceil((1 - b.left) / s.cfg.MessagesPerSecond * 1000))
		return err
	}
	b.left--
	s.buckets[user] = b
	return nil
}
