package bundles

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

// AllTenants as the only tenant of a [Manifest] means that nothing is left out.
const AllTenants = "*"

// Manifest is what is signed of a release, for one audience: the platform and
// the tenants it names.
type Manifest struct {
	Release  uint64 `json:"release"`
	Restores uint64 `json:"restores,omitempty"` // the release whose content it repeats
	// Digest, Files and Bytes are the content's as this audience gets it.
	Digest  Digest    `json:"digest"`
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	Tenants []string  `json:"tenants"` // sorted, or AllTenants
	Created time.Time `json:"created_at"`
}

// Audience writes a set of tenants in its one form: sorted, each once, and
// [AllTenants] alone where it is among them.
func Audience(tenants []string) []string {
	if slices.Contains(tenants, AllTenants) {
		return []string{AllTenants}
	}
	sorted := slices.Clone(tenants)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// AudienceName is an audience in one word, for keys and logs.
func AudienceName(tenants []string) string { return strings.Join(tenants, ",") }

// ManifestFor describes content as a release of it to an audience.
func ManifestFor(content *Content, release, restores uint64, tenants []string, created time.Time) Manifest {
	return Manifest{
		Release: release, Restores: restores, Digest: content.Digest(), Files: len(content.files), Bytes: int64(content.bytes),
		Tenants: Audience(tenants), Created: created.UTC(),
	}
}

// Sealed is a manifest with its signature.
type Sealed struct {
	Manifest
	KeyID  string // that signed it
	Signed string // the JWS, to be passed on and verified again
}

// OpenManifest verifies a signed manifest. Every error wraps
// [trust.ErrUnsigned].
func OpenManifest(set *trust.Set, signed string, now time.Time) (Sealed, error) {
	opened, err := set.Verify(trust.KindRelease, signed, now)
	if err != nil {
		return Sealed{}, fmt.Errorf("release manifest: %w", err)
	}
	sealed := Sealed{KeyID: opened.KeyID, Signed: signed}
	if err := json.Unmarshal(opened.Body, &sealed.Manifest); err != nil {
		return Sealed{}, fmt.Errorf("release manifest: %w: %w", trust.ErrUnsigned, err)
	}
	if err := sealed.check(); err != nil {
		return Sealed{}, fmt.Errorf("release manifest: %w: %w", trust.ErrUnsigned, err)
	}
	return sealed, nil
}

// check refuses what cannot be the manifest of a release.
func (m *Manifest) check() error {
	switch {
	case m.Release == 0 || m.Restores >= m.Release:
		return fmt.Errorf("release %d that restores %d: want a number, and one below it", m.Release, m.Restores)
	case len(m.Tenants) == 0 || !slices.Equal(m.Tenants, Audience(m.Tenants)):
		return errors.New("want an audience: tenants, sorted, each once")
	case m.Files < 0 || m.Files > MaxFiles || m.Bytes < 0 || m.Bytes > MaxBytes:
		return fmt.Errorf("%d files of %d bytes: a release holds at most %d of %d", m.Files, m.Bytes, MaxFiles, MaxBytes)
	}
	return nil
}

// ErrBase refuses a delta that does not start from the content at hand; a
// snapshot is needed.
var ErrBase = errors.New("the delta starts from other content")

// Bundle is a verified release: the content is what the manifest says.
type Bundle struct {
	Sealed
	Content *Content
}
