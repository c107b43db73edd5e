package gitsource

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"golang.org/x/crypto/ssh"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/tests/gitrepo"
)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The commits of testdata were made by git with ssh-keygen and GnuPG.
func TestSignaturesThatGitMadeHold(t *testing.T) {
	keys, err := parseSigners(testdata(t, "allowed_signers"))
	if err != nil {
		t.Fatal(err)
	}
	if len(keys.ssh) != 2 || len(keys.pgp) != 1 {
		t.Fatalf("%d SSH and %d OpenPGP keys", len(keys.ssh), len(keys.pgp))
	}
	for _, name := range []string{"ssh-signed-commit", "rsa-signed-commit", "pgp-signed-commit"} {
		raw := testdata(t, name)
		check := func(raw []byte) error {
			c, err := parseCommit(raw)
			if err != nil {
				return err
			}
			return keys.verify(c, time.Now())
		}
		if err := check(raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, changed := range map[string][]byte{
			"another tree":     bytes.Replace(raw, []byte("tree "), []byte("tree 0000"), 1)[:len(raw)],
			"another author":   bytes.Replace(raw, []byte("author Li"), []byte("author Mi"), 1),
			"another message":  bytes.Replace(raw, []byte("signed with"), []byte("signed With"), 1),
			"a line more":      bytes.Replace(raw, []byte("author "), []byte("parent "+strings.Repeat("0", 40)+"\nauthor "), 1),
			"a second tree":    append([]byte("tree "+strings.Repeat("0", 40)+"\n"), raw...),
			"no signature":     bytes.Replace(raw, []byte("gpgsig "), []byte("another "), 1),
			"two signatures":   bytes.Replace(raw, []byte("gpgsig "), []byte("gpgsig x\ngpgsig "), 1),
			"a blank too many": bytes.Replace(raw, []byte("\n\n"), []byte("\n\n\n"), 1),
		} {
			if bytes.Equal(changed, raw) {
				t.Fatalf("%s: %s changes nothing", name, what)
			}
			if check(changed) == nil {
				t.Errorf("%s with %s is accepted", name, what)
			}
		}
		if err := (&signers{}).verify(mustParse(t, raw), time.Now()); err == nil {
			t.Errorf("%s by nobody's key is accepted", name)
		}
	}
}

func mustParse(t *testing.T, raw []byte) *commit {
	t.Helper()
	c, err := parseCommit(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pgpKey makes a key and what signs with it.
func pgpKey(t *testing.T) (public string, sign func([]byte) string) {
	t.Helper()
	entity, err := openpgp.NewEntity("Li Wei", "", "li.wei@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := entity.Serialize(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return text.String() + "\n", func(payload []byte) string {
		var signature bytes.Buffer
		if err := openpgp.ArmoredDetachSign(&signature, entity, bytes.NewReader(payload), nil); err != nil {
			t.Fatal(err)
		}
		return signature.String() + "\n"
	}
}

// sshKey makes a key and what signs with it for a namespace.
func sshKey(t *testing.T) (public string, sign func(namespace string) func([]byte) string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return "li.wei@example.com " + string(ssh.MarshalAuthorizedKey(signer.PublicKey())), func(namespace string) func([]byte) string {
		return func(payload []byte) string {
			sum := sha512.Sum512(payload)
			signed := append([]byte(sshMagic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{namespace, "", "sha512", string(sum[:])})...)
			signature, err := signer.Sign(nil, signed)
			if err != nil {
				t.Fatal(err)
			}
			blob := append([]byte(sshMagic), ssh.Marshal(sshSignature{
				Version: 1, PublicKey: string(signer.PublicKey().Marshal()), Namespace: namespace, Hash: "sha512", Signature: string(ssh.Marshal(signature)),
			})...)
			return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob}))
		}
	}
}

func TestOnlySignedCommitsArePublishedWhereSignersAreConfigured(t *testing.T) {
	i, r := install(t), gitrepo.New(t)
	pgp, signPGP := pgpKey(t)
	_, signOther := pgpKey(t)
	key, signSSH := sshKey(t)
	_, signOtherSSH := sshKey(t)
	s := i.source(r.Remote, func(c *Config) { c.SignersFile = secretFile(t, "# signers\n"+pgp+key) })
	for n, c := range []struct {
		name string
		sign func([]byte) string
		want pap.SourceResult
		say  string
	}{
		{"nothing", nil, pap.SourceRefused, "is not signed"},
		{"OpenPGP", signPGP, pap.SourcePublished, ""},
		{"nothing again", nil, pap.SourceRefused, "is not signed"},
		{"another's OpenPGP", signOther, pap.SourceRefused, "by nobody of policies_signers"},
		{"SSH", signSSH("git"), pap.SourcePublished, ""},
		{"another's SSH", signOtherSSH("git"), pap.SourceRefused, "by nobody of policies_signers"},
		{"SSH for a file", signSSH("file"), pap.SourceRefused, "not a signature of version 1 for git"},
		{"nonsense", func([]byte) string { return "sure\n" }, pap.SourceRefused, "does not hold"},
		{"OpenPGP again", signPGP, pap.SourcePublished, ""},
	} {
		r.Sign = c.sign
		r.Write(sizes, policy(10+n))
		r.Commit(c.name)
		r.Push()
		status := i.load(s, c.want)
		contains(t, status.Reason, c.say)
		if i.has(sizes, policy(10+n)) != (c.want == pap.SourcePublished) {
			t.Errorf("%s: %s", c.name, status.Result)
		}
	}
}

func TestSignersFilesThatAreWrongAreRefused(t *testing.T) {
	key, _ := sshKey(t)
	for name, text := range map[string]string{
		"empty":                    "# nobody\n",
		"no key":                   "li.wei@example.com\n",
		"an option that narrows":   strings.Replace(key, " ", ` valid-before="20200101" `, 1),
		"an authority":             strings.Replace(key, " ", ` cert-authority `, 1),
		"another namespace":        strings.Replace(key, " ", ` namespaces="file" `, 1),
		"a block without end":      pgpBegin + "\n\nabc\n",
		"a block that is nonsense": pgpBegin + "\n\nabc\n" + pgpEnd + "\n",
	} {
		if _, err := parseSigners([]byte(text)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzParseCommit(f *testing.F) {
	for _, name := range []string{"ssh-signed-commit", "rsa-signed-commit", "pgp-signed-commit"} {
		f.Add(testdata(f, name))
	}
	f.Add([]byte("tree " + strings.Repeat("a", 40) + "\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000\n\nx"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCommit(raw)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(c.payload, []byte("tree "+c.tree.String())) && !bytes.HasPrefix(bytes.ToLower(c.payload), []byte("tree "+c.tree.String())) {
			t.Errorf("the signature would cover another tree than %s", c.tree)
		}
		if c.signature == "" && !bytes.Equal(c.payload, raw) {
			t.Errorf("an unsigned commit's payload is not its bytes:\n%q\n%q", raw, c.payload)
		}
	})
}
