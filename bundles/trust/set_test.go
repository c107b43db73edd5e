package trust

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// Nothing that was signed as one thing passes for another.
func TestEveryConfusionOfKindsIsRefused(t *testing.T) {
	_, ring := newTestRing(t)
	kinds := map[string]Kind{"keys": KindKeys, "release": KindRelease, "log": KindLog, "heartbeat": KindHeartbeat}
	for _, purpose := range Purposes() {
		kinds[string(purpose)] = Kind{purpose, "xiezhi-" + string(purpose) + "+jws", "xiezhi:" + string(purpose)}
	}
	for signedAs, from := range kinds {
		signed, err := ring.Sign(from, map[string]any{"release": 1}, noon)
		if err != nil { // KindKeys and ES256: nothing to pass for another
			continue
		}
		for readAs, to := range kinds {
			_, err := ring.Set().Verify(to, signed, noon)
			if (err == nil) != (from == to) || err != nil && !errors.Is(err, ErrUnsigned) {
				t.Errorf("signed as %s, read as %s: %v", signedAs, readAs, err)
			}
		}
		// One part of the kind alone is not enough either.
		for name, to := range map[string]Kind{
			"purpose": {PurposePermits, from.Type, from.Audience}, "typ": {from.Purpose, "other", from.Audience}, "aud": {from.Purpose, from.Type, "other"},
		} {
			if _, err := ring.Set().Verify(to, signed, noon); !errors.Is(err, ErrUnsigned) && from != to {
				t.Errorf("signed as %s, read with another %s: %v", signedAs, name, err)
			}
		}
	}
}

func TestTextsThatAreNotInTheOneSpellingAreRefused(t *testing.T) {
	_, ring := newTestRing(t)
	signed, err := ring.Sign(KindRelease, "x", noon)
	if err != nil {
		t.Fatal(err)
	}
	signer, key, err := ring.Signer(PurposeReleases, noon)
	if err != nil {
		t.Fatal(err)
	}
	private := signer.(ed25519.PrivateKey)
	parts := strings.Split(signed, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	// headed signs with the right key under another header.
	headed := func(head string) string {
		text := b64([]byte(head)) + "." + parts[1]
		return text + "." + b64(ed25519.Sign(private, []byte(text)))
	}
	claimed := func(claims string) string {
		text := parts[0] + "." + b64([]byte(claims))
		return text + "." + b64(ed25519.Sign(private, []byte(text)))
	}
	if _, err := ring.Set().Verify(KindRelease, headed(header(key.ID, KindRelease.Type)), noon); err != nil {
		t.Fatalf("the right one: %v", err)
	}
	_, other := newTestRing(t)
	foreign, err := other.Sign(KindRelease, "x", noon)
	if err != nil {
		t.Fatal(err)
	}
	h := func(alg, kid, typ, more string) string {
		return headed(`{"alg":"` + alg + `","kid":"` + kid + `","typ":"` + typ + `"` + more + `}`)
	}
	opa := signing(t, ring, PurposeOPABundles, noon).ID
	for name, row := range map[string][2]string{
		"nothing":                     {"", "compact"},
		"two parts":                   {parts[0] + "." + parts[1], "compact"},
		"four parts":                  {signed + ".x", "compact"},
		"an embedded key":             {h("EdDSA", key.ID, KindRelease.Type, `,"jwk":{}`), "one spelling"},
		"a url of keys":               {h("EdDSA", key.ID, KindRelease.Type, `,"jku":"https://evil"`), "one spelling"},
		"a critical member":           {h("EdDSA", key.ID, KindRelease.Type, `,"crit":["b64"]`), "one spelling"},
		"another order":               {headed(`{"typ":"` + KindRelease.Type + `","kid":"` + key.ID + `","alg":"EdDSA"}`), "one spelling"},
		"a member twice":              {h("EdDSA", key.ID, KindRelease.Type, `,"alg":"EdDSA"`), "one spelling"},
		"none":                        {h("none", key.ID, KindRelease.Type, ""), "alg"},
		"ES256":                       {h("ES256", opa, KindRelease.Type, ""), "alg"},
		"EdDSA with an ES256 key":     {h("EdDSA", opa, KindRelease.Type, ""), "opa-bundles"},
		"no kid":                      {h("EdDSA", "", KindRelease.Type, ""), "unknown kid"},
		"another's kid":               {h("EdDSA", signing(t, ring, PurposeLog, noon).ID, KindRelease.Type, ""), "is for log"},
		"the root's kid":              {h("EdDSA", ring.Root().Keys[0].ID, KindRelease.Type, ""), "unknown kid"},
		"another installation's":      {foreign, "unknown kid"},
		"a padded part":               {parts[0] + "." + parts[1] + "=." + parts[2], "does not match"},
		"a line break at the end":     {signed + "\n", "compact"},
		"a line break in the payload": {parts[0] + "." + parts[1][:4] + "\r\n" + parts[1][4:] + "." + parts[2], "compact"},
		"a payload of text":           {claimed("hello"), "payload"},
		"another issuer":              {claimed(`{"iss":"prod","aud":"xiezhi:pep","iat":1795348800,"body":1}`), "iss"},
		"no issuer":                   {claimed(`{"aud":"xiezhi:pep","iat":1795348800,"body":1}`), "iss"},
		"no time":                     {claimed(`{"iss":"test","aud":"xiezhi:pep","body":1}`), "outside the time"},
		"too long":                    {strings.Repeat("a", MaxSigned+1), "at most"},
	} {
		if _, err := ring.Set().Verify(KindRelease, row[0], noon); !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), row[1]) {
			t.Errorf("%s: %v; want it refused with %q", name, err, row[1])
		}
	}
	for i := range signed { // another character anywhere
		flipped := []byte(signed)
		flipped[i] ^= 1
		if _, err := ring.Set().Verify(KindRelease, string(flipped), noon); !errors.Is(err, ErrUnsigned) {
			t.Fatalf("with another character %d it passes: %v", i, err)
		}
	}
}

// Key sets that a root key signed are still held to what a set may be.
func TestSetsThatNoInstallationMakesAreRefused(t *testing.T) {
	dir, ring := newTestRing(t)
	rootKey, err := ring.rootKey(dir + "/" + RootKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	good := ring.Set().Keys()
	changed := func(change func(*Key)) []Key {
		keys := append([]Key{}, good...)
		change(&keys[0]) // for releases
		return keys
	}
	opa := signing(t, ring, PurposeOPABundles, noon)
	for name, row := range map[string]struct {
		version uint64
		keys    []Key
		want    string
	}{
		"version 0":           {0, good, "version 0"},
		"a key twice":         {1, append(append([]Key{}, good...), good[0]), "twice"},
		"a root key":          {1, changed(func(k *Key) { k.Purpose = PurposeRoot }), "root"},
		"another's kid":       {1, changed(func(k *Key) { k.ID = "me" }), "own kid"},
		"ES256 for releases":  {1, changed(func(k *Key) { k.ID, k.Public, k.Algorithm = "x"+opa.ID, opa.Public, ES256 }), "own kid"},
		"alg none":            {1, changed(func(k *Key) { k.Algorithm = "none" }), "alg"},
		"a short key":         {1, changed(func(k *Key) { k.Public = k.Public[:31]; k.ID = KeyID(k.Public) }), "31 bytes"},
		"a P-256 key of text": {1, append(append([]Key{}, good...), Key{ID: KeyID([]byte("x")), Purpose: PurposeOPABundles, Algorithm: ES256, Public: []byte("x")}), "asn1"},
	} {
		signed, err := Sign(rootKey, "test", KindKeys, SetBody(row.version, row.keys), noon)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.Root().Open(signed, noon); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v; want it refused with %q", name, err, row.want)
		}
	}
	later, err := Sign(rootKey, "test", KindKeys, SetBody(1, append(append([]Key{}, good...), Key{ID: KeyID([]byte("y")), Purpose: "of-tomorrow", Algorithm: "ML-DSA-65", Public: []byte("y")})), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Root().Open(later, noon); err != nil {
		t.Errorf("a purpose of a later version: %v", err)
	}
	// A releases key, however genuine, signs no set.
	signer, _, err := ring.Signer(PurposeReleases, noon)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := Sign(signer.(ed25519.PrivateKey), "test", KindKeys, SetBody(2, good), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Root().Open(forged, noon); !errors.Is(err, ErrUnsigned) {
		t.Errorf("a set signed by a key of the set: %v", err)
	}
}

// FuzzVerify changes a signed set and a signed release: what passes is what
// was signed.
func FuzzVerify(f *testing.F) {
	rootKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
	public, rootPublic := key.Public().(ed25519.PublicKey), rootKey.Public().(ed25519.PublicKey)
	root := Root{Installation: "test", Keys: []RootKey{{KeyID(rootPublic), rootPublic}}}
	keys, err := Sign(rootKey, "test", KindKeys, SetBody(1, []Key{{ID: KeyID(public), Purpose: PurposeReleases, Algorithm: EdDSA, Public: public, SignFrom: noon}}), noon)
	if err != nil {
		f.Fatal(err)
	}
	set, err := root.Open(keys, noon)
	if err != nil {
		f.Fatal(err)
	}
	release, err := Sign(key, "test", KindRelease, "x", noon)
	if err != nil {
		f.Fatal(err)
	}
	rootText, err := json.Marshal(root)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(keys, rootText)
	f.Add(release, []byte("{}"))
	f.Add("", []byte(`{"installation":"test","roots":[{"kid":"x","public":"eA=="}]}`))
	f.Fuzz(func(t *testing.T, text string, trusted []byte) {
		if _, err := root.Open(text, noon); err == nil && text != keys {
			t.Fatalf("a set that was never signed: %q", text)
		}
		if _, err := set.Verify(KindRelease, text, noon.Add(time.Hour)); err == nil && text != release {
			t.Fatalf("a release that was never signed: %q", text)
		}
		var body any
		if _, err := Unverified(KindRelease, text, &body); err != nil && !errors.Is(err, ErrUnsigned) {
			t.Fatal(err)
		}
		if parsed, err := ParseRoot(trusted); err == nil {
			_, _ = parsed.Open(text, noon) // whoever is trusted may have signed it; it must not panic
		}
	})
}
