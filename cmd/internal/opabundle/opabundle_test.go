package opabundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/bundles"
)

const kid = "opa-1"

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// awkward holds what JSON writers differ over, and files that OPA must not get.
func awkward(t *testing.T) *bundles.Content {
	t.Helper()
	var files []bundles.File
	for path, text := range map[string]string{
		"platform/lib/a.rego":    "package xiezhi.platform.lib.a\n\nx := data.xiezhi.platform.tables.odd\n",
		"platform/p.rego":        "package xiezhi.platform.p\n\ndeny contains {\"rule\": \"r\"} if input.n == 1\n",
		"platform/p_test.rego":   "package xiezhi.platform.p_test\n\ntest_x if false\n",
		"platform/q.cedar":       "permit (principal, action, resource);\n",
		"platform/p_cases.yaml":  "cases: []\n",
		"self/rights.cedar":      "permit (principal, action, resource);\n",
		"tables/odd.yaml":        "platform: {\"<b>&\": \"\\u2028 é \\\" </script>\", z: 1, a: [1.5, 1e3, -0.25, 9007199254740991, true, null, {}, []], \"\": {y: 1, x: 2}}\ntenants: {acme: {secret: acme}, globex: {secret: globex}}\n",
		"tenants/acme/t.rego":    "package xiezhi.tenants.acme.t\n\nallow contains {\"rule\": \"r\"} if data.xiezhi.tenants.acme.tables.odd.secret == \"acme\"\n",
		"tenants/globex/t.rego":  "package xiezhi.tenants.globex.t\n\nallow contains {\"rule\": \"r\"} if true\n",
		"attributes.yaml":        "{}\n",
		"approvals/a.yaml":       "{}\n",
		"tenants/acme2/t2.cedar": "permit (principal, action, resource);\n",
	} {
		files = append(files, bundles.File{Path: path, Data: []byte(text)})
	}
	content, err := bundles.NewContent(files)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func write(t *testing.T, content *bundles.Content, tenants []string, key crypto.Signer) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, Revision(42), content, tenants, key, kid); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t *testing.T, data []byte) (names []string, files map[string]string) {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	archive := tar.NewReader(zipped)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		names, files[h.Name] = append(names, h.Name), string(text)
	}
}

func TestATenantsBundleHoldsWhatItsRegoReadsAndNothingElse(t *testing.T) {
	key := newKey(t)
	names, files := unpack(t, write(t, awkward(t), []string{"acme"}, key))
	if got, want := strings.Join(names, " "), ".signatures.json .manifest data.json platform/lib/a.rego platform/p.rego tenants/acme/t.rego"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
	if got, want := files[".manifest"], `{"rego_version":1,"revision":"r42","roots":["xiezhi/platform","xiezhi/tenants/acme"]}`; got != want {
		t.Errorf("manifest %s, want %s", got, want)
	}
	for name, text := range files {
		if strings.Contains(text, "globex") {
			t.Errorf("%s speaks of another tenant: %s", name, text)
		}
	}
	names, files = unpack(t, write(t, awkward(t), []string{bundles.AllTenants}, key))
	if !strings.Contains(files[".manifest"], `["xiezhi/platform","xiezhi/tenants/acme","xiezhi/tenants/acme2","xiezhi/tenants/globex"]`) || len(names) != 7 {
		t.Errorf("for all: %s, %s", names, files[".manifest"])
	}
}

func TestOnlyTheSignatureDiffersBetweenTwoWrites(t *testing.T) {
	key := newKey(t)
	_, first := unpack(t, write(t, awkward(t), []string{"acme"}, key))
	_, second := unpack(t, write(t, awkward(t), []string{"acme"}, key))
	for name, text := range first {
		if name != ".signatures.json" && second[name] != text {
			t.Errorf("%s: %s, then %s", name, text, second[name])
		}
	}
	var claimed [2]string
	for i, files := range []map[string]string{first, second} {
		var s struct{ Signatures []string }
		if err := json.Unmarshal([]byte(files[".signatures.json"]), &s); err != nil || len(s.Signatures) != 1 {
			t.Fatal(s, err)
		}
		parts := strings.Split(s.Signatures[0], ".")
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		if err != nil || string(header) != `{"alg":"ES256","kid":"opa-1","typ":"JWT"}` {
			t.Errorf("header %s, %v", header, err)
		}
		claimed[i] = parts[1]
	}
	if claimed[0] != claimed[1] {
		t.Error("what is claimed differs")
	}
}

// A stock OPA is the judge of what a stock OPA takes. It is the one that
// tests/peers pins.
func TestAStockOPAVerifiesTheBundleAndRefusesATamperedOne(t *testing.T) {
	dir := t.TempDir()
	opa := filepath.Join(dir, "opa")
	build := exec.Command("go", "build", "-trimpath", "-o", opa, "./opa")
	build.Dir = "../../../tests/peers"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./opa: %v\n%s", err, out)
	}
	key := newKey(t)
	good := write(t, awkward(t), []string{"acme"}, key)
	names, files := unpack(t, good)

	out, err := ask(t, opa, dir, key, good, `data.xiezhi.platform.lib.a.x`, `data.xiezhi.tenants.acme.t.allow`, `data.system.bundles`)
	if err != nil {
		t.Fatalf("refused: %v\n%s", err, out)
	}
	for _, want := range []string{`1.5`, `9007199254740991`, `"rule": "r"`} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not answer %s:\n%s", want, out)
		}
	}

	// again packs the files anew with a change.
	again := func(change func(map[string]string) []string) []byte {
		changed := map[string]string{}
		for name, text := range files {
			changed[name] = text
		}
		var list []bundles.File
		for _, name := range change(changed) {
			list = append(list, bundles.File{Path: name, Data: []byte(changed[name])})
		}
		var b bytes.Buffer
		if err := pack(&b, list); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, row := range map[string]struct {
		data []byte
		key  *ecdsa.PrivateKey
		want string
	}{
		"another policy": {again(func(f map[string]string) []string {
			f["platform/p.rego"] += "\n"
			return names
		}), key, "digest mismatch"},
		"another table": {again(func(f map[string]string) []string {
			f["data.json"] = strings.Replace(f["data.json"], "1.5", "2.5", 1)
			return names
		}), key, "digest mismatch"},
		"another revision": {again(func(f map[string]string) []string {
			f[".manifest"] = strings.Replace(f[".manifest"], "r42", "r43", 1)
			return names
		}), key, "digest mismatch"},
		"a file more": {again(func(f map[string]string) []string {
			f["platform/z.rego"] = "package xiezhi.platform.z\n"
			return append(names[:len(names):len(names)], "platform/z.rego")
		}), key, "not included"},
		"a file less":  {again(func(map[string]string) []string { return names[:len(names)-1] }), key, "not found"},
		"no signature": {again(func(map[string]string) []string { return names[1:] }), key, "signatures.json"},
		"another key":  {good, newKey(t), "verify JWT signature"},
	} {
		if out, err := ask(t, opa, dir, row.key, row.data, "data"); err == nil || !strings.Contains(out, row.want) {
			t.Errorf("%s: %v; want it refused with %q:\n%s", name, err, row.want, out)
		}
	}
}

// ask starts OPA's prompt with a bundle that it has to verify, and asks.
func ask(t *testing.T, opa, dir string, key *ecdsa.PrivateKey, bundle []byte, questions ...string) (string, error) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append(bundle, der...))
	keyFile, file := filepath.Join(dir, fmt.Sprintf("%x.pem", sum[:4])), filepath.Join(dir, fmt.Sprintf("%x.tar.gz", sum[:4]))
	for name, data := range map[string][]byte{keyFile: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), file: bundle} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), opa, "run", "--bundle", file, "--verification-key", keyFile, "--verification-key-id", kid,
		"--signing-alg", "ES256", "--skip-version-check", "--format", "json", "--history", filepath.Join(dir, "history"))
	cmd.Stdin = strings.NewReader(strings.Join(questions, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
