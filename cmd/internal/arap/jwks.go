package arap

import (
	"encoding/base64"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

// JWKS is a JWK Set (RFC 7517) of Ed25519 keys (RFC 8037).
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// JWK is one public key.
type JWK struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
	ID        string `json:"kid"`
	X         string `json:"x"`
}

// JWKS returns the keys by which the tokens verify now.
func (t *Tokens) JWKS() JWKS {
	now, set := t.Now(), JWKS{Keys: []JWK{}}
	for _, k := range t.Ring().Set().Keys() {
		if k.Purpose != trust.PurposeAccessRequests || !k.RevokedAt.IsZero() || !k.VerifyUntil.IsZero() && !now.Before(k.VerifyUntil) {
			continue
		}
		set.Keys = append(set.Keys, JWK{"OKP", "Ed25519", k.Algorithm, "sig", k.ID, base64.RawURLEncoding.EncodeToString(k.Public)})
	}
	return set
}
