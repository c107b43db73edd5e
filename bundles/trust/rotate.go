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
	err := change(dir, rootKeyPath, now, nil, func(keys []Key) ([]Key, error) {
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
	raise := func(root *Root, version uint64) error {
		root.MinVersion = version
		return nil
	}
	err := change(dir, rootKeyPath, now, raise, func(keys []Key) ([]Key, error) {
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

// AddRoot makes another root key, in a file that must not be there yet, and
// names it in the folder's trust root. Once every verifier has that, key sets
// may be signed with either, and the old one be dropped.
func AddRoot(dir, file string, now time.Time) (RootKey, error) {
	var added RootKey
	err := locked(dir, now, func(ring *Ring) error {
		made, text, err := newKey(PurposeRoot, now)
		if err != nil {
			return err
		}
		if err := createFile(file, text, 0o600); err != nil {
			return err
		}
		added = RootKey{ID: made.ID, Public: made.Public}
		ring.root.Keys = append(slices.Clone(ring.root.Keys), added)
		return ring.root.replace(dir)
	})
	if err != nil {
		return RootKey{}, fmt.Errorf("add a root: %w", err)
	}
	return added, nil
}

// DropRoot takes a root key out of the folder's trust root, which then takes no
// set from before; another root key signs the set anew.
func DropRoot(dir, otherRootKeyPath, kid string, now time.Time) error {
	drop := func(root *Root, version uint64) error {
		left := slices.DeleteFunc(slices.Clone(root.Keys), func(k RootKey) bool { return k.ID == kid })
		if len(left) == len(root.Keys) {
			return fmt.Errorf("%s names no such root", RootFile)
		}
		root.Keys, root.MinVersion = left, version
		return nil
	}
	if err := change(dir, otherRootKeyPath, now, drop, func(keys []Key) ([]Key, error) { return keys, nil }); err != nil {
		return fmt.Errorf("drop root %s: %w", kid, err)
	}
	return nil
}

// locked opens a folder and keeps other changes of it away meanwhile.
func locked(dir string, now time.Time, change func(*Ring) error) (err error) {
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
	return change(ring)
}

// change replaces the set of a folder by the next version of it, and then its
// trust root if adjust, which may be nil, is given. The new set is verified
// before, as a verifier with the new trust root would.
func change(dir, rootKeyPath string, now time.Time, adjust func(root *Root, version uint64) error, edit func([]Key) ([]Key, error)) error {
	return locked(dir, now, func(ring *Ring) error {
		rootKey, err := ring.rootKey(rootKeyPath)
		if err != nil {
			return err
		}
		keys, err := edit(slices.Clone(ring.set.list))
		if err != nil {
			return err
		}
		version := ring.set.version + 1
		signed, err := Sign(rootKey, ring.root.Installation, KindKeys, SetBody(version, keys), now)
		if err != nil {
			return err
		}
		if adjust != nil {
			if err := adjust(&ring.root, version); err != nil {
				return err
			}
		}
		if _, err := ring.root.Open(signed, now); err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(dir, SetFile), []byte(signed), 0o644); err != nil || adjust == nil {
			return err
		}
		return ring.root.replace(dir)
	})
}

// replace writes the folder's trust.json anew.
func (r Root) replace(dir string) error {
	text, err := r.encode()
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
