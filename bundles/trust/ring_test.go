package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newTestRing(t testing.TB) (string, *Ring) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	ring, err := NewRing(dir, "test", noon)
	if err != nil {
		t.Fatal(err)
	}
	return dir, ring
}

func open(t testing.TB, dir string, now time.Time) *Ring {
	t.Helper()
	ring, err := OpenRing(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// signing returns the key that signs for a purpose.
func signing(t testing.TB, r *Ring, purpose Purpose, now time.Time) Key {
	t.Helper()
	_, key, err := r.Signer(purpose, now)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestANewRingHasOneKeyForEachPurpose(t *testing.T) {
	dir, ring := newTestRing(t)
	for _, purpose := range Purposes() {
		signer, key, err := ring.Signer(purpose, noon)
		if err != nil || key.Purpose != purpose || key.ID != KeyID(key.Public) || key.ID[0] == '-' {
			t.Errorf("%s: %+v, %v", purpose, key, err)
			continue
		}
		if purpose == PurposeOPABundles {
			digest := sha256.Sum256([]byte("x"))
			signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
			public, ok := signer.Public().(*ecdsa.PublicKey)
			if err != nil || !ok || key.Algorithm != ES256 || !ecdsa.VerifyASN1(public, digest[:], signature) {
				t.Errorf("%s: a %T of the algorithm %s, %v", purpose, signer, key.Algorithm, err)
			}
			continue
		}
		signed, err := ring.Sign(Kind{purpose, "t", "a"}, "hello", noon)
		if err != nil {
			t.Errorf("%s: %v", purpose, err)
			continue
		}
		opened, err := ring.Set().Verify(Kind{purpose, "t", "a"}, signed, noon)
		if err != nil || string(opened.Body) != `"hello"` || opened.KeyID != key.ID || !opened.IssuedAt.Equal(noon) {
			t.Errorf("%s: %+v, %v", purpose, opened, err)
		}
	}
	again := open(t, dir, noon)
	if again.Set().Signed() != ring.Set().Signed() || again.Set().Version() != 1 || again.Root().Installation != "test" {
		t.Errorf("opened again it is %+v", again)
	}
	if _, err := ring.Sign(Kind{PurposeOPABundles, "t", "a"}, "hello", noon); err == nil {
		t.Error("an ES256 key signs a JWS of ours")
	}
	if _, _, err := ring.Signer("unheard-of", noon); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "unheard-of") {
		t.Errorf("an unknown purpose: %v", err)
	}
	if _, _, err := ring.Signer(PurposeLog, noon.Add(-time.Hour)); !errors.Is(err, ErrNoKey) {
		t.Errorf("before the key: %v", err)
	}
}

func TestKeysAreNeverMadeOverOthers(t *testing.T) {
	dir, _ := newTestRing(t)
	before := tree(t, dir)
	if _, err := NewRing(dir, "test", noon); err == nil || !strings.Contains(err.Error(), "never over others") {
		t.Errorf("a second time: %v", err)
	}
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("the refused call left %q, there was %q", after, before)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "mine.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewRing(other, "test", noon); err == nil {
		t.Error("keys were made in somebody's folder")
	}
	if got := tree(t, other); len(got) != 1 {
		t.Errorf("it left %q", got)
	}
	if _, err := NewRing(filepath.Join(t.TempDir(), "x"), "", noon); err == nil {
		t.Error("an installation without a name")
	}
}

// tree lists the files below a folder with their bytes.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, p))
		files = append(files, p+" "+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestAPrivateHalfThatOthersMayReadIsRefused(t *testing.T) {
	dir, ring := newTestRing(t)
	file := filepath.Join(dir, privateName(signing(t, ring, PurposeLog, noon).ID))
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o610} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRing(dir, noon); err == nil || !strings.Contains(err.Error(), "chmod 600") || !strings.Contains(err.Error(), filepath.Base(file)) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for name, mode := range map[string]fs.FileMode{RootKeyFile: 0o600, RootFile: 0o644, SetFile: 0o644, privateDir: 0o700} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&^mode != 0 {
			t.Errorf("%s: mode %o, %v", name, info.Mode().Perm(), err)
		}
	}
}

func TestFoldersThatAreNotWhatWasSignedAreRefused(t *testing.T) {
	_, other := newTestRing(t)
	for name, row := range map[string]struct {
		spoil func(dir string, key Key) error
		want  string
	}{
		"no trust root": {func(dir string, _ Key) error { return os.Remove(filepath.Join(dir, RootFile)) }, RootFile},
		"no set":        {func(dir string, _ Key) error { return os.Remove(filepath.Join(dir, SetFile)) }, SetFile},
		"another root's set": {func(dir string, _ Key) error {
			return os.WriteFile(filepath.Join(dir, SetFile), []byte(other.Set().Signed()), 0o600)
		}, "unknown kid"},
		"a trust root of text": {func(dir string, _ Key) error {
			return os.WriteFile(filepath.Join(dir, RootFile), []byte("hello"), 0o600)
		}, "trust root"},
		"a private half of text": {func(dir string, k Key) error {
			return os.WriteFile(filepath.Join(dir, privateName(k.ID)), []byte("hello"), 0o600)
		}, "PKCS #8"},
		"another key's half": {func(dir string, k Key) error {
			_, text, err := newKey(PurposeLog, noon)
			return errors.Join(err, os.WriteFile(filepath.Join(dir, privateName(k.ID)), text, 0o600))
		}, "not the private half"},
		"a folder for a half": {func(dir string, k Key) error {
			file := filepath.Join(dir, privateName(k.ID))
			return errors.Join(os.Remove(file), os.Mkdir(file, 0o700))
		}, "regular file"},
		"a root that wants more": {func(dir string, _ Key) error {
			file := filepath.Join(dir, RootFile)
			text, err := os.ReadFile(file)
			return errors.Join(err, os.WriteFile(file, bytes.Replace(text, []byte("{"), []byte(`{"min_version":2,`), 1), 0o600))
		}, "version 1"},
	} {
		dir, ring := newTestRing(t)
		if err := row.spoil(dir, signing(t, ring, PurposeLog, noon)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRing(dir, noon); err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v; want it refused with %q", name, err, row.want)
		}
	}
}

func TestANodeWithoutAPrivateHalfVerifiesAndDoesNotSign(t *testing.T) {
	dir, ring := newTestRing(t)
	signed, err := ring.Sign(KindLog, "x", noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, privateName(signing(t, ring, PurposeLog, noon).ID))); err != nil {
		t.Fatal(err)
	}
	without := open(t, dir, noon)
	if _, err := without.Set().Verify(KindLog, signed, noon); err != nil {
		t.Error(err)
	}
	if _, err := without.Sign(KindLog, "x", noon); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "log") {
		t.Errorf("signed without a key: %v", err)
	}
}

func TestRotationHandsOverAtItsTime(t *testing.T) {
	dir, ring := newTestRing(t)
	root := filepath.Join(t.TempDir(), "offline.pem") // the root's key lies elsewhere
	if err := os.Rename(filepath.Join(dir, RootKeyFile), root); err != nil {
		t.Fatal(err)
	}
	at := noon.Add(10 * time.Minute)
	old := signing(t, ring, PurposeLog, noon)
	made, err := Rotate(dir, root, PurposeLog, at, 24*time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	after := open(t, dir, noon)
	if after.Set().Version() != 2 || after.Root().MinVersion != 0 {
		t.Errorf("version %d, minimum %d", after.Set().Version(), after.Root().MinVersion)
	}
	for name, row := range map[string]struct {
		at   time.Time
		want Key
	}{"now": {noon, old}, "just before": {at.Add(-time.Nanosecond), old}, "then": {at, made}, "later": {at.Add(100 * time.Hour), made}} {
		if got := signing(t, after, PurposeLog, row.at); got.ID != row.want.ID {
			t.Errorf("%s signs %s, want %s", name, got.ID, row.want.ID)
		}
		signed, err := after.Sign(KindLog, name, row.at)
		if err != nil {
			t.Error(name, err)
			continue
		}
		if _, err := after.Set().Verify(KindLog, signed, row.at); err != nil {
			t.Error(name, err)
		}
	}
	// A node that has not heard of it signs on, and is believed until then.
	for name, row := range map[string]struct {
		signed, verified time.Time
		want             string
	}{
		"in time":              {at.Add(-time.Second), at, ""},
		"verified much later":  {at.Add(-time.Second), at.Add(24*time.Hour - time.Second), ""},
		"too late":             {at, at, "outside the time"},
		"believed no more":     {at.Add(-time.Second), at.Add(24 * time.Hour), "is believed until"},
		"before it was a key":  {noon.Add(-2 * time.Second), noon, "outside the time"},
		"verifier's clock off": {at.Add(-time.Second), noon.Add(-100 * time.Hour), ""},
	} {
		key := ring.private[old.ID].(ed25519.PrivateKey)
		signed, err := Sign(key, "test", KindLog, "x", row.signed)
		if err != nil {
			t.Fatal(err)
		}
		_, err = after.Set().Verify(KindLog, signed, row.verified)
		if row.want == "" && err != nil || row.want != "" && (!errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	if _, err := Rotate(dir, root, PurposeLog, noon.Add(time.Minute), time.Hour, noon); err == nil || !strings.Contains(err.Error(), "takes over") {
		t.Errorf("a rotation before the pending one: %v", err)
	}
	if _, err := Rotate(dir, root, PurposeLog, noon.Add(-time.Minute), time.Hour, noon); err == nil {
		t.Error("a rotation in the past")
	}
	if _, err := Rotate(dir, root, PurposeRoot, noon, time.Hour, noon); err == nil {
		t.Error("a root key in the set")
	}
	if _, err := os.Stat(filepath.Join(dir, lockFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock is left: %v", err)
	}
}

func TestReleasesAreBelievedAfterTheirKeyRetired(t *testing.T) {
	dir, ring := newTestRing(t)
	signed, err := ring.Sign(KindRelease, "x", noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, purpose := range []Purpose{PurposeReleases, PurposeOPABundles} {
		if _, err := Rotate(dir, filepath.Join(dir, RootKeyFile), purpose, noon.Add(time.Minute), 0, noon); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, dir, noon).Set().Verify(KindRelease, signed, noon.Add(10*365*24*time.Hour)); err != nil {
		t.Error(err)
	}
}

func TestARevokedKeyCountsForNothingAndHasAHeir(t *testing.T) {
	dir, ring := newTestRing(t)
	root := filepath.Join(dir, RootKeyFile)
	old := signing(t, ring, PurposeReleases, noon)
	signed, err := ring.Sign(KindRelease, "x", noon)
	if err != nil {
		t.Fatal(err)
	}
	later := noon.Add(time.Hour)
	made, err := Revoke(dir, root, old.ID, "laptop stolen", later)
	if err != nil || made == nil {
		t.Fatal(made, err)
	}
	after := open(t, dir, later)
	if _, err := after.Set().Verify(KindRelease, signed, later); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "laptop stolen") {
		t.Errorf("what it signed before: %v", err)
	}
	if after.Holds(old.ID) || signing(t, after, PurposeReleases, later).ID != made.ID {
		t.Error("the revoked key still signs")
	}
	if after.Root().MinVersion != 2 || after.Set().Version() != 2 {
		t.Errorf("version %d, minimum %d", after.Set().Version(), after.Root().MinVersion)
	}
	if _, err := after.Root().Open(ring.Set().Signed(), later); err == nil {
		t.Error("the new trust root takes the set from before")
	}
	// With another that signs, no heir is made.
	if _, err := Rotate(dir, root, PurposeLog, later, time.Hour, later); err != nil {
		t.Fatal(err)
	}
	retired := signing(t, ring, PurposeLog, noon)
	if heir, err := Revoke(dir, root, retired.ID, "old laptop", later); err != nil || heir != nil {
		t.Errorf("heir %v, %v", heir, err)
	}
	for name, row := range map[string][2]string{"unknown": {"nobody", "x"}, "again": {old.ID, "x"}, "no reason": {made.ID, ""}} {
		if _, err := Revoke(dir, root, row[0], row[1], later); err == nil {
			t.Error(name, "passes")
		}
	}
	if got := open(t, dir, later).Set().Version(); got != 4 {
		t.Errorf("refused changes left version %d, want 4", got)
	}
}

func TestOnlyTheRootChangesASet(t *testing.T) {
	dir, ring := newTestRing(t)
	otherDir, _ := newTestRing(t)
	log := filepath.Join(dir, privateName(signing(t, ring, PurposeLog, noon).ID))
	for name, file := range map[string]string{"another installation's root": filepath.Join(otherDir, RootKeyFile), "a key of the set": log, "no file": filepath.Join(dir, "nothing")} {
		if _, err := Rotate(dir, file, PurposeLog, noon, time.Hour, noon); err == nil || !strings.Contains(err.Error(), "root key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(dir, filepath.Join(dir, RootKeyFile), PurposeLog, noon, time.Hour, noon); err == nil || !strings.Contains(err.Error(), "another change") {
		t.Errorf("two at once: %v", err)
	}
	if open(t, dir, noon).Set().Signed() != ring.Set().Signed() {
		t.Error("a refused change changed the set")
	}
}

// A root is replaced in three steps, with verifiers that have the trust root of
// each step.
func TestARootIsReplacedByAnother(t *testing.T) {
	dir, first := newTestRing(t)
	oldRoot, newRoot := filepath.Join(dir, RootKeyFile), filepath.Join(t.TempDir(), "root-2.pem")
	oldID := first.Root().Keys[0].ID
	if err := DropRoot(dir, oldRoot, oldID, noon); err == nil {
		t.Error("the only root is dropped")
	}
	added, err := AddRoot(dir, newRoot, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AddRoot(dir, newRoot, noon); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a root was made over another: %v", err)
	}
	both := open(t, dir, noon)
	if len(both.Root().Keys) != 2 || both.Root().Keys[1].ID != added.ID || both.Set().Signed() != first.Set().Signed() {
		t.Errorf("with both: %+v", both.Root())
	}
	if err := DropRoot(dir, newRoot, "nobody", noon); err == nil {
		t.Error("a root is dropped that is not there")
	}
	if err := DropRoot(dir, oldRoot, oldID, noon); err == nil {
		t.Error("a root signs the set in which it is dropped")
	}
	if err := DropRoot(dir, newRoot, oldID, noon); err != nil {
		t.Fatal(err)
	}
	after := open(t, dir, noon)
	if keys := after.Root().Keys; len(keys) != 1 || keys[0].ID != added.ID || after.Set().Version() != 2 || after.Root().MinVersion != 2 {
		t.Errorf("after: %+v, version %d", after.Root(), after.Set().Version())
	}
	if _, err := both.Root().Open(after.Set().Signed(), noon); err != nil {
		t.Errorf("a verifier with both refuses the new set: %v", err)
	}
	if _, err := first.Root().Open(after.Set().Signed(), noon); err == nil {
		t.Error("a verifier with the old root alone takes the new set")
	}
	if _, err := Rotate(dir, oldRoot, PurposeLog, noon, time.Hour, noon); err == nil {
		t.Error("the dropped root still signs")
	}
	if _, err := Rotate(dir, newRoot, PurposeLog, noon, time.Hour, noon); err != nil {
		t.Error(err)
	}
}

func TestARingUnderANewerSetSignsWhatThatLets(t *testing.T) {
	dir, old := newTestRing(t)
	revoked := signing(t, old, PurposeReleases, noon)
	if _, err := Revoke(dir, filepath.Join(dir, RootKeyFile), revoked.ID, "stolen", noon); err != nil {
		t.Fatal(err)
	}
	newest := open(t, dir, noon).Set()
	with, err := old.With(newest.Signed(), noon)
	if err != nil || with.Set().Version() != 2 || with.Holds(revoked.ID) {
		t.Fatalf("%+v, %v", with, err)
	}
	if _, err := with.Sign(KindRelease, "x", noon); !errors.Is(err, ErrNoKey) {
		t.Errorf("it signs with a revoked key, or with one that is not here: %v", err)
	}
	if _, err := with.Sign(KindLog, "x", noon); err != nil {
		t.Error(err)
	}
	if _, err := with.With(old.Set().Signed(), noon); err == nil {
		t.Error("it goes back to the older set")
	}
}
