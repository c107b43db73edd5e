package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// lockFile keeps two changes of one folder apart.
const lockFile = "keys.lock"

// Overlap is how long what a key of the purpose signed is believed by default
// after its last signature; 0 is without end. Releases last until the next,
// which may be years; a PEP's stored log must outlive its outage; tokens and
// permits end by themselves sooner.
func Overlap(purpose Purpose) time.Duration {
	switch purpose {
	case PurposeReleases, PurposeOPABundles:
		return 0
	case PurposeLog:
		return 30 * 24 * time.Hour
	default:
		return 24 * time.Hour
	}
}

// Rotate makes a new key of a purpose that signs from at on, which is now or
// later. Until then the keys before it sign. What they signed is believed for
// overlap longer, and without end where [Overlap] is 0. Between now and at,
// every node and verifier has to get the new set; a node that signs with an old
// key after at is not believed.
func Rotate(dir, rootKeyPath string, purpose Purpose, at time.Time, overlap time.Duration, now time.Time) (Key, error) {
	var made Key
	err := change(dir, rootKeyPath, now, false, func(keys []Key) ([]Key, error) {
		switch {
		case at.Before(now):
			return nil, fmt.Errorf("from %s: want now or a later time", at.UTC().Format(time.RFC3339))
		case overlap < 0 || overlap == 0 && Overlap(purpose) > 0:
			return nil, fmt.Errorf("an overlap of %s: what was signed for %s needs some time to end", overlap, purpose)
		}
		for i := range keys {
			k := &keys[i]
			if k.Purpose != purpose || !k.RevokedAt.IsZero() || !k.SignUntil.IsZero() && !k.SignUntil.After(at) {
				continue
			}
			if k.SignFrom.After(at) {
				return nil, fmt.Errorf("key %s takes over at %s already", k.ID, k.SignFrom.Format(time.RFC3339))
			}
			k.SignUntil = at.UTC()
			if Overlap(purpose) > 0 {
				k.VerifyUntil = at.Add(overlap).UTC()
			}
		}
		var err error
		made, err = addPrivate(dir, purpose, at)
		return append(keys, made), err
	})
	if err != nil {
		return Key{}, fmt.Errorf("rotate the key for %s: %w", purpose, err)
	}
	return made, nil
}

// Revoke ends a key at once, whatever it signed and when. Where no other key of
// its purpose signs now, it makes one, which it returns; else nil. The trust
// root's minimum rises to the new set, for verifiers that are configured with
// it from now on.
func Revoke(dir, rootKeyPath, kid, reason string, now time.Time) (*Key, error) {
	var made *Key
	err := change(dir, rootKeyPath, now, true, func(keys []Key) ([]Key, error) {
		i := slices.IndexFunc(keys, func(k Key) bool { return k.ID == kid })
		switch {
		case i < 0:
			return nil, errors.New("the set has no such key")
		case !keys[i].RevokedAt.IsZero():
			return nil, fmt.Errorf("it was revoked at %s: %s", keys[i].RevokedAt.Format(time.RFC3339), keys[i].RevokedReason)
		case reason == "":
			return nil, errors.New("give a reason: it is what verifiers say when they refuse")
		}
		keys[i].RevokedAt, keys[i].RevokedReason = now.UTC(), reason
		purpose := keys[i].Purpose
		if slices.ContainsFunc(keys, func(k Key) bool { return k.Purpose == purpose && k.Signs(now) }) {
			return keys, nil
		}
		key, err := addPrivate(dir, purpose, now)
		made = &key
		return append(keys, key), err
	})
	if err != nil {
		return nil, fmt.Errorf("revoke key %s: %w", kid, err)
	}
	return made, nil
}

// change replaces the set of a folder by the next version of it. The new set
// is verified as a verifier would before it takes the old one's place. With
// raise, the folder's trust root takes no set below it from then on.
func change(dir, rootKeyPath string, now time.Time, raise bool, edit func([]Key) ([]Key, error)) (err error) {
	lock := filepath.Join(dir, lockFile)
	if err := createFile(lock, nil, 0o600); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: another change is under way, or one was cut off; if none is, remove it", lock)
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(lock)) }()
	ring, err := OpenRing(dir, now)
	if err != nil {
		return err
	}
	rootKey, err := ring.rootKey(rootKeyPath)
	if err != nil {
		return err
	}
	keys, err := edit(slices.Clone(ring.set.list))
	if err != nil {
		return err
	}
	signed, err := Sign(rootKey, ring.root.Installation, KindKeys, SetBody(ring.set.version+1, keys), now)
	if err != nil {
		return err
	}
	if _, err := ring.root.Open(signed, now); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, SetFile), []byte(signed), 0o644); err != nil || !raise {
		return err
	}
	ring.root.MinVersion = ring.set.version + 1
	text, err := ring.root.encode()
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, RootFile), text, 0o644)
}

// rootKey reads the root's private half, which must be one that verifiers of
// this installation know.
func (r *Ring) rootKey(file string) (ed25519.PrivateKey, error) {
	signer, err := readPrivate(file)
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	private, ok := signer.(ed25519.PrivateKey)
	if !ok || !slices.ContainsFunc(r.root.Keys, func(k RootKey) bool { return private.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(k.Public)) }) {
		return nil, fmt.Errorf("root key: %s is none that %s names", file, RootFile)
	}
	return private, nil
}

// addPrivate makes a key and stores its private half. If the set that names it
// is never written, the file is of no use and no harm.
func addPrivate(dir string, purpose Purpose, from time.Time) (Key, error) {
	if !slices.Contains(Purposes(), purpose) {
		return Key{}, fmt.Errorf("%q is no purpose: want one of %q", purpose, Purposes())
	}
	key, text, err := newKey(purpose, from)
	if err != nil {
		return Key{}, err
	}
	if err := os.MkdirAll(filepath.Join(dir, privateDir), 0o700); err != nil {
		return Key{}, err
	}
	if err := createFile(filepath.Join(dir, privateName(key.ID)), text, 0o600); err != nil {
		return Key{}, err
	}
	return key, syncDir(filepath.Join(dir, privateDir))
}
