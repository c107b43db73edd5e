package arap

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

// What the tokens are. A denial is for who takes access requests, an approval
// for who decides.
var (
	kindDenial   = trust.Kind{Purpose: trust.PurposeAccessRequests, Type: "xiezhi-denial+jwt", Audience: "xiezhi:access-requests"}
	kindApproval = trust.Kind{Purpose: trust.PurposeAccessRequests, Type: "xiezhi-approval+jwt", Audience: "xiezhi:pdp"}
)

// ErrExpired means that a token was good, and its time is over. Any other
// error of opening one wraps [trust.ErrUnsigned].
var ErrExpired = errors.New("its time is over")

// maxToken bounds the text of a token in bytes.
const maxToken = 16 << 10

// Denial is what a binding token proves: that this was denied to this caller,
// and that people could be asked.
type Denial struct {
	// ExpiresAt is when the offer ends, in whole seconds.
	ExpiresAt time.Time `json:"denial_expires_at"`
	// EvaluationID is the id of the decision.
	EvaluationID string `json:"evaluation_id"`
	// Context names the members of the context that Hash covers.
	Context []string `json:"binding_context_members"`
	// Hash is the base64url of the SHA-256 over the RFC 8785 form of subject,
	// resource, action and the named members of the context.
	Hash   string `json:"binding_hash"`
	Tenant string `json:"tenant"`
	// Caller is whom it was denied to: its tenant, a slash, and its name.
	Caller string `json:"caller"`
}

// Approval is what the state of an approval proves: which grant of which case
// it stands for.
type Approval struct {
	ID     string    `json:"approval_id"`
	Task   string    `json:"task_id"`
	Tenant string    `json:"tenant"`
	Until  time.Time `json:"-"` // the token's exp, in whole seconds
}

// registered are the claims that every token has, as RFC 7519 names them.
type registered struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	ID        string `json:"jti"`
}

// Tokens signs and verifies. It is safe for concurrent use.
type Tokens struct {
	// Ring returns the keys at hand.
	Ring func() *trust.Ring
	Now  func() time.Time
}

// SignDenial returns a binding token. The offer's end is the token's.
func (t *Tokens) SignDenial(d Denial) (string, error) {
	return t.sign(kindDenial, d.ExpiresAt, func(r registered) any {
		return struct {
			registered
			Denial
		}{r, d}
	})
}

// SignApproval returns the state of an approval.
func (t *Tokens) SignApproval(a Approval) (string, error) {
	return t.sign(kindApproval, a.Until, func(r registered) any {
		return struct {
			registered
			Approval
		}{r, a}
	})
}

// OpenDenial verifies a binding token and returns it with its id.
func (t *Tokens) OpenDenial(token string) (Denial, string, error) {
	var claims struct {
		registered
		Denial
	}
	err := t.open(kindDenial, token, &claims, &claims.registered)
	return claims.Denial, claims.ID, err
}

// OpenApproval verifies the state of an approval.
func (t *Tokens) OpenApproval(state string) (Approval, error) {
	var claims struct {
		registered
		Approval
	}
	err := t.open(kindApproval, state, &claims, &claims.registered)
	claims.Until = time.Unix(claims.ExpiresAt, 0).UTC()
	return claims.Approval, err
}

var encoding = base64.RawURLEncoding.Strict()

// sign writes the header as [trust.Set.Verify] wants it. The claims are the
// profile's, beside each other, so trust's own envelope does not fit.
func (t *Tokens) sign(kind trust.Kind, until time.Time, claims func(registered) any) (string, error) {
	ring, now := t.Ring(), t.Now()
	signer, key, err := ring.Signer(kind.Purpose, now)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", kind.Type, err)
	}
	private, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return "", fmt.Errorf("sign %s: key %s is of the algorithm %s: want %s", kind.Type, key.ID, key.Algorithm, trust.EdDSA)
	}
	payload, err := json.Marshal(claims(registered{ring.Set().Installation(), kind.Audience, now.Unix(), until.Unix(), rand.Text()}))
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", kind.Type, err)
	}
	header := `{"alg":"` + trust.EdDSA + `","kid":"` + key.ID + `","typ":"` + kind.Type + `"}`
	text := encoding.EncodeToString([]byte(header)) + "." + encoding.EncodeToString(payload)
	if len(text) > maxToken-100 {
		return "", fmt.Errorf("sign %s: %d bytes, at most %d", kind.Type, len(text), maxToken-100)
	}
	return text + "." + encoding.EncodeToString(ed25519.Sign(private, []byte(text))), nil
}

// open verifies the token as kind and reads its claims, which hold reg.
func (t *Tokens) open(kind trust.Kind, token string, claims any, reg *registered) error {
	if len(token) > maxToken {
		return fmt.Errorf("%w: %d bytes, at most %d", trust.ErrUnsigned, len(token), maxToken)
	}
	now := t.Now()
	if _, err := t.Ring().Set().Verify(kind, token, now); err != nil {
		return err
	}
	payload, err := encoding.DecodeString(strings.Split(token, ".")[1]) // it has three parts, or would not verify
	if err == nil {
		err = json.Unmarshal(payload, claims)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: the claims: %w", trust.ErrUnsigned, err)
	case reg.ID == "" || reg.ExpiresAt == 0:
		return fmt.Errorf("%w: want the claims jti and exp", trust.ErrUnsigned)
	case now.Unix() >= reg.ExpiresAt:
		return fmt.Errorf("%s: %w", time.Unix(reg.ExpiresAt, 0).UTC().Format(time.RFC3339), ErrExpired)
	}
	return nil
}
