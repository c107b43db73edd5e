package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind is what is signed: by a key of which purpose, as which typ, for whom.
type Kind struct {
	Purpose  Purpose
	Type     string
	Audience string
}

// Kinds of signed things. Verifying one as another fails.
var (
	KindKeys      = Kind{PurposeRoot, "xiezhi-keys+jws", "xiezhi:verifiers"}
	KindRelease   = Kind{PurposeReleases, "xiezhi-release+jws", "xiezhi:pep"}
	KindLog       = Kind{PurposeLog, "xiezhi-log+jws", "xiezhi:pep"}
	KindHeartbeat = Kind{PurposeLog, "xiezhi-heartbeat+jws", "xiezhi:pep"}
)

// What callers branch on.
var (
	// ErrUnsigned means that there is no signature of ours on it.
	ErrUnsigned = errors.New("not signed by a key that counts")
	// ErrRevoked means that the key that signed it was revoked; it wraps
	// ErrUnsigned.
	ErrRevoked = fmt.Errorf("%w: the key was revoked", ErrUnsigned)
)

// MaxSigned bounds the text of a signed thing in bytes.
const MaxSigned = 4 << 20

// Signed is a verified body.
type Signed struct {
	KeyID    string
	IssuedAt time.Time
	Body     json.RawMessage
}

type payload struct {
	Issuer   string          `json:"iss"`
	Audience string          `json:"aud"`
	IssuedAt int64           `json:"iat"` // seconds (RFC 7519 §4.1.6)
	Body     json.RawMessage `json:"body"`
}

// header is the one spelling of a header that counts.
func header(kid, typ string) string {
	return `{"alg":"EdDSA","kid":"` + kid + `","typ":"` + typ + `"}`
}

var encoding = base64.RawURLEncoding.Strict()

// KeyID names a public key by its own bytes, so that no two keys share a name.
func KeyID(public []byte) string {
	sum := sha256.Sum256(public)
	return encoding.EncodeToString(sum[:16])
}

// Sign signs body, which encoding/json writes, as kind, in the name of the
// installation, dated now.
func Sign(key ed25519.PrivateKey, installation string, kind Kind, body any, now time.Time) (string, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", kind.Type, err)
	}
	claims, err := json.Marshal(payload{installation, kind.Audience, now.Unix(), raw})
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", kind.Type, err)
	}
	kid := KeyID(key.Public().(ed25519.PublicKey))
	text := encoding.EncodeToString([]byte(header(kid, kind.Type))) + "." + encoding.EncodeToString(claims)
	if len(text) > MaxSigned-100 {
		return "", fmt.Errorf("sign %s: %d bytes, at most %d", kind.Type, len(text), MaxSigned-100)
	}
	return text + "." + encoding.EncodeToString(ed25519.Sign(key, []byte(text))), nil
}

// Verify checks a signed text as kind at now. Every error wraps ErrUnsigned
// and says what does not count. A date ahead of now is no fault: the verifier's
// clock may be the wrong one.
func (s *Set) Verify(kind Kind, text string, now time.Time) (Signed, error) {
	fail := func(format string, args ...any) (Signed, error) {
		return Signed{}, fmt.Errorf("%w: %s", ErrUnsigned, fmt.Sprintf(format, args...))
	}
	if len(text) > MaxSigned {
		return fail("%d bytes, at most %d", len(text), MaxSigned)
	}
	first, rest, ok := strings.Cut(text, ".")
	second, third, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || strings.Contains(third, ".") || strings.ContainsAny(text, "\r\n") { // the decoder skips line breaks
		return fail("want a JWS in compact form")
	}
	head, err := encoding.DecodeString(first)
	if err != nil || len(head) > 512 {
		return fail("the header is not base64url")
	}
	var claimed struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Type      string `json:"typ"`
	}
	if json.Unmarshal(head, &claimed) != nil || claimed.Algorithm != EdDSA {
		return fail("alg %q: want EdDSA", claimed.Algorithm)
	}
	key, known := s.keys[claimed.KeyID]
	switch {
	case !known:
		return fail("unknown kid %q", claimed.KeyID)
	case claimed.Type != kind.Type:
		return fail("typ %q: want %s", claimed.Type, kind.Type)
	case string(head) != header(key.ID, kind.Type):
		return fail("the header is not in its one spelling")
	case key.Purpose != kind.Purpose || key.Algorithm != EdDSA || len(key.Public) != ed25519.PublicKeySize:
		return fail("key %s is for %s, not for %s", key.ID, key.Purpose, kind.Purpose)
	}
	signature, err := encoding.DecodeString(third)
	if err != nil || !ed25519.Verify(key.Public, []byte(text[:len(first)+1+len(second)]), signature) {
		return fail("the signature of key %s does not match", key.ID)
	}
	claims, err := encoding.DecodeString(second)
	if err != nil {
		return fail("the payload is not base64url")
	}
	var p payload
	if err := json.Unmarshal(claims, &p); err != nil {
		return fail("the payload: %v", err)
	}
	issued := time.Unix(p.IssuedAt, 0).UTC()
	switch {
	case p.Issuer != s.installation:
		return fail("iss %q: want %s", p.Issuer, s.installation)
	case p.Audience != kind.Audience:
		return fail("aud %q: want %s", p.Audience, kind.Audience)
	case !key.RevokedAt.IsZero():
		return Signed{}, fmt.Errorf("%w: key %s at %s: %s", ErrRevoked, key.ID, key.RevokedAt.Format(time.RFC3339), key.RevokedReason)
	case issued.Before(key.SignFrom.Truncate(time.Second)) || !key.SignUntil.IsZero() && !issued.Before(key.SignUntil):
		return fail("dated %s, outside the time in which key %s signs", issued.Format(time.RFC3339), key.ID)
	case !key.VerifyUntil.IsZero() && !now.Before(key.VerifyUntil):
		return fail("key %s is believed until %s only", key.ID, key.VerifyUntil.Format(time.RFC3339))
	}
	return Signed{KeyID: key.ID, IssuedAt: issued, Body: p.Body}, nil
}

// Unverified reads the kid and the body of a signed text into body, for
// showing them to people. Nobody has said that any of it is true.
func Unverified(kind Kind, text string, body any) (kid string, err error) {
	first, rest, ok := strings.Cut(text, ".")
	second, _, ok2 := strings.Cut(rest, ".")
	head, err := encoding.DecodeString(first)
	if !ok || !ok2 || err != nil || len(text) > MaxSigned {
		return "", fmt.Errorf("%w: want a JWS in compact form", ErrUnsigned)
	}
	var claimed struct {
		KeyID string `json:"kid"`
		Type  string `json:"typ"`
	}
	if json.Unmarshal(head, &claimed) != nil || claimed.Type != kind.Type {
		return "", fmt.Errorf("%w: typ %q: want %s", ErrUnsigned, claimed.Type, kind.Type)
	}
	var p payload
	claims, err := encoding.DecodeString(second)
	if err == nil {
		err = json.Unmarshal(claims, &p)
	}
	if err == nil {
		err = json.Unmarshal(p.Body, body)
	}
	if err != nil {
		return "", fmt.Errorf("%w: the payload: %w", ErrUnsigned, err)
	}
	return claimed.KeyID, nil
}
