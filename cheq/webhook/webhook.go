package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// Name is what places and taps call this channel.
const Name = "webhook"

// Config is what a Channel is handed; every field is required.
type Config struct {
	Hooks []Hook
	// Source names this installation in events, a URI reference such as
	// "https://xiezhi.example".
	Source  string
	Answers cheq.Answers
	Now     func() time.Time
	Log     *slog.Logger
}

// Hook is one address that cases are sent to.
type Hook struct {
	Name string // what places call it
	URL  string // https
	// Secret signs what is sent, and what is answered. It has at least 32
	// bytes, and is no other hook's.
	Secret []byte
	// AllowInternal lets the hook be inside the own network, and speak plain
	// HTTP on loopback.
	AllowInternal bool
}

// Channel posts to hooks. It implements [cheq.Channel], and is safe for
// concurrent use.
type Channel struct {
	config Config
	hooks  map[string]*hook
}

type hook struct {
	Hook
	client *http.Client
}

const (
	minSecret = 32
	maxHooks  = 64 // an answer is tried with each one's secret
)

// New returns a Channel, or says what is wrong with its configuration.
func New(c Config) (*Channel, error) {
	if c.Source == "" || c.Answers == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("webhook: source, answers, now and log: every one is required")
	}
	if _, err := url.Parse(c.Source); err != nil {
		return nil, errors.New("webhook: source: want a URI")
	}
	if len(c.Hooks) > maxHooks {
		return nil, fmt.Errorf("webhook: at most %d hooks", maxHooks)
	}
	hooks := make(map[string]*hook, len(c.Hooks))
	for i, h := range c.Hooks {
		if err := h.check(); err != nil {
			return nil, fmt.Errorf("webhook: hook %q: %w", h.Name, err)
		}
		for _, other := range c.Hooks[:i] {
			if other.Name == h.Name || bytes.Equal(other.Secret, h.Secret) {
				return nil, fmt.Errorf("webhook: hooks %q and %q: each has a name and a secret of its own", other.Name, h.Name)
			}
		}
		hooks[h.Name] = &hook{h, client(h.AllowInternal)}
	}
	return &Channel{c, hooks}, nil
}

func (h *Hook) check() error {
	u, err := url.Parse(h.URL)
	switch {
	case !visible(h.Name) || strings.Contains(h.Name, "/"):
		return errors.New("name: want visible ASCII without a slash")
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("url: want https://host/path, without a user") // the parser's error would repeat it
	case u.Scheme != "https" && (u.Scheme != "http" || !h.AllowInternal || u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback()):
		return errors.New("url: want https; plain HTTP is for internal hooks on loopback alone")
	case len(h.Secret) < minSecret:
		return fmt.Errorf("secret: want at least %d bytes", minSecret)
	}
	return nil
}

// message names a case at a hook: the same at every attempt, and known to the
// hook from each event.
func message(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// Send implements [cheq.Channel].
func (c *Channel) Send(ctx context.Context, to, key string, v cheq.View) (string, error) {
	id := message(key)
	return id, c.post(ctx, to, id, opened, v)
}

// Edit implements [cheq.Channel].
func (c *Channel) Edit(ctx context.Context, to, message string, v cheq.View) error {
	return c.post(ctx, to, message, changed, v)
}

// Bounds of a call.
const (
	callWithin  = 10 * time.Second
	maxAnswer   = 4 << 10
	longestWait = time.Hour
)

// post hands one event to a hook.
func (c *Channel) post(ctx context.Context, to, message, typ string, v cheq.View) error {
	h := c.hooks[to]
	if h == nil {
		return fmt.Errorf("webhook: no hook %q is configured: %w", to, cheq.ErrGone)
	}
	now := c.config.Now()
	body, err := eventOf(c.config.Source, message, typ, now, &v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook: hook %q: its address cannot be called", to)
	}
	request.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	request.Header.Set("User-Agent", "xiezhi")
	request.Header.Set(SignatureHeader, sign(h.Secret, now, body))
	response, err := h.client.Do(request)
	if err != nil {
		var address *url.Error
		if errors.As(err, &address) {
			err = address.Err // the address may hold a token
		}
		return fmt.Errorf("webhook: hook %q: %w", to, err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)) // what it says does not count
	return outcome(to, response, now)
}

// outcome reads what a hook's answer means.
func outcome(to string, response *http.Response, now time.Time) error {
	status := response.StatusCode
	told := fmt.Errorf("webhook: hook %q answered %d", to, status)
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: redirects are not followed, name the new address", told)
	case status == http.StatusGone:
		return fmt.Errorf("%w: %w", told, cheq.ErrGone)
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		if after, ok := retryAfter(response.Header.Get("Retry-After"), now); ok {
			return &cheq.LaterError{After: after, Err: told}
		}
	}
	return told
}

// retryAfter reads seconds or a date.
func retryAfter(text string, now time.Time) (time.Duration, bool) {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	} else {
		return 0, false
	}
	return min(max(wait, time.Second), longestWait), true
}
