package feishu

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// maxBody bounds a callback, in bytes.
const maxBody = 64 << 10

// The answer to what is refused: who knocks learns nothing.
var refused = []byte("{}")

// What is wrong with what came in. The texts are for our log.
var (
	errUnsigned  = errors.New("no signature, or a wrong one")
	errStale     = errors.New("its time is not near ours: check the clocks")
	errReplayed  = errors.New("its nonce came before")
	errOther     = errors.New("it is of another app, or of another Feishu tenant")
	errToken     = errors.New("the verification token is another")
	errMalformed = errors.New("it is not what our cards send")
)

// Callback takes one call of the platform over HTTP: its headers, which are
// looked up by name, and its raw body, of which the caller need read no more
// than 64 KiB and a byte. It returns the status and the JSON to answer with,
// in under a second unless ctx has ended before.
func (b *Bot) Callback(ctx context.Context, header func(string) string, body []byte) (status int, answer []byte) {
	out, err := b.callback(ctx, header, body)
	if err == nil {
		if answer, err = json.Marshal(out); err == nil {
			return http.StatusOK, answer
		}
	}
	b.config.Log.LogAttrs(ctx, warn, "a Feishu callback is refused", errorAttr(err))
	if errors.Is(err, errMalformed) {
		return http.StatusBadRequest, refused
	}
	return http.StatusUnauthorized, refused
}

func (b *Bot) callback(ctx context.Context, header func(string) string, body []byte) (any, error) {
	if len(body) > maxBody {
		return nil, errMalformed
	}
	signed, err := b.verify(header, body)
	if err != nil {
		return nil, err
	}
	var sealed struct {
		Encrypt string `json:"encrypt"`
	}
	if err := json.Unmarshal(body, &sealed); err != nil || sealed.Encrypt == "" {
		return nil, doubt(signed)
	}
	plain, err := open(sealed.Encrypt, b.config.EncryptKey)
	if err != nil {
		return nil, doubt(signed)
	}
	// The platform does not sign the check of an address, which the console
	// makes once: the token in it is what counts.
	var check struct {
		Type      string `json:"type"`
		Token     string `json:"token"`
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(plain, &check); err == nil && check.Type == "url_verification" {
		if !same(check.Token, b.config.VerificationToken) || !isChallenge(check.Challenge) {
			return nil, errToken
		}
		return map[string]string{"challenge": check.Challenge}, nil
	}
	if !signed {
		return nil, errUnsigned
	}
	return b.take(ctx, plain, true)
}

// doubt is what is wrong with a body that cannot be read: unsigned, it is no
// more than that.
func doubt(signed bool) error {
	if signed {
		return errMalformed
	}
	return errUnsigned
}

// verify checks the signature of a callback that has one. Its nonce counts
// once, while the signature could be fresh.
func (b *Bot) verify(header func(string) string, body []byte) (signed bool, err error) {
	timestamp, nonce := header("X-Lark-Request-Timestamp"), header("X-Lark-Request-Nonce")
	given := header("X-Lark-Signature")
	if timestamp == "" && nonce == "" && given == "" {
		return false, nil
	}
	if nonce == "" || !same(given, signature(timestamp, nonce, b.config.EncryptKey, body)) {
		return false, errUnsigned
	}
	now := b.config.Now()
	at, ok := moment(timestamp)
	if !ok || !fresh(at, now) {
		return false, errStale
	}
	if !b.nonces.first(uuid(nonce), now, at.Add(freshness)) {
		return false, errReplayed
	}
	return true, nil
}

// isChallenge reports whether a challenge is a word, as the platform's are.
// Nothing else of a body that nobody signed is repeated.
func isChallenge(challenge string) bool {
	odd := func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_.", r))
	}
	return challenge != "" && len(challenge) <= 128 && !strings.ContainsFunc(challenge, odd)
}
