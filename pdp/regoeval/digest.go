package regoeval

import (
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// setDigests gives every rule of the module's policy its digest: over the text
// of the policy and of every module it can reach, the attribute schema, the
// approval template the rule names, and the rule's id. Tables are left out, so
// that a grant outlives a change of data.
func setDigests(u *unit, m *module, reached map[*ast.Rule]bool, source *pdp.Source) {
	files := map[string]bool{m.file: true}
	for rule := range reached {
		files[rule.Location.File] = true
	}
	base := sha256.New()
	hashPart(base, []byte("xiezhi rego rule 1"))
	hashPart(base, []byte(m.file))
	for _, file := range slices.Sorted(maps.Keys(files)) {
		hashPart(base, []byte(file))
		hashPart(base, u.byFile[file].data)
	}
	schema, _ := source.Content.File(pdp.AttributesFile) // a release without it has no attributes
	hashPart(base, schema)
	shared := base.Sum(nil)
	for _, r := range m.policy.Rules {
		h := sha256.New()
		hashPart(h, shared)
		hashPart(h, []byte(r.ID))
		if r.Template != "" {
			hashPart(h, []byte(r.Template))
			hashPart(h, source.Templates[r.Template].Data)
		}
		r.Digest = bundles.Digest(h.Sum(nil))
	}
}
