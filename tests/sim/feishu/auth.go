package feishu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	tokenLife  = 2 * time.Hour
	tokenRenew = 30 * time.Minute // left of its life when a new one is issued beside it
)

type accessToken struct {
	value   string
	expires time.Time
}

// failure is an answer with a code that is not 0.
type failure struct {
	status int
	code   int
	msg    string
	header http.Header
}

func refuse(status, code int, format string, args ...any) *failure {
	return &failure{status: status, code: code, msg: fmt.Sprintf(format, args...)}
}

// invalid is how im/v1 says that a parameter is wrong.
func invalid(ext string) *failure {
	return refuse(http.StatusBadRequest, 230001, "Your request contains an invalid request parameter, ext=%s", ext)
}

// answer writes the envelope of all answers, or an object of its own in its place.
func answer(w http.ResponseWriter, data any, fail *failure) {
	logID := unique("")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Tt-Logid", logID)
	if fail != nil {
		for name, values := range fail.header {
			w.Header()[name] = values
		}
		w.WriteHeader(fail.status)
		_, _ = w.Write(compact(map[string]any{"code": fail.code, "msg": fail.msg, "error": map[string]string{"log_id": logID}}))
		return
	}
	_, _ = w.Write(compact(data))
}

// success is the envelope of an answer with data.
func success(data any) any {
	return map[string]any{"code": 0, "msg": "success", "data": data}
}

// compact encodes without spaces, and without escapes that only HTML needs.
func compact(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("feishu: " + err.Error()) // only values made here are encoded
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// read decodes a body; a field of another type is what the gateway refuses.
func read(r *http.Request, into any) *failure {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return refuse(http.StatusBadRequest, 9499, "Invalid parameter type in json: %s. Please check and modify accordingly.", wrong.Field)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, 9499, "Bad Request")
	}
	return nil
}

func (s *Sim) issueToken(w http.ResponseWriter, r *http.Request) {
	var in struct {
		AppID     string `json:"app_id"`
		AppSecret string `json:"app_secret"`
	}
	if fail := read(r, &in); fail != nil {
		answer(w, nil, fail)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.apps[in.AppID]
	switch {
	case a == nil:
		answer(w, nil, refuse(http.StatusBadRequest, 10003, "invalid param"))
		return
	case in.AppSecret != a.Secret:
		answer(w, nil, refuse(http.StatusBadRequest, 10014, "app secret invalid"))
		return
	}
	now := s.clock.Now()
	if n := len(a.tokens); n == 0 || a.tokens[n-1].expires.Sub(now) < tokenRenew {
		a.tokens = append(a.tokens, accessToken{value: unique("t-"), expires: now.Add(tokenLife)})
	}
	newest := a.tokens[len(a.tokens)-1]
	answer(w, map[string]any{
		"code": 0, "msg": "ok",
		"tenant_access_token": newest.value,
		"expire":              int(newest.expires.Sub(now) / time.Second),
	}, nil)
}

// RevokeTokens makes the tokens of an app invalid before their time.
func (s *Sim) RevokeTokens(appID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.apps[appID]; a != nil {
		a.tokens = nil
	}
}

// authorized finds whose token a call bears, and holds the lock while it is served.
func (s *Sim) authorized(serve func(r *http.Request, a *app) (any, *failure)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || token == "" {
			answer(w, nil, refuse(http.StatusBadRequest, 99991661, "Missing access token for authorization. Please make a request with token attached."))
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		a := s.bearer(token)
		if a == nil {
			answer(w, nil, refuse(http.StatusBadRequest, 99991663, "Invalid access token for authorization. Please make a request with token attached."))
			return
		}
		if fail := s.limitApp(a.ID, r.Pattern); fail != nil {
			answer(w, nil, fail)
			return
		}
		data, fail := serve(r, a)
		answer(w, data, fail)
		s.changed.Announce()
	}
}

func (s *Sim) bearer(token string) *app {
	now := s.clock.Now()
	for _, a := range s.apps {
		a.tokens = slices.DeleteFunc(a.tokens, func(t accessToken) bool { return !t.expires.After(now) })
		if slices.ContainsFunc(a.tokens, func(t accessToken) bool { return t.value == token }) {
			return a
		}
	}
	return nil
}

// limitApp holds the limits of one API for one app: 50 calls a second and 1000
// a minute.
func (s *Sim) limitApp(appID, api string) *failure {
	if s.within("app "+appID+" "+api, time.Minute, 1000) && s.within("app/s "+appID+" "+api, time.Second, 50) {
		return nil
	}
	fail := refuse(http.StatusTooManyRequests, 99991400, "request trigger frequency limit")
	fail.header = limitHeader(1)
	return fail
}

func limitHeader(reset int) http.Header {
	h := http.Header{}
	h.Set("X-Ogw-Ratelimit-Limit", "50")
	h.Set("X-Ogw-Ratelimit-Reset", strconv.Itoa(reset))
	return h
}

// within counts one more in a sliding window, and reports whether the limit holds.
func (s *Sim) within(key string, span time.Duration, limit int) bool {
	if s.unlimited {
		return true
	}
	now := s.clock.Now()
	recent := slices.DeleteFunc(s.windows[key], func(t time.Time) bool { return now.Sub(t) >= span })
	if len(recent) < limit {
		s.windows[key] = append(recent, now)
		return true
	}
	s.windows[key] = recent
	return false
}
