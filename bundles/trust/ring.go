package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Files of a ring's folder.
const (
	RootFile    = "trust.json" // the Root: public, what verifiers are configured with
	SetFile     = "keys.jws"   // the signed Set: public
	RootKeyFile = "root.pem"   // the root's private half; it may be taken elsewhere
	privateDir  = "private"    // <kid>.pem: the private halves that this installation signs with
)

// ErrNoKey means that nothing of a purpose can be signed here and now.
var ErrNoKey = errors.New("no key to sign with")

// Ring is a [Set] with the private halves that are here. It is immutable and
// safe for concurrent use: after a rotation or a revocation the folder is
// opened anew.
type Ring struct {
	root    Root
	set     *Set
	private map[string]crypto.Signer // by kid
}

// NewRing makes a folder of keys: a root, and one key for each of [Purposes].
// The folder may exist, and must then be empty. The key set is written last, so
// that a folder without one is known to be unfinished.
func NewRing(dir, installation string, now time.Time) (*Ring, error) {
	if installation == "" {
		return nil, errors.New("make keys: the installation needs a name: it is the issuer of everything signed")
	}
	made, err := newRing(dir, installation, now.UTC())
	if err != nil {
		for _, file := range made {
			err = errors.Join(err, os.Remove(file)) // ours: each was made by this call
		}
		return nil, fmt.Errorf("make keys in %s: %w", dir, err)
	}
	return OpenRing(dir, now)
}

// newRing returns the files and folders that it made, the last first.
func newRing(dir, installation string, now time.Time) (made []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("there is %s already: keys are made in an empty folder, and never over others (without a %s it was left unfinished: remove it)", entries[0].Name(), SetFile)
	}
	create := func(name string, data []byte, mode fs.FileMode) error {
		if err := createFile(filepath.Join(dir, name), data, mode); err != nil {
			return err
		}
		made = append([]string{filepath.Join(dir, name)}, made...)
		return nil
	}
	root, rootPEM, err := newKey(PurposeRoot, now)
	if err != nil {
		return nil, err
	}
	// Whoever makes this file first has the folder.
	if err := create(RootKeyFile, rootPEM, 0o600); err != nil {
		return made, err
	}
	if err := os.Mkdir(filepath.Join(dir, privateDir), 0o700); err != nil {
		return made, err
	}
	made = append([]string{filepath.Join(dir, privateDir)}, made...)
	var keys []Key
	for _, purpose := range Purposes() {
		key, text, err := newKey(purpose, now)
		if err != nil {
			return made, err
		}
		if err := create(privateName(key.ID), text, 0o600); err != nil {
			return made, err
		}
		keys = append(keys, key)
	}
	text, err := Root{Installation: installation, Keys: []RootKey{{ID: root.ID, Public: root.Public}}}.encode()
	if err != nil {
		return made, err
	}
	if err := create(RootFile, text, 0o644); err != nil {
		return made, err
	}
	rootKey, err := readPrivate(filepath.Join(dir, RootKeyFile))
	if err != nil {
		return made, err
	}
	signed, err := Sign(rootKey.(ed25519.PrivateKey), installation, KindKeys, SetBody(1, keys), now)
	if err != nil {
		return made, err
	}
	if err := errors.Join(syncDir(filepath.Join(dir, privateDir)), syncDir(filepath.Dir(dir))); err != nil {
		return made, err
	}
	return made, replaceFile(filepath.Join(dir, SetFile), []byte(signed), 0o644)
}

// OpenRing reads a folder of keys and verifies its set. It refuses private
// halves that others than their owner may read. A private half that is not
// here is no error: this installation then verifies, and does not sign.
func OpenRing(dir string, now time.Time) (*Ring, error) {
	r, err := openRing(dir, now)
	if err != nil {
		return nil, fmt.Errorf("open keys in %s: %w", dir, err)
	}
	return r, nil
}

func openRing(dir string, now time.Time) (*Ring, error) {
	text, err := readFile(filepath.Join(dir, RootFile), MaxSigned)
	if err != nil {
		return nil, err
	}
	r := &Ring{private: map[string]crypto.Signer{}}
	if r.root, err = ParseRoot(text); err != nil {
		return nil, err
	}
	signed, err := readFile(filepath.Join(dir, SetFile), MaxSigned)
	if err != nil {
		return nil, err
	}
	if r.set, err = r.root.Open(string(signed), now); err != nil {
		return nil, fmt.Errorf("%s: %w", SetFile, err)
	}
	for _, key := range r.set.Keys() {
		if !key.RevokedAt.IsZero() || !key.SignUntil.IsZero() && !now.Before(key.SignUntil) {
			continue // it signs nothing more
		}
		signer, err := readPrivate(filepath.Join(dir, privateName(key.ID)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if id, _, algorithm, err := describe(signer.Public()); err != nil || id != key.ID || algorithm != key.Algorithm {
			return nil, fmt.Errorf("%s: not the private half of key %s", privateName(key.ID), key.ID)
		}
		r.private[key.ID] = signer
	}
	return r, nil
}

// Root is what verifiers of this installation are configured with.
func (r *Ring) Root() Root { return r.root }

// Set is the keys with which signatures are verified.
func (r *Ring) Set() *Set { return r.set }

// Holds reports whether the private half of a key is here and may still sign.
func (r *Ring) Holds(kid string) bool { return r.private[kid] != nil }

// Signer returns the newest key of a purpose that signs at now and is here;
// without one, [ErrNoKey].
func (r *Ring) Signer(purpose Purpose, now time.Time) (crypto.Signer, Key, error) {
	var newest *Key
	for i, key := range r.set.list {
		if key.Purpose == purpose && key.Signs(now) && r.private[key.ID] != nil && (newest == nil || !key.SignFrom.Before(newest.SignFrom)) {
			newest = &r.set.list[i]
		}
	}
	if newest == nil {
		return nil, Key{}, fmt.Errorf("%w: none of the purpose %s signs at %s and has its private half here", ErrNoKey, purpose, now.UTC().Format(time.RFC3339))
	}
	return r.private[newest.ID], *newest, nil
}

// Sign signs body as kind, with the newest key of the kind's purpose.
func (r *Ring) Sign(kind Kind, body any, now time.Time) (string, error) {
	signer, key, err := r.Signer(kind.Purpose, now)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", kind.Type, err)
	}
	private, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return "", fmt.Errorf("sign %s: key %s is of the algorithm %s: want %s", kind.Type, key.ID, key.Algorithm, EdDSA)
	}
	return Sign(private, r.root.Installation, kind, body, now)
}

// newKey makes a key that signs from a time on, and its private half in PEM.
func newKey(purpose Purpose, from time.Time) (Key, []byte, error) {
	for {
		signer, err := generate(purpose)
		if err != nil {
			return Key{}, nil, fmt.Errorf("make a key for %s: %w", purpose, err)
		}
		id, public, algorithm, err := describe(signer.Public())
		if err != nil {
			return Key{}, nil, err
		}
		if id[0] == '-' {
			continue // a command line would take it for a flag
		}
		text, err := encodePrivate(signer)
		return Key{ID: id, Purpose: purpose, Algorithm: algorithm, Public: public, SignFrom: from.UTC()}, text, err
	}
}

func generate(purpose Purpose) (crypto.Signer, error) {
	if algorithmOf(purpose) == ES256 {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return private, err
}

// algorithmOf is the one algorithm of a purpose's keys.
func algorithmOf(purpose Purpose) string {
	if purpose == PurposeOPABundles {
		return ES256
	}
	return EdDSA
}

// describe names a public key and writes it as a [Key] holds it.
func describe(public crypto.PublicKey) (id string, raw []byte, algorithm string, err error) {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return KeyID(public), public, EdDSA, nil
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return "", nil, "", errors.New("an ECDSA key of another curve than P-256")
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		return KeyID(der), der, ES256, err
	}
	return "", nil, "", fmt.Errorf("a key of the type %T: want Ed25519, or ECDSA on P-256", public)
}

func privateName(kid string) string { return filepath.Join(privateDir, kid+".pem") }

func encodePrivate(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// encode writes trust.json.
func (r Root) encode() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}
