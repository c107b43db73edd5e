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
//
// Good calls and bad ones are limited apart: whoever sends bad ones keeps none
// of the git host's from being taken. The door bounds the body.
func (s *Source) Webhook(signature, token string, body []byte) error {
	if s.config.WebhookSecretFile == "" {
		return pap.ErrNotFound
	}
	secret, err := readSecret("policies_webhook_secret_file", s.config.WebhookSecretFile)
	if err != nil {
		return err
	}
	if !signed(secret, signature, token, body) {
		if !s.strangers.take(s.config.Now()) {
			return pap.ErrBusy
		}
		return pap.ErrSignature
	}
	if !s.hooks.take(s.config.Now()) {
		return pap.ErrBusy
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
		if err != nil || len(given) != sha256.Size {
			return false // without reading the body
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		return hmac.Equal(given, mac.Sum(nil))
	}
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(secret)) // equal lengths tell nothing
	return signature == "" && token != "" && subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

// Calls of the webhook that are taken, and bad ones that are told why.
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
