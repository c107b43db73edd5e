package gitsource

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

// Webhook takes a call of the git host. Its signature is checked with the
// secret of Config.WebhookSecretFile: HMAC-SHA256 of the body
// (X-Hub-Signature-256: GitHub, Gitea, Forgejo), or the secret itself
// (X-Gitlab-Token). What the body says is not believed: a good call only asks
// for a fetch, so that a call sent again does no harm. Errors are
// [pap.ErrNotFound] without a secret, [pap.ErrSignature] and [pap.ErrBusy].
func (s *Source) Webhook(signature, token string, body []byte) error {
	if s.config.WebhookSecretFile == "" {
		return pap.ErrNotFound
	}
	if !s.hooks.take(s.config.Now()) {
		return pap.ErrBusy
	}
	secret, err := readSecret("policies_webhook_secret_file", s.config.WebhookSecretFile)
	if err != nil {
		return err
	}
	if !signed(secret, signature, token, body) {
		return pap.ErrSignature
	}
	select {
	case s.wake <- struct{}{}:
	default: // a fetch is asked for already
	}
	return nil
}

// signed compares in constant time.
func signed(secret, signature, token string, body []byte) bool {
	if text, ok := strings.CutPrefix(signature, "sha256="); ok {
		given, err := hex.DecodeString(text)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		return err == nil && hmac.Equal(given, mac.Sum(nil))
	}
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(secret)) // equal lengths tell nothing
	return signature == "" && token != "" && subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

// Calls of the webhook that are looked at: anybody may send them.
const (
	hooksPerSecond = 10
	hooksAtOnce    = 30
)

// limiter is a token bucket.
type limiter struct {
	mu    sync.Mutex
	left  float64
	since time.Time
}

func (l *limiter) take(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		l.left = hooksAtOnce
	} else if passed := now.Sub(l.since).Seconds(); passed > 0 {
		l.left = min(hooksAtOnce, l.left+passed*hooksPerSecond)
	}
	l.since = now
	if l.left < 1 {
		return false
	}
	l.left--
	return true
}
