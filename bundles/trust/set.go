package trust

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Purpose is the one thing that a key signs.
type Purpose string

// Purposes of keys (one key each; a key of one is refused for another).
const (
	PurposeRoot           Purpose = "root"            // key sets
	PurposeReleases       Purpose = "releases"        // release manifests
	PurposeOPABundles     Purpose = "opa-bundles"     // .signatures.json of bundles for a stock OPA
	PurposeLog            Purpose = "log"             // log ranges and heartbeats
	PurposePermits        Purpose = "permits"         //
	PurposeAccessTokens   Purpose = "access-tokens"   //
	PurposeTenantTokens   Purpose = "tenant-tokens"   //
	PurposeAccessRequests Purpose = "access-requests" // binding tokens of requestable denials
)

// Purposes lists the purposes whose keys a set holds, all but the root's.
func Purposes() []Purpose {
	return []Purpose{
		PurposeReleases, PurposeOPABundles, PurposeLog, PurposePermits,
		PurposeAccessTokens, PurposeTenantTokens, PurposeAccessRequests,
	}
}

// Algorithms of keys.
const (
	EdDSA = "EdDSA" // Ed25519: all purposes but one
	ES256 = "ES256" // ECDSA on P-256: PurposeOPABundles, since a stock OPA knows no EdDSA
)

// Key is one public key as a [Set] lists it.
type Key struct {
	ID        string  `json:"kid"`
	Purpose   Purpose `json:"purpose"`
	Algorithm string  `json:"alg"`
	// Public is the raw Ed25519 key, or the DER of a PKIX public key.
	Public []byte `json:"public"`
	// A signature counts if it was made in [SignFrom, SignUntil), is verified
	// before VerifyUntil, and the key is not revoked. A zero SignUntil or
	// VerifyUntil is no end.
	SignFrom    time.Time `json:"sign_from"`
	SignUntil   time.Time `json:"sign_until,omitzero"`
	VerifyUntil time.Time `json:"verify_until,omitzero"`
	// RevokedAt ends the key at once, whatever it signed and when.
	RevokedAt     time.Time `json:"revoked_at,omitzero"`
	RevokedReason string    `json:"revoked_reason,omitempty"`
}

// Signs reports whether the key may sign at now.
func (k *Key) Signs(now time.Time) bool {
	return k.RevokedAt.IsZero() && !now.Before(k.SignFrom) && (k.SignUntil.IsZero() || now.Before(k.SignUntil))
}

// Root is what a verifier is configured with: the file trust.json.
type Root struct {
	// Installation is the issuer of everything that is signed.
	Installation string    `json:"installation"`
	Keys         []RootKey `json:"roots"`
	// MinVersion refuses key sets below it, such as those before a revocation.
	MinVersion uint64 `json:"min_version,omitempty"`
}

// RootKey is one key that may sign key sets.
type RootKey struct {
	ID     string `json:"kid"`
	Public []byte `json:"public"` // raw Ed25519
}

// ParseRoot reads trust.json.
func ParseRoot(data []byte) (Root, error) {
	var r Root
	if err := json.Unmarshal(data, &r); err != nil {
		return Root{}, fmt.Errorf("trust root: %w", err)
	}
	if r.Installation == "" || len(r.Keys) == 0 {
		return Root{}, errors.New("trust root: want the members installation and roots")
	}
	for _, k := range r.Keys {
		if len(k.Public) != ed25519.PublicKeySize || k.ID != KeyID(k.Public) {
			return Root{}, fmt.Errorf("trust root: key %q is not an Ed25519 key with its own kid", k.ID)
		}
	}
	return r, nil
}

// Open verifies a signed key set against the root. It refuses what no root key
// signed, and a version below the root's minimum.
func (r Root) Open(signed string, now time.Time) (*Set, error) {
	s := &Set{installation: r.Installation, signed: signed, keys: map[string]*Key{}}
	for _, k := range r.Keys {
		s.keys[k.ID] = &Key{ID: k.ID, Purpose: PurposeRoot, Algorithm: EdDSA, Public: k.Public}
	}
	opened, err := s.Verify(KindKeys, signed, now)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	var body setBody
	if err := json.Unmarshal(opened.Body, &body); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if body.Version < r.MinVersion || body.Version == 0 {
		return nil, fmt.Errorf("key set: version %d: this trust root takes %d or above", body.Version, max(r.MinVersion, 1))
	}
	s = &Set{installation: r.Installation, signed: signed, version: body.Version, keys: map[string]*Key{}}
	for _, k := range body.Keys {
		if k.Purpose == PurposeRoot || s.keys[k.ID] != nil || k.ID != KeyID(k.Public) {
			return nil, fmt.Errorf("key set: key %q: named twice, not its own kid, or a root key", k.ID)
		}
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("key set: key %q: %w", k.ID, err)
		}
		s.keys[k.ID] = &k
		s.list = append(s.list, k)
	}
	return s, nil
}

// check refuses a key of a known purpose that could sign nothing of it. Purposes
// of later versions pass: nothing here asks for them.
func (k *Key) check() error {
	if !slices.Contains(Purposes(), k.Purpose) {
		return nil
	}
	if want := algorithmOf(k.Purpose); k.Algorithm != want {
		return fmt.Errorf("alg %q: a key for %s is %s", k.Algorithm, k.Purpose, want)
	}
	if k.Algorithm == EdDSA {
		if len(k.Public) != ed25519.PublicKeySize {
			return fmt.Errorf("%d bytes: an Ed25519 key has %d", len(k.Public), ed25519.PublicKeySize)
		}
		return nil
	}
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return err
	}
	_, _, _, err = describe(public)
	return err
}

// setBody is the body of a signed key set.
type setBody struct {
	Version uint64 `json:"version"`
	Keys    []Key  `json:"keys"`
}

// SetBody is what a root key signs as [KindKeys].
func SetBody(version uint64, keys []Key) any { return setBody{version, keys} }

// Set is the verified keys of one installation. It is immutable.
type Set struct {
	installation string
	version      uint64
	signed       string
	keys         map[string]*Key
	list         []Key
}

// Version numbers the set; a verifier takes no lower one.
func (s *Set) Version() uint64 { return s.version }

// Signed is the set as it was signed, to be passed on and verified again.
func (s *Set) Signed() string { return s.signed }

// Installation is the issuer of everything that these keys sign.
func (s *Set) Installation() string { return s.installation }

// Keys lists the keys as the set has them.
func (s *Set) Keys() []Key { return s.list }

// Key finds a key by id.
func (s *Set) Key(id string) (Key, bool) {
	k, ok := s.keys[id]
	if !ok {
		return Key{}, false
	}
	return *k, true
}
