// Package opabundle writes a release as a bundle that a stock Open Policy Agent
// downloads, verifies and activates: the Rego modules and the tables of one
// audience, with OPA's own manifest and signature.
//
// A bundle holds what Rego needs and nothing else: no self policies, no test
// cases, nothing in Cedar or CEL. An OPA that decides with it therefore gives
// Rego's findings, not Xiezhi's decision. It is always a snapshot, since OPA
// accepts no signed delta.
//
// Apart from the signature, the same content gives the same bytes. A signature
// of ECDSA is another one each time, so a bundle is made once a release and
// kept; an ETag over its bytes then says the same on every node.
package opabundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// ContentType is the one with which OPA polls long. Any other works too, and
// makes it ask every minute or two.
const ContentType = "application/vnd.openpolicyagent.bundles"

// Revision is what the bundle of a release calls itself.
func Revision(release uint64) string { return fmt.Sprintf("r%d", release) }

// Write writes the bundle of an audience; of content it takes what the audience
// gets. key is an ECDSA key on P-256, which the OPA knows as kid with the
// algorithm ES256.
func Write(w io.Writer, revision string, content *bundles.Content, tenants []string, key crypto.Signer, kid string) error {
	files, err := collect(revision, content, tenants)
	if err != nil {
		return fmt.Errorf("write OPA bundle %s: %w", revision, err)
	}
	signatures, err := sign(files, key, kid)
	if err != nil {
		return fmt.Errorf("sign OPA bundle %s: %w", revision, err)
	}
	if err := pack(w, append([]bundles.File{{Path: ".signatures.json", Data: signatures}}, files...)); err != nil {
		return fmt.Errorf("write OPA bundle %s: %w", revision, err)
	}
	return nil
}

// collect returns every file of the bundle but the signature.
func collect(revision string, content *bundles.Content, tenants []string) ([]bundles.File, error) {
	tables, err := pdp.ReadTables(content)
	if err != nil {
		return nil, err
	}
	if slices.Contains(tenants, bundles.AllTenants) {
		tenants = allTenants(content, tables)
	}
	tenants = bundles.Audience(tenants)
	manifest, err := encode(manifest(revision, tenants))
	if err != nil {
		return nil, err
	}
	data, err := encode(document(tables, tenants))
	if err != nil {
		return nil, err
	}
	files := []bundles.File{{Path: ".manifest", Data: manifest}, {Path: "data.json", Data: data}}
	for _, f := range content.Files() {
		if isModule(f.Path, tenants) {
			files = append(files, f)
		}
	}
	return files, nil
}

// isModule reports whether a file is a Rego module for the platform or one of
// the tenants, and no test.
func isModule(path string, tenants []string) bool {
	if !strings.HasSuffix(path, ".rego") || strings.HasSuffix(path, "_test.rego") {
		return false
	}
	folder, rest, _ := strings.Cut(path, "/")
	tenant, _, _ := strings.Cut(rest, "/")
	return folder == "platform" || folder == "tenants" && slices.Contains(tenants, tenant)
}

func allTenants(content *bundles.Content, tables *pdp.Tables) []string {
	var all []string
	for tenant := range tables.All() {
		all = append(all, tenant)
	}
	for _, f := range content.Files() {
		if rest, ok := strings.CutPrefix(f.Path, "tenants/"); ok {
			tenant, _, _ := strings.Cut(rest, "/")
			all = append(all, tenant)
		}
	}
	return all
}

// manifest declares roots that overlap with no others, so that an OPA may hold
// bundles of its own beside ours.
func manifest(revision string, tenants []string) map[string]any {
	roots := []string{"xiezhi/platform"}
	for _, tenant := range tenants {
		roots = append(roots, "xiezhi/tenants/"+tenant)
	}
	return map[string]any{"revision": revision, "roots": roots, "rego_version": 1}
}

// document is data.json: the tables where policies read them.
func document(tables *pdp.Tables, tenants []string) map[string]any {
	own := map[string]any{}
	for _, tenant := range tenants {
		if t := tables.Tenant(tenant); t.Len() > 0 {
			own[tenant] = map[string]any{"tables": t.Any()}
		}
	}
	platform := map[string]any{}
	if t := tables.Platform.Any(); t != nil {
		platform["tables"] = t
	}
	return map[string]any{"xiezhi": map[string]any{"platform": platform, "tenants": own}}
}

// encode writes JSON in the one form in which its bytes are what OPA hashes: OPA
// walks JSON documents with members sorted, writes neither blanks nor escapes
// for HTML, and hashes that.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// sign writes .signatures.json: one JWT that lists every file of the bundle.
func sign(files []bundles.File, key crypto.Signer, kid string) ([]byte, error) {
	type file struct {
		Name      string `json:"name"`
		Hash      string `json:"hash"`
		Algorithm string `json:"algorithm"`
	}
	listed := make([]file, len(files))
	for i, f := range files {
		sum := sha256.Sum256(f.Data)
		listed[i] = file{f.Path, hex.EncodeToString(sum[:]), "SHA-256"}
	}
	claims, err := json.Marshal(map[string]any{"files": listed})
	if err != nil {
		return nil, err
	}
	headers := jws.NewHeaders()
	if err := headers.Set(jws.KeyIDKey, kid); err != nil {
		return nil, err
	}
	if err := headers.Set(jws.TypeKey, "JWT"); err != nil {
		return nil, err
	}
	token, err := jws.Sign(claims, jws.WithKey(jwa.ES256(), key, jws.WithProtectedHeaders(headers)))
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"signatures": []string{string(token)}})
}

// pack writes a tar in gzip without times, names or owners.
func pack(w io.Writer, files []bundles.File) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	for _, f := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Size: int64(len(f.Data)), Mode: 0o644}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(f.Data); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zipped.Close()
}
